package summary

import "slices"

// union is the time that one or more of several intervals cover, in microseconds. Intervals come
// about in the order of their ends.
type union struct {
	spans  []span // disjoint, in order
	before int64  // the length of those that are too old to be met again
}

type span struct{ from, to int64 }

// remembered is how many disjoint intervals can lie within one that ends after them.
const remembered = 1 << 16

func (u *union) add(from, to int64) {
	// The first one that does not end before this one begins, and the first behind it.
	first, _ := slices.BinarySearchFunc(u.spans, from, func(s span, t int64) int {
		if s.to < t {
			return -1
		}
		return 1
	})
	end := first
	for end < len(u.spans) && u.spans[end].from <= to {
		from, to = min(from, u.spans[end].from), max(to, u.spans[end].to)
		end++
	}
	u.spans = slices.Replace(u.spans, first, end, span{from, to})
	if len(u.spans) > remembered {
		half := remembered / 2
		for _, s := range u.spans[:half] {
			u.before += s.to - s.from
		}
		u.spans = slices.Delete(u.spans, 0, half)
	}
}

func (u *union) length() int64 {
	n := u.before
	for _, s := range u.spans {
		n += s.to - s.from
	}
	return n
}
