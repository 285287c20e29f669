#!/bin/sh
# Who has the lock shop/scheduler in etcd, and who waits for it, in their order.
exec etcdctl get --prefix /dblock/shop/scheduler// --sort-by=CREATE --order=ASCEND
