package test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// All links between the pages lead somewhere, to a heading too.
func TestLinksInThePages(t *testing.T) {
	links := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git") {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		page, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(prose(string(page)), -1) {
			target, anchor, _ := strings.Cut(link[1], "#")
			if strings.Contains(target, ":") {
				continue
			}
			links++
			there := path
			if target != "" {
				there = filepath.Join(filepath.Dir(path), target)
			}
			if strings.HasPrefix(there, filepath.Join("..", "recipes")) && !exists("..", "recipes") {
				continue
			}
			if !exists(there) {
				t.Errorf("%s: %s is not there", path, link[1])
			} else if anchor != "" && !slices.Contains(anchors(t, there), anchor) {
				t.Errorf("%s: %s has no such heading", path, link[1])
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, links, 50)
}

// prose is a page without its blocks of code, and without code between backquotes.
func prose(page string) string {
	page = regexp.MustCompile("(?ms)^[ \t]*```.*?^[ \t]*```").ReplaceAllString(page, "")
	return regexp.MustCompile("`[^`\n]*`").ReplaceAllStringFunc(page, func(code string) string {
		return strings.NewReplacer("](", "", "`", "").Replace(code)
	})
}

// anchors are the names that GitHub gives to the headings of a page.
func anchors(t *testing.T, path string) []string {
	t.Helper()
	page, err := os.ReadFile(path)
	require.NoError(t, err)
	var all []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ +(.*?) *$`).FindAllStringSubmatch(prose(string(page)), -1) {
		name := strings.ToLower(regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(heading[1], "$1"))
		name = regexp.MustCompile(`[^\p{L}\p{N}_ -]`).ReplaceAllString(name, "")
		name = strings.ReplaceAll(name, " ", "-")
		for n, first := 1, name; slices.Contains(all, name); n++ {
			name = fmt.Sprintf("%s-%d", first, n)
		}
		all = append(all, name)
	}
	return all
}

// block is a block of shell commands in a page.
type block struct {
	line     int
	language string // sh or console
	text     string
}

// blocks reads a page's blocks of shell commands, in order.
func blocks(t *testing.T, path string) []block {
	t.Helper()
	page, err := os.ReadFile(path)
	require.NoError(t, err)
	var all []block
	for _, at := range regexp.MustCompile("(?ms)^```(sh|console)\n(.*?)^```$").FindAllStringSubmatchIndex(string(page), -1) {
		line := 1 + strings.Count(string(page[:at[0]]), "\n")
		all = append(all, block{line, string(page[at[2]:at[3]]), string(page[at[4]:at[5]])})
	}
	return all
}

// stage is where blocks of a page are run: one after the other in one directory.
type stage struct {
	dir   string            // as it is
	shown string            // as the page shows it
	stubs map[string]string // programs that the page calls, as shell scripts; with ./ in dir, else in PATH
	skip  map[string]string // blocks that are not run, by a part of them, and why
}

// perform runs each block of a page, and compares what a console block shows. A block that is not
// run must be named, and what is named must be there.
func (s stage) perform(t *testing.T, path string) {
	t.Helper()
	bin := t.TempDir()
	for name, script := range s.stubs {
		to := filepath.Join(bin, name)
		if strings.HasPrefix(name, "./") {
			to = filepath.Join(s.dir, name)
		}
		executable(t, to, []byte("#!/bin/sh\n"+script+"\n"))
	}
	skipped := map[string]bool{}
	for _, b := range blocks(t, path) {
		name := fmt.Sprintf("%s:%d", filepath.Base(path), b.line)
		if skip := s.skips(b); skip != "" {
			skipped[skip] = true
			continue
		}
		t.Run(name, func(t *testing.T) {
			script := "set -e\n" + b.text
			if b.language == "console" {
				script = asScript(b.text)
			}
			c := with(exec.Command("sh", "-c", script), "PATH="+bin+":"+os.Getenv("PATH"), "SHELL=/bin/sh", "LC_ALL=C.UTF-8")
			c.Dir = s.dir
			r := finish(t, c)
			if b.language == "sh" {
				require.Zero(t, r.code(), "%s%s%s", b.text, r.stdout, r.stderr)
				return
			}
			s.compare(t, b.text, r.stdout)
		})
	}
	for part := range s.skip {
		require.True(t, skipped[part], "no block has %q", part)
	}
}

func (s stage) skips(b block) string {
	for part := range s.skip {
		if strings.Contains(b.text, part) {
			return part
		}
	}
	return ""
}

// mark is what a console block's script prints before the output of each command.
const mark = "\x01\n"

// asScript is the script for a console block: its commands, each with its output apart, and with
// $? as the one before left it. What runs in the background has its lock before the next
// command, and is told to end by the file "over".
func asScript(text string) string {
	script := "exec 2>&1\ntrap 'touch over; wait; rm over' EXIT\n"
	for _, line := range strings.Split(text, "\n") {
		command, is := strings.CutPrefix(line, "$ ")
		if !is {
			continue
		}
		script += "code=$?; printf '\\001\\n'; (exit $code)\n" + command + "\n"
		if db := regexp.MustCompile(`-d (\S+) .*&$`).FindStringSubmatch(command); db != nil {
			script += "while dblock status -q --exit-code -d " + db[1] + "; do sleep 0.01; done\n"
		}
	}
	return script
}

// compare compares what a console block shows with what was printed. A command without output in the
// page may print what it likes; "..." stands for anything; numbers of three digits and more, times,
// versions and hosts may be others.
func (s stage) compare(t *testing.T, text, printed string) {
	t.Helper()
	outputs := strings.Split(printed, mark)[1:]
	n := -1
	var want []string
	check := func() {
		if shown := strings.TrimSpace(strings.Join(want, "\n")); n >= 0 && shown != "" {
			require.Less(t, n, len(outputs), printed)
			require.Regexp(t, "^"+s.pattern(shown)+"$", strings.TrimSpace(outputs[n]))
		}
	}
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "$ ") {
			check()
			n, want = n+1, nil
		} else {
			want = append(want, line)
		}
	}
	check()
	require.Len(t, outputs, n+1, printed)
}

func (s stage) pattern(shown string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	shown = strings.ReplaceAll(shown, s.shown, "\x02")
	shown = strings.ReplaceAll(shown, "laptop", host)
	p := regexp.QuoteMeta(shown)
	p = regexp.MustCompile(`\b\d+(\\\.\d+)?(µs|ms|s|m)\b`).ReplaceAllString(p, "\x03")
	p = regexp.MustCompile(`\d{3,}`).ReplaceAllString(p, `\d+`)
	p = strings.ReplaceAll(p, `\.\.\.`, `.*`)
	p = strings.ReplaceAll(p, "\x03", `[\dhm.µs]+`)
	return strings.ReplaceAll(p, "\x02", regexp.QuoteMeta(s.dir))
}

// newStage is a directory with the programs that the examples call. They say that they were called.
func newStage(t *testing.T) stage {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "data"), 0o755))
	called := `echo "${0##*/} $*" >>` + filepath.Join(dir, "called")
	return stage{
		dir: dir, shown: "/srv/app",
		stubs: map[string]string{
			"node": called, "./sync.sh": called, "./upload.sh": called, "./report.sh": called,
			"./backup.sh": called + "\nuntil [ -e over ]; do sleep 0.01; done",
		},
	}
}

// Each command in the README is run, and prints what is shown.
func TestREADME(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.skip = map[string]string{
		"sh install.sh && ": "installs; CI does it",
		"go test -race":     "would run this test again",
	}
	s.perform(t, "../README.md")
	called, err := os.ReadFile(filepath.Join(s.dir, "called"))
	require.NoError(t, err)
	require.Equal(t, []string{
		"node migrate.js", "node import.js", "node index.js", "node report.js", "sync.sh ", "node export.js", "upload.sh ", "backup.sh ",
	}, strings.Split(strings.TrimSpace(string(called)+"\x00"), "\n")[:8])
	require.NotContains(t, string(called), "report.sh")
	require.Empty(t, litter(t, s.dir))
}

func TestExamplesForPeopleFromFlock(t *testing.T) {
	t.Parallel()
	need(t, "flock")
	s := newStage(t)
	s.skip = map[string]string{`"${LOCKED-}"`: "TestScriptThatLocksItself runs it"}
	s.perform(t, "../docs/coming-from-flock.md")
}

// The line that makes a script lock itself, as the page has it.
func TestScriptThatLocksItself(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, b := range blocks(t, "../docs/coming-from-flock.md") {
		if strings.Contains(b.text, `"${LOCKED-}"`) {
			script := filepath.Join(dir, "self.sh")
			executable(t, script, []byte("#!/bin/sh\n"+b.text+"dblock status -q --exit-code -d \"$0\"; echo \"$? $*\"\n"))
			r := finish(t, exec.Command(script, "a", "b c"))
			require.Zero(t, r.code(), r.stderr)
			require.Equal(t, "1 a b c\n", r.stdout, "it is locked")
			return
		}
	}
	t.Fatal("the page does not have it")
}

// A page that says something else than what is printed is noticed.
func TestPagesAreCompared(t *testing.T) {
	t.Parallel()
	s := stage{dir: "/tmp/x", shown: "/srv/app"}
	for shown, printed := range map[string]string{
		"pid 12345, 2s": "pid 7, 1m03.5s", "/srv/app/.app.lock": "/tmp/x/.app.lock", "a ... d": "a b c d", "75": "75",
	} {
		require.Regexp(t, "^"+s.pattern(shown)+"$", printed)
	}
	for shown, printed := range map[string]string{"75": "69", "was not run": "was run", "/srv/app/.app.lock": "/tmp/y/.app.lock"} {
		require.NotRegexp(t, "^"+s.pattern(shown)+"$", printed)
	}
	require.Equal(t, []string{"the-peers-3-rules", "the-peers-3-rules-1"}, func() []string {
		page := filepath.Join(t.TempDir(), "page.md")
		require.NoError(t, os.WriteFile(page, []byte("## The peers' 3 `rules`\n```sh\n# none\n```\n# The peers' 3 rules\n"), 0o644))
		return anchors(t, page)
	}())
}

