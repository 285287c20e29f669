package sqllock

import (
	"database/sql/driver"
	"strings"
)

// tx is a transaction that database/sql has begun.
type tx struct {
	on     *conn
	inner  driver.Tx
	nested bool // in one that a statement had begun
}

// Commit commits, if the lock is still held: look first, since what somebody else has done
// meanwhile is not known to what is being written here.
func (t *tx) Commit() error {
	if t.on.hold != nil { // a statement may have ended it all
		if err := t.on.hold.Check(); err != nil {
			_ = t.Rollback()
			return err
		}
	}
	err := t.inner.Commit()
	if rerr := t.end(err); err == nil {
		err = rerr
	}
	return err
}

// Rollback rolls back, and ends the hold.
func (t *tx) Rollback() error {
	err := t.inner.Rollback()
	_ = t.end(err)
	return err
}

// end ends the hold with the transaction. If that did not end, the connection is not to be used
// again: its end ends both.
func (t *tx) end(err error) error {
	c := t.on
	if err != nil {
		c.doubts = true
		return nil
	}
	if c.open = t.nested; t.nested {
		return nil
	}
	return c.release()
}

// note keeps track of transactions that statements begin and end.
func (c *conn) note(query string, err error) {
	if err != nil && c.opts.InTransaction == nil {
		return
	}
	if c.opts.InTransaction != nil {
		c.open = c.opts.InTransaction(c.inner)
		return
	}
	begins, ends := effect(query)
	c.open = (c.open || begins) && !ends
}

// effect tells whether a text of SQL leaves a transaction open, or ends one: by the first words of its
// first and of its last statement.
func effect(query string) (begins, ends bool) {
	query = strings.TrimRight(query, "; \t\r\n")
	first, last := word(query), word(query[strings.LastIndexByte(query, ';')+1:])
	switch last {
	case "COMMIT", "END", "ROLLBACK":
		return false, !savepoint(query)
	}
	switch first {
	case "BEGIN", "START", "SAVEPOINT":
		return true, false
	}
	return false, false
}

// savepoint reports whether a rollback is only one to a savepoint.
func savepoint(query string) bool {
	last := strings.Fields(strings.ToUpper(query[strings.LastIndexByte(query, ';')+1:]))
	for _, w := range last {
		if w == "TO" {
			return true
		}
	}
	return false
}

// word is the first word of a statement, behind blanks and comments, in capitals.
func word(s string) string {
	for {
		s = strings.TrimLeft(s, " \t\r\n")
		if rest, ok := strings.CutPrefix(s, "--"); ok {
			_, s, _ = strings.Cut(rest, "\n")
			continue
		}
		if rest, ok := strings.CutPrefix(s, "/*"); ok {
			_, s, _ = strings.Cut(rest, "*/")
			continue
		}
		break
	}
	end := strings.IndexFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') })
	if end >= 0 {
		s = s[:end]
	}
	return strings.ToUpper(s)
}
