package ledger

import (
	"database/sql"
	"errors"
	"fmt"
)

// Keep keeps a value over restarts, in place of an earlier one of its key.
func (l *Ledger) Keep(key, value string) error {
	return l.commit(func(tx transaction) error { return tx.keep(key, value) })
}

func (tx transaction) keep(key, value string) error {
	return tx.exec(`INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value`, key, value)
}

// Kept returns the value of a key; empty: there is none.
func (l *Ledger) Kept(key string) (value string, err error) {
	err = l.reads.QueryRow(`SELECT value FROM meta WHERE key = ?`, key).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("ledger: %s: %w", key, err)
	}
	return value, nil
}
