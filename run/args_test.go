package run

import (
	"slices"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

func TestScannerKnowsTheFlags(t *testing.T) {
	k, err := kong.New(&Command{}, kong.Name("x"))
	require.NoError(t, err)
	for _, f := range k.Model.Flags {
		require.Equal(t, f.IsBool(), slices.Contains(switches, f.Name), f.Name)
		if f.Short != 0 && f.Short != 'h' {
			require.Equal(t, !f.IsBool(), slices.Contains([]rune(valued), f.Short), "-%c", f.Short)
		}
	}
}

func TestOwn(t *testing.T) {
	for _, c := range []struct{ args, want []string }{
		{nil, []string{}},
		{[]string{"--nb", "-d", "x", "-e", "cmd", "-e", "--nb"}, []string{"--nonblock", "-d", "x", "-x", "cmd", "-e", "--nb"}},
		{[]string{"--nonblocking", "--timeout", "3", "--timeout=-e", "-qe", "-Ee", "-d", "-e", "-e"}, []string{"--nonblock", "--wait", "3", "--wait=-e", "-qx", "-Ee", "-d", "-e", "-x"}},
		{[]string{"run", "-e", "--db", "--nb", "--nb"}, []string{"run", "-x", "--db", "--nb", "--nonblock"}},
		{[]string{"status", "-e", "--timeout"}, []string{"status", "-e", "--timeout"}},
		{[]string{"-d", "=x", "cmd", "-d=x"}, []string{"-d", "=x", "cmd", "-d=x"}},
		{[]string{"--db==x", "-c", "=y", "-n", "-"}, []string{"--db==x", "-c", "=y", "-n", "-"}},
	} {
		own, err := Own(c.args)
		require.NoError(t, err, "%q", c.args)
		require.Equal(t, c.want, own, "%q", c.args)
	}
	for _, args := range [][]string{{"-d=x"}, {"-w=5", "cmd"}, {"-p=x"}, {"-E=3"}, {"-c=true"}, {"-nd=x"}, {"-d="}, {"status", "-d=x"}, {"--wait", "5", "-n", "-d=x"}} {
		_, err := Own(args)
		require.ErrorContains(t, err, `no "=" comes between`, "%q", args)
	}
}
