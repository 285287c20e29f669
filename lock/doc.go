// Package lock lets one process at a time, or several readers, use a database,
// among programs in any language that cooperate through a JSON lock file beside
// it.
//
//	err := lock.With(ctx, "data/app.db", lock.Options{Process: "importer"}, func(ctx context.Context) error {
//		return migrate(ctx)
//	})
//
// # Two layers
//
// The kernel is the queue; the file is the notice. Programs that use this package
// exclude each other by flock(2) on small permanent files in a state directory
// beside the lock file: first come, first served, without polling, and a process
// that dies releases it. Only who holds that kernel lock touches the lock file (the
// notice), which tells every other implementation of the protocol that somebody
// is in there, and who.
//
// docs/protocol.md describes both for people who write a peer, docs/promises.md says
// what is promised and which windows remain.
//
// # Losing a lock
//
// A program that does not cooperate can take a lock away. [Lock.Lost] tells when
// that has happened; [With] cancels the context of its function.
//
// Nothing in this package prints, exits, or handles signals.
package lock

// The files, from the top. Each calls only what stands in itself or below; a test reads
// this list. What they stand on is in internal: queue is the kernel's half and claim the
// file's, judge says who has gone, ledger is what one hold leaves to the next, notice the
// lock file's format, inode files by what they are, proc and watch what the system tells.
//
//	set.go          Set: several locks together
//	guard.go        Guard: a value that is used under a lock only
//	lock.go         Lock, With: what others call
//	acquire.go      one Acquire on its way, from the names to a hold
//	deadlock.go     while we wait under a hold: does that wait for us
//	nested.go       the hold that leans on an enclosing dblock's
//	hold.go         the hold of our own: a place in the queue, a claim, a keeper
//	lost.go         is the lock still ours: what is found at the path, and putting our notice back
//	keeper.go       the keeper: when to beat and to look, and what was lost
//	break.go        Break: removing a lock that is stuck
//	kill_holders.go ending the processes that have it, for Break
//	record.go       what is written into the history, and when
//	facts.go        Facts: what else this system shows of those who hold a lock or wait
//	watch.go        Watch: a lock's reports, one for each change
//	survey.go       Survey: all locks below a directory
//	inspect.go      Inspect: who holds a lock, and who waits
//	environment.go  what a command is told of the hold that it runs under
//	names.go        the files of a lock: from a database's path to the lock file's
//	real_linux.go   the real path of a directory
//	real_other.go
//	real.go
//	engine.go       locks that several machines share: what an engine is, and their URLs
//	errors.go       the errors
//	options.go      Options, Mode, Priority
//	doc.go
