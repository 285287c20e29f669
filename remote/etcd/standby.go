package etcd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// atFront is how many of a queue one who is to stand by looks at.
	atFront = 64
	// sweepTime is how long a holder lets that keep it from the next renewal.
	sweepTime = 300 * time.Millisecond
)

// turn is what has become of one who waits in the queue.
type turn struct {
	rev int64 // since when nobody is in the way
	err error
}

// standBy puts the next one of this machine into the queue while another one of this machine is the first in it. When that leaves,
// it is the next one's turn in both queues. It keeps a place that those of other machines could have had, and so
// does not do that behind anybody else: whoever has this machine's lock would wait for it, and it for him.
func (m *member) standBy(ctx context.Context, v value) (entered bool, err error) {
	queue, err := m.front(ctx)
	if err != nil || len(queue) == 0 || v.Machine == "" {
		return false, err
	}
	first := read(queue[0])
	if first.value.Machine != v.Machine || first.value.shared() {
		return false, nil
	}
	if entered, err = m.enterBehind(ctx, first, queue[1:], v); !entered {
		return false, err
	}
	m.turn = make(chan turn, 1)
	m.start()
	m.run(m.keeping(), func(ctx context.Context) {
		rev, err := m.advance(ctx, false)
		m.turn <- turn{rev, err}
	})
	return true, nil
}

// enterBehind puts the own key into the queue if the first one is still that. What those left who are behind it and no more is
// deleted in the same step.
func (m *member) enterBehind(ctx context.Context, first entry, behind []*mvccpb.KeyValue, v value) (entered bool, err error) {
	key := m.c.place.keyOf(m.lease)
	v.Standby = true
	ifs, do := left(first, behind)
	do = append(do, clientv3.OpPut(key, v.text(), clientv3.WithLease(m.lease)), clientv3.OpGet(key))
	// It may be done twice, if the first answer does not come.
	t, err := m.c.txn(ctx, ifs, do, []clientv3.Op{clientv3.OpGet(key)}, rpctypes.ErrLeaseNotFound)
	if err != nil {
		return false, err
	}
	kvs := t.Responses[len(t.Responses)-1].GetResponseRange().Kvs
	if len(kvs) == 0 {
		return false, nil
	}
	m.confirm(t.Header.RaftTerm)
	m.entry = read(kvs[0])
	return true, nil
}

// front reads the beginning of the queue.
func (m *member) front(ctx context.Context) ([]*mvccpb.KeyValue, error) {
	r, err := m.c.get(ctx, m.c.place.prefix(), clientv3.WithPrefix(),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend), clientv3.WithLimit(atFront))
	if err != nil {
		return nil, err
	}
	return r.Kvs, nil
}

// sweep deletes what those of this machine have left behind the own key who have stood by and were killed.
func (m *member) sweep(ctx context.Context) {
	m.mu.Lock()
	held := m.held
	m.mu.Unlock()
	if !held || m.entry.value.Machine == "" {
		return
	}
	limited, stop := context.WithTimeout(ctx, sweepTime)
	defer stop()
	queue, err := m.front(limited)
	if err != nil || len(queue) == 0 || string(queue[0].Key) != m.entry.key {
		return
	}
	if ifs, do := left(m.entry, queue[1:]); len(do) > 0 {
		_, _ = m.c.txn(limited, ifs, do, nil)
	}
}

// left is what deletes the keys behind the first one that were left by those who have stood by on this machine and were killed, and
// under which conditions. That is of no harm to anybody: nobody but the first one has the lock.
func left(first entry, behind []*mvccpb.KeyValue) (ifs []clientv3.Cmp, do []clientv3.Op) {
	ifs = append(ifs, clientv3.Compare(clientv3.CreateRevision(first.key), "=", first.create))
	for _, kv := range behind {
		if e := read(kv); e.abandoned() {
			ifs, do = append(ifs, e.unchanged()), append(do, clientv3.OpDelete(e.key))
		}
	}
	return ifs, do
}

func (e entry) unchanged() clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(e.key), "=", e.mod)
}

// abandoned reports whether it is the key of one who has stood by on this machine and is no more.
func (e entry) abandoned() bool {
	v := e.value
	return v.Standby && v.Machine != "" && v.Machine == machine() && started(v.PID) != v.Started
}

// machine names what those have in common who queue for each other before one of them asks, and see each other's processes: a kernel, its
// namespace of them, and a directory. It is empty if that is not known.
func machine() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	processes, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	dir, err := os.Stat(stateHome())
	if err != nil {
		return ""
	}
	st, ok := dir.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(boot, "%s %d:%d", processes, st.Dev, st.Ino))
	return hex.EncodeToString(sum[:8])
}

// stateHome is where package lock keeps the queue of a machine.
func stateHome() string {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "dblock")
	}
	if dir := os.Getenv("HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, ".local", "state", "dblock")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("dblock-%d", os.Getuid()))
}

// started tells when a process was, in the kernel's measure; nothing if it is no more.
func started(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	const state, start = 0, 19 // of what is behind the name: proc_pid_stat(5)
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) <= start || strings.Contains("ZXx", f[state]) {
		return ""
	}
	return f[start]
}
