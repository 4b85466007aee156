package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"gladd/daemon/internal/verdict"
)

// Query says which results are wanted; what is empty is not asked for.
type Query struct {
	ResultIDs    []string
	Since, Until time.Time // finished from a time on, and before another
	Station      string    // its name, or that of a part of several views
	Evaluation   verdict.Evaluation
	Part         string
	Purpose      verdict.Purpose
	Waiting      bool // those that the MES does not have yet
	Parked       bool // those that the MES rejected or did not acknowledge
	// Last is how many at most, the newest; 0: all.
	Last int
}

// Stored is a result as it stands in the ledger. What its columns say is there
// even where the record cannot be read.
type Stored struct {
	Source     string
	Sequence   int64
	ResultID   string
	TriggerID  string
	Evaluation verdict.Evaluation
	Finished   verdict.Time
	JSON       []byte // the record, as it was written
	Digest     string // hex SHA-256 of JSON; empty: an earlier version's
	// Image is the picture's path below the folder of pictures; empty: none is
	// stored.
	Image    string
	Delivery Delivery
}

// Record reads the record.
func (s *Stored) Record() (*verdict.Record, error) {
	record := &verdict.Record{}
	if err := json.Unmarshal(s.JSON, record); err != nil {
		return nil, fmt.Errorf("the record of result %s (%s, sequence %d) cannot be read: %w", s.ResultID, s.Source, s.Sequence, err)
	}
	return record, nil
}

// DeliveryState says how far a verdict is on its way to the MES.
type DeliveryState string

// The states of a delivery.
const (
	Sent           DeliveryState = "sent" // and acknowledged
	Pending        DeliveryState = "waiting"
	Unacknowledged DeliveryState = "unacknowledged" // the others do not wait for it any more
	Rejected       DeliveryState = "rejected"       // by the MES
)

// Delivery is what the outbox knows of a verdict.
type Delivery struct {
	State     DeliveryState `json:"state"`
	Entered   *verdict.Time `json:"entered"`   // into the outbox; null: it has left it
	Published *verdict.Time `json:"published"` // last; null: never, or it has left the outbox
	Tries     int           `json:"tries"`
	Reason    *string       `json:"reason"`
}

// Result is a terminal record, and where its picture lies.
type Result struct {
	Source string
	Record verdict.Record
	// Image is the picture's path below the folder of pictures; empty: none is
	// stored.
	Image string
}

// Results lists results in the order in which they were committed. The wall
// clock may have been set meanwhile.
func (r *Reader) Results(ctx context.Context, query Query) ([]Result, error) {
	var results []Result
	err := r.Each(ctx, query, func(stored *Stored) error {
		record, err := stored.Record()
		if err != nil {
			return r.failed(err)
		}
		results = append(results, Result{Source: stored.Source, Record: *record, Image: stored.Image})
		return nil
	})
	return results, err
}

// page is how many results are read at a time. Between the pages nothing is
// held: who takes a long time over them does not make the daemon's log of writes
// grow.
const page = 500

// Each calls a function with results in the order in which they were committed:
// those that were there when it began, and still are. An error of the function
// is returned as it is.
func (r *Reader) Each(ctx context.Context, query Query, found func(*Stored) error) error {
	ledger := r.newest()
	wanted, err := query.wanted(ctx, ledger)
	if err != nil {
		return r.failed(err)
	}
	for rows := range slices.Chunk(wanted, page) {
		results, err := ledger.stored(ctx, rows)
		if err != nil {
			return r.failed(err)
		}
		for _, stored := range results {
			if err := found(stored); err != nil {
				return err
			}
		}
	}
	return nil
}

// stored reads the results of some rows.
func (t tables) stored(ctx context.Context, rows []int64) (results []*Stored, err error) {
	encoded, err := json.Marshal(rows)
	if err != nil {
		return nil, err
	}
	err = t.eachStored(ctx, func(stored *Stored) error {
		results = append(results, stored)
		return nil
	}, `results.rowid IN (SELECT value FROM json_each(?)) ORDER BY results.rowid`, string(encoded))
	return results, err
}

// wanted are the ids of the wanted rows. They grow with every row that is
// written, and are eight bytes each.
func (q *Query) wanted(ctx context.Context, ledger tables) (wanted []int64, err error) {
	conditions := q.conditions()
	arguments, order := conditions.arguments, " ORDER BY results.rowid"
	if q.Last > 0 {
		order, arguments = order+" DESC LIMIT ?", append(arguments, q.Last)
	}
	err = ledger.each(ctx, func(rows *sql.Rows) error {
		var row int64
		err := rows.Scan(&row)
		wanted = append(wanted, row)
		return err
	}, `SELECT results.rowid FROM results WHERE `+conditions.where()+order, arguments...)
	if q.Last > 0 {
		slices.Reverse(wanted)
	}
	return wanted, err
}

