package notice

import "time"

// Since is how long ago a timestamp is, both in milliseconds since the epoch. It is
// anybody's number: centuries, as of one in microseconds, would overflow a Duration
// and make the future look old.
func Since(now, timestamp int64) time.Duration {
	const most = int64(100 * 365 * 24 * time.Hour / time.Millisecond)
	return time.Duration(min(max(now-timestamp, -most), most)) * time.Millisecond
}
