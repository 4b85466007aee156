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
	Tries    int64  // how often it was sent
}

// Sending says of an entry that it was sent, and waits for its acknowledgement.
type Sending struct {
	*Entry
	At  time.Time
	Due time.Time // when it is sent again without one
	// Park has it parked as unacknowledged: people should look.
	Park bool
}

// Next returns a source's oldest entry of the outbox behind a sequence, but for
// those that the MES rejected; nil: there is none, or the newest record is not
// settled yet, of which its watchers will hear.
func (l *Ledger) Next(source string, after int64) (*Entry, error) {
	var entry *Entry
	settled, err := l.unsettled.read(func(of, _ string) bool { return of == source }, func() error {
		next := Entry{Source: source}
		err := l.reads.QueryRow(`SELECT outbox.sequence, result_id, record, tries FROM outbox JOIN results USING (result_id)
			WHERE outbox.source = ? AND outbox.sequence > ? AND parked IS NOT 'rejected' ORDER BY outbox.sequence LIMIT 1`,
			source, after).Scan(&next.Sequence, &next.ResultID, &next.Record, &next.Tries)
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

// Again returns the oldest entry of a source's outbox behind a sequence and up to
// another, of those that were sent before, but for those that the MES rejected;
// nil: there is none.
func (l *Ledger) Again(source string, after, upTo int64) (*Entry, error) {
	entry := &Entry{Source: source}
	err := l.reads.QueryRow(`SELECT outbox.sequence, result_id, record, tries FROM outbox JOIN results USING (result_id)
		WHERE outbox.source = ? AND outbox.sequence > ? AND outbox.sequence <= ? AND published IS NOT NULL AND parked IS NOT 'rejected'
		ORDER BY outbox.sequence LIMIT 1`, source, after, upTo).Scan(&entry.Sequence, &entry.ResultID, &entry.Record, &entry.Tries)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("ledger: outbox of %s: %w", source, err)
	}
	return entry, nil
}

// Due returns a source's entries whose time has come to be sent again, the
// oldest first. One that is due further ahead than the longest wait is due,
// too: the clock was set back.
func (l *Ledger) Due(source string, now time.Time, longest time.Duration, limit int) (due []*Entry, err error) {
	err = each(l.background, l.reads, func(rows *sql.Rows) error {
		entry := &Entry{Source: source}
		due = append(due, entry)
		return rows.Scan(&entry.Sequence, &entry.ResultID, &entry.Record, &entry.Tries)
	}, `SELECT sequence, result_id, record, tries FROM (
			SELECT * FROM (SELECT sequence, result_id, tries FROM outbox WHERE source = ?1 AND due <= ?2 ORDER BY due LIMIT ?4)
			UNION ALL
			SELECT * FROM (SELECT sequence, result_id, tries FROM outbox WHERE source = ?1 AND due > ?3 ORDER BY due LIMIT ?4)
		) JOIN results USING (result_id, sequence) ORDER BY sequence`,
		source, now.UnixMilli(), now.Add(longest).UnixMilli(), limit)
	if err != nil {
		return nil, fmt.Errorf("ledger: outbox of %s: %w", source, err)
	}
	return due, nil
}

// LastSent is the highest sequence in a source's outbox that was ever sent; 0:
// none was.
func (l *Ledger) LastSent(source string) (sequence int64, err error) {
	err = l.reads.QueryRow(`SELECT sequence FROM outbox WHERE source = ? AND published IS NOT NULL ORDER BY sequence DESC LIMIT 1`,
		source).Scan(&sequence)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("ledger: outbox of %s: %w", source, err)
	}
	return sequence, nil
}

// Delivered takes an entry out of the outbox: the MES has it.
func (l *Ledger) Delivered(entry *Entry) error {
	return l.commit(func(tx transaction) error {
		return tx.exec(`DELETE FROM outbox WHERE source = ? AND sequence = ?`, entry.Source, entry.Sequence)
	})
}

// Sent notes that entries were sent. One that the MES answered meanwhile stays
// as it is.
func (l *Ledger) Sent(sendings ...Sending) error {
	return l.commit(func(tx transaction) error {
		for _, sent := range sendings {
			var parked *string
			if sent.Park {
				parked = new(parkedUnacknowledged)
			}
			if err := tx.exec(`UPDATE outbox SET published = ?, tries = tries + 1, due = ?, parked = coalesce(parked, ?)
				WHERE source = ? AND sequence = ? AND parked IS NOT 'rejected'`,
				sent.At.UnixMilli(), sent.Due.UnixMilli(), parked, sent.Source, sent.Sequence); err != nil {
				return err
			}
		}
		return nil
	})
}

// Sources lists the sources that have entries in the outbox, or will have, stations
// and parts that are configured no more among them.
func (l *Ledger) Sources() (sources []string, err error) {
	err = each(l.background, l.reads, func(rows *sql.Rows) error {
		var source string
		err := rows.Scan(&source)
		sources = append(sources, source)
		return err
	}, `SELECT source FROM outbox UNION SELECT source FROM triggers WHERE finished = 0`)
	if err != nil {
		return nil, fmt.Errorf("ledger: outbox: %w", err)
	}
	return sources, nil
}
