//go:build linux

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// completions are lines that end where the cursor is, and all that the last word can become, as a
// command would get it. Gadget is a program with a completion of its own.
var completions = []struct {
	line string
	want []string
}{
	{`dblock sta`, []string{"stats", "status"}},
	{`dblock statu`, []string{"status"}},
	{`dblock gadg`, []string{"gadget"}},
	{`dblock run gadg`, []string{"gadget"}},
	{`dblock help s`, []string{"session", "stats", "status"}},
	{`dblock completion `, []string{"bash", "fish", "zsh"}},

	{`dblock --on-lo`, []string{"--on-lost"}},
	{`dblock --vers`, []string{"--version"}},
	{`dblock -s --nonb`, []string{"--nonblock"}},
	{`dblock status --unt`, []string{"--until-free"}},
	{`dblock stats --openm`, []string{"--openmetrics"}},
	{`dblock status --on-lo`, nil},
	{`dblock status --vers`, nil},

	{`dblock --on-lost `, []string{"kill", "term", "warn"}},
	{`dblock --on-lost=`, []string{"--on-lost=kill", "--on-lost=term", "--on-lost=warn"}},
	{`dblock --on-lost=te`, []string{"--on-lost=term"}},
	{`dblock run --priority h`, []string{"high"}},
	{`dblock run --orphan=k`, []string{"--orphan=keep"}},
	{`dblock top --sort n`, []string{"name"}},
	{`dblock stats --by=h`, []string{"--by=host"}},
	{`dblock -p `, nil},
	{`dblock --timeout `, nil},

	{`dblock -d none`, nil},
	{`dblock -d pl`, []string{"plain.db"}},
	{`dblock -dpl`, []string{"-dplain.db"}},
	{`dblock -nd pl`, []string{"plain.db"}},
	{`dblock -ndpl`, []string{"-ndplain.db"}},
	{`dblock --db pl`, []string{"plain.db"}},
	{`dblock --db=pl`, []string{"--db=plain.db"}},
	{`dblock --lock-file=dir/in`, []string{"--lock-file=dir/inner.db"}},
	{`dblock status -d plain.db -d di`, []string{"dir/"}},
	{`dblock stats --html dir/in`, []string{"dir/inner.db"}},
	{`dblock -d my\ d`, []string{"my data.db", "my db/"}},
	{`dblock -d 'my da`, []string{"my data.db"}},
	{`dblock -d "it's`, []string{"it's.db"}},
	{`dblock -d it\'`, []string{"it's.db"}},
	{`dblock --db=my\ da`, []string{"--db=my data.db"}},
	{`dblock -d x:y`, []string{"x:y.db"}},
	{`dblock -d büch`, []string{"bücher.db"}},
	{`dblock -d 'bücher.db' -- gadget be`, []string{"beta"}},
	{`dblock -d $HOME/ho`, []string{"HOME/home.db"}},
	{`dblock -d ~/ho`, []string{"HOME/home.db"}},
	{`dblock top di`, []string{"dir/"}},
	{`dblock top dir di`, []string{"dir/"}},
	{`dblock ls pl`, nil},
	{`dblock ls dir di`, nil},
	{`dblock status pl`, nil},

	{`dblock -d 'my db' -- gadg`, []string{"gadget"}},
	{`dblock -d 'my db' gadg`, []string{"gadget"}},
	{`dblock -d 'my db' -- gadget `, []string{"alpha", "beta"}},
	{`dblock -d my\ db gadget al`, []string{"alpha"}},
	{`dblock -dx.db gadget be`, []string{"beta"}},
	{`dblock -dx.db -w5 gadget be`, []string{"beta"}},
	{`dblock -nqd x.db gadget be`, []string{"beta"}},
	{`dblock --db=x.db --on-lost=warn -p 'a b' gadget alpha be`, []string{"beta"}},
	{`dblock run -d x:y -- gadget be`, []string{"beta"}},
	{`dblock --nb --timeout 5 -e -d x.db gadget be`, []string{"beta"}},
	{`dblock gadget be`, []string{"beta"}},
	{`dblock -n gadget be`, []string{"beta"}},
	{`dblock -n -- gadget be`, []string{"beta"}},
	{`dblock run -- gadget be`, []string{"beta"}},
	{`dblock -- gadget be`, []string{"beta"}},
	{`dblock -d x.db -- gadget --ge`, []string{"--gear"}},
	{`dblock -d x.db gadget --ge`, []string{"--gear"}},
	{`dblock -d x.db -- gadget --on-lo`, nil},
	{`dblock -d x.db -- gadget -- be`, []string{"beta"}},
	{`dblock -d x.db -- dblock -d y.db -- gadget be`, []string{"beta"}},
	{`dblock -d x.db -- dblock --on-lo`, []string{"--on-lost"}},
	{`dblock status -- gadg`, nil},
}

// places are where install.sh puts the scripts, seen from home.
var places = map[string]string{
	"bash": ".local/share/bash-completion/completions/dblock",
	"zsh":  ".local/share/zsh/site-functions/_dblock",
	"fish": ".local/share/fish/vendor_completions.d/dblock.fish",
}

