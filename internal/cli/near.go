package cli

// Near returns the word that somebody may have meant who has typed another, or "". One
// slip of the finger is allowed, two in words of eight letters or more: a letter too many, too
// few, a wrong one, or two in the wrong order.
func Near(typed string, words []string) (near string) {
	best := 1
	if len(typed) >= 8 {
		best = 2
	}
	if len(typed) < 2 {
		return ""
	}
	for _, word := range words {
		if d := distance(typed, word); d <= best && (near == "" || d < best) {
			near, best = word, d
		}
	}
	return near
}

// distance counts the slips between two words (optimal string alignment).
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			wrong := last[j-1]
			if a[i-1] != b[j-1] {
				wrong++
			}
			row[j] = min(last[j]+1, row[j-1]+1, wrong)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
