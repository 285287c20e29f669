package etcd

import "github.com/dblock-dev/dblock/lock"

// Engine is asked directly where several machines are in one process.
var Engine lock.Engine = engine{}
