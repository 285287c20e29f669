package program

import (
	"encoding"
	"flag"
	"os"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/completion/script"
	"github.com/dblock-dev/dblock/run"
	"github.com/dblock-dev/dblock/stats"
	"github.com/dblock-dev/dblock/top"
)

var update = flag.Bool("update", false, "write the completion scripts")

// The scripts that the shells get are those of the grammar, companions included, which are
// linked to this test, and not to dblock.
func TestCompletionFollowsTheGrammar(t *testing.T) {
	var all struct {
		grammar
		Stats stats.Grammar `embed:""`
		Top   top.Grammar   `embed:""`
	}
	k, err := kong.New(&all, kong.Name("dblock"), kong.Vars{"version": ""})
	require.NoError(t, err)
	k.Model.HelpFlag.Help = "Print this help."
	for _, node := range k.Model.Children {
		for _, f := range node.Flags {
			few, ok := f.Target.Interface().(interface{ Values() []string })
			for i := 0; ok && i < len(few.Values()); i++ {
				value := few.Values()[i]
				require.NoError(t, f.Target.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(value)), "--%s=%s", f.Name, value)
			}
		}
	}
	program := script.New(k.Model, run.Spellings())
	for shell, file := range map[string]string{"bash": "dblock.bash", "zsh": "_dblock", "fish": "dblock.fish"} {
		want, err := program.Script(shell)
		require.NoError(t, err)
		if *update {
			require.NoError(t, os.WriteFile("../../completion/"+file, want, 0o644))
		}
		have, err := os.ReadFile("../../completion/" + file)
		require.NoError(t, err)
		require.Equal(t, string(want), string(have), "completion/%s is not what the grammar makes; go generate ./completion", file)
	}
}
