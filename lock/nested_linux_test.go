package lock

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// The same files under another name, as a directory has that is mounted twice.
func TestNestedThroughAnotherMount(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("mounting is root's")
	}
	db, n := database(t)
	other := t.TempDir()
	require.NoError(t, syscall.Mount(filepath.Dir(db), other, "", syscall.MS_BIND, ""))
	defer syscall.Unmount(other, syscall.MNT_DETACH)
	l := acquire(t, db, Options{})
	g, _ := l.Grant()
	require.Equal(t, n.Notice, g.Notice)
	c := under(prepare(t, "hold", config{DB: filepath.Join(other, filepath.Base(db)), Wait: NoWait}), g)
	c.run(t)
	require.Equal(t, "held "+strconv.FormatInt(g.Token, 10)+" true false", c.line(t))
}
