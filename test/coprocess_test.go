package test

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// object is a line of a session, or one for it.
type object = map[string]any

// coprocess is a session, seen by the program that has started it.
type coprocess struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser

	mu    sync.Mutex
	came  *sync.Cond
	lines []object // that nobody has taken yet
	all   []string
	over  bool // its output has ended
}

// converse starts a session in a directory; it is killed at the end of the test.
func converse(t *testing.T, dir string, args ...string) *coprocess {
	t.Helper()
	return converseBy(t, command(t, dir, append([]string{"session"}, args...)...))
}

// converseBy is converse for a command that starts a session.
func converseBy(t *testing.T, cmd *exec.Cmd) *coprocess {
	t.Helper()
	c := &coprocess{t: t, cmd: cmd}
	c.came = sync.NewCond(&c.mu)
	var err error
	c.in, err = cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	start(t, cmd)
	go c.read(out)
	return c
}

func (c *coprocess) read(out io.Reader) {
	lines := bufio.NewReaderSize(out, 1<<20)
	for {
		text, err := lines.ReadString('\n')
		c.mu.Lock()
		if text != "" {
			var o object
			if json.Unmarshal([]byte(text), &o) != nil {
				o = object{"event": "no JSON: " + text}
			}
			c.lines, c.all = append(c.lines, o), append(c.all, text)
		}
		c.over = c.over || err != nil
		c.came.Broadcast()
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// send writes a request.
func (c *coprocess) send(o object) {
	c.t.Helper()
	b, err := json.Marshal(o)
	require.NoError(c.t, err)
	c.write(string(b) + "\n")
}

func (c *coprocess) write(text string) {
	c.t.Helper()
	_, err := io.WriteString(c.in, text)
	require.NoError(c.t, err)
}

// take waits for a line that is wanted, for at most 10 seconds, and takes it away.
func (c *coprocess) take(what string, wanted func(object) bool) object {
	c.t.Helper()
	late := false
	timer := time.AfterFunc(10*time.Second, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		late = true
		c.came.Broadcast()
	})
	defer timer.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for i, o := range c.lines {
			if wanted(o) {
				c.lines = append(c.lines[:i:i], c.lines[i+1:]...)
				return o
			}
		}
		if late || c.over {
			c.t.Fatalf("never: %s; it has said:\n%s", what, strings.Join(c.all, ""))
		}
		c.came.Wait()
	}
}

// has reports whether such a line has come.
func (c *coprocess) has(wanted func(object) bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.lines {
		if wanted(o) {
			return true
		}
	}
	return false
}

// answer waits for the answer to a request.
func (c *coprocess) answer(id any) object {
	c.t.Helper()
	if n, ok := id.(int); ok {
		id = float64(n)
	}
	return c.take("an answer", func(o object) bool {
		got, is := o["id"]
		return is && got == id && o["event"] == nil
	})
}

// event waits for an event.
func (c *coprocess) event(name string) object {
	c.t.Helper()
	return c.take("the event "+name, func(o object) bool { return o["event"] == name })
}

// ask sends a request and waits for its answer.
func (c *coprocess) ask(o object) object {
	c.t.Helper()
	c.send(o)
	return c.answer(o["id"])
}

// acquire acquires a lock and returns the number of the hold.
func (c *coprocess) acquire(db string, more ...object) float64 {
	c.t.Helper()
	o := object{"id": "acquire", "op": "acquire", "db": db}
	for _, m := range more {
		for k, v := range m {
			o[k] = v
		}
	}
	a := c.ask(o)
	require.Equal(c.t, true, a["ok"], "%v", a)
	return a["hold"].(float64)
}

func (c *coprocess) release(hold float64) {
	c.t.Helper()
	a := c.ask(object{"id": "release", "op": "release", "hold": hold})
	require.Equal(c.t, true, a["ok"], "%v", a)
}

// end closes its input and waits for its end.
func (c *coprocess) end() int {
	c.t.Helper()
	_ = c.in.Close()
	return c.exit()
}

// exit waits for its end, and returns its exit code.
func (c *coprocess) exit() int {
	c.t.Helper()
	ended := make(chan struct{})
	go func() {
		c.mu.Lock()
		for !c.over {
			c.came.Wait()
		}
		c.mu.Unlock()
		_ = c.cmd.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		c.t.Fatal("the session does not end")
	}
	return result{status: c.cmd.ProcessState.Sys().(syscall.WaitStatus)}.code()
}

func code(o object) any {
	e, _ := o["error"].(object)
	return e["code"]
}
