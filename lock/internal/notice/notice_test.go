package notice

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
	"github.com/dblock-dev/dblock/lock/internal/inode"
)

func info() Info {
	return Info{
		PID: 4711, Timestamp: 1763876543210, Dated: true, Host: "h", Process: "dblock",
		Dblock: &Dblock{Version: Version, Mode: Exclusive, Token: 1763876543210, ID: "0123456789abcdef", Acquired: 1763876543210, Started: 12345, Boot: "b", PIDNS: 4026531836, Room: 131, UID: 1000, Command: "node"},
	}
}

func TestLayout(t *testing.T) {
	t.Parallel()
	b := Format(info())
	require.Equal(t, `{"pid": 4711    ,"timestamp":      1763876543210,"host":"h","process":"dblock","dblock":{"version":1,"mode":"exclusive","token":1763876543210,"id":"0123456789abcdef","acquired":1763876543210,"started":12345,"boot":"b","pidns":4026531836,"room":131,"uid":1000,"command":"node"}}`+"\n", string(b))
	require.Equal(t, "4711    ", string(b[8:16]), "the pid is a word of its own")
	require.Equal(t, "17638", string(b[35:40]))
	require.Equal(t, "76543210", string(b[40:48]), "the low digits are a word of their own")
	require.NotContains(t, string(b[:len(b)-1]), "\n", "one line")
	more := info()
	more.Dblock.Info = "ticket 42"
	require.Equal(t, strings.Replace(string(b), `"node"`, `"node","info":"ticket 42"`, 1), string(Format(more)))

	// Whatever is in it, the words are where they are and the whole is small.
	for _, pid := range []int{1, math.MaxInt32} {
		for _, ts := range []int64{-1, 0, 1, 999_999_999_999, 1_000_000_000_000, 9_999_999_999_999, math.MaxInt64} {
			i := info()
			i.PID, i.Timestamp = pid, ts
			if pid > 99_999_999 {
				continue // no kernel has such pids: 4194304 is the limit
			}
			b := Format(i)
			require.Equal(t, byte(','), b[16])
			require.Equal(t, byte(' '), b[34])
			require.Equal(t, byte(','), b[48])
			got, err := Parse(b)
			require.NoError(t, err)
			require.Equal(t, pid, got.PID)
			require.Equal(t, min(max(ts, minTimestamp), maxTimestamp), got.Timestamp)
		}
	}
}

