// Package etcd has locks in etcd.
package etcd

import _ "go.etcd.io/etcd/client/v3"
