//go:build !portable

package portable

const tagged = false