func TestFormatIsBounded(t *testing.T) {
	t.Parallel()
	for _, s := range []string{strings.Repeat("x", 10_000), strings.Repeat("\x00", 10_000), strings.Repeat("\u2028", 10_000), strings.Repeat("\xff", 10_000), strings.Repeat("🔒", 10_000), "\"\\\n\x1b[31m</script>"} {
		i := info()
		i.Host, i.Process, i.Dblock.Command, i.Dblock.Info = s, s, s, s
		b := Format(i)
		require.Less(t, len(b), MaxSize)
		require.True(t, json.Valid(b))
		require.NotContains(t, string(b[:len(b)-1]), "\n")
		got, err := Parse(b)
		require.NoError(t, err)
		require.NotNil(t, got.Dblock)
		require.Equal(t, i.PID, got.PID)
		if len(s) < maxText {
			require.Equal(t, s, got.Process)
			require.Equal(t, s, got.Dblock.Info)
		}
		require.Equal(t, s[0] == 0xff, got.Dblock.Info == "", "there is room for some of it")
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	const now = 1763876543210
	nothing := Info{}
	for in, want := range map[string]Info{
		`{}`: nothing,
		`{"pid":1,"timestamp":1763876543210,"host":"h","process":"p"}`: {PID: 1, Timestamp: now, Dated: true, Host: "h", Process: "p"},
		" \t\r\n{\"pid\":1}\n   ":                                      {PID: 1},
		`{"pid":1,"pid":2}`:                                            {PID: 2}, // as JavaScript has it
		`{"PID":1,"Timestamp":5,"HOST":"h"}`:                           nothing,
		`{"pid":0}`:                                                    nothing,
		`{"pid":-1}`:                                                   nothing,
		`{"pid":1.5}`:                                                  nothing,
		`{"pid":1e0}`:                                                  {PID: 1},
		`{"pid":2147483647}`:                                           {PID: math.MaxInt32},
		`{"pid":2147483648}`:                                           nothing,
		`{"pid":"1"}`:                                                  nothing,
		`{"pid":null,"timestamp":null,"host":null,"process":null}`: nothing,
		`{"timestamp":"1763876543210"}`:                            nothing,
		`{"timestamp":1.9}`:                                        {Timestamp: 1, Dated: true},
		`{"timestamp":-5}`:                                         {Timestamp: -5, Dated: true},
		`{"timestamp":1e300}`:                                      {Timestamp: 1 << 53, Dated: true},
		`{"timestamp":-1e300}`:                                     {Timestamp: -1 << 53, Dated: true},
		`{"timestamp":9007199254740993}`:                           {Timestamp: 1 << 53, Dated: true},
		`{"timestamp":1e999}`:                                      nothing,
		`{"timestamp":[1]}`:                                        nothing,
		`{"host":5,"process":{"a":1}}`:                             nothing,
		`{"process":"\u001b[31m\ud800"}`:                           {Process: "\x1b[31m\ufffd"},
		`{"dblock":{}}`:                                            nothing,
		`{"dblock":{"version":1}}`:                                 nothing,
		`{"dblock":{"version":1,"id":"0123456789abcdef","token":"no"}}`: nothing,
		`{"dblock":null}`: nothing,
		`{"dblock":{"version":2,"id":"0123456789abcdef","future":[]}}`:                    {Dblock: &Dblock{Version: 2, ID: "0123456789abcdef"}},
		`{"dblock":{"version":1,"id":"x"}}`:                                               nothing,
		`{"dblock":{"version":1,"id":"0123456789ABCDEF"}}`:                                nothing,
		`{"dblock":{"version":1,"id":"\u001b[2J0123456789"}}`:                             nothing,
		`{"extra":` + strings.Repeat("[", 1500) + strings.Repeat("]", 1500) + `,"pid":3}`: {PID: 3},
	} {
		got, err := Parse([]byte(in))
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, in := range []string{"", " ", "null", "[]", `[{"pid":1}]`, "1", `"x"`, "true", "{", `{"pid":1`, `{"pid":1}x`, `{"pid":1}{}`, "{\"pid\":1}\x00", "\ufeff{}", "{}\u00a0", "{'pid':1}", "{,}", "{\"pid\":01}", "\x00\x00\x00", "{\x00\"\x00p\x00", "\xff\xfe{\x00}\x00", strings.Repeat("{", 4096)} {
		_, err := Parse([]byte(in))
		require.Error(t, err, "%q", in)
	}
}

// seeds are things that have been or could be found at the path of a notice.
func seeds() [][]byte {
	whole := Format(info())
	informed := info()
	informed.Dblock.Info = "why"
	peer := []byte(`{"pid":4711,"timestamp":1763876543210,"host":"h","process":"mcp-server"}`)
	var all [][]byte
	for n := range peer {
		all = append(all, peer[:n])
	}
	for n := 0; n <= len(whole); n += 7 {
		all = append(all, whole[:n])
	}
	add := func(s ...string) {
		for _, s := range s {
			all = append(all, []byte(s))
		}
	}
	for _, tail := range []string{"\x00", "\x00\x00\x00\x00", " ", "\n\n", "\t \r\n", "x", "}", "{}"} {
		add(string(peer)+tail, string(whole)+tail)
	}
	withInfo := string(Format(informed))
	add(withInfo, strings.Replace(withInfo, `"why"`, `""`, 1), strings.Replace(withInfo, `"why"`, `5`, 1),
		strings.Replace(withInfo, `"why"`, `"a","info":"b"`, 1), strings.Replace(withInfo, `,"command":"node","info":"why"`, `,"info":"why","command":"node"`, 1))
	add("\ufeff"+string(peer), "\xff\xfe{\x00}\x00", "\xfe\xff\x00{\x00}")
	add(`{"pid":1,"pid":2}`, `{"pid":1,"Pid":2}`, "null", "[]", "[1,2]", "1", "-0", `""`, "true", "NaN", "{}")
	for _, ts := range []string{`"1763876543210"`, "1763876543210.5", "1e300", "-1", "-1e300", "9007199254740993", "1e400", "null", "true", "[]", "{}", "0"} {
		add(`{"pid":1,"timestamp":`+ts+`}`, `{"timestamp":`+ts+`}`)
	}
	for _, pid := range []string{"0", "-1", "1", "2147483647", "2147483648", "1.5", "1e3", `"1"`, "null", "9223372036854775808"} {
		add(`{"pid":` + pid + `,"timestamp":1763876543210}`)
	}
	add(strings.Repeat("[", 3000), strings.Repeat(`{"a":`, 800), `{"a":`+strings.Repeat("[", 2000)+strings.Repeat("]", 2000)+"}")
	add(`{"process":"\u001b]0;\u0007\ud800\u0000"}`, `{"process":"`+strings.Repeat("x", 8000)+`"}`, "{\"process\":\"\xff\xc0\"}")
	return all
}

func FuzzParse(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := Parse(b)
		any, anyErr := parseAny(b)
		require.Equal(t, anyErr, err)
		require.Equal(t, any, i, "what is read in the quick way is what JSON says")
		if err != nil {
			require.Equal(t, Info{}, i)
			return
		}
		require.True(t, json.Valid(b), "what JavaScript would refuse is no notice")
		require.True(t, i.PID >= 0 && i.PID <= math.MaxInt32)
		require.True(t, i.Timestamp >= -1<<53 && i.Timestamp <= 1<<53)
		if !i.Dated {
			require.Zero(t, i.Timestamp)
		}
		if i.Dblock != nil {
			require.NotEmpty(t, i.Dblock.ID)
		}
		// What dblock itself would write of it is a notice again, with the same say.
		out := Format(i)
		require.Less(t, len(out), MaxSize)
		back, err := Parse(out)
		require.NoError(t, err)
		if i.PID <= 99_999_999 {
			require.Equal(t, i.PID, back.PID)
		}
		if i.Timestamp >= minTimestamp && i.Timestamp <= maxTimestamp {
			require.Equal(t, i.Timestamp, back.Timestamp)
		}
	})
}

