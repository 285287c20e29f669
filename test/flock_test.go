package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// outcome is what a line of docs/coming-from-flock.md comes to: its exit code when the lock is
// free, when another dblock has it alone, and when a reader has it.
type outcome struct{ free, held, shared int }

// switched is every line of the tables, by program and flag. What is not here must be refused.
var switched = map[string]outcome{
	"flock FILE COMMAND":                      {0, 75, 75},
	"flock DIRECTORY COMMAND":                 {0, 75, 75},
	"flock -c --command":                      {0, 75, 75},
	"flock NUMBER":                            {0, 75, 75},
	"flock -u --unlock":                       {0, 75, 75},
	"flock -s --shared":                       {0, 75, 0},
	"flock -x -e --exclusive":                 {0, 75, 75},
	"flock -n --nb --nonblock":                {0, 75, 75},
	"flock -w --wait --timeout":               {0, 75, 75},
	"flock -E --conflict-exit-code":           {0, 1, 1},
	"flock -o --close":                        {0, 75, 75},
	"flock --verbose":                         {0, 75, 75},
	"flock -h --help":                         {0, 0, 0},
	"flock -V --version":                      {0, 0, 0},
	"lockf FILE COMMAND":                      {0, patient, patient},
	"lockf FD":                                {0, patient, patient},
	"lockf -k":                                {0, 75, 75},
	"lockf -n":                                {0, 75, 75},
	"lockf -s":                                {0, 75, 75},
	"lockf -t":                                {0, 75, 75},
	"with-lock-ex -w FILE COMMAND":            {0, patient, patient},
	"with-lock-ex -f FILE COMMAND":            {0, 255, 255},
	"with-lock-ex -q FILE COMMAND":            {0, 0, 0},
	"sem --fg --id NAME COMMAND":              {0, patient, patient},
	"sem COMMAND --bg":                        {0, patient, patient},
	"sem --id --semaphorename":                {0, 75, 75},
	"sem --wait":                              {0, 75, 75},
	"sem --st --semaphoretimeout less than 0": {0, 75, 75},
	"sem --pipe":                              {0, 75, 75},
}

// patient stands for the exit code of what waits for as long as it takes.
const patient = -1

// Each line of the page's tables is run as it stands there, with the lock free, held and shared.
func TestComingFromFlock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	// A line that gives up in the end need not take seconds for that.
	const brief, long = "0.05", "60"
	shell := func(line, wait string) *exec.Cmd {
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "ran")))
		line = strings.NewReplacer("FILE", "file", "DIRECTORY", "file", "-w 2.5", "-w "+wait, "COMMAND &", "touch ran & wait $!", "COMMAND", "touch ran").Replace(line)
		c := with(exec.Command("sh", "-c", line), "DBLOCK_WAIT="+wait, "SHELL=/bin/sh")
		c.Dir = dir
		return c
	}
	// A shell's keeper may release the lock a moment after the shell has ended.
	awaitFree := func() {
		await(t, "the lock is free", func() bool { return statusOf(t, dir, "file").State == "free" })
	}
	free := func() {
		letGo(t, dir)
		awaitFree()
		require.NoError(t, os.Remove(filepath.Join(dir, "go")))
	}

	lines := comingFromFlock(t)
	for flags, line := range lines {
		want, known := switched[flags]
		if line == "none" {
			require.False(t, known, flags)
			continue
		}
		require.True(t, known, "%s: the test does not know this line", flags)
		awaitFree()
		require.Equal(t, want.free, finish(t, shell(line, long)).code(), flags)
		require.Equal(t, strings.Contains(line, "COMMAND"), exists(dir, "ran"), flags)
	}
	for mode, code := range map[string]func(outcome) int{
		"-x": func(o outcome) int { return o.held },
		"-s": func(o outcome) int { return o.shared },
	} {
		hold(t, dir, mode, "-d", "file")
		for flags, want := range switched {
			require.Contains(t, lines, flags, "not in the page")
			if code(want) == patient {
				continue
			}
			require.Equal(t, code(want), finish(t, shell(lines[flags], brief)).code(), "%s beside %s", flags, mode)
			joined := mode == "-s" && flags == "flock -s --shared"
			require.Equal(t, joined, exists(dir, "ran"), "%s beside %s", flags, mode)
		}
		free()
	}
	for flags, want := range switched {
		if want.held != patient {
			continue
		}
		hold(t, dir, "-d", "file")
		c := start(t, shell(lines[flags], brief))
		await(t, flags+" waits", func() bool {
			// Not every system tells who waits.
			return waiters(t, dir, "file") == 1 ||
				strings.Contains(execute(t, dir, "status", "--json", "-d", "file").stdout, `"waiting_known": false`)
		})
		require.False(t, exists(dir, "ran"), flags)
		free()
		require.NoError(t, c.Wait(), flags)
	}
}

