package ledger

import (
	"context"
	"database/sql"
	"errors"
)

// queries are what is asked of a database, of one connection, or of one state.
type queries interface {
	QueryContext(ctx context.Context, query string, arguments ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, arguments ...any) *sql.Row
}

// each calls a function with every row that a query finds; the function scans
// it. When it returns, nothing of the query is open any more.
func each(ctx context.Context, of queries, found func(*sql.Rows) error, query string, arguments ...any) error {
	rows, err := of.QueryContext(ctx, query, arguments...)
	if err != nil {
		return err
	}
	for rows.Next() {
		if err := found(rows); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}
