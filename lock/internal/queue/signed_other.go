//go:build !linux

package queue

import "github.com/dblock-dev/dblock/lock/internal/notice"

// Signed knows nothing here: there are no signs.
func Signed(string, notice.ID) bool { return false }
