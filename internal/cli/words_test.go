package cli

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/lock"
)

// What a lock file does not say is left out.
func TestWho(t *testing.T) {
	for _, c := range []struct {
		holder lock.Holder
		want   string
	}{
		{lock.Holder{PID: 7, Host: "laptop", Process: "backup"}, "backup (pid 7 on laptop)"},
		{lock.Holder{Host: "laptop", Process: "backup"}, "backup (on laptop)"},
		{lock.Holder{PID: 7, Process: "backup"}, "backup (pid 7)"},
		{lock.Holder{PID: 7}, "somebody (pid 7)"},
		{lock.Holder{}, "somebody"},
	} {
		require.Equal(t, c.want, Who(&c.holder))
	}
}
