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
// that dies lets go. Only who holds that kernel lock touches the lock file (the
// notice), which tells every other implementation of the protocol that somebody
// is in there, and who.
//
// docs/protocol.md describes both for people who write a peer, with what is
// promised and which windows remain.
//
// # Losing a lock
//
// A program that does not cooperate can take a lock away. [Lock.Lost] tells when
// that has happened; [With] cancels the context of its function.
//
// Nothing in this package prints, exits, or handles signals.
package lock