func TestOwnIsReadQuickly(t *testing.T) {
	i := info()
	for _, pid := range []int{0, 1, 4711, 99_999_999} {
		for _, why := range []string{"", "a ticket: https://example.org/?q=1"} {
			i.PID, i.Dblock.Info = pid, why
			got, ok := parseOwn(Format(i))
			require.True(t, ok)
			require.Equal(t, i, got)
		}
	}
	for _, change := range []func(*Info){
		func(i *Info) { i.PID = -1 },
		func(i *Info) { i.Host = `a"b` },
		func(i *Info) { i.Dblock.ID = "x" },
		func(i *Info) { i.Dblock.Info = `a"b` },
		func(i *Info) { i.Dblock.Version = 0 },
		func(i *Info) { i.Dblock = nil },
	} {
		i := info()
		change(&i)
		_, ok := parseOwn(Format(i))
		require.False(t, ok, "%s", Format(i))
	}
}

func FuzzFormat(f *testing.F) {
	f.Add(1, int64(1763876543210), "host", "process", "command", "")
	f.Add(4194304, int64(0), "\xff", "\u2028\x00", strings.Repeat("é", 200), strings.Repeat("\x00", 200))
	f.Fuzz(func(t *testing.T, pid int, ts int64, host, process, command, why string) {
		if pid < 1 || pid > 99_999_999 {
			return
		}
		i := info()
		i.PID, i.Timestamp, i.Host, i.Process, i.Dblock.Command = pid, ts, host, process, command
		i.Dblock.Info = why
		b := Format(i)
		require.Less(t, len(b), MaxSize)
		require.True(t, json.Valid(b))
		require.Equal(t, byte(','), b[48])
		got, err := Parse(b)
		require.NoError(t, err)
		require.Equal(t, pid, got.PID)
		require.Equal(t, min(max(ts, minTimestamp), maxTimestamp), got.Timestamp)
		require.NotNil(t, got.Dblock)
	})
}