// The manual pages: nothing that mandoc warns of, and names that are in the program.
func TestManualPages(t *testing.T) {
	need(t, "mandoc")
	pages, err := filepath.Glob("../docs/*.[157]")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(pages), 3)
	out, err := exec.Command("mandoc", append([]string{"-Tlint", "-Wwarning"}, pages...)...).CombinedOutput()
	require.NoError(t, err, string(out))
	for _, page := range pages {
		b, err := os.ReadFile(page)
		require.NoError(t, err)
		require.Regexp(t, `(?m)^\.TH [A-Z-]+ [157] 2026-01-01 "dblock 0\.0\.0" "`, string(b), "what install.sh fills in")
	}

	// Each operation, event, error and member of the specification is in the page.
	spec, err := os.ReadFile("../docs/session.md")
	require.NoError(t, err)
	b, err := os.ReadFile("../docs/dblock-session.7")
	require.NoError(t, err)
	page := strings.ReplaceAll(string(b), `\-`, "-")
	names := regexp.MustCompile("(?m)^(?:\\| `([a-z_-]+)`(?:, `([a-z_]+)`)? \\||\\*\\*([a-z]+)\\*\\*)").FindAllStringSubmatch(string(spec), -1)
	require.Greater(t, len(names), 30)
	for _, name := range names {
		for _, n := range name[1:] {
			require.Regexp(t, `\b`+n+`\b`, page)
		}
	}
}

