//go:build unix && (!linux || portable)

package queue

// Show does nothing: there are no locks here that belong to the open file and can
// be asked for.
func (f *File) Show(Sign) {}

// Hide does nothing.
func (f *File) Hide(Sign) {}

func (f *File) hideAll() {}

// Shown knows nothing.
func (f *File) Shown(Sign) (shown, known bool) { return false, false }
