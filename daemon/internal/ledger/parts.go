package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"gladd/daemon/internal/verdict"
)

// PartRules say which part of several views a trigger's view belongs to.
type PartRules struct {
	Source   string        // of the part's verdicts: /site/line/part
	Views    []string      // all that it has, in order
	Deadline time.Duration // from the first view's trigger to the part's record
	Attempts int           // limit for the same part; 0: none
	// Received is when the trigger came, with a monotonic reading.
	Received time.Time
}

// openPart is a part whose record is still to come.
type openPart struct {
	source string
	// Of the first view's trigger, and of the record. They have a monotonic
	// reading for a part that was begun by this process, and none for one of an
	// earlier run.
	began, deadline time.Time
}

func (p openPart) passed() bool { return !p.deadline.IsZero() && time.Now().After(p.deadline) }

// openParts are the parts whose record is still to come or to be told of.
type openParts struct {
	mutex sync.Mutex
	parts map[string]openPart // by trigger id
	tell  func(source string, record *verdict.Record)
}

func (o *openParts) add(id string, part openPart) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if o.parts == nil {
		o.parts = map[string]openPart{}
	}
	o.parts[id] = part
}

func (o *openParts) get(id string) openPart {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.parts[id]
}

// remove returns who is to be told; nil: nobody, or somebody was told before.
func (o *openParts) remove(id string) func(source string, record *verdict.Record) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	_, open := o.parts[id]
	delete(o.parts, id)
	if !open {
		return nil
	}
	return o.tell
}

// loadParts finds the parts that an earlier run left open.
func (l *Ledger) loadParts(ctx context.Context) error {
	return each(ctx, l.reads, func(rows *sql.Rows) error {
		var id string
		var part openPart
		var accepted, deadline int64
		if err := rows.Scan(&id, &part.source, &accepted, &deadline); err != nil {
			return err
		}
		part.began, part.deadline = time.UnixMilli(accepted), time.UnixMilli(deadline)
		if now := time.Now().Round(0); part.began.After(now) { // the clock was set back: nobody knows how long it has been open
			part.began, part.deadline = now, now
		}
		l.parts.add(id, part)
		return nil
	}, `SELECT trigger_id, source, accepted, deadline FROM triggers WHERE finished = 0 AND kind = ?`, verdict.KindPart)
}

// WatchParts has a function called with every part's record, once it is
// settled.
func (l *Ledger) WatchParts(call func(source string, record *verdict.Record)) {
	l.parts.mutex.Lock()
	defer l.parts.mutex.Unlock()
	l.parts.tell = call
}

// joined is what became of parts when a view came.
type joined struct {
	id    string // the part that the view belongs to
	begun bool   // it is new
	ended string // one that was found past its deadline; empty: none was
}

func (j joined) trigger() *string {
	if j.id == "" {
		return nil
	}
	return &j.id
}

// joinPart finds the open part that a view belongs to, or begins one.
func (l *Ledger) joinPart(tx transaction, view *verdict.Record, rules *PartRules) (part joined, refusal *verdict.Refusal, err error) {
	draft := &verdict.Record{
		TriggerID: ulid.Make().String(), LedgerID: l.id, Kind: verdict.KindPart, Part: view.Part, MeasurementID: view.MeasurementID,
		Purpose: view.Purpose, IsSimulated: view.IsSimulated, Evaluation: verdict.Undefined, ResultState: verdict.Failed,
		Context: []byte("{}"), Times: verdict.Times{Triggered: view.Times.Triggered}, Clock: view.Clock,
	}
	key, has := keyOf(rules.Source, draft)
	if !has || view.View == nil {
		return part, nil, fmt.Errorf("a view of %s: expected a part id and a view", rules.Source)
	}
	views, err := verdict.JSON(rules.Views)
	if err != nil {
		return part, nil, err
	}
	last, err := tx.lastAttempt(key)
	if err != nil {
		return part, nil, err
	}
	open, err := tx.openPart(key, view.Purpose)
	if err != nil {
		return part, nil, err
	}
	if open != "" {
		if !l.parts.get(open).passed() {
			part.id = open
			// A configuration that was changed meanwhile counts.
			return part, nil, tx.exec(`UPDATE triggers SET views = ?1 WHERE trigger_id = ?2 AND views <> ?1`, string(views), part.id)
		}
		part.ended = open
		if err := l.endPart(tx, part.ended, ""); err != nil {
			return part, nil, err
		}
	}
	if refusal, err = tx.limitAttempts(key, rules.Attempts, "parts.attempts"); err != nil || refusal != nil {
		return part, refusal, err
	}
	draft.Attempt = last.number + 1
	part.id, part.begun = draft.TriggerID, true
	l.parts.add(part.id, openPart{source: rules.Source, began: rules.Received, deadline: rules.Received.Add(rules.Deadline)})
	return part, nil, firstError(
		func() error { return insertTrigger(tx, rules.Source, draft, nil) },
		func() error {
			return tx.exec(`UPDATE triggers SET deadline = ?, views = ? WHERE trigger_id = ?`,
				draft.Times.Triggered.Add(rules.Deadline).UnixMilli(), string(views), part.id)
		},
	)
}

