package run

import (
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/lock"
)

func parse(t *testing.T, args ...string) (*Command, *kong.Context) {
	t.Helper()
	var g struct {
		Run Command `cmd:"" default:"withargs"`
	}
	k, err := kong.New(&g, kong.Resolvers(cli.Environment))
	require.NoError(t, err)
	ctx, err := k.Parse(args)
	require.NoError(t, err)
	g.Run.Unescape()
	return &g.Run, ctx
}

func TestQuickGrammarAgreesWithTheWholeOne(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"-d", "x.db"},
		{"--db", "x.db", "sh", "-c", "true"},
		{"-dx.db", "status"},
		{"-d", "x.db", "ls", "-d", "y"},
		{"--db", "x.db", ""},
		{"-n"},
		{"--db=x.db", "--lock-file=l", "-w", "2.5", "-s", "-p", "me", "-q", "cmd", "-x", "--db", "y"},
		{"-n", "--process=me"},
		{"-nxvc", "echo", "-E7"},
		{"--stale", "age", "--stale-timeout=3", "--on-lost", "warn", "--kill-after", "3", "--orphan", "keep", "-o", "--priority", "high", "--max-retries", "7", "--retry-delay", "1s", "ls", "-l"},
	} {
		quick, qctx := Quick(args)
		require.NotNil(t, quick, "%q", args)
		whole, wctx := parse(t, args...)
		require.Equal(t, whole, quick, "%q", args)
		for _, flag := range []string{"db", "wait", "nonblock", "shared", "exclusive", "lock-file"} {
			require.Equal(t, cli.Given(wctx)(flag), cli.Given(qctx)(flag), "%q: %s", args, flag)
		}
	}
}

func TestQuickGrammarKnowsTheSameFlags(t *testing.T) {
	k, err := kong.New(&Command{}, kong.Name("x"))
	require.NoError(t, err)
	whole := map[string]*kong.Flag{}
	for _, f := range k.Model.Flags {
		whole[f.Name] = f
	}
	for _, grammar := range []any{&quick{}} {
		q, err := kong.New(grammar, kong.Name("x"), kong.NoDefaultHelp())
		require.NoError(t, err)
		require.NotEmpty(t, q.Model.Flags)
		for _, f := range q.Model.Flags {
			require.Contains(t, whole, f.Name)
			require.Equal(t, whole[f.Name].Short, f.Short, f.Name)
			require.Equal(t, whole[f.Name].Default, f.Default, f.Name)
		}
	}
}

func TestQuickLeavesTheRestToTheWholeGrammar(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"-h"}, {"--version"}, {"status"}, {"force"}, {"run"}, {"--bogus"}, {"-w", "x"}} {
		c, _ := Quick(args)
		require.Nil(t, c, "%q", args)
	}
	for _, args := range [][]string{{"--stale-timeout", "3"}, {"-c", "true"}, {"-x"}, {"-nv"}, {"-E", "3"}} {
		c, _ := Quick(args)
		require.NotNil(t, c, "%q", args)
	}
	t.Setenv("DBLOCK_PROCESS", "me")
	c, _ := Quick([]string{"-d", "x"})
	require.Equal(t, "me", c.Process)
	t.Setenv("DBLOCK_ON_LOST", "kill")
	c, _ = Quick([]string{"-d", "x"})
	require.Equal(t, OnLost("kill"), c.OnLost)
	require.Equal(t, "me", c.Process)
}

func TestFits(t *testing.T) {
	for _, args := range [][]string{{}, {"-d", "x"}, {"-dx", "--wait=3", "--wait", "4"}, {"cmd"}} {
		require.True(t, fits(args, "dw", "db", "wait"), "%q", args)
	}
	for _, args := range [][]string{{"-n"}, {"-"}, {"--"}, {"--nonblock"}, {"-d", "x", "ls", "-l"}, {"-wait", "-x"}} {
		require.False(t, fits(args, "dw", "db", "wait"), "%q", args)
	}
	t.Setenv("DBLOCK_HOLD_TOKEN", "1")
	require.True(t, fits(nil, "", "db"))
	t.Setenv("DBLOCK_LOCK_FILE", "x")
	require.True(t, fits(nil, "", "db", "lock-file"))
	require.False(t, fits(nil, "", "db"))
}

func TestPatience(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		args []string
		want time.Duration
	}{
		{nil, nil, 5 * time.Second},
		{nil, []string{"-w", "0"}, lock.NoWait},
		{nil, []string{"-w", "forever"}, lock.Forever},
		{nil, []string{"-n"}, lock.NoWait},
		{nil, []string{"--max-retries", "3", "--retry-delay", "2s"}, 6 * time.Second},
		{nil, []string{"--max-retries", "0"}, lock.NoWait},
		{nil, []string{"--max-retries", "9000000000", "--retry-delay", "900h"}, lock.Forever},
		{map[string]string{"DBLOCK_WAIT": "7"}, nil, 7 * time.Second},
		{map[string]string{"DBLOCK_WAIT": "7"}, []string{"-n"}, lock.NoWait},
		{map[string]string{"DBLOCK_WAIT": "7"}, []string{"--max-retries", "10"}, time.Second},
		{map[string]string{"DBLOCK_NONBLOCK": "1"}, []string{"-w", "3"}, 3 * time.Second},
		{map[string]string{"DBLOCK_NONBLOCK": "1"}, nil, lock.NoWait},
		{map[string]string{"DBLOCK_WAIT": ""}, nil, 5 * time.Second},
	} {
		for name, value := range c.env {
			t.Setenv(name, value)
		}
		cmd, ctx := parse(t, c.args...)
		require.Equal(t, c.want, cmd.patience(cli.Given(ctx)), "%v %q", c.env, c.args)
		for name := range c.env {
			t.Setenv(name, "")
		}
	}
}

func TestBehind(t *testing.T) {
	for _, c := range []struct{ argv, rest, want []string }{
		{nil, nil, nil},
		{nil, []string{"--", "status"}, []string{"status"}},
		{[]string{"sh", "-c", "x"}, []string{"--", "y"}, []string{"sh", "-c", "x", "--", "y"}},
		{nil, []string{"--", "a", "--", "b"}, []string{"a", "--", "b"}},
	} {
		cmd := &Command{Argv: c.argv}
		cmd.Behind(c.rest)
		require.Equal(t, c.want, cmd.Argv)
	}
}
