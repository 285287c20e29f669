//go:build unix && (!linux || portable)

package hold

// reads knows nothing here, and is not asked: the ancestors are not known either.
func reads(int) (bool, error) { return false, nil }

func inheritNothing() { inheritNone() }

// complain is not to be had here.
func complain(int) (fd int) { return -1 }
