//go:build !linux || portable

package doctor

// Other systems tell too little of mounts, limits and processes.
func (v *visit) filesystem() []Finding { return nil }
func (v *visit) openers() []Finding    { return nil }
func (v *visit) limits() []Finding     { return nil }
func (v *visit) namespaces() []Finding { return nil }

func mountedAt(string) bool { return false }
