package postgres

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/lock"
)

// network is one of two machines, of which the other one has the server.
type network struct {
	name, here, there string // of the namespace and of the two ends of its cable
	ours, theirs      string // addresses
}

var networks atomic.Int32

func newNetwork(t *testing.T) *network {
	t.Helper()
	need(t, "ip")
	if os.Geteuid() != 0 {
		t.Skip("only root can have networks")
	}
	n := int(networks.Add(1)) + os.Getpid()%200*10
	id := fmt.Sprintf("dbpg%d", n)
	w := &network{name: id, here: id + "a", there: id + "b", ours: fmt.Sprintf("10.%d.%d.1", 200+n/250, n%250), theirs: fmt.Sprintf("10.%d.%d.2", 200+n/250, n%250)}
	if out, err := exec.Command("ip", "netns", "add", w.name).CombinedOutput(); err != nil {
		t.Skipf("no network of its own: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", w.name).Run() })
	w.ip(t, "link add %s type veth peer name %s netns %s", w.here, w.there, w.name)
	w.ip(t, "addr add %s/30 dev %s", w.ours, w.here)
	w.ip(t, "link set %s up", w.here)
	w.ip(t, "-n %s addr add %s/30 dev %s", w.name, w.theirs, w.there)
	w.ip(t, "-n %s link set %s up", w.name, w.there)
	w.ip(t, "-n %s link set lo up", w.name)
	return w
}

func (w *network) ip(t *testing.T, format string, args ...any) {
	t.Helper()
	output(t, exec.Command("ip", strings.Fields(fmt.Sprintf(format, args...))...))
}

// cut drops all packets, and tells nobody: they are addressed to a card that is not there.
func (w *network) cut(t *testing.T) {
	t.Helper()
	w.ip(t, "neigh replace %s lladdr 02:00:00:00:00:77 dev %s nud permanent", w.theirs, w.here)
	w.ip(t, "-n %s neigh replace %s lladdr 02:00:00:00:00:77 dev %s nud permanent", w.name, w.ours, w.there)
}

func (w *network) mend(t *testing.T) {
	t.Helper()
	w.ip(t, "neigh del %s dev %s", w.theirs, w.here)
	w.ip(t, "-n %s neigh del %s dev %s", w.name, w.ours, w.there)
}

// newRemote makes a server on the other machine.
func newRemote(t *testing.T) (*server, *network) {
	t.Helper()
	need(t, "setpriv")
	w := newNetwork(t)
	uid, gid := unprivileged()
	s := &server{dir: place(t) + "/data", port: 5432, address: w.theirs, wrap: []string{
		"ip", "netns", "exec", w.name, "setpriv", fmt.Sprintf("--reuid=%d", uid), fmt.Sprintf("--regid=%d", gid), "--clear-groups",
	}}
	s.create(t)
	s.start(t)
	return s, w
}

// here is the URL of a lock by the server's socket, which is not cut.
func (s *server) here(name string) string {
	dir, _, _ := strings.Cut(s.dir, "/data")
	return fmt.Sprintf("postgres://postgres@/postgres?host=%s&port=%d&lock=%s", dir, s.port, name)
}

// Who is cut off loses the lock, and the server keeps it until all that worked under it has ended.
func TestCutOff(t *testing.T) {
	s, w := newRemote(t)
	h := get(t, asking(s.url("cut")))
	next := s.waiting(t, within(t, time.Minute), asking(s.here("cut")))
	w.cut(t)
	from := time.Now()
	lostIn(t, h, reach)
	lost := time.Now()
	require.Less(t, lost.Sub(from), reach)
	<-next.done
	require.NoError(t, next.err)
	require.Greater(t, next.at.Sub(lost), grace, "what worked under the lock had time to end")
	require.Less(t, next.at.Sub(from), 2*afterlife(grace)+5*time.Second, "and the lock is not lost for long")
	t.Logf("lost after %v, the next one had it after %v", lost.Sub(from), next.at.Sub(from))
	require.Error(t, h.Release())
	require.NoError(t, next.h.Check())
	require.NoError(t, next.h.Release())
}

// Who was cut off and has lost the lock still ends what worked under it when the network is there again: only then is the lock free.
func TestCutOffAndMended(t *testing.T) {
	s, w := newRemote(t)
	h := get(t, asking(s.url("mended")))
	w.cut(t)
	lostIn(t, h, reach)
	w.mend(t)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		held(t, s.here("mended"))
	}
	require.Error(t, h.Release())
	require.Eventually(t, func() bool { return free(t, s.here("mended")) }, limit, 50*time.Millisecond)
}

// A gap that is shorter than that is none.
func TestShortGap(t *testing.T) {
	s, w := newRemote(t)
	h := get(t, asking(s.url("gap")))
	w.cut(t)
	time.Sleep(time.Second)
	w.mend(t)
	answered(t, h)
	require.NoError(t, h.Check())
	require.NoError(t, h.Release())
}

// A waiter that is cut off goes on waiting, and has the lock when it is there again.
func TestWaiterCutOff(t *testing.T) {
	s, w := newRemote(t)
	h := get(t, asking(s.here("waiter")))
	p := s.waiting(t, within(t, time.Minute), asking(s.url("waiter")))
	w.cut(t)
	time.Sleep(2 * time.Second)
	require.NoError(t, h.Release())
	time.Sleep(connectTime + time.Second)
	w.mend(t)
	<-p.done
	require.NoError(t, p.err)
	require.NoError(t, p.h.Release())
}

// A release that nobody hears ends in time, and says so.
func TestReleaseCutOff(t *testing.T) {
	s, w := newRemote(t)
	h := get(t, asking(s.url("release")))
	w.cut(t)
	from := time.Now()
	require.Error(t, h.Release())
	require.Less(t, time.Since(from), 5*time.Second)
	require.ErrorIs(t, firstOf(engine{}.Acquire(within(t, limit), noWait(s.here("release")))), lock.ErrHeld)
}

func firstOf(_ lock.EngineHold, err error) error { return err }
