package etcd

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dblock-dev/dblock/lock"
)

// entry is a key of the queue.
type entry struct {
	key    string
	lease  clientv3.LeaseID
	create int64 // the revision at which it was created, which is its place in the queue
	mod    int64 // the revision at which it was written last
	value  value
}

// value is what is in a key of the queue, for people and for other dblocks. Of the fields only the mode
// matters for the lock.
type value struct {
	Version  int    `json:"version"`
	PID      int    `json:"pid"`
	Host     string `json:"host"`
	Process  string `json:"process"`
	Command  string `json:"command,omitempty"`
	Info     string `json:"info,omitempty"`
	UID      int    `json:"uid"`
	Machine  string `json:"machine,omitempty"` // what those have in common who queue for each other on their machine
	Started  string `json:"started,omitempty"` // when the process was, as its kernel tells it
	Standby  bool   `json:"standby,omitempty"` // it is not its turn yet on its machine
	Mode     string `json:"mode"`
	Asked    int64  `json:"asked"`              // ms since 1970
	Acquired int64  `json:"acquired,omitempty"` // the same; 0 while it waits, and for a moment after
	Token    int64  `json:"token,omitempty"`    // with Acquired, unless it is the revision of this very value
	Grace    int64  `json:"grace"`              // ms that a command under it may take to end
	Broken   int64  `json:"broken,omitempty"`   // ms since 1970: somebody wants the holder to end by force
}

const version = 1

// describe is the value for one who asks.
func describe(ask lock.EngineRequest) value {
	h := ask.Holder
	return value{
		Version: version, PID: h.PID, Host: h.Host, Process: h.Process, Command: h.Command, Info: h.Info, UID: h.UID, Machine: machine(), Started: started(h.PID),
		Mode: ask.Mode.String(), Asked: time.Now().UnixMilli(), Grace: max(0, ask.Grace).Milliseconds(),
	}
}

func (v value) text() string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers
	}
	return string(b)
}

// holding is the same, of one who has the lock by now.
func (v value) holding(token int64) value {
	v.Acquired, v.Token = time.Now().UnixMilli(), token
	return v
}

// shared reports whether it lets other readers in. What cannot be read lets nobody.
func (v value) shared() bool { return v.Mode == lock.Shared.String() }

// read is what etcd tells of a key. A value that is no dblock's is one of which nothing is known.
func read(kv *mvccpb.KeyValue) entry {
	e := entry{key: string(kv.Key), lease: clientv3.LeaseID(kv.Lease), create: kv.CreateRevision, mod: kv.ModRevision}
	if json.Unmarshal(kv.Value, &e.value) != nil {
		e.value = value{}
	}
	return e
}

// id names this very entry: no other key is created at the same revision.
func (e entry) id() string { return fmt.Sprintf("%x-%x", e.create, int64(e.lease)) }

// named takes an id apart.
func named(id string) (create int64, lease clientv3.LeaseID, ok bool) {
	a, b, _ := strings.Cut(id, "-")
	create, err := strconv.ParseInt(a, 16, 64)
	l, lerr := strconv.ParseInt(b, 16, 64)
	return create, clientv3.LeaseID(l), err == nil && lerr == nil && create > 0
}

// keyOf is the key of the one with that lease.
func (p *place) keyOf(lease clientv3.LeaseID) string {
	return fmt.Sprintf("%s%016x", p.prefix(), int64(lease))
}

func (e entry) mode() lock.Mode {
	if e.value.shared() {
		return lock.Shared
	}
	return lock.Exclusive
}

func (e entry) holder() *lock.Holder {
	v := e.value
	h := &lock.Holder{
		PID: v.PID, Host: v.Host, Process: v.Process, Command: v.Command, Info: v.Info, UID: v.UID, Mode: e.mode(),
		Dblock: v.Version > 0, Token: v.Token,
	}
	if v.Acquired > 0 {
		h.Acquired = time.UnixMilli(v.Acquired)
		if h.Token == 0 {
			h.Token = e.mod
		}
	}
	return h
}

// process is the same for a list. since is when it came, or has the lock.
func (e entry) process(since int64) lock.Process {
	v := e.value
	p := lock.Process{PID: v.PID, Host: v.Host, Process: v.Process, Command: v.Command, Info: v.Info, UID: v.UID, Mode: e.mode(), Dblock: v.Version > 0}
	if since > 0 {
		p.Age = max(0, time.Since(time.UnixMilli(since)))
	}
	return p
}
