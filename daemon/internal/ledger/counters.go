package ledger

import (
	"database/sql"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gladd/daemon/internal/verdict"
)

// Counters of one source, from the ledger's beginning; they only grow. Accepted,
// Evaluations and Reasons are of production and reinspection; Refusals of all.
type Counters struct {
	Accepted    int64                               `json:"accepted"`
	Evaluations map[verdict.Evaluation]int64        `json:"evaluations"`
	Reasons     map[verdict.ReasonCode]int64        `json:"reasons"`
	Refusals    map[verdict.RefusalCode]int64       `json:"refusals"`
	Purposes    map[verdict.Purpose]PurposeCounters `json:"purposes"`
}

// PurposeCounters are of a purpose beside production.
type PurposeCounters struct {
	Accepted    int64                        `json:"accepted"`
	Evaluations map[verdict.Evaluation]int64 `json:"evaluations"`
}

func noEvaluations() map[verdict.Evaluation]int64 {
	return map[verdict.Evaluation]int64{verdict.OK: 0, verdict.NotOK: 0, verdict.NotDecidable: 0, verdict.Undefined: 0}
}

// Counters returns a source's counters.
func (l *Ledger) Counters(source string) (counters Counters, err error) {
	err = l.refusals.read(func() error {
		if counters, err = l.counters(source); err != nil {
			return err
		}
		for code, count := range l.refusals.of(source) {
			counters.Refusals[code] += count
		}
		return nil
	})
	return counters, err
}

// counters are those that are written.
func (l *Ledger) counters(source string) (counters Counters, err error) {
	counters = Counters{
		Evaluations: noEvaluations(),
		Reasons:     map[verdict.ReasonCode]int64{},
		Refusals:    map[verdict.RefusalCode]int64{},
		Purposes:    map[verdict.Purpose]PurposeCounters{},
	}
	for _, purpose := range verdict.Purposes {
		if !purpose.IsProduction() {
			counters.Purposes[purpose] = PurposeCounters{Evaluations: noEvaluations()}
		}
	}
	err = each(l.background, l.reads, func(rows *sql.Rows) error {
		var kind, name string
		var count int64
		if err := rows.Scan(&kind, &name, &count); err != nil {
			return err
		}
		counters.take(kind, name, count)
		return nil
	}, `SELECT kind, name, count FROM counters WHERE source = ?`, source)
	if err != nil {
		return counters, fmt.Errorf("ledger: counters of %s: %w", source, err)
	}
	return counters, nil
}

// take takes a row of the table.
func (c *Counters) take(kind, name string, count int64) {
	if purpose, of, apart := strings.Cut(kind, "/"); apart {
		if counted, known := c.Purposes[verdict.Purpose(purpose)]; known && of == "trigger" {
			counted.Accepted = count
			c.Purposes[verdict.Purpose(purpose)] = counted
		} else if known {
			counted.Evaluations[verdict.Evaluation(name)] = count
		}
		return
	}
	switch kind {
	case "trigger":
		c.Accepted = count
	case "evaluation":
		c.Evaluations[verdict.Evaluation(name)] = count
	case "reason":
		c.Reasons[verdict.ReasonCode(name)] = count
	case "refusal":
		c.Refusals[verdict.RefusalCode(name)] = count
	}
}

func (tx transaction) countOutcome(source string, record *verdict.Record, by int) error {
	err := tx.countOf(source, record.Purpose, "evaluation", string(record.Evaluation), by)
	if err != nil || record.Reason == nil || !record.Purpose.IsProduction() {
		return err
	}
	return tx.count(source, "reason", string(record.Reason.Code), by)
}

// countOf counts for a purpose: production, or one apart.
func (tx transaction) countOf(source string, purpose verdict.Purpose, kind, name string, by int) error {
	if !purpose.IsProduction() {
		kind = string(purpose) + "/" + kind
	}
	return tx.count(source, kind, name, by)
}

func (tx transaction) count(source, kind, name string, by int) error {
	return tx.exec(`INSERT INTO counters (source, kind, name, count) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count`,
		source, kind, name, by)
}

// refusals counts those that are not written yet.
type refusals struct {
	flushing sync.Mutex
	writes   atomic.Int64 // begun and ended; odd while one is under way
	mutex    sync.Mutex
	count    map[refused]int64
}

type refused struct {
	source string
	code   verdict.RefusalCode
}

func (r *refusals) add(source string, code verdict.RefusalCode) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.count == nil {
		r.count = map[refused]int64{}
	}
	r.count[refused{source, code}]++
}

func (r *refusals) of(source string) map[verdict.RefusalCode]int64 {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	counts := map[verdict.RefusalCode]int64{}
	for of, count := range r.count {
		if of.source == source {
			counts[of.code] = count
		}
	}
	return counts
}

// read reads the counters, with what is not written yet; again, where it was just
// being written, for that would count twice or not at all. A disk that stalls is
// not waited for: then it is not written.
func (r *refusals) read(read func() error) error {
	for range 100 {
		before := r.writes.Load()
		if err := read(); err != nil {
			return err
		}
		if before%2 == 0 && r.writes.Load() == before {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// flushRefusals writes what was not written before.
func (l *Ledger) flushRefusals() {
	l.refusals.flushing.Lock()
	defer l.refusals.flushing.Unlock()
	l.refusals.mutex.Lock()
	waiting := maps.Clone(l.refusals.count)
	l.refusals.mutex.Unlock()
	if len(waiting) == 0 {
		return
	}
	l.refusals.writes.Add(1)
	defer l.refusals.writes.Add(1)
	err := l.commit(func(tx transaction) error {
		for of, count := range waiting {
			if err := tx.count(of.source, "refusal", string(of.code), int(count)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return
	}
	l.refusals.mutex.Lock()
	defer l.refusals.mutex.Unlock()
	for of, count := range waiting {
		if l.refusals.count[of] -= count; l.refusals.count[of] == 0 {
			delete(l.refusals.count, of)
		}
	}
}

// NextSession gives the next number of a connection to the broker.
func (l *Ledger) NextSession() (session int64, err error) {
	err = l.commit(func(tx transaction) error {
		var value string
		err := tx.row(`INSERT INTO meta (key, value) VALUES ('session', '1')
			ON CONFLICT DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) RETURNING value`).Scan(&value)
		if err != nil {
			return err
		}
		session, err = strconv.ParseInt(value, 10, 64)
		return err
	})
	return session, err
}

// CountRefusal counts a refusal that is not worth a write of its own; it is
// written within a second.
func (l *Ledger) CountRefusal(source string, code verdict.RefusalCode) { l.refusals.add(source, code) }
