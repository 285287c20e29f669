package session

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/internal/cli"
)

// serveAll has a session read a text to its end, and returns the lines that it has answered.
func serveAll(t *testing.T, defaults *Command, text []byte) []map[string]any {
	t.Helper()
	in, requests, err := os.Pipe()
	require.NoError(t, err)
	answers, out, err := os.Pipe()
	require.NoError(t, err)
	defer in.Close()
	defer answers.Close()
	read := make(chan []byte)
	go func() {
		all, _ := io.ReadAll(answers)
		read <- all
	}()
	go func() {
		_, _ = requests.Write(text)
		requests.Close()
	}()
	s := newSession(defaults, os.Getpid())
	s.out = newWriter(int(out.Fd()))
	s.in = newReader(int(in.Fd()), s.out)
	go s.lead()
	select {
	case <-s.ended:
	case <-time.After(20 * time.Second):
		t.Fatal("it does not see the end of its input")
	}
	s.finish()
	s.out.flush(lastWords)
	out.Close()
	var lines []map[string]any
	for line := range bytes.Lines(<-read) {
		var o map[string]any
		require.NoError(t, json.Unmarshal(line, &o), "%s", line)
		require.True(t, bytes.HasSuffix(line, []byte("}\n")), "%q", line)
		lines = append(lines, o)
	}
	return lines
}

// Whatever comes in, each line has one answer, each answer is JSON, and at the end nothing
// is held.
func FuzzSession(f *testing.F) {
	for _, text := range []string{
		`{"id":1,"op":"acquire"}` + "\n" + `{"id":2,"op":"release","hold":1}` + "\n",
		`{"id":1,"op":"acquire","db":"b","mode":"shared","wanted":true,"events":true}` + "\n" + `{"id":2,"op":"acquire","db":"b","wait":"forever"}` + "\n" + `{"id":3,"op":"cancel","target":2}` + "\n",
		`{"id":1,"op":"status"}` + "\n\n" + `{"id":1,"op":"ping"}` + "\nx\n{\"id\":1}",
		`{"id":1,"op":"acquire"}` + "\n" + `{"id":2,"op":"check","hold":1}` + "\n" + `{"id":2,"op":"force","yes":true}` + "\n" + `{"id":2,"op":"release","hold":1}` + "\n",
		`{"id":1,"op":"acquire","wait":0,"info":"\ud800","process":"` + strings.Repeat("x", 5000) + `"}` + "\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		// No way out of the directory, in which it may lock and force what it likes.
		if bytes.Contains(text, []byte("/")) || bytes.Contains(text, []byte("..")) || bytes.Contains(text, []byte(`\`)) && !bytes.Contains(text, []byte(`\ud800`)) {
			t.Skip()
		}
		dir := t.TempDir()
		t.Chdir(dir)
		lines := serveAll(t, &Command{Database: cli.Database{DB: "a"}, Wait: cli.Duration(50 * time.Millisecond), Foreign: cli.Foreign{StaleTimeout: cli.StaleTimeout(30 * time.Second), Stale: "dead"}, Process: "x"}, text)
		answers, want := 0, 0
		for _, o := range lines {
			if _, ok := o["ok"]; ok {
				answers++
			}
		}
		for line := range bytes.Lines(text) {
			if bytes.HasSuffix(line, []byte("\n")) && len(bytes.TrimSpace(line)) > 0 {
				want++
			}
		}
		require.Equal(t, want, answers, "%v", lines)
		left, err := filepath.Glob(filepath.Join(dir, ".*.lock"))
		require.NoError(t, err)
		require.Empty(t, left)
	})
}
