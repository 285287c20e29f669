package say

import "golang.org/x/sys/unix"

// Stderr is where messages for people go.
var Stderr = To(unix.Stderr)
