//go:build !linux

package portable

// Waiting is how many wait for the flock of a file in a state directory, as the kernel shows it.
// known is false: it does not.
func Waiting(string) (n int, known bool) { return 0, false }

// Flocks is how many have the flock of a file with this number, and how many wait for it, as the
// kernel shows it. known is false: it does not.
func Flocks(uint64) (having, waiting int, known bool) { return 0, 0, false }
