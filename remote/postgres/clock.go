package postgres

import "time"

// started is when the clock without a better one began.
var started = time.Now()
