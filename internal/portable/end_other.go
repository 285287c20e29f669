//go:build !linux

package portable

import "testing"

// End does nothing: it is not known who works in a directory.
func End(testing.TB, string) {}
