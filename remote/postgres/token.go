package postgres

import (
	"context"
	"fmt"
	"strconv"
)

// xidBits are how many of a token's are the transaction id.
const xidBits = 43

// drawn is a transaction that nothing takes back.
type drawn struct {
	token    int64
	acquired int64 // when, by the server's clock, in milliseconds
}

// draw makes a transaction of which the id is greater than those of all before it, in this timeline. first is done in it.
func (s *session) draw(ctx context.Context, first string) (d drawn, err error) {
	row, err := s.ask(ctx, first+"SELECT txid_current(), "+timeline+", floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint, "+
		"pg_logical_emit_message(true, 'dblock', "+quote(s.target.hex())+")")
	if err != nil {
		return d, err
	}
	if len(row) != 4 {
		return d, s.target.failed(fmt.Errorf("the server tells no transaction"))
	}
	xid, tl := number(row[0]), number(row[1])
	if xid <= 0 || xid >= 1<<xidBits || tl <= 0 || tl >= 1<<(63-xidBits) {
		return d, s.target.failed(fmt.Errorf("transaction %d of timeline %d is out of the range of tokens", xid, tl))
	}
	return drawn{token: tl<<xidBits | xid, acquired: number(row[2])}, nil
}

// timeline is the number of the one that is written.
const timeline = "('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint"

// number reads what the server has written as one; 0 if it has not.
func number(text []byte) int64 {
	n, _ := strconv.ParseInt(string(text), 10, 64)
	return n
}
