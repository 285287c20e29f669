package summary

import (
	"math"
	"math/bits"
	"slices"
	"time"
)

// Bounds are the upper bounds, inclusive, of the exact counts of a [Distribution]; one more
// count is of what is longer than all of them.
var Bounds = []time.Duration{
	time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour,
}

// each power of two is divided into that many steps, so that a quantile is at most 1/256 off.
const (
	steps    = 128
	stepBits = 7
)

// Distribution is of lengths of time, in bounded memory. Number, sum, maximum and the counts are
// exact, quantiles to 0.4 %. Its zero value is ready for use.
type Distribution struct {
	N      int64
	Sum    time.Duration
	Max    time.Duration
	Counts [16]int64 // by Bounds, not cumulative

	buckets []uint32
}

// Add counts one; to the microsecond, as the history has them.
func (d *Distribution) Add(t time.Duration) {
	t = max(t, 0)
	d.N++
	d.Sum += t
	d.Max = max(d.Max, t)
	at, _ := slices.BinarySearch(Bounds, t)
	d.Counts[at]++
	i := bucket(uint64(t / time.Microsecond))
	d.grow(i + 1)
	d.buckets[i]++
}

func (d *Distribution) grow(n int) {
	if more := n - len(d.buckets); more > 0 {
		d.buckets = append(d.buckets, make([]uint32, more)...)
	}
}

// Merge adds those of another one.
func (d *Distribution) Merge(other *Distribution) {
	d.N += other.N
	d.Sum += other.Sum
	d.Max = max(d.Max, other.Max)
	for i, n := range other.Counts {
		d.Counts[i] += n
	}
	d.grow(len(other.buckets))
	for i, n := range other.buckets {
		d.buckets[i] += n
	}
}

// Quantile is the length that a share q of all, between 0 and 1, does not exceed; 0 of none.
func (d *Distribution) Quantile(q float64) time.Duration {
	rank := min(max(int64(math.Ceil(q*float64(d.N)-1e-9)), 1), d.N)
	if rank == d.N {
		return d.Max
	}
	var seen int64
	for i, n := range d.buckets {
		if seen += int64(n); seen >= rank && n > 0 {
			return min(value(i), d.Max)
		}
	}
	return 0
}

// bucket is where a number of microseconds is counted: small ones each by itself.
func bucket(us uint64) int {
	shift := max(0, bits.Len64(us)-stepBits-1)
	return shift*steps + int(us>>shift)
}

// value is the middle of a bucket.
func value(i int) time.Duration {
	if i < 2*steps {
		return time.Duration(i) * time.Microsecond
	}
	shift := i/steps - 1
	low := uint64(i-shift*steps) << shift
	return time.Duration(low+1<<shift/2) * time.Microsecond
}
