package proc

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Under reports whether a process is pid, or descends from it. known is false if the system
// does not tell: of one whose own parent has ended only that is known where Complete is false.
func Under(process, pid int) (yes, known bool) {
	for range 1000 {
		if process == pid {
			return true, true
		}
		if process <= 1 {
			return false, Complete
		}
		st, ok := Stat(process)
		if !ok {
			return false, false
		}
		process = st.Parent
	}
	return false, true
}

// Serves is the process for which a dblock holds a lock without having started it: the shell
// that a keeper is for, or the parent of a session. It is 0 if there is none, or none that
// can be seen. Whoever asks knows already that the dblock has the lock: it is the holder
// itself that says whom it serves, by its command line.
func Serves(pid int) int {
	argv := Command(pid)
	if len(argv) < 2 || argv[1] != "session" {
		return Keeps(pid)
	}
	st, ok := Stat(pid)
	if !ok || st.Parent <= 1 { // whoever takes up those whose parent has ended
		return 0
	}
	return older(st.Parent, st)
}

// Keeps is the process that a keeper is for; 0 if pid is none, as in Serves.
func Keeps(pid int) int {
	argv := Command(pid)
	if len(argv) < 4 || argv[1] != "hold" || argv[2] != "--for" {
		return 0
	}
	served, err := strconv.Atoi(argv[3])
	st, ok := Stat(pid)
	if err != nil || !ok {
		return 0
	}
	return older(served, st)
}

// older is pid if that was there before who serves it was started: else it is another process
// that has got the same number.
func older(pid int, who Status) int {
	if st, ok := Stat(pid); !ok || st.Started > who.Started {
		return 0
	}
	return pid
}

// shells are programs whose first argument that is no flag is the script that they run.
var shells = []string{"sh", "bash", "dash", "zsh", "ksh", "mksh", "ash", "yash", "rbash"}

// Program is what people call what a process runs: its program, or for a shell its script.
// It is empty if that is not known, and anybody's text.
func Program(pid int) string {
	argv := Command(pid)
	if len(argv) == 0 {
		return ""
	}
	name := strings.TrimPrefix(filepath.Base(argv[0]), "-") // of a login shell
	if !slices.Contains(shells, name) {
		return name
	}
	for i := 1; i < len(argv); i++ {
		arg := argv[i]
		switch {
		case arg == "" || arg == "--" || arg == "-":
		case strings.HasPrefix(arg, "--"):
		case arg[0] == '-' || arg[0] == '+':
			if strings.ContainsAny(arg, "cs") { // a string, or what is typed
				return name
			}
			if strings.HasSuffix(arg, "o") { // the next one is an option's name
				i++
			}
		default:
			return filepath.Base(arg)
		}
	}
	return name
}
