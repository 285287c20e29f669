// Package etcd keeps locks in etcd, for the machines that share one: etcd://HOST:2379,HOST:2379/KEY.
// Who imports it has the URLs of the schemes etcd and etcds as databases of package lock.
//
// A lock is a queue of keys below /dblock/KEY//, one for each that holds or waits, each bound to a
// lease of its own and named by it. The order is that in which etcd created them: whoever has
// nobody in the way before him holds the lock. A holder renews his lease, and counts the time that is
// left from when he sent the last request for it that was answered; he gives the lock up so early
// that his command has ended before the lease has.
//
// A waiter whose lease runs out, since he or the server was away for too long, queues anew, at the end.
//
// The files, in the order in which an acquisition goes through them:
//
//	url.go      what a URL names, and with which settings
//	connect.go  the connection, and requests that are repeated
//	errors.go   what went wrong, for people
//	entry.go    the keys of the queue, and what is in them
//	lease.go    the lease: how long it lasts for certain
//	acquire.go  queueing and waiting
//	prepare.go  being connected before one may ask
//	watch.go    to be told that a key has gone
//	hold.go     a lock that is held
//	inspect.go  who holds and who waits; taking a lock away
//	clock*.go   the clock that counts the time in which the machine sleeps
package etcd

import "github.com/dblock-dev/dblock/lock"

func init() {
	lock.Register("etcd", engine{})
	lock.Register("etcds", engine{})
}

// engine is the lock.Engine for etcd.
type engine struct{}

// Name tells what a URL names. Neither the user nor the order of the members makes a difference.
func (engine) Name(url string) (shown, identity string, err error) {
	p, err := parse(url)
	if err != nil {
		return "", "", err
	}
	return p.shown(), p.identity(), nil
}