// openPart is the part of a key and a purpose that waits for views; empty: none. A
// reinspection's views do not complete what production began.
func (tx transaction) openPart(key attemptKey, purpose verdict.Purpose) (triggerID string, err error) {
	err = tx.row(`SELECT trigger_id FROM triggers WHERE `+ofKey+` AND finished = 0 AND purpose = ?8 ORDER BY attempt DESC LIMIT 1`,
		key.arguments(purpose)...).Scan(&triggerID)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return triggerID, err
}

// joinedPart tells of what a view did to parts, once it is known whether that
// was written.
func (l *Ledger) joinedPart(part joined, written bool) {
	if part.begun && !written {
		l.parts.remove(part.id)
	}
	if part.ended != "" && written {
		l.settlePart(part.ended, "")
	}
}

// partOf is a part as it stands in the ledger.
type partOf struct {
	source   string
	finished bool
	draft    []byte
	views    []string
}

func (tx transaction) findPart(id string) (part partOf, err error) {
	var views []byte
	if err := tx.row(`SELECT source, finished, draft, views FROM triggers WHERE trigger_id = ?`, id).Scan(&part.source, &part.finished, &part.draft, &views); err != nil {
		return part, err
	}
	return part, json.Unmarshal(views, &part.views)
}

// viewsOf are the latest results of a part's views, nil for one under way.
func (tx transaction) viewsOf(id string) (results map[string]*verdict.Record, err error) {
	results = map[string]*verdict.Record{}
	err = each(tx.ctx, tx.connection, func(rows *sql.Rows) error {
		var view string
		var encoded []byte
		var record *verdict.Record
		err := rows.Scan(&view, &encoded)
		if err == nil && encoded != nil {
			err = json.Unmarshal(encoded, &record)
		}
		results[view] = record
		return err
	}, `SELECT triggers.view, record FROM triggers LEFT JOIN results USING (trigger_id)
		WHERE part_trigger = ? ORDER BY triggers.rowid`, id)
	return results, err
}

// completePart ends a view's part if this result is the last that it waits for,
// or comes too late for it. From here on nobody may see the part's record until
// the view is settled. It returns the part; empty: the view has none that it
// may still change.
func (l *Ledger) completePart(tx transaction, id string, view *verdict.Record) (open string, err error) {
	if id == "" {
		return "", nil
	}
	part, err := tx.findPart(id)
	if err != nil || part.finished {
		return "", err
	}
	l.unsettled.hold(part.source, id, view.TriggerID)
	if l.parts.get(id).passed() {
		return id, l.endPart(tx, id, view.ResultID)
	}
	results, err := tx.viewsOf(id)
	if err != nil || slices.ContainsFunc(part.views, func(view string) bool { return results[view] == nil }) {
		return id, err
	}
	return id, l.endPart(tx, id, "")
}

