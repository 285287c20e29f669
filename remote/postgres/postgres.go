// Package postgres has locks in PostgreSQL.
package postgres

import _ "github.com/jackc/pgx/v5/pgconn"