// eachStored reads results.
func (t tables) eachStored(ctx context.Context, found func(*Stored) error, where string, arguments ...any) error {
	return t.each(ctx, func(rows *sql.Rows) error {
		var finished int64
		var entered, published, tries sql.NullInt64
		var parked, reason sql.NullString
		stored := &Stored{}
		if err := rows.Scan(&stored.Source, &stored.Sequence, &stored.ResultID, &stored.TriggerID, &stored.Evaluation, &finished,
			&stored.JSON, &stored.Digest, &stored.Image, &entered, &published, &tries, &parked, &reason); err != nil {
			return err
		}
		stored.Finished = at(finished)
		stored.Delivery = Delivery{State: Sent}
		if entered.Valid {
			stored.Delivery = Delivery{State: Pending, Entered: timeOf(entered), Published: timeOf(published), Tries: int(tries.Int64)}
			if parked.Valid {
				stored.Delivery.State = DeliveryState(parked.String)
			}
			if reason.Valid {
				stored.Delivery.Reason = &reason.String
			}
		}
		return found(stored)
	}, `SELECT results.source, results.sequence, results.result_id, results.trigger_id, results.evaluation, results.finished,
		CAST(results.record AS BLOB), results.digest, coalesce(images.path, ''),
		outbox.entered, outbox.published, outbox.tries, outbox.parked, outbox.reason
		FROM results LEFT JOIN images USING (trigger_id)
		LEFT JOIN outbox ON outbox.source = results.source AND outbox.sequence = results.sequence WHERE `+where, arguments...)
}

func at(milliseconds int64) verdict.Time { return verdict.Time{Time: time.UnixMilli(milliseconds)} }

func timeOf(milliseconds sql.NullInt64) *verdict.Time {
	if !milliseconds.Valid {
		return nil
	}
	time := at(milliseconds.Int64)
	return &time
}

// conditions are what rows must fulfil, all of them.
type conditions struct {
	texts     []string
	arguments []any
}

func (c *conditions) add(text string, arguments ...any) {
	c.texts, c.arguments = append(c.texts, text), append(c.arguments, arguments...)
}

// addRange asks for the times and the station of a query, by the columns that hold
// them.
func (c *conditions) addRange(q *Query, time, source string) {
	if !q.Since.IsZero() {
		c.add(time+" >= ?", q.Since.UnixMilli())
	}
	if !q.Until.IsZero() {
		c.add(time+" < ?", q.Until.UnixMilli())
	}
	if q.Station != "" {
		c.add("substr("+source+", -length(?)) = ?", "/"+q.Station, "/"+q.Station)
	}
}

func (c *conditions) where() string { return strings.Join(c.texts, " AND ") }

// conditions are what the query asks of results.
func (q *Query) conditions() (wanted conditions) {
	wanted.add("1")
	if len(q.ResultIDs) > 0 {
		var ids []any
		for _, id := range q.ResultIDs {
			ids = append(ids, id)
		}
		wanted.add("results.result_id IN (?"+strings.Repeat(", ?", len(ids)-1)+")", ids...)
	}
	wanted.addRange(q, "results.finished", "results.source")
	if q.Evaluation != "" {
		wanted.add("results.evaluation = ?", q.Evaluation)
	}
	if q.Part != "" {
		wanted.add("results.trigger_id IN (SELECT trigger_id FROM triggers WHERE "+partTriggers+")", q.Part)
	}
	if q.Purpose != "" {
		wanted.add("CASE WHEN json_valid(results.record) THEN results.record ->> '$.purpose' END = ?", q.Purpose)
	}
	if q.Waiting {
		wanted.add("results.result_id IN (SELECT result_id FROM outbox WHERE parked IS NOT 'rejected')")
	}
	if q.Parked {
		wanted.add("results.result_id IN (SELECT result_id FROM outbox WHERE parked IS NOT NULL)")
	}
	return wanted
}

// partTriggers finds the triggers of a part, by the index of sources and parts.
const partTriggers = `part_id = ? AND source IN (SELECT source FROM sequences UNION SELECT source FROM triggers WHERE finished = 0)`
