//go:build !linux

package lock

import "github.com/dblock-dev/dblock/lock/internal/notice"

// signed knows nothing here: there are no signs.
func (*attempt) signed(notice.ID) bool { return false }
