//go:build linux && !portable

package portable

// Half reports whether this is the half for other systems.
const Half = false
