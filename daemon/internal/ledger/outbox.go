package ledger

import (
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Entry is a verdict that the MES does not have yet.
type Entry struct {
	Source   string
	Sequence int64
	ResultID string
	Record   []byte // JSON
}

// Next returns a source's oldest entry of the outbox; nil: there is none, or
// the newest record is not settled yet, of which its watchers will hear.
func (l *Ledger) Next(source string) (*Entry, error) {
	var entry *Entry
	settled, err := l.unsettled.read(func(of, _ string) bool { return of == source }, func() error {
		next := Entry{Source: source}
		err := l.reads.QueryRow(`SELECT outbox.sequence, result_id, record FROM outbox JOIN results USING (result_id)
			WHERE outbox.source = ? ORDER BY outbox.sequence LIMIT 1`, source).Scan(&next.Sequence, &next.ResultID, &next.Record)
		if entry = nil; errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err == nil {
			entry = &next
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: outbox of %s: %w", source, err)
	}
	if !settled {
		return nil, nil
	}
	return entry, nil
}

// Delivered takes an entry out of the outbox: the MES has it.
func (l *Ledger) Delivered(entry *Entry) error {
	return l.commit(func(tx transaction) error {
		return tx.exec(`DELETE FROM outbox WHERE source = ? AND sequence = ?`, entry.Source, entry.Sequence)
	})
}

// Waiting describes a part of the outbox.
type Waiting struct {
	Count  int64
	Oldest time.Time // zero without one
}

// Waiting says how much of a source's outbox waits; an empty source: of all.
func (l *Ledger) Waiting(source string) (waiting Waiting, err error) {
	var oldest sql.NullInt64
	query, arguments := `SELECT count(*), min(entered) FROM outbox`, []any{}
	if source != "" {
		query, arguments = query+` WHERE source = ?`, []any{source}
	}
	if err := l.reads.QueryRow(query, arguments...).Scan(&waiting.Count, &oldest); err != nil {
		return waiting, fmt.Errorf("ledger: outbox: %w", err)
	}
	if oldest.Valid {
		waiting.Oldest = time.UnixMilli(oldest.Int64)
	}
	return waiting, nil
}

// Sources lists the sources that have entries in the outbox, stations that are
// configured no more among them.
func (l *Ledger) Sources() (sources []string, err error) {
	rows, err := l.reads.Query(`SELECT DISTINCT source FROM outbox`)
	if err != nil {
		return nil, fmt.Errorf("ledger: outbox: %w", err)
	}
	for rows.Next() {
		var source string
		if err := rows.Scan(&source); err != nil {
			return nil, errors.Join(fmt.Errorf("ledger: outbox: %w", err), rows.Close())
		}
		sources = append(sources, source)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, fmt.Errorf("ledger: outbox: %w", err)
	}
	return sources, nil
}
