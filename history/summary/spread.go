package summary

import (
	"math/bits"
	"time"
)

// Spread is how lengths of time are spread, in microseconds: exact below 256, and within 0.4 %
// above. Its size does not depend on how many there are. The zero value is an empty one.
type Spread struct {
	Count int
	Sum   time.Duration
	Max   time.Duration

	octaves [octaves]*[parts]uint32
}

// Lengths of 2^k to 2^(k+1) microseconds are counted in 128 parts of the same size, the first 128
// each by itself.
const (
	partBits = 7
	parts    = 1 << partBits
	octaves  = 64 - partBits
)

// Add counts one.
func (s *Spread) Add(d time.Duration) {
	us := uint64(max(0, d.Microseconds()))
	s.Count++
	s.Sum += d
	s.Max = max(s.Max, d)
	octave := max(0, bits.Len64(us)-partBits)
	part := us
	if octave > 0 {
		part = us>>(octave-1) - parts
	}
	if s.octaves[octave] == nil {
		s.octaves[octave] = new([parts]uint32)
	}
	s.octaves[octave][part]++
}

// each calls f for what was counted, from the shortest on: a length, and how many there are of
// those up to high.
func (s *Spread) each(f func(low, high time.Duration, n int) (more bool)) {
	for octave, counts := range s.octaves {
		if counts == nil {
			continue
		}
		for part, n := range counts {
			if n == 0 {
				continue
			}
			low, width := uint64(part), uint64(1)
			if octave > 0 {
				width = 1 << (octave - 1)
				low = (low + parts) << (octave - 1)
			}
			if !f(time.Duration(low)*time.Microsecond, time.Duration(low+width-1)*time.Microsecond, int(n)) {
				return
			}
		}
	}
}

// Quantile is the length that so large a part of all do not exceed (0.5: the median); 0 if
// there are none.
func (s *Spread) Quantile(q float64) time.Duration {
	if s.Count == 0 {
		return 0
	}
	rank := max(1, min(s.Count, int(q*float64(s.Count)+0.9999999)))
	var found time.Duration
	s.each(func(low, high time.Duration, n int) bool {
		rank -= n
		found = low + (high-low)/2
		return rank > 0
	})
	return min(found, s.Max)
}

// Below is how many are not longer than d.
func (s *Spread) Below(d time.Duration) (n int) {
	s.each(func(low, _ time.Duration, count int) bool {
		if low > d {
			return false
		}
		n += count
		return true
	})
	return n
}