func create(t testing.TB) (*File, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notice")
	f, err := Create(inode.Path(path), info())
	require.NoError(t, err)
	t.Cleanup(f.Close)
	return f, path
}

func TestCreate(t *testing.T) {
	t.Parallel()
	f, path := create(t)
	s, err := Read(path)
	require.NoError(t, err)
	require.NoError(t, s.Err)
	require.Equal(t, info(), s.Info)
	require.Equal(t, f.ID(), s.ID)
	require.False(t, s.Clipped)
	require.Equal(t, os.Getuid(), s.UID)
	require.InDelta(t, time.Now().UnixMilli(), s.Changed, 60_000)

	_, err = Create(inode.Path(path), info())
	require.ErrorIs(t, err, fs.ErrExist)
	id, err := inode.Identify(path)
	require.NoError(t, err)
	require.Equal(t, f.ID(), id)
	_, err = Create(inode.Path(filepath.Join(path, "x")), info())
	var pe *fs.PathError
	require.ErrorAs(t, err, &pe)
	_, err = Create(inode.Path(filepath.Dir(path)), info())
	require.Error(t, err, "a directory does not give way")
}

func TestModeWhateverTheUmask(t *testing.T) {
	// Not parallel: the umask is the process's.
	old := unix.Umask(0o077)
	_, path := create(t)
	unix.Umask(old)
	st, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o644), st.Mode())
	old = unix.Umask(0)
	_, path = create(t)
	unix.Umask(old)
	st, err = os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o644), st.Mode())
}

func TestBeat(t *testing.T) {
	t.Parallel()
	f, path := create(t)
	for _, ms := range []int64{1763876543211, 1763876549999, 1763899999999, 1763900000000, 1763876543210, 1_000_000_000_000, 9_999_999_999_999, 1800000000007, 0, math.MaxInt64, -5, 1763876543210} {
		require.NoError(t, f.Beat(ms))
		s, err := Read(path)
		require.NoError(t, err)
		want := info()
		want.Timestamp = clamp(ms)
		require.Equal(t, want, s.Info, "nothing but the timestamp changes")
	}
	for _, pid := range []int{1, 4194304, 12} {
		require.NoError(t, f.SetPID(pid))
		s, err := Read(path)
		require.NoError(t, err)
		require.Equal(t, pid, s.Info.PID)
		require.NoError(t, s.Err)
	}
	f.Close()
	require.Error(t, f.Beat(1763876543211), "a closed file is not written")
	f.Close()
}

func TestBeatNeverLandsInAnothersFile(t *testing.T) {
	t.Parallel()
	f, path := create(t)
	theirs := `{"pid":1,"timestamp":1,"host":"theirs","process":"something that is long enough to be hit"}`
	require.NoError(t, os.WriteFile(path+".tmp", []byte(theirs), 0o644))
	require.NoError(t, os.Rename(path+".tmp", path))
	require.NoError(t, f.Beat(1763876543211))
	require.NoError(t, f.SetPID(99))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, theirs, string(b))
}

