package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/internal/portable"
)

// TestKit runs clients/kit, as README.md there says.
func TestKitSession(t *testing.T) {
	t.Parallel()
	var kit struct {
		Version   int
		Scenarios []struct {
			Name  string
			Needs []string
			Flags map[string][]string
			Steps []object
		}
	}
	readKit(t, "session.json", &kit)
	seen := map[string]bool{}
	for _, sc := range kit.Scenarios {
		require.False(t, seen[sc.Name], "two scenarios are called %s", sc.Name)
		seen[sc.Name] = true
		t.Run(sc.Name, func(t *testing.T) {
			if sc.Name == "force" {
				portable.NeedsWord(t)
			}
			t.Parallel()
			k := newKitRun(t)
			if len(sc.Needs) > 0 {
				can, _ := converse(t, k.dir).event("hello")["capabilities"].([]any)
				for _, need := range sc.Needs {
					if !slices.Contains(can, any(need)) {
						t.Skipf("it cannot do %s here", need)
					}
				}
			}
			k.flags = sc.Flags
			for i, step := range sc.Steps {
				k.at = fmt.Sprintf("step %d: %v", i+1, step)
				k.do(step)
			}
			for name, c := range k.clients {
				if !k.gone[name] {
					require.Zero(t, c.end(), name)
				}
			}
		})
	}
}

func readKit(t *testing.T, name string, to any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../clients/kit", name))
	require.NoError(t, err)
	d := json.NewDecoder(strings.NewReader(string(b)))
	require.NoError(t, d.Decode(to))
}

// kitRun is one scenario on its way.
type kitRun struct {
	t       *testing.T
	dir     string
	flags   map[string][]string
	clients map[string]*coprocess
	gone    map[string]bool
	saved   map[string]any
	dead    int
	at      string
}

func newKitRun(t *testing.T) *kitRun {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	return &kitRun{t: t, dir: dir, clients: map[string]*coprocess{}, gone: map[string]bool{}, saved: map[string]any{}}
}

func (k *kitRun) client(name string) *coprocess {
	if k.clients[name] == nil {
		flags, _ := k.fill(toAny(k.flags[name])).([]any)
		var args []string
		for _, f := range flags {
			args = append(args, fmt.Sprint(f))
		}
		k.clients[name] = converse(k.t, k.dir, args...)
	}
	return k.clients[name]
}

func toAny(list []string) any {
	all := []any{}
	for _, s := range list {
		all = append(all, s)
	}
	return all
}

func (k *kitRun) do(step object) {
	k.t.Helper()
	path := func(name string) string { return k.text(step[name].(string)) }
	var c *coprocess
	if name, ok := step["client"].(string); ok {
		c = k.client(name)
	}
	switch {
	case step["send"] != nil:
		c.send(k.fill(step["send"]).(object))
	case step["line"] != nil:
		times, ok := step["times"].(float64)
		if !ok {
			times = 1
		}
		c.write(strings.Repeat(path("line"), int(times)) + "\n")
	case step["expect"] != nil:
		want := k.fill(step["expect"]).(object)
		got := c.take(k.at, func(o object) bool { return k.meant(want, o) })
		if why := k.fits(want, got); why != "" {
			k.t.Fatalf("%s\n%s: %s\n%v", k.at, "does not fit", why, got)
		}
	case step["none"] != nil:
		want := k.fill(step["none"]).(object)
		require.False(k.t, c.has(func(o object) bool { return k.meant(want, o) && k.fits(want, o) == "" }), k.at)
	case step["end"] == "input":
		_ = c.in.Close()
	case step["end"] == "kill":
		_ = c.cmd.Process.Kill()
	case step["exit"] != nil:
		k.gone[step["client"].(string)] = true
		if code := c.exit(); step["exit"] != "any" {
			require.EqualValues(k.t, step["exit"], code, k.at)
		}
	case step["write"] != nil:
		require.NoError(k.t, os.WriteFile(path("write"), []byte(path("text")), 0o644), k.at)
	case step["remove"] != nil:
		require.NoError(k.t, os.Remove(path("remove")), k.at)
	case step["rename"] != nil:
		require.NoError(k.t, os.Rename(path("rename"), path("to")), k.at)
	case step["exists"] != nil:
		require.Equal(k.t, step["is"], exists(path("exists")), k.at)
	default:
		k.t.Fatalf("there is no such step: %s", k.at)
	}
}

// meant reports whether a line is the one that is expected: the answer to that request, or
// that event.
func (k *kitRun) meant(want, o object) bool {
	if id, ok := want["id"]; ok {
		if _, absent := id.(object); !absent {
			got, is := o["id"]
			_, event := want["event"].(string)
			return is && reflect.DeepEqual(got, id) && event == (o["event"] != nil)
		}
	}
	return o["event"] == want["event"]
}

var placeholder = regexp.MustCompile(`\{(dir|host|pid|dead|boot|pidns|pid:\w+|now(?:[+-]\d+)?)\}`)

// text replaces what stands for something else in a text.
func (k *kitRun) text(s string) string {
	return placeholder.ReplaceAllStringFunc(s, func(p string) string {
		switch name := p[1 : len(p)-1]; {
		case name == "dir":
			return k.dir
		case name == "host":
			host, err := os.Hostname()
			require.NoError(k.t, err)
			return host
		case name == "boot":
			b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
			require.NoError(k.t, err)
			return strings.TrimSpace(string(b))
		case name == "pidns":
			ns, err := os.Readlink("/proc/self/ns/pid")
			require.NoError(k.t, err)
			return strings.Trim(ns, "pid:[]")
		case name == "pid":
			return strconv.Itoa(os.Getpid())
		case name == "dead":
			if k.dead == 0 {
				gone := exec.Command("true")
				require.NoError(k.t, gone.Run())
				k.dead = gone.Process.Pid
			}
			return strconv.Itoa(k.dead)
		case strings.HasPrefix(name, "pid:"):
			return strconv.Itoa(k.client(name[4:]).cmd.Process.Pid)
		default:
			more, _ := strconv.ParseInt(name[3:], 10, 64)
			return strconv.FormatInt(time.Now().UnixMilli()+more, 10)
		}
	})
}

