package etcd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"syscall"

	clientv3 "go.etcd.io/etcd/client/v3"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// atFront is how many of a queue one who is to stand by looks at.
const atFront = 64

// turn is what has become of one who waits in the queue.
type turn struct {
	rev int64 // since when nobody is in the way
	err error
}

// standBy puts the next one of this machine into the queue while another one of this machine is the first in it. When that leaves,
// it is the next one's turn in both queues. It keeps a place that those of other machines could have had, and so
// does not do that behind anybody else: whoever has this machine's lock would wait for it, and it for him.
//
// In the same step it deletes the key of one who has stood by and was killed. That is of no harm to anybody, for
// nobody but the first one has the lock.
func (m *member) standBy(ctx context.Context, v value) (entered bool, err error) {
	p, key := m.c.place, m.c.place.keyOf(m.lease)
	r, err := m.c.get(ctx, p.prefix(), clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend), clientv3.WithLimit(atFront))
	if err != nil || len(r.Kvs) == 0 {
		return false, err
	}
	first := read(r.Kvs[0])
	if first.value.Machine != v.Machine || first.value.shared() {
		return false, nil
	}
	v.Standby = true
	there := []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(first.key), "=", first.create)}
	var do []clientv3.Op
	for _, kv := range r.Kvs[1:] {
		if e := read(kv); e.value.Standby && e.value.Machine == v.Machine && syscall.Kill(e.value.PID, 0) == syscall.ESRCH {
			there = append(there, clientv3.Compare(clientv3.ModRevision(e.key), "=", e.mod))
			do = append(do, clientv3.OpDelete(e.key))
		}
	}
	do = append(do, clientv3.OpPut(key, v.text(), clientv3.WithLease(m.lease)), clientv3.OpGet(key))
	// It may be done twice, if the first answer does not come.
	t, err := m.c.txn(ctx, there, do, []clientv3.Op{clientv3.OpGet(key)}, rpctypes.ErrLeaseNotFound)
	if err != nil {
		return false, err
	}
	kvs := t.Responses[len(t.Responses)-1].GetResponseRange().Kvs
	if len(kvs) == 0 {
		return false, nil
	}
	m.confirm(t.Header.RaftTerm)
	m.entry = read(kvs[0])
	m.turn = make(chan turn, 1)
	m.start()
	m.run(m.keeping(), func(ctx context.Context) {
		rev, err := m.advance(ctx, false)
		m.turn <- turn{rev, err}
	})
	return true, nil
}

// machine names what those have in common who queue for each other before one of them asks: a kernel, a user and the
// directory in which they do. What is decided by it is the order only.
func machine() string {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	host, _ := os.Hostname()
	what := fmt.Sprint(host, os.Getuid(), os.Getenv("XDG_STATE_HOME"), os.Getenv("HOME"), os.TempDir(), strings.TrimSpace(string(boot)))
	sum := sha256.Sum256([]byte(what))
	return hex.EncodeToString(sum[:8])
}
