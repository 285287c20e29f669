//go:build !linux || portable

package queue

import "github.com/dblock-dev/dblock/lock/internal/inode"

// Signed knows nothing here: there are no signs.
func Signed(string, inode.ID) bool { return false }