// endPart writes a part's record with the results that its views have now, but
// for one that came too late.
func (l *Ledger) endPart(tx transaction, id, tooLate string) error {
	part, err := tx.findPart(id)
	if err != nil || part.finished {
		return err
	}
	results, err := tx.viewsOf(id)
	if err != nil {
		return err
	}
	record := &verdict.Record{}
	if err := json.Unmarshal(part.draft, record); err != nil {
		return fmt.Errorf("draft of a part: %w", err)
	}
	record.ResultID, record.LedgerID = ulid.Make().String(), l.id
	combine(record, part.views, results, tooLate)
	open := l.parts.get(id)
	elapsed := max(0, time.Since(open.began))
	record.Times.Finished = verdict.Time{Time: record.Times.Triggered.Add(elapsed)}
	record.LatencyMS = verdict.Milliseconds(elapsed)
	if record.Evaluation == verdict.OK && open.passed() {
		becomeLate(record)
	}
	if record.PreviousResultID, err = tx.previousResult(part.source, record); err != nil {
		return err
	}
	return insertResult(tx, part.source, record)
}

// combine combines a part's views, without a result that came too late.
func combine(part *verdict.Record, views []string, results map[string]*verdict.Record, tooLate string) {
	all := make([]verdict.ViewResult, len(views))
	for i, view := range views {
		all[i] = verdict.ViewResult{View: view, Record: results[view]}
		if record := results[view]; record != nil && record.ResultID == tooLate {
			all[i].Record = nil
		}
	}
	verdict.Combine(part, all)
}

// amendPart combines a part anew after one of its views was amended, or turned
// out to have come too late for the part. Nobody has seen the part's record.
func (l *Ledger) amendPart(tx transaction, id string, view *verdict.Record, tooLate bool) error {
	was, err := findResult(tx, id)
	if err != nil || was == nil || !slices.Contains(was.SourceResultIDs, view.ResultID) {
		return err
	}
	part, err := tx.findPart(id)
	if err != nil {
		return err
	}
	results := map[string]*verdict.Record{}
	for _, resultID := range was.SourceResultIDs {
		var encoded []byte
		record := &verdict.Record{}
		if err := tx.row(`SELECT record FROM results WHERE result_id = ?`, resultID).Scan(&encoded); err != nil {
			return err
		}
		if err := json.Unmarshal(encoded, record); err != nil {
			return err
		}
		results[*record.View] = record
	}
	dropped := ""
	if tooLate {
		dropped = view.ResultID
	}
	now := *was
	combine(&now, part.views, results, dropped)
	return amend(tx, part.source, was, &now)
}

// settlePart ends a hold on a part's record, and tells of it after the last.
func (l *Ledger) settlePart(id, by string) {
	part := l.parts.get(id)
	l.unsettled.release(id, by)
	if part.source == "" {
		return // it was told before
	}
	// Others of the source may have waited for this hold.
	defer l.tell(part.source)
	content, err := l.Record(id)
	if err != nil || content == nil {
		return // EndParts looks again
	}
	record := &verdict.Record{}
	if json.Unmarshal(content, record) != nil {
		return // the ledger wrote it, so this does not happen
	}
	if tell := l.parts.remove(id); tell != nil {
		tell(part.source, record)
	}
}

// EndParts ends the parts whose deadline has passed; a view without a result
// counts as Undefined. It returns when the next one is due; zero: no part is
// open.
func (l *Ledger) EndParts() (next time.Time, err error) {
	l.parts.mutex.Lock()
	var due []string
	for id, part := range l.parts.parts {
		switch {
		case part.passed():
			due = append(due, id)
		case next.IsZero() || part.deadline.Before(next):
			next = part.deadline
		}
	}
	l.parts.mutex.Unlock()
	for _, id := range due {
		source := l.parts.get(id).source
		if source == "" { // a view ended it meanwhile
			continue
		}
		l.unsettled.hold(source, id, id)
		err = errors.Join(err, l.commit(func(tx transaction) error { return l.endPart(tx, id, "") }))
		l.settlePart(id, id)
		l.tell(source) // a view that ended the part meanwhile was told of while this held it
	}
	return next, err
}