// scene is a directory to complete in.
func scene(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, sub := range []string{"dir", "my db", "home", "bin"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	for _, file := range []string{"plain.db", "my data.db", "it's.db", "x:y.db", "bücher.db", "dir/inner.db", "home/home.db", "bin/gadget", "bin/statusx"} {
		executable(t, filepath.Join(dir, file), []byte("#!/bin/sh\n"))
	}
	for shell, file := range places {
		r := execute(t, dir, "completion", shell)
		require.Zero(t, r.code(), r.stderr)
		file = filepath.Join(dir, "home", file)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(r.stdout), 0o644))
	}
	return dir
}

// typed is a shell in which lines are typed. By the keys C-x a all that the last word can become
// is put in its place, and by C-x r the line is written to a file.
type typed struct {
	*mux
	dir string
}

func newTyped(t *testing.T, dir, shell, rc string) typed {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "home", "rc"), []byte(rc), 0o644))
	s := typed{newMux(t, dir, 120, 40), dir}
	s.run("export HOME=" + dir + "/home PATH=" + dir + "/bin:$PATH; unset SHELL")
	s.run(shell)
	s.await("the shell", `ready>$`)
	return s
}

// all returns all that the last word of a line can become.
func (s typed) all(line string) (words []string) {
	s.t.Helper()
	record := filepath.Join(s.dir, "home", "line")
	s.do("send-keys", "-l", "--", line)
	s.keys("C-x", "a")
	s.keys("C-x", "r")
	await(s.t, "the line is completed: "+line, func() bool { return exists(record) })
	b, err := os.ReadFile(record)
	require.NoError(s.t, err)
	require.NoError(s.t, os.Remove(record))
	// The shell's own quotes, undone by a shell.
	out, err := exec.Command("bash", "-c", "cd /; printf '%s\\n' "+strings.TrimSpace(string(b))).Output()
	require.NoError(s.t, err, "%q", b)
	words = strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	before := strings.Split(strings.TrimSuffix(s.words(line), "\n"), "\n")
	if !strings.HasSuffix(line, " ") {
		before = before[:len(before)-1]
	}
	require.GreaterOrEqual(s.t, len(words), len(before), "%q", b)
	return words[len(before):]
}

// words are those of a line that may end within quotes, one a line.
func (s typed) words(line string) string {
	s.t.Helper()
	for _, end := range []string{"", "'", `"`} {
		if out, err := exec.Command("bash", "-c", "cd /; printf '%s\\n' "+line+end).Output(); err == nil {
			return string(out)
		}
	}
	s.t.Fatalf("not a line: %s", line)
	return ""
}

// check completes all lines. It is given what a shell offers, as words.
func check(t *testing.T, dir string, all func(line string) []string) {
	t.Helper()
	home, err := os.UserHomeDir()
	require.NoError(t, err)
	for _, c := range completions {
		got := all(c.line)
		last := c.line[strings.LastIndexAny(c.line, " ")+1:]
		equals := last[:strings.Index(last, "=")+1]
		for i, word := range got {
			// What is offered behind = may have the flag before it, or not; nothing has become of the
			// last word if it is there as before.
			if equals != "" && !strings.HasPrefix(word, equals) {
				word = equals + word
			}
			for _, home := range []string{home, dir + "/home", "~", "$HOME"} {
				word = strings.Replace(word, home+"/home.db", "HOME/home.db", 1)
			}
			got[i] = word
			if equals == "" {
				got[i] = strings.TrimSuffix(word, "=") // a value can follow at once
			}
		}
		slices.Sort(got)
		if len(got) == 1 && (got[0] == strings.Trim(last, `'"`) || got[0] == "") {
			got = nil
		}
		for i := range got {
			got[i] = strings.TrimSuffix(got[i], "/")
		}
		var want []string
		for _, w := range c.want {
			want = append(want, strings.TrimSuffix(w, "/"))
		}
		if fmt.Sprintf("%q", want) != fmt.Sprintf("%q", got) {
			t.Errorf("%s\nwant %q\ngot  %q", c.line, want, got)
		}
	}
}