var process = regexp.MustCompile(`^\{(pid|dead|pid:\w+)\}$`)

// fill replaces what stands for something else in a value.
func (k *kitRun) fill(v any) any {
	switch v := v.(type) {
	case string:
		if process.MatchString(v) {
			n, _ := strconv.Atoi(k.text(v))
			return float64(n)
		}
		return k.text(v)
	case object:
		if name, ok := v["$ref"].(string); ok && v["$not"] == nil {
			return k.saved[name]
		}
		filled := object{}
		for name, member := range v {
			filled[name] = k.fill(member)
		}
		return filled
	case []any:
		filled := make([]any, len(v))
		for i := range v {
			filled[i] = k.fill(v[i])
		}
		return filled
	}
	return v
}

// fits says why a value does not fit; nothing if it does.
func (k *kitRun) fits(want, got any) string {
	no := func() string { return fmt.Sprintf("want %v, got %v", want, got) }
	switch w := want.(type) {
	case object:
		for name, arg := range w {
			if !strings.HasPrefix(name, "$") {
				continue
			}
			if !k.matches(name, arg, got) && w["$not"] == nil {
				return no()
			}
		}
		if slices.ContainsFunc(keys(w), func(n string) bool { return strings.HasPrefix(n, "$") }) {
			return ""
		}
		g, ok := got.(object)
		if !ok {
			return no()
		}
		for name, member := range w {
			value, is := g[name]
			if m, ok := member.(object); ok && m["$absent"] != nil {
				if is {
					return name + " is there"
				}
				continue
			}
			if !is {
				return name + " is missing"
			}
			if why := k.fits(member, value); why != "" {
				return name + ": " + why
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return no()
		}
		for i := range w {
			if why := k.fits(w[i], g[i]); why != "" {
				return why
			}
		}
		return ""
	}
	if !reflect.DeepEqual(want, got) {
		return no()
	}
	return ""
}

func keys(o object) (all []string) {
	for name := range o {
		all = append(all, name)
	}
	return all
}

func (k *kitRun) matches(matcher string, arg, got any) bool {
	n, isNumber := got.(float64)
	switch matcher {
	case "$is":
		return arg == map[reflect.Kind]string{
			reflect.Float64: "number", reflect.String: "string", reflect.Bool: "boolean", reflect.Map: "object", reflect.Slice: "array", reflect.Invalid: "null",
		}[reflect.ValueOf(got).Kind()]
	case "$save":
		k.saved[arg.(string)] = got
		return true
	case "$has":
		s, ok := got.(string)
		return ok && strings.Contains(s, arg.(string))
	case "$min":
		return isNumber && n >= arg.(float64)
	case "$max":
		return isNumber && n <= arg.(float64)
	case "$above":
		return isNumber && n > k.saved[arg.(string)].(float64)
	case "$contains":
		list, ok := got.([]any)
		return ok && slices.ContainsFunc(list, func(v any) bool { return k.fits(arg, v) == "" })
	case "$ref":
		return reflect.DeepEqual(k.saved[arg.(string)], got)
	case "$not":
		return true
	}
	k.t.Fatalf("there is no matcher %s: %s", matcher, k.at)
	return false
}

func TestKitNotices(t *testing.T) {
	t.Parallel()
	var kit struct {
		Version int
		Notices []struct {
			Name, Why string
			Text      *string
			Bytes     []byte
			Age       int64 `json:"file_age_ms"`
			Used      bool
			Flags     []string
			Status    object
			Acquire   string
		}
	}
	readKit(t, "notices.json", &kit)
	for _, n := range kit.Notices {
		t.Run(n.Name, func(t *testing.T) {
			switch n.Name {
			case "a dblock before the last boot", "a dblock that has gone", "a number that was used again":
				portable.Needs(t, portable.Processes)
			}
			t.Parallel()
			k := newKitRun(t)
			if n.Text != nil && strings.Contains(*n.Text, "{boot}") && !exists("/proc/sys/kernel/random/boot_id") {
				t.Skip("this system has no boot id")
			}
			db, path := filepath.Join(k.dir, "app.db"), filepath.Join(k.dir, ".app.lock")
			if n.Used {
				c := converse(t, k.dir)
				c.release(c.acquire(db))
				require.Zero(t, c.end())
			}
			if n.Text != nil {
				n.Bytes = []byte(k.text(*n.Text))
			}
			if n.Text != nil || n.Bytes != nil {
				require.NoError(t, os.WriteFile(path, n.Bytes, 0o644))
				at := time.Now().Add(-time.Duration(n.Age) * time.Millisecond)
				require.NoError(t, os.Chtimes(path, at, at))
			}
			c := converse(t, k.dir, n.Flags...)
			got := c.ask(object{"id": 1, "op": "status", "db": db})
			if why := k.fits(k.fill(n.Status), got["status"]); why != "" {
				t.Fatalf("%s\n%v", why, got)
			}
			got = c.ask(object{"id": 2, "op": "acquire", "db": db, "wait": 0})
			if n.Acquire == "ok" {
				require.Equal(t, true, got["ok"], "%v", got)
				c.release(got["hold"].(float64))
			} else {
				require.Equal(t, n.Acquire, code(got), "%v", got)
			}
			require.Zero(t, c.end())
		})
	}
}
