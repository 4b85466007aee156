package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// When the wall clock is not trusted, and how long.
const (
	maxJump = time.Hour      // how far it may be set while gladd runs
	maxGap  = 24 * time.Hour // how far it may be ahead, at the start, of when it was trusted last
	doubted = 4 * time.Hour  // how long it must go on evenly to be trusted again
)

// Retention removes what is older than it is kept. It trusts the wall clock as
// long as that goes on where it was, and as the monotonic clock does: one that
// is wrong would have records removed that are young. One that is right must not
// be doubted forever, or the disk would fill.
type Retention struct {
	images  *Images
	keep    time.Duration
	wall    func() time.Time
	elapsed func() time.Duration // by the monotonic clock

	base  time.Time     // by the wall clock, which has gone on evenly since
	since time.Duration // elapsed then
	doubt error         // why the clock is not trusted; nil: it is
	noted clockNote
}

// clockNote is what is kept of the clock over restarts.
type clockNote struct {
	Trusted time.Time     `json:"trusted"`
	Evenly  time.Duration `json:"evenly"` // how long it has gone on evenly while it was doubted
}

// clockKey is the key that it is kept under, and noteEvery how often.
const (
	clockKey  = "clock"
	noteEvery = 10 * time.Minute
)

// NewRetention keeps a ledger's records and pictures for a time. It must come
// before anything is recorded: it compares the clock with what the last run left.
func NewRetention(images *Images, keep time.Duration) (*Retention, error) {
	began := time.Now()
	return newRetention(images, keep, time.Now, func() time.Duration { return time.Since(began) })
}

func newRetention(images *Images, keep time.Duration, wall func() time.Time, elapsed func() time.Duration) (*Retention, error) {
	r := &Retention{images: images, keep: keep, wall: wall, elapsed: elapsed, base: wall().Round(0), since: elapsed()}
	kept, err := images.ledger.Kept(clockKey)
	if err != nil {
		return nil, err
	}
	if kept != "" {
		if err := json.Unmarshal([]byte(kept), &r.noted); err != nil {
			return nil, fmt.Errorf("ledger: %s: %w", clockKey, err)
		}
	} else if r.noted.Trusted, err = images.ledger.newest(); err != nil {
		return nil, err
	}
	if ahead := r.base.Sub(r.noted.Trusted); !r.noted.Trusted.IsZero() && ahead > maxGap {
		r.doubt = fmt.Errorf("by the clock gladd did not run for %s", ahead.Round(time.Hour))
	}
	return r, nil
}

// newest is when the last record was made; zero: there is none.
func (l *Ledger) newest() (at time.Time, err error) {
	var finished sql.NullInt64
	if err := l.reads.QueryRow(`SELECT max(finished) FROM results`).Scan(&finished); err != nil {
		return at, fmt.Errorf("ledger: newest record: %w", err)
	}
	if finished.Valid {
		at = time.UnixMilli(finished.Int64)
	}
	return at, nil
}

// Prune removes what is too old, in small steps. While the wall clock is not
// trusted it removes nothing, and says so.
func (r *Retention) Prune(ctx context.Context) error {
	now, ran := r.wall().Round(0), r.elapsed() // Round takes the monotonic reading away
	if by := now.Sub(r.base) - (ran - r.since); by.Abs() > maxJump {
		r.base, r.since = now, ran
		r.noted.Evenly = 0
		r.doubt = fmt.Errorf("the clock was set by %s while gladd ran", by.Round(time.Second))
	}
	if r.doubt != nil && r.noted.Evenly+ran-r.since < doubted {
		if ran-r.since >= noteEvery { // a box may run less than four hours at a time
			r.noted.Evenly += ran - r.since
			r.base, r.since = now, ran
			if err := r.note(); err != nil {
				return err
			}
		}
		return fmt.Errorf("%w; nothing is removed for its age until the clock has gone on evenly for %.0f hours", r.doubt, doubted.Hours())
	}
	r.doubt, r.noted.Evenly = nil, 0
	if now.Sub(r.noted.Trusted).Abs() >= noteEvery {
		r.noted.Trusted = now
		if err := r.note(); err != nil {
			return err
		}
	}
	return r.images.PruneRecords(ctx, now.Add(-r.keep))
}

func (r *Retention) note() error {
	encoded, err := json.Marshal(r.noted)
	if err != nil {
		return err
	}
	return r.images.ledger.Keep(clockKey, string(encoded))
}