func TestBashCompletes(t *testing.T) {
	need(t, "bash", "tmux")
	const rc = `PS1='ready> '
_gadget() { COMPREPLY=($(compgen -W 'alpha beta --gear' -- "$2")); [[ $2 == -* ]] || COMPREPLY=($(compgen -W 'alpha beta' -- "$2")); }
complete -F _gadget gadget
bind '"\C-xa": insert-completions'
record() { printf '%s\n' "$READLINE_LINE" >~/line.new; mv ~/line.new ~/line; READLINE_LINE=; }
bind -x '"\C-xr": record'
bind 'set bell-style none'
`
	for name, more := range map[string]string{
		"with bash-completion":    ". /usr/share/bash-completion/bash_completion\n",
		"without bash-completion": ". ~/" + places["bash"] + "\n",
		"with options":            "shopt -s failglob; set -fu; . ~/" + places["bash"] + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := os.Stat("/usr/share/bash-completion/bash_completion"); err != nil && strings.HasPrefix(name, "with bash") {
				require.NotEqual(t, "true", os.Getenv("CI"), "bash-completion is not installed")
				t.Skip("bash-completion is not installed")
			}
			dir := scene(t)
			// Only bash-completion reads this, when it is needed.
			gizmo := filepath.Join(dir, "home", filepath.Dir(places["bash"]), "gizmo")
			require.NoError(t, os.WriteFile(gizmo, []byte("complete -W 'gamma delta' gizmo\n"), 0o644))
			s := newTyped(t, dir, "bash --rcfile ~/rc", more+rc)
			check(t, dir, s.all)
			require.NotContains(t, s.do("capture-pane", "-p", "-S", "-"), "no match")
			if strings.HasPrefix(name, "with bash") {
				require.Equal(t, []string{"gamma"}, s.all("dblock -d x.db -- gizmo ga"))
			}
			s.run("export DBLOCK_DB=x.db")
			require.ElementsMatch(t, []string{"status", "statusx"}, s.all("dblock statu"), "the first word can be a command")
			s.do("send-keys", "-l", "--", "dblock -d my\\ da")
			s.keys("Tab")
			s.do("send-keys", "-l", "--", "-ddi")
			s.keys("Tab")
			s.do("send-keys", "-l", "--", "in")
			s.keys("Tab")
			s.do("send-keys", "-l", "--", "-- gadget al")
			s.keys("Tab")
			s.await("what the tabulator makes of it", `(?m)^ready> dblock -d my\\ data\.db -ddir/inner\.db +-- gadget alpha`)
		})
	}
}

func TestZshCompletes(t *testing.T) {
	need(t, "zsh", "tmux")
	const rc = `PS1='ready> '
unsetopt beep
autoload -U compinit
compinit -u -D
_gadget() { _arguments '--gear' '*:thing:(alpha beta)' }
compdef _gadget gadget
zstyle ':completion:all::::' completer _all_matches _complete
zstyle ':completion:all:*' insert true
zle -C all complete-word _generic
bindkey '^Xa' all
record() { print -r -- $BUFFER >~/line.new; mv ~/line.new ~/line; BUFFER= }
zle -N record
bindkey '^Xr' record
`
	for name, rc := range map[string]string{
		"found in its path": "fpath+=(~/.local/share/zsh/site-functions)\n" + rc,
		"read":              rc + ". ~/" + places["zsh"] + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := scene(t)
			s := newTyped(t, dir, "cp ~/rc ~/.zshrc; ZDOTDIR=$HOME zsh -d", rc)
			check(t, dir, s.all)
			s.run("export DBLOCK_DB=x.db")
			require.ElementsMatch(t, []string{"status", "statusx"}, s.all("dblock statu"), "the first word can be a command")
			s.do("send-keys", "-l", "--", "dblock -d my\\ da")
			s.keys("Tab")
			s.do("send-keys", "-l", "--", "-ddi")
			s.keys("Tab")
			s.do("send-keys", "-l", "--", "in")
			s.keys("Tab")
			s.do("send-keys", "-l", "--", "-- gadget al")
			s.keys("Tab")
			s.await("what the tabulator makes of it", `(?m)^ready> dblock -d my\\ data\.db -ddir/inner\.db +-- gadget alpha`)
			s.keys("C-u")
			s.do("send-keys", "-l", "--", "dblock --pr")
			s.keys("Tab", "Tab")
			s.await("what the flags are", `--priority +-- Who goes first of those who wait`)
		})
	}
}

func TestFishCompletes(t *testing.T) {
	need(t, "fish")
	t.Parallel()
	dir := scene(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "home", "gadget.fish"), []byte("complete -c gadget -f -a 'alpha beta'\ncomplete -c gadget -l gear\n"), 0o644))
	all := func(line string, env ...string) []string {
		c := exec.Command("fish", "-c", `source ~/gadget.fish; complete -C $argv[1]`, line)
		c.Dir = dir
		c.Env = append(os.Environ(), "HOME="+dir+"/home", "PATH="+dir+"/bin:"+os.Getenv("PATH"), "LC_ALL=C.UTF-8")
		c.Env = append(c.Env, env...)
		out, err := c.Output()
		require.NoError(t, err)
		var words []string
		for _, l := range strings.Split(strings.TrimSuffix(string(out), "\n"), "\n") {
			word, _, _ := strings.Cut(l, "\t")
			words = append(words, word)
		}
		return words
	}
	check(t, dir, func(line string) []string { return all(line) })
	require.ElementsMatch(t, []string{"status", "statusx"}, all("dblock statu", "DBLOCK_DB=x.db"), "the first word can be a command")
}

func TestCompletionOfNoShell(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, args := range [][]string{{"completion"}, {"completion", "tcsh"}} {
		r := execute(t, dir, args...)
		require.Equal(t, 64, r.code())
		require.Contains(t, r.stderr, "hint: give bash, zsh or fish")
		require.Empty(t, r.stdout)
	}
	require.Equal(t, 64, execute(t, dir, "completion", "bash", "--", "true").code())
	require.Contains(t, execute(t, dir, "completoin", "zsh").stderr, "did you mean `dblock completion zsh`?")
}
