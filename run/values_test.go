package run

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/internal/cli"
)

func TestQuietIsCounted(t *testing.T) {
	for _, c := range []struct {
		env  string
		args []string
		want cli.Quiet
	}{
		{"", nil, 0}, {"", []string{"-q"}, cli.NoWaiting}, {"", []string{"-qq"}, cli.Silent}, {"", []string{"-nq", "--quiet"}, cli.Silent},
		{"", []string{"--quiet=2"}, cli.Silent}, {"1", nil, cli.NoWaiting}, {"true", nil, cli.NoWaiting}, {"2", nil, cli.Silent}, {"no", nil, 0}, {"2", []string{"-q"}, cli.NoWaiting},
	} {
		t.Setenv("DBLOCK_QUIET", c.env)
		cmd, _ := parse(t, append(c.args, "-d", "x", "true")...)
		require.Equal(t, c.want, cmd.Quiet, "%+v", c)
		quick, _ := Quick(append(c.args, "-d", "x", "true"))
		require.Equal(t, c.want, quick.Quiet, "%+v", c)
	}
}