// TestBeatIsNeverTorn reads as peers do while the timestamp is rewritten as fast
// as that goes, to and fro over the change of the high digits.
func TestBeatIsNeverTorn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		a, b int64
	}{
		{"within the low digits", 1763811111111, 1763899999999},
		{"over the high digits", 1763899999999, 1763900000000},
		{"stopped and continued", 1763876543210, 1763876543210 + 24*3600*1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, path := create(t)
			require.NoError(t, f.Beat(c.a))
			done := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				for {
					for _, ms := range []int64{c.b, c.a} {
						if err := f.Beat(ms); err != nil {
							t.Error(err)
							return
						}
					}
					select {
					case <-done:
						return
					default:
					}
				}
			})
			defer wg.Wait()
			defer close(done)
			for range 5_000 {
				b, err := os.ReadFile(path)
				require.NoError(t, err)
				require.True(t, json.Valid(b), "%q", b)
				i, err := Parse(b)
				require.NoError(t, err)
				require.GreaterOrEqual(t, i.Timestamp, c.a, "older than both")
			}
		})
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Read(filepath.Join(dir, "missing"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	big := filepath.Join(dir, "big")
	require.NoError(t, os.WriteFile(big, bytes.Repeat([]byte(" "), 10<<20), 0o644))
	s, err := Read(big)
	require.NoError(t, err)
	require.Len(t, s.Bytes, MaxSize)
	require.True(t, s.Clipped)
	require.Error(t, s.Err)
	exact := filepath.Join(dir, "exact")
	require.NoError(t, os.WriteFile(exact, append([]byte(`{"pid":1}`), bytes.Repeat([]byte(" "), MaxSize-9)...), 0o644))
	s, err = Read(exact)
	require.NoError(t, err)
	require.NoError(t, s.Err)
	require.False(t, s.Clipped)
	require.Equal(t, 1, s.Info.PID)

	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "dir"), 0o755))
	require.NoError(t, os.Symlink(exact, filepath.Join(dir, "link")))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "dangling")))
	for _, name := range []string{"fifo", "dir", "link", "dangling"} {
		_, err := Read(filepath.Join(dir, name))
		require.ErrorIs(t, err, ErrNotRegular, name)
	}
	_, err = Read("/dev/null")
	require.ErrorIs(t, err, ErrNotRegular)
}

func TestSame(t *testing.T) {
	t.Parallel()
	f, path := create(t)
	a, err := Read(path)
	require.NoError(t, err)
	b, err := Read(path)
	require.NoError(t, err)
	require.True(t, a.Same(b))
	require.False(t, a.Same(nil))
	require.NoError(t, f.Beat(1763876543211))
	b, err = Read(path)
	require.NoError(t, err)
	require.False(t, a.Same(b), "a beat is a change")
	require.NoError(t, os.Remove(path))
	g, err := Create(inode.Path(path), info())
	require.NoError(t, err)
	defer g.Close()
	b, err = Read(path)
	require.NoError(t, err)
	require.False(t, a.Same(b), "the same bytes in another file")
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	f, path := create(t)
	seen, err := Read(path)
	require.NoError(t, err)
	g, err := Adopt(inode.Path(path), seen)
	require.NoError(t, err)
	defer g.Close()
	require.Equal(t, f.ID(), g.ID())
	require.NoError(t, g.Beat(1763976543211))
	now, err := Read(path)
	require.NoError(t, err)
	require.Equal(t, int64(1763976543211), now.Info.Timestamp)
	require.NoError(t, os.Remove(path))
	h, err := Create(inode.Path(path), info())
	require.NoError(t, err)
	defer h.Close()
	_, err = Adopt(inode.Path(path), seen)
	require.ErrorIs(t, err, unix.ESTALE)
	require.NoError(t, inode.Remove(path))
	_, err = Adopt(inode.Path(path), seen)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestWasRead(t *testing.T) {
	portable.Needs(t, portable.Traces)
	t.Parallel()
	f, path := create(t)
	_, err := Read(path)
	require.NoError(t, err)
	require.False(t, f.WasRead(), "our own looks leave no trace")
	for range 1000 {
		_, err := os.ReadFile(path)
		require.NoError(t, err)
		if f.WasRead() {
			return
		}
	}
	t.Log("no time of access within a thousand reads: noatime")
}

func BenchmarkParse(b *testing.B) {
	for name, in := range map[string][]byte{"dblock": Format(info()), "peer": []byte(`{"pid":4711,"timestamp":1763876543210,"host":"h","process":"mcp-server"}`)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkBeat(b *testing.B) {
	f, _ := create(b)
	b.ReportAllocs()
	for ms := int64(1763876543210); b.Loop(); ms++ {
		if err := f.Beat(ms); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFormat(b *testing.B) {
	i := info()
	b.ReportAllocs()
	for b.Loop() {
		Format(i)
	}
}

func ExampleFormat() {
	b := Format(Info{PID: 12, Timestamp: 1763876543210, Host: "h", Process: "p"})
	fmt.Print(string(b), strconv.Itoa(bytes.Index(b, []byte("76543210"))), "\n")
	// Output:
	// {"pid": 12      ,"timestamp":      1763876543210,"host":"h","process":"p"}
	// 40
}
