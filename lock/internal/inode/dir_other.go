//go:build unix && (!linux || portable)

package inode

// searchOnly opens a directory for the names in it. Here it takes the right to
// list it as well.
const searchOnly = 0
