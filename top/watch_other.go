//go:build unix && (!linux || portable)

package top

// This system has no inotify: locks are looked at from time to time.
type (
	watcher struct{}
	watches struct{}
)

func newWatcher() *watcher { return nil }

func (*watcher) add(string, string, *watches, bell) bool { return false }

func (*watcher) hints(string, *watches, bell, bool) {}

func (*watcher) forget(*watches) {}