// PruneRecords removes what was finished before a time, in small steps: pictures,
// records with their triggers, and replies to commands; of what is in the outbox
// only what the MES rejected.
func (i *Images) PruneRecords(ctx context.Context, before time.Time) error {
	old := &oldRows{ledger: i.ledger, limit: before.UnixMilli()}
	for _, step := range []func(context.Context) (more bool, err error){
		func(ctx context.Context) (bool, error) { return i.pruneOld(ctx, old.limit) },
		old.results, old.triggers, old.replies,
	} {
		old.at, old.row = math.MinInt64, 0
		for more := true; more; {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			began := time.Now()
			var err error
			if more, err = step(ctx); err != nil {
				return err
			}
			i.ledger.yield(ctx, time.Since(began))
		}
	}
	return nil
}

// pruneOld removes some pictures of before a time.
func (i *Images) pruneOld(ctx context.Context, limit int64) (more bool, err error) {
	i.pruning.Lock()
	defer i.pruning.Unlock()
	pictures, err := i.find(ctx, `SELECT trigger_id, path, bytes FROM images WHERE ok IN (0, 1) AND stored < ? LIMIT ?`, limit, len(i.gone)+pruneStep)
	if err != nil {
		return false, err
	}
	for _, picture := range pictures {
		if err := i.removePicture(picture); err != nil {
			return false, err
		}
	}
	return len(pictures) > 0, i.forget()
}

// oldRows removes rows of before a time, some at each step. It looks for them
// outside the transaction, and never twice: those that stay may be many.
type oldRows struct {
	ledger  *Ledger
	limit   int64 // Unix milliseconds
	at, row int64 // the last one found
}

// results removes records that the MES has or rejected, with all that belongs to
// them.
func (o *oldRows) results(ctx context.Context) (more bool, err error) {
	results, triggers, err := o.find(ctx, `SELECT result_id, trigger_id, finished, rowid FROM results
		WHERE finished < ?1 AND (finished, rowid) > (?2, ?3)
		AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.result_id = results.result_id AND parked IS NOT 'rejected')
		ORDER BY finished, rowid LIMIT ?4`)
	if err != nil || len(results) == 0 {
		return false, err
	}
	return true, o.ledger.commit(func(tx transaction) error {
		return firstError(
			func() error { return tx.deleteAll(`DELETE FROM reviews WHERE result_id IN`, results) },
			func() error { return tx.deleteAll(`DELETE FROM outbox WHERE result_id IN`, results) },
			func() error { return tx.deleteAll(`DELETE FROM results WHERE result_id IN`, results) },
			func() error { return tx.deleteAll(`DELETE FROM triggers WHERE trigger_id IN`, triggers) },
		)
	})
}

// triggers removes those whose records are gone.
func (o *oldRows) triggers(ctx context.Context) (more bool, err error) {
	triggers, _, err := o.find(ctx, `SELECT trigger_id, source, accepted, rowid FROM triggers
		WHERE accepted < ?1 AND (accepted, rowid) > (?2, ?3) AND finished = 1
		AND NOT EXISTS (SELECT 1 FROM results WHERE results.trigger_id = triggers.trigger_id)
		ORDER BY accepted, rowid LIMIT ?4`)
	if err != nil || len(triggers) == 0 {
		return false, err
	}
	return true, o.ledger.commit(func(tx transaction) error {
		return tx.deleteAll(`DELETE FROM triggers WHERE trigger_id IN`, triggers)
	})
}

// replies removes replies to commands.
func (o *oldRows) replies(context.Context) (more bool, err error) {
	err = o.ledger.commit(func(tx transaction) error {
		var removed int64
		err := firstError(
			func() error {
				return tx.exec(`DELETE FROM commands WHERE (source, command_id) IN (SELECT source, command_id FROM commands
					WHERE replied < ? ORDER BY replied LIMIT ?)`, o.limit, pruneStep)
			},
			func() error { return tx.row(`SELECT changes()`).Scan(&removed) },
		)
		more = removed > 0
		return err
	})
	return more, err
}

// find finds the next rows: two texts of each, its time and its number.
func (o *oldRows) find(ctx context.Context, query string) (first, second []string, err error) {
	err = each(ctx, o.ledger.reads, func(rows *sql.Rows) error {
		var one, other string
		err := rows.Scan(&one, &other, &o.at, &o.row)
		first, second = append(first, one), append(second, other)
		return err
	}, query, o.limit, o.at, o.row, pruneStep)
	if err != nil {
		return nil, nil, fmt.Errorf("ledger: old records: %w", err)
	}
	return first, second, nil
}

// deleteAll deletes the rows of some ids.
func (tx transaction) deleteAll(from string, ids []string) error {
	list, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	return tx.exec(from+` (SELECT value FROM json_each(?))`, string(list))
}
