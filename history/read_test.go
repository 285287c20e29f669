package history

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = f.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func line(kind Kind, token int64) string {
	return string(Append(nil, &Event{Kind: kind, Token: token, PID: int(token)}))
}

// collect returns "kind token" of each new event.
func collect(t *testing.T, r *Reader) (got []string) {
	t.Helper()
	require.NoError(t, r.Next(func(e *Event) { got = append(got, fmt.Sprint(e.Kind, e.Token)) }))
	return got
}

func TestReaderFollows(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	r := Open(dir)
	defer r.Close()
	require.Empty(t, collect(t, r))
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.Empty(t, collect(t, r))
	write(t, dir, Older, line(Hold, 1))
	write(t, dir, Name, line(Hold, 2)+"torn\n"+`{"v":1,"event":"hold","tok`+"\n"+line(GaveUp, 0)[:20])
	require.Equal(t, []string{"hold1", "hold2"}, collect(t, r))
	require.Empty(t, collect(t, r))
	write(t, dir, Name, line(GaveUp, 0)[20:])
	require.Equal(t, []string{"gave-up0"}, collect(t, r))

	// Rotated; and somebody who had it open writes to it, while another writes to the new one.
	late, err := os.OpenFile(filepath.Join(dir, Name), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	defer late.Close()
	write(t, dir, Name, line(Hold, 3))
	require.NoError(t, os.Rename(filepath.Join(dir, Name), filepath.Join(dir, Older)))
	require.Equal(t, []string{"hold3"}, collect(t, r))
	write(t, dir, Name, line(Hold, 5))
	require.Equal(t, []string{"hold5"}, collect(t, r))
	_, err = late.WriteString(line(Hold, 4))
	require.NoError(t, err)
	require.Equal(t, []string{"hold4"}, collect(t, r))

	// Twice between two looks.
	for token := int64(6); token < 8; token++ {
		write(t, dir, Name, line(Hold, token))
		require.NoError(t, os.Rename(filepath.Join(dir, Name), filepath.Join(dir, Older)))
	}
	write(t, dir, Name, line(Hold, 8))
	require.Equal(t, []string{"hold6", "hold7", "hold8"}, collect(t, r))
	require.Empty(t, collect(t, r))
}

// A file that was cut off is read from its beginning.
func TestReaderOfATruncatedFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, Name, line(Hold, 1)+line(Hold, 2))
	r := Open(dir)
	defer r.Close()
	require.Equal(t, []string{"hold1", "hold2"}, collect(t, r))
	require.NoError(t, os.Truncate(filepath.Join(dir, Name), 0))
	write(t, dir, Name, line(Hold, 3))
	require.Equal(t, []string{"hold3"}, collect(t, r))
	require.Empty(t, collect(t, r))
}

// What a link leads to in place of a state directory is not the history of this lock.
func TestLinkedDirectoryIsNotRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, Name, line(Hold, 1))
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(dir, link))
	r := Open(link)
	defer r.Close()
	require.Empty(t, collect(t, r))
	require.Nil(t, Last(link))
}

func TestReadOnlyTheOlder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, Older, line(Hold, 1))
	r := Open(dir)
	defer r.Close()
	require.Equal(t, []string{"hold1"}, collect(t, r))
	require.Empty(t, collect(t, r))
	write(t, dir, Name, line(Hold, 2))
	require.Equal(t, []string{"hold2"}, collect(t, r))
}

func TestReaderKnowsWhoWasToldOf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, Name, line(Hold, 1)+line(Killed, 1)+line(Killed, 2)+line(GaveUp, 0)+line(Killed, 2)+line(Hold, 3))
	r := Open(dir)
	defer r.Close()
	require.Equal(t, []string{"hold1", "killed2", "gave-up0", "hold3"}, collect(t, r))
}

func TestLinesOfAnyLength(t *testing.T) {
	t.Parallel()
	var got int
	text := strings.Repeat("x", 1<<20) + "\n" + line(Hold, 1) + strings.Repeat(line(Hold, 2), 5000) + strings.Repeat("y", 100)
	require.NoError(t, ReadFrom(strings.NewReader(text), func(*Event) { got++ }))
	require.Equal(t, 5001, got)
	dir := t.TempDir()
	write(t, dir, Name, text)
	got = 0
	require.NoError(t, Read(dir, func(*Event) { got++ }))
	require.Equal(t, 5001, got)
}

func TestLast(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.Nil(t, Last(dir))
	write(t, dir, Name, strings.Repeat(line(Hold, 1), 1000)+line(Killed, 7)+line(GaveUp, 0))
	require.Equal(t, int64(7), Last(dir).Token)
	write(t, dir, Name, line(Hold, 8)+line(Killed, 8))
	require.Equal(t, Hold, Last(dir).Kind)
}

// What is larger than a piece that is parsed at once comes in order, and nothing between two
// pieces is lost.
func TestReadFromInOrder(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	n := int64(0)
	for text.Len() < 5*chunkSize {
		n++
		text.WriteString(line(Hold, n))
	}
	next := int64(1)
	require.NoError(t, ReadFrom(strings.NewReader(text.String()), func(e *Event) {
		require.Equal(t, next, e.Token)
		next++
	}))
	require.Equal(t, n+1, next)
}

// What is no file of ours neither holds up who reads nor tells him anything.
func TestReadWhatIsNoFile(t *testing.T) {
	t.Parallel()
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	require.NoError(t, os.WriteFile(elsewhere, []byte(line(Hold, 1)), 0o600))
	for _, name := range []string{Name, Older} {
		for kind, put := range map[string]func(path string) error{
			"pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
			"link":      func(path string) error { return os.Symlink(elsewhere, path) },
			"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		} {
			dir := t.TempDir()
			require.NoError(t, put(filepath.Join(dir, name)))
			r := Open(dir)
			require.Empty(t, collect(t, r), "%s %s", name, kind)
			require.Empty(t, collect(t, r))
			require.Nil(t, Last(dir))
			r.Close()
		}
	}
}