// Flags that the page says are not there are refused, and nothing is run.
func TestNotFromFlock(t *testing.T) {
	t.Parallel()
	refused := 0
	for flags, line := range comingFromFlock(t) {
		if line != "none" || flags == "lockf -w" { // which has another meaning
			continue
		}
		for _, flag := range strings.Fields(flags)[1:] {
			if strings.HasPrefix(flag, "-") {
				refused++
				r := execute(t, t.TempDir(), "-d", "file", flag, "1", "--", "touch", "ran")
				require.Equal(t, 64, r.code(), "%s %s", flags, r.stderr)
			}
		}
	}
	require.GreaterOrEqual(t, refused, 10)
}

// comingFromFlock reads the page: what is to be run for each program and flag.
func comingFromFlock(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile("../docs/coming-from-flock.md")
	require.NoError(t, err)
	lines := map[string]string{}
	for _, section := range strings.Split(string(page), "\n## ")[1:] {
		tool, _, _ := strings.Cut(section, " ")
		tables, _, _ := strings.Cut(section, "\nExit codes:")
		for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\| (`(.*?)`|none)(?:, .*?)? \\| .*\\|$").FindAllStringSubmatch(tables, -1) {
			flags := tool + " " + strings.NewReplacer("`", "", ",", "", " an open file", "").Replace(row[1])
			require.NotContains(t, lines, flags)
			if lines[flags] = row[3]; row[3] == "" {
				lines[flags] = row[2]
			}
		}
	}
	return lines
}

// What the page says of flock itself, beside dblock.
func TestBesideFlock(t *testing.T) {
	need(t, "flock")
	dir := t.TempDir()
	sh := func(line string) result {
		c := with(exec.Command("sh", "-c", line), "SHELL=/bin/sh")
		c.Dir = dir
		return finish(t, c)
	}

	r := sh("flock file dblock -n -d file -- echo both") // both locks, one inside the other
	require.Zero(t, r.code(), r.stderr)
	require.Equal(t, "both\n", r.stdout)

	holder := hold(t, dir, "-d", "file")
	require.Zero(t, sh("flock -n file true").code(), "another lock")
	letGo(t, dir)
	require.NoError(t, holder.Wait())
	require.Zero(t, sh("dblock -d other -- true").code())
	require.False(t, exists(dir, "other"), "the file is not made")

	for line, codes := range map[string][2]int{
		"FILE sh -c 'exit 3'":        {3, 3},
		"FILE sh -c 'kill -TERM $$'": {128 + 15, 128 + 15},
		"FILE nosuch":                {69, 127},
		"nosuch/file true":           {66, 73},
		"FILE -c 'exit 4'":           {4, 4},
		"-n FILE TOOL -n FILE true":  {1, 0}, // inside itself
		"--nosuch FILE true":         {64, 64},
		"-xn FILE true":              {0, 0},
		"-w5 FILE true":              {0, 0},
	} {
		flock := strings.NewReplacer("FILE", "file", "TOOL", "flock").Replace("flock " + line)
		require.Equal(t, codes[0], sh(flock).code(), flock)
		dblock := strings.NewReplacer("FILE -c", "-d file -c", "FILE", "-d file --", "nosuch/file", "-d nosuch/file --", "TOOL", "dblock").Replace("dblock " + line)
		require.Equal(t, codes[1], sh(dblock).code(), dblock)
	}
	c := command(t, dir, "-d", "file", "--", "sh", "-c", "kill -TERM $$")
	require.True(t, finish(t, c).status.Signaled(), "the same death")
}
