package history

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func full() Event {
	return Event{
		Version: Version, Kind: Hold, At: 1764240001234, Token: 1764240000999, Process: "nightly \"etl\"", Info: "JIRA-1\nx", PID: 4711, Host: "höst", UID: 1000,
		Command: "mig\trate", Shared: true, Priority: "high", Requested: 1764240000100, Acquired: 1764240000999, Released: 1764240001234,
		Waited: 899123 * time.Microsecond, Held: 235001 * time.Microsecond, Ended: Exited, Code: 3, Heals: 2, By: &Party{PID: 1, UID: -1, Process: "cli"},
		Blockers: []Blocker{{Party{PID: 12, UID: 0, Process: "backup", Command: "sh", Token: 7}, 899 * time.Millisecond}}, Ahead: 1,
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, e := range []Event{full(), {Version: Version, Kind: GaveUp, Ended: Busy, UID: -1}, {Version: Version, Kind: Killed, Signal: 9}} {
		line := Append(nil, &e)
		require.True(t, json.Valid(line), "%s", line)
		require.Equal(t, 1, strings.Count(string(line), "\n"))
		got, err := Parse(line)
		require.NoError(t, err)
		require.Equal(t, e, got)
	}
}

// No label, however it is made, makes a line too long or lets it end early.
func TestLinesAreBounded(t *testing.T) {
	t.Parallel()
	for _, s := range []string{strings.Repeat("x", 9000), strings.Repeat("\x01", 9000), strings.Repeat("\xff", 9000), strings.Repeat("\n", 9000), strings.Repeat("😀", 3000)} {
		p := Party{PID: 1 << 22, UID: 1 << 31, Process: s, Command: s, Token: 1 << 53}
		e := Event{Kind: Hold, Process: s, Info: s, Host: s, Command: s, Priority: "high", By: &p, Ahead: 200}
		for range 200 {
			e.Blockers = append(e.Blockers, Blocker{p, time.Hour})
		}
		line := Append(nil, &e)
		require.LessOrEqual(t, len(line), MaxLine)
		require.True(t, json.Valid(line))
		require.Equal(t, 1, strings.Count(string(line), "\n"))
		got, err := Parse(line)
		require.NoError(t, err)
		require.Len(t, got.Blockers, MaxBlockers)
		require.Equal(t, 200, got.Ahead)
	}
}

func TestWho(t *testing.T) {
	t.Parallel()
	e := full()
	line := Append(nil, &e)
	p, err := Who(line)
	require.NoError(t, err)
	require.Equal(t, Party{PID: e.PID, UID: e.UID, Process: e.Process, Command: e.Command, Token: e.Token}, p)
	for _, bad := range []string{"", "{}", `{"v":1}`, string(line[:120]), `{"command":`, `[]`} {
		_, err := Who([]byte(bad))
		require.ErrorIs(t, err, ErrLine, bad)
	}
}

func TestParseWhatOthersWrite(t *testing.T) {
	t.Parallel()
	e, err := Parse([]byte(` { "v" : 1, "event":"hold", "later":{"a":[1,-2.5e3,true,null,"\ud83d\ude00\u00e9"]}, "pid":"x", "token":12.0, "process":"\u0041\n", "by":[1], "blockers":null } ` + "\n"))
	require.NoError(t, err)
	require.Equal(t, Event{Version: 1, Kind: Hold, Token: 12, UID: -1, Process: "A\n", By: &Party{UID: -1}}, e)
	for _, bad := range []string{
		"", "\n", "{", "{}", `{"v":1}`, `{"v":2,"event":"hold"}`, `{"v":1,"event":"hold"`, `{"v":1,"event":"hold"}x`, `"x"`, "[1]", `{"v":1,"event":"hold","x":tru}`,
		`{"v":1,"event":"ho` + "\n" + `ld"}`, `{"v":1,"event":"hold",}`, `{"v":1 "event":"hold"}`, `{"v":1,"event":"\x"}`, strings.Repeat("[", 500),
		`{"v":1,"event":"hold","x":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + "}",
	} {
		_, err := Parse([]byte(bad))
		require.ErrorIs(t, err, ErrLine, "%s", bad)
	}
}

// Times that are far away, and lengths, can be added up and subtracted without an overflow.
func TestParseForgedNumbers(t *testing.T) {
	t.Parallel()
	e, err := Parse([]byte(`{"v":1,"event":"hold","at":9400000000000000,"requested":-5,"acquired":1e300,"released":-1e300,"waited_ms":1e308,"held_ms":-1e308,"blockers":[{"ms":1e308},{"ms":1e308}]}`))
	require.NoError(t, err)
	require.Positive(t, time.Duration(e.At-e.Requested)*time.Millisecond)
	require.Positive(t, time.Duration(e.Acquired-e.Released)*time.Millisecond)
	require.Zero(t, e.Held)
	require.Positive(t, e.Waited+e.Blockers[0].For+e.Blockers[1].For)
}

// What Parse accepts is JSON, and it finds in it what encoding/json finds.
func FuzzParse(f *testing.F) {
	e := full()
	f.Add(Append(nil, &e))
	f.Add([]byte(`{"v":1,"event":"hold","process":"\ud83d","code":-1,"waited_ms":1e2,"x":[{}]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := Parse(line)
		if err != nil {
			return
		}
		var all map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(line, &all), "%s", line)
		again := Append(nil, &e)
		require.LessOrEqual(t, len(again), MaxLine)
		require.True(t, json.Valid(again))
		_, err = Parse(again)
		require.NoError(t, err)
	})
}

func BenchmarkAppend(b *testing.B) {
	e := full()
	var line []byte
	for b.Loop() {
		line = Append(line[:0], &e)
	}
}

func BenchmarkParse(b *testing.B) {
	e := full()
	e.Blockers, e.Info, e.Process = nil, "", "etl"
	line := Append(nil, &e)
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		_, _ = Parse(line)
	}
}