// The peer of dblock-protocol(5) and dblock keep each other out.
func TestPeerOfTheManual(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/dblock-protocol.5")
	require.NoError(t, err)
	script := regexp.MustCompile(`(?ms)^#!/bin/sh$.*?^"\$@"\n`).FindString(string(page))
	require.NotEmpty(t, script)
	dir := t.TempDir()
	peer := filepath.Join(dir, "peer")
	executable(t, peer, []byte(strings.NewReplacer(`\-`, "-", `\e`, `\`).Replace(script)))
	run := func(args ...string) *exec.Cmd {
		c := exec.Command(peer, args...)
		c.Dir = dir
		return c
	}

	in := start(t, run("sh", "-c", "touch in; until [ -e go ]; do sleep 0.01; done"))
	await(t, "the peer is in", func() bool { return exists(dir, "in") })
	require.Equal(t, "foreign", statusOf(t, dir, "app.db").State)
	r := execute(t, dir, "-n", "-d", "app.db", "--", "true")
	require.Equal(t, 75, r.code())
	require.Contains(t, r.stderr, fmt.Sprintf("held by peer (pid %d", in.Process.Pid))
	letGo(t, dir)
	require.NoError(t, in.Wait())
	require.Empty(t, litter(t, dir))
	require.NoError(t, os.Remove(filepath.Join(dir, "go")))

	hold(t, dir, "-d", "app.db")
	r = finish(t, run("true"))
	require.Equal(t, 75, r.code(), r.stderr)
	require.Contains(t, r.stderr, "has the lock")
	letGo(t, dir)
	await(t, "the lock is free", func() bool { return statusOf(t, dir, "app.db").State == "free" })
	require.Zero(t, finish(t, run("sh", "-c", "exit 0")).code())
	require.Equal(t, 3, finish(t, run("sh", "-c", "exit 3")).code())

	// One that was killed keeps nobody waiting.
	dead := run("sh", "-c", "touch dead; exec sleep 60")
	dead.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	start(t, dead)
	await(t, "it is in", func() bool { return exists(dir, "dead") })
	require.NoError(t, syscall.Kill(-dead.Process.Pid, syscall.SIGKILL))
	_ = dead.Wait()
	require.Zero(t, execute(t, dir, "-n", "-d", "app.db", "--", "true").code())
}
