package program

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/run"
)

// What would slow every start down is in programs of their own: `dblock stats` is dblock-stats.

// companion goes on as the program that the first word names, if it is none of ours and there
// is one: beside dblock, or in PATH. It returns if there is none.
func companion(args []string) error {
	if len(args) == 2 && slices.Contains(helps, args[0]) && companionName(args[1]) {
		args = []string{args[1], "--help"}
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
	err := syscall.Exec(path, append([]string{path}, args[1:]...), os.Environ())
	return &run.StartError{Code: cli.ExitNotExecutable, Command: path, Err: err}
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
