package ledger

import (
	"database/sql"
	"fmt"
	"sync"
	"time"
)

// Waiting describes a part of the outbox.
type Waiting struct {
	// Count is how many verdicts the MES does not have, those among them that it
	// did not acknowledge; without those that it rejected.
	Count          int64
	Unacknowledged int64     // parked: sent several times
	Rejected       int64     // parked: not sent again
	Oldest         time.Time // of Count; zero without one
}

// Of one source, the oldest is the first in order, not the one with the earliest
// time: the clock may have been set back since.
const (
	waitingOfOne = `SELECT (SELECT count(*) FROM outbox WHERE source = ?1),
		(SELECT count(*) FROM outbox WHERE source = ?1 AND parked = 'unacknowledged'),
		(SELECT count(*) FROM outbox WHERE source = ?1 AND parked = 'rejected'),
		(SELECT entered FROM outbox WHERE source = ?1 AND parked IS NOT 'rejected' ORDER BY sequence LIMIT 1)`
	waitingOfAll = `SELECT count(*), count(*) FILTER (WHERE parked = 'unacknowledged'), count(*) FILTER (WHERE parked = 'rejected'),
		min(entered) FILTER (WHERE parked IS NOT 'rejected') FROM outbox`
)

// Waiting says how much of a source's outbox waits; an empty source: of all.
func (l *Ledger) Waiting(source string) (Waiting, error) {
	return l.waiting.get(source, func() (waiting Waiting, err error) {
		query, arguments := waitingOfAll, []any{}
		if source != "" {
			query, arguments = waitingOfOne, []any{source}
		}
		var oldest sql.NullInt64
		if err := l.reads.QueryRow(query, arguments...).Scan(&waiting.Count, &waiting.Unacknowledged, &waiting.Rejected, &oldest); err != nil {
			return waiting, fmt.Errorf("ledger: outbox: %w", err)
		}
		waiting.Count -= waiting.Rejected
		if oldest.Valid {
			waiting.Oldest = time.UnixMilli(oldest.Int64)
		}
		return waiting, nil
	})
}

// The count of a large outbox holds for a while: it is wanted every second, for
// every station.
const (
	large      = 10_000
	holdsTimes = 50 // as long as it took
)

// counts keeps those of large outboxes, by source.
type counts struct {
	mutex sync.Mutex
	kept  map[string]counted
}

type counted struct {
	waiting Waiting
	until   time.Time
}

func (c *counts) get(source string, count func() (Waiting, error)) (Waiting, error) {
	began := time.Now()
	c.mutex.Lock()
	kept := c.kept[source]
	c.mutex.Unlock()
	if began.Before(kept.until) {
		return kept.waiting, nil
	}
	waiting, err := count()
	if took := time.Since(began); err == nil && waiting.Count+waiting.Rejected > large {
		c.mutex.Lock()
		defer c.mutex.Unlock()
		if c.kept == nil {
			c.kept = map[string]counted{}
		}
		c.kept[source] = counted{waiting, began.Add(holdsTimes * took)}
	}
	return waiting, err
}
