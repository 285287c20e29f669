// Package completion is `dblock completion`: what makes a shell complete the arguments of dblock,
// and behind them those of the command that it runs. The scripts are files; package script makes
// them from the grammar.
package completion

import (
	_ "embed"
	"os"

	"github.com/dblock-dev/dblock/internal/cli"
)

//go:generate go test ../internal/program -run TestCompletionFollowsTheGrammar -update

var (
	//go:embed dblock.bash
	bash string
	//go:embed _dblock
	zsh string
	//go:embed dblock.fish
	fish string
)

// Command is the grammar of `dblock completion`.
type Command struct {
	Shell Shell `arg:"" optional:"" name:"shell" help:"The shell: bash, zsh or fish."`
}

// Shell is one that has a script here.
type Shell string

// Values are those that it accepts.
func (Shell) Values() []string { return []string{"bash", "zsh", "fish"} }

// Run prints the shell's script.
func (c *Command) Run() error {
	if c.Shell == "" {
		return cli.Usage("no shell is named", "give bash, zsh or fish, as in `dblock completion bash`")
	}
	if err := cli.Choose(&c.Shell, []byte(cli.Unescape(string(c.Shell)))); err != nil {
		return err
	}
	scripts := map[Shell]string{"bash": bash, "zsh": zsh, "fish": fish}
	_, err := os.Stdout.WriteString(scripts[c.Shell])
	return err
}
