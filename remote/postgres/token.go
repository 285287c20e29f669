package postgres

import (
	"fmt"
	"strconv"
)

// xidBits are how many of a token's are the transaction id.
const xidBits = 43

// token is made of a transaction id and a timeline.
func (t *target) token(xid, timeline []byte) (int64, error) {
	id, tl := number(xid), number(timeline)
	if id <= 0 || id >= 1<<xidBits || tl <= 0 || tl >= 1<<(63-xidBits) {
		return 0, t.failed(fmt.Errorf("transaction %d of timeline %d is out of the range of tokens", id, tl))
	}
	return tl<<xidBits | id, nil
}

// number reads what the server has written as one; 0 if it has not.
func number(text []byte) int64 {
	n, _ := strconv.ParseInt(string(text), 10, 64)
	return n
}
