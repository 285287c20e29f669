package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/internal/portable"
)

// What takes longer than it may is ended as a tree: the next one comes in when all of it has gone.
func TestTimeLimitEndsTheTree(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"a shell's child":    {"-c", "sh worker.sh; true"},
		"in the background":  {"-c", "sh worker.sh & wait; true"},
		"ends well":          {"-c", "trap 'exit 0' TERM; sh worker.sh & wait"},
		"its own session":    {"--", "setsid", "sh", "-c", "sh worker.sh; true"},
		"cannot be told":     {"--kill-after", "0.1", "-c", "sh stubborn.sh & wait; wait"},
		"the shell, neither": {"--kill-after", "0.1", "-c", "trap '' TERM; sh stubborn.sh; sleep 60"},
		"killed at once":     {"--on-time-limit", "kill", "-c", "sh stubborn.sh; true"},
		"stopped":            {"--kill-after", "60", "-c", "sh worker.sh & sleep 0.2; kill -STOP $!; wait"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "stopped" {
				portable.Needs(t, portable.Tree)
			}
			t.Parallel()
			dir := family(t)
			if portable.Half { // what the command has started goes on, and keeps the lock
				c := command(t, dir, append([]string{"-d", "app.db", "--time-limit", "1"}, args...)...)
				_ = start(t, c).Wait()
				require.Equal(t, 124, c.ProcessState.ExitCode())
				dismiss(t, dir)
				require.Zero(t, next(t, dir))
				return
			}
			r := execute(t, dir, append([]string{"-d", "app.db", "--time-limit", "1"}, args...)...)
			require.Equal(t, 124, r.code(), r.stderr)
			require.Regexp(t, `(?m)^dblock: .* has run for 1s, as long as it may; it is being (ended|killed)\n`, r.stderr)
			require.Zero(t, next(t, dir), "something of it wrote on")
			if exists(dir, "writes") && !strings.Contains(strings.Join(args, " "), "stubborn") {
				b, err := os.ReadFile(filepath.Join(dir, "told"))
				require.NoError(t, err, "it was told")
				require.Equal(t, "told\n", string(b), "once")
			}
		})
	}
}

func TestTimeLimitConcernsNobodyElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--time-limit", "60", "--", "sh", "-c", "exit 3"}, 3, "^$"},
		{[]string{"--time-limit", "0", "--", "sleep", "0.1"}, 0, "^$"},
		{[]string{"--time-limit", "forever", "--", "sleep", "0.1"}, 0, "^$"},
		{[]string{"--time-limit", "0.005", "--", "sleep", "60"}, 124, "being ended"},
		{[]string{"--time-limit", "0.1", "--on-time-limit", "warn", "--", "sh", "-c", "sleep 0.3; exit 4"}, 4, `^dblock: sh has run for 0\.1s, as long as it may; it goes on\n$`},
		{[]string{"--time-limit", "0.1", "-qq", "--", "sleep", "60"}, 124, "^$"},
		{[]string{"--time-limit", "x", "--", "true"}, 64, "--time-limit: \"x\" is not a length of time"},
		{[]string{"--time-limit", "1", "--on-time-limit", "cry", "--", "true"}, 64, "give term, kill or warn"},
	} {
		r := execute(t, dir, append([]string{"-d", "app.db"}, c.args...)...)
		require.Equal(t, c.code, r.code(), "%q: %s", c.args, r.stderr)
		require.Regexp(t, c.says, r.stderr, "%q", c.args)
	}

	// The time begins with the command, not with the wait for the lock.
	holder := start(t, command(t, dir, "-d", "app.db", "--", "sleep", "1.5"))
	await(t, "the lock is held", func() bool { return exists(dir, ".app.lock") })
	r := finish(t, with(command(t, dir, "-d", "app.db", "-w", "60", "--", "true"), "DBLOCK_TIME_LIMIT=1.2"))
	require.Zero(t, r.code(), r.stderr)
	require.NoError(t, holder.Wait())
	r = finish(t, with(command(t, dir, "-d", "app.db", "--", "sleep", "60"), "DBLOCK_TIME_LIMIT=0.1"))
	require.Equal(t, 124, r.code(), r.stderr)
}
