package program

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/entry"
	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/run"
	"github.com/dblock-dev/dblock/signals"
)

// What would slow every start down is in programs of their own: `dblock stats` is dblock-stats.

// companion goes on as the program that the first word names, if it is none of ours and there
// is one: beside dblock, or in PATH. It returns if there is none.
func companion(args []string) error {
	if len(args) == 2 && slices.Contains(helps, args[0]) && companionName(args[1]) {
		args = []string{args[1], "--help"}
	}
	if err := remote(args); err != nil {
		return err
	}
	if len(args) == 0 || !companionName(args[0]) {
		return nil
	}
	path := find("dblock-" + args[0])
	if path == "" {
		if cli.IsCompanion(args[0]) && os.Getenv("DBLOCK_DB") == "" {
			return cli.Usage("dblock-"+args[0]+" is not installed", "it belongs beside dblock; install.sh installs both")
		}
		return nil
	}
	return become(path, append([]string{path}, args[1:]...))
}

// become goes on as another program, or says why not.
func become(path string, argv []string) error {
	signals.Ignore(signals.Set(entry.Ignored()))
	entry.Restore()
	err := syscall.Exec(path, argv, os.Environ())
	return &run.StartError{Code: cli.ExitNotExecutable, Command: path, Err: err}
}

// remote goes on as a companion, which is this program with more engines, if one may be needed that is not in this one and
// the companion is there. What it is asked for besides it does as this one.
func remote(args []string) error {
	name := ""
	for _, url := range distant(args) {
		if _, err := lock.EngineFor(url); err != nil {
			name = max(name, cli.Remote(url))
		}
	}
	if name == "" {
		return nil
	}
	path := find(name)
	if _, err := lock.EngineFor("postgres://"); err != nil && path == "" {
		path = find(cli.Remote("postgres://")) // a session may not need the others
	}
	if path == "" {
		return nil
	}
	return become(path, append([]string{"dblock"}, args...))
}

// distant finds the URLs among the arguments before the command, and in the variables that may name a database. A session cannot
// know what it will be asked for, and what looks back is in the companion that has all engines.
func distant(args []string) (urls []string) {
	note := func(word string) {
		if lock.IsURL(word) {
			urls = append(urls, word)
		}
	}
	note(os.Getenv("DBLOCK_DB"))
	note(os.Getenv(lock.EnvDB))
	for _, arg := range args {
		if arg == "--" {
			break
		}
		// The value of a flag may be an argument of its own, or stand behind its letter or "=".
		if at := strings.Index(arg, "://"); at > 0 {
			start := strings.LastIndexAny(arg[:at], "=-")
			note(arg[start+1:])
			if start == 0 && at > 2 {
				note(strings.TrimLeft(arg, "-")[1:])
			}
		}
	}
	if len(args) > 0 && (args[0] == "session" || cli.IsCompanion(args[0]) && len(urls) > 0) {
		urls = append(urls, "etcd://")
	}
	return urls
}

// companionName reports whether a word can be a companion's name, and is no subcommand's.
func companionName(word string) bool {
	if word == "" || word[0] < 'a' || word[0] > 'z' || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return false
	}
	for _, own := range append(helps, cli.Subcommands...) {
		if word == own {
			return false
		}
	}
	return true
}

// find looks for a program beside this one, and in PATH. What is found by way of the current
// directory is whatever somebody has put there.
func find(name string) string {
	var dirs []string
	if self, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Dir(self))
	}
	for _, dir := range append(dirs, filepath.SplitList(os.Getenv("PATH"))...) {
		if !filepath.IsAbs(dir) {
			continue
		}
		path := dir + "/" + name
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS) == nil {
			return path
		}
	}
	return ""
}
