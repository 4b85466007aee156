package ledger

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gladd/daemon/internal/verdict"
	"gladd/daemon/internal/verdict/verdicttest"
)

const (
	partSource = "/p/l/housing"
	front      = "front"
	back       = "back"
)

// stationOf is the source of a view.
func stationOf(view string) string { return "/p/l/st-" + view }

// housing is a part of two views.
func housing() Rules {
	return Rules{Part: &PartRules{Source: partSource, Views: []string{back, front}, Deadline: time.Hour, Received: time.Now()}}
}

// beginView begins a view of a part that must be accepted.
func beginView(t testing.TB, l *Ledger, id, view string, change ...func(*verdict.Record)) *verdict.Record {
	t.Helper()
	return beginWith(t, l, stationOf(view), ofPart(id, append(change, viewed(view), whole)...), housing())
}

// whole fills in what a view's record must have by its schema.
func whole(r *verdict.Record) {
	r.Recipe, r.Bundle, r.Method, r.Camera = verdict.Recipe{Name: "r"}, verdict.Bundle{Name: "b"}, verdict.Method{Mode: "exact"}, verdict.Camera{Name: "c"}
}

// finishView ends a view with an evaluation.
func finishView(t testing.TB, l *Ledger, view *verdict.Record, evaluation verdict.Evaluation) {
	t.Helper()
	if err := l.Finish(stationOf(*view.View), evaluated(view, evaluation), time.Time{}, nil); err != nil {
		t.Fatal(err)
	}
}

func evaluated(view *verdict.Record, evaluation verdict.Evaluation) *verdict.Record {
	score := 0.5
	view.Evaluation, view.AnomalyScore, view.ImageThreshold = evaluation, &score, &score
	switch evaluation {
	case verdict.NotOK:
		view.Reason = &verdict.Reason{Code: verdict.ReasonAnomaly, Detail: "a scratch"}
	case verdict.NotDecidable:
		view.Reason = &verdict.Reason{Code: verdict.ReasonGuardBand, Detail: "close"}
	case verdict.Undefined:
		view.Reason = &verdict.Reason{Code: verdict.ReasonCamera, Detail: "unplugged"}
	}
	view.ResultState = verdict.StateOf(view.Evaluation, view.Reason)
	view.Times.Finished = verdict.Time{Time: time.Now()}
	return view
}

// parts are the records of parts so far, in the order of their sequence, each
// whole by its schema and in the outbox.
func parts(t testing.TB, l *Ledger) (records []*verdict.Record) {
	t.Helper()
	rows, err := l.reads.Query(`SELECT record, results.sequence, outbox.sequence FROM results LEFT JOIN outbox USING (result_id)
		WHERE results.source = ? ORDER BY results.sequence`, partSource)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var content []byte
		var sequence int64
		var waiting *int64
		if err := rows.Scan(&content, &sequence, &waiting); err != nil {
			t.Fatal(err)
		}
		if err := verdicttest.Validate(content); err != nil {
			t.Errorf("%v: %s", err, content)
		}
		record := &verdict.Record{}
		if err := json.Unmarshal(content, record); err != nil {
			t.Fatal(err)
		}
		records = append(records, record)
		if sequence != int64(len(records)) || record.Sequence != sequence || waiting == nil || *waiting != sequence {
			t.Errorf("want sequence %d, found %d, in the outbox %v", len(records), sequence, waiting)
		}
	}
	return records
}

// words are what matters of a part's record.
func words(record *verdict.Record) string {
	line := fmt.Sprint(record.Evaluation, " ", record.ResultState, " ", len(record.SourceResultIDs), "/", *record.ViewsExpected)
	if record.IsPartial {
		line += " partial"
	}
	if record.Reason != nil {
		line += fmt.Sprint(" ", record.Reason.Code, " ", record.Reason.Detail)
	}
	return line
}

func onePart(t testing.TB, l *Ledger, want string) *verdict.Record {
	t.Helper()
	all := parts(t, l)
	if len(all) != 1 || words(all[0]) != want {
		var found []string
		for _, each := range all {
			found = append(found, words(each))
		}
		t.Fatalf("want one part, %s, found %q", want, found)
	}
	return all[0]
}

// openIDs lists the ids of the parts that are open.
func openIDs(l *Ledger) (ids []string) {
	l.parts.mutex.Lock()
	defer l.parts.mutex.Unlock()
	for id := range l.parts.parts {
		ids = append(ids, id)
	}
	return ids
}

// expire has the deadline of all open parts pass.
func expire(l *Ledger) {
	for _, id := range openIDs(l) {
		part := l.parts.get(id)
		part.deadline = time.Now().Add(-time.Nanosecond)
		l.parts.add(id, part)
	}
}

func TestPartOfTwoViews(t *testing.T) {
	l := newLedger(t)
	var told []*verdict.Record
	l.WatchParts(func(source string, record *verdict.Record) {
		if source != partSource {
			t.Errorf("found %s", source)
		}
		told = append(told, record)
	})
	change := func(r *verdict.Record) {
		r.MeasurementID, r.Part.OrderID, r.CommandID, r.Purpose = text("m-1"), text("o-1"), text("c-1"), verdict.Reinspection
	}
	first := beginView(t, l, "P-1", front, change)
	second := beginView(t, l, "P-1", back, change, func(r *verdict.Record) { r.IsSimulated = true })
	finishView(t, l, second, verdict.OK)
	if found := parts(t, l); len(found) != 0 || len(told) != 0 {
		t.Fatalf("one view is under way: found %v", found)
	}
	finishView(t, l, first, verdict.OK)
	part := onePart(t, l, "OK completed 2/2")
	if !slices.Equal(part.SourceResultIDs, []string{second.ResultID, first.ResultID}) {
		t.Errorf("in the order of the views' names: found %v", part.SourceResultIDs)
	}
	if part.Kind != "part" || part.CommandID != nil || part.View != nil || *part.MeasurementID != "m-1" || *part.Part.OrderID != "o-1" || *part.Part.ID != "P-1" ||
		part.Purpose != verdict.Reinspection || !part.IsSimulated || part.Attempt != 1 || part.PreviousResultID != nil || part.LedgerID != l.ID() ||
		part.TriggerID == first.TriggerID || part.TriggerID == second.TriggerID {
		t.Errorf("found %+v", part)
	}
	if part.Times.Triggered.String() != first.Times.Triggered.String() || part.Times.Finished.Before(part.Times.Triggered.Time) ||
		part.LatencyMS < 0 || part.LatencyMS > 60_000 {
		t.Errorf("found %+v, %v ms", part.Times, part.LatencyMS)
	}
	for _, view := range []*verdict.Record{first, second} {
		found := ended(t, l, view.TriggerID)
		if *found.ViewsExpected != 2 || found.IsPartial || found.Kind != "view" || found.SourceResultIDs != nil {
			t.Errorf("found %+v", found)
		}
	}
	if len(told) != 1 || told[0].ResultID != part.ResultID {
		t.Errorf("told of %v", told)
	}
	if entry, err := l.Next(partSource, 0); err != nil || entry.ResultID != part.ResultID {
		t.Errorf("found %+v, %v", entry, err)
	}
	for _, source := range []string{partSource, stationOf(front), stationOf(back)} {
		counters, err := l.Counters(source)
		if err != nil || counters.Accepted != 1 || counters.Evaluations[verdict.OK] != 1 {
			t.Errorf("%s: found %+v, %v", source, counters, err)
		}
	}
	if len(openIDs(l)) != 0 {
		t.Error("nothing is left open")
	}
}

// Parts of other ids, measurements and purposes are others.
func TestPartsAreToldApart(t *testing.T) {
	l := newLedger(t)
	finishView(t, l, beginView(t, l, "P-1", front), verdict.OK)
	for _, view := range []*verdict.Record{
		beginView(t, l, "P-2", back), beginView(t, l, "P-1", back, measurement("m")), beginView(t, l, "P-1", back, purpose(verdict.Challenge)),
		beginView(t, l, "P-1", back, purpose(verdict.Reinspection)),
	} {
		finishView(t, l, view, verdict.NotOK)
	}
	if found := parts(t, l); len(found) != 0 || len(openIDs(l)) != 5 {
		t.Fatalf("found %v, %d open", found, len(openIDs(l)))
	}
	finishView(t, l, beginView(t, l, "P-1", back), verdict.OK)
	onePart(t, l, "OK completed 2/2")
	finishView(t, l, beginView(t, l, "P-1", front, purpose(verdict.Challenge)), verdict.OK)
	counters, err := l.Counters(partSource)
	if err != nil || counters.Accepted != 4 || counters.Evaluations[verdict.OK] != 1 || counters.Evaluations[verdict.NotOK] != 0 || len(counters.Reasons) != 0 ||
		counters.Purposes[verdict.Challenge].Accepted != 1 || counters.Purposes[verdict.Challenge].Evaluations[verdict.NotOK] != 1 {
		t.Errorf("found %+v, %v", counters, err)
	}
}

// The latest attempt of each view counts, and the part waits for it.
func TestViewIsReplaced(t *testing.T) {
	l := newLedger(t)
	finishView(t, l, beginView(t, l, "P-1", front), verdict.NotOK)
	second := beginView(t, l, "P-1", front)
	finishView(t, l, beginView(t, l, "P-1", back), verdict.OK)
	if found := parts(t, l); len(found) != 0 {
		t.Fatalf("one view is under way again: found %v", found)
	}
	finishView(t, l, second, verdict.OK)
	part := onePart(t, l, "OK completed 2/2")
	if part.SourceResultIDs[1] != second.ResultID || second.Attempt != 2 || *ended(t, l, second.TriggerID).PreviousResultID == second.ResultID {
		t.Errorf("found %v, attempt %d", part.SourceResultIDs, second.Attempt)
	}
}

// A view that comes after the part is finished opens its next attempt.
func TestPartsHaveAttempts(t *testing.T) {
	l := newLedger(t)
	limited := func(view string, attempts int) (*verdict.Record, verdict.Reply) {
		rules := housing()
		rules.Part.Attempts = attempts
		record := ofPart("P-1", viewed(view), whole)
		reply, _, err := l.BeginView(stationOf(view), record, rules)
		if err != nil {
			t.Fatal(err)
		}
		return record, reply
	}
	inspect := func(view string, evaluation verdict.Evaluation) {
		t.Helper()
		record, reply := limited(view, 2)
		if !reply.Accepted {
			t.Fatalf("refused: %+v", reply.Reason)
		}
		finishView(t, l, record, evaluation)
	}
	inspect(front, verdict.NotOK)
	inspect(back, verdict.OK)
	inspect(front, verdict.OK)
	inspect(back, verdict.Undefined) // a dead camera uses no attempt up
	inspect(front, verdict.OK)
	inspect(back, verdict.OK)
	var found []string
	previous := ""
	for _, part := range parts(t, l) {
		found = append(found, fmt.Sprint(part.Attempt, part.Evaluation))
		if before := part.PreviousResultID; (before == nil) != (previous == "") || before != nil && *before != previous {
			t.Errorf("want %q before attempt %d, found %v", previous, part.Attempt, before)
		}
		previous = part.ResultID
	}
	if fmt.Sprint(found) != "[1NotOK 2Undefined 3OK]" {
		t.Errorf("found %v", found)
	}
	_, reply := limited(back, 2)
	if reply.Accepted || reply.Reason.Code != verdict.RefusedAttempts || !strings.Contains(reply.Reason.Detail, `part "P-1": 2 attempts are done or under way, and parts.attempts allows 2`) {
		t.Errorf("found %+v", reply)
	}
	if _, reply := limited(back, 3); !reply.Accepted {
		t.Errorf("found %+v", reply.Reason)
	}
	if len(openIDs(l)) != 1 {
		t.Errorf("found %d open", len(openIDs(l)))
	}
}

// A view that is missing by the deadline is never OK. What comes later belongs
// to the next attempt.
func TestPartDeadline(t *testing.T) {
	l := newLedger(t)
	late := beginView(t, l, "P-1", back)
	finishView(t, l, beginView(t, l, "P-1", front), verdict.OK)
	if next, err := l.EndParts(); err != nil || time.Until(next) < 50*time.Minute {
		t.Fatalf("found %v, %v", next, err)
	}
	expire(l)
	for range 2 {
		if next, err := l.EndParts(); err != nil || !next.IsZero() {
			t.Fatalf("found %v, %v", next, err)
		}
	}
	onePart(t, l, "Undefined failed 1/2 partial deadline back: no result by the part's deadline")
	finishView(t, l, late, verdict.OK)
	if found := ended(t, l, late.TriggerID); found.Evaluation != verdict.OK {
		t.Errorf("a late view's own verdict stays its own: found %+v", found.Reason)
	}
	onePart(t, l, "Undefined failed 1/2 partial deadline back: no result by the part's deadline")
	again := beginView(t, l, "P-1", back)
	finishView(t, l, again, verdict.OK)
	if found := parts(t, l); len(found) != 1 {
		t.Errorf("the next attempt needs both views anew: found %v", found)
	}
}

// Where nobody has ended a part in time, who comes next does.
func TestPartPastItsDeadline(t *testing.T) {
	for name, test := range map[string]struct {
		do   func(t *testing.T, l *Ledger, other *verdict.Record)
		want string
		open int
	}{
		"its last view ends": {func(t *testing.T, l *Ledger, other *verdict.Record) { finishView(t, l, other, verdict.OK) },
			"NotOK completed 1/2 partial anomaly front: a scratch; no result by the part's deadline: back", 0},
		"a view comes": {func(t *testing.T, l *Ledger, _ *verdict.Record) { beginView(t, l, "P-1", front) },
			"NotOK completed 1/2 partial anomaly front: a scratch; no result by the part's deadline: back", 1},
		"a view is refused": {func(t *testing.T, l *Ledger, _ *verdict.Record) {
			rules := housing()
			rules.Part.Attempts = 1
			if reply, _, err := l.BeginView(stationOf(front), ofPart("P-1", viewed(front)), rules); err != nil || reply.Accepted {
				t.Errorf("found %+v, %v", reply, err)
			}
		}, "NotOK completed 1/2 partial anomaly front: a scratch; no result by the part's deadline: back", 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t)
			told := 0
			l.WatchParts(func(string, *verdict.Record) { told++ })
			finishView(t, l, beginView(t, l, "P-1", front), verdict.NotOK)
			other := beginView(t, l, "P-1", back)
			expire(l)
			test.do(t, l, other)
			onePart(t, l, test.want)
			if _, err := l.EndParts(); err != nil {
				t.Fatal(err)
			}
			onePart(t, l, test.want)
			if told != 1 || len(openIDs(l)) != test.open {
				t.Errorf("told %d times, %d open", told, len(openIDs(l)))
			}
		})
	}
}

// A view that ends past the part's deadline ends the part, though others are
// missing too.
func TestViewPastThePartsDeadline(t *testing.T) {
	l := newLedger(t)
	rules := housing()
	rules.Part.Views = []string{back, front, "top"}
	view := beginWith(t, l, stationOf(back), ofPart("P-1", viewed(back), whole), rules)
	expire(l)
	finishView(t, l, view, verdict.NotOK)
	onePart(t, l, "Undefined failed 0/3 partial deadline back, front, top: no result by the part's deadline")
}

// A daemon that was killed goes on with its parts: they wait for their views
// and their deadline, and do not end as views do.
func TestPartsAfterAKill(t *testing.T) {
	for name, test := range map[string]struct {
		before func(t *testing.T, l *Ledger)
		after  func(t *testing.T, l *Ledger)
		want   string
	}{
		"between two views": {
			func(t *testing.T, l *Ledger) { finishView(t, l, beginView(t, l, "P-1", front), verdict.OK) },
			func(t *testing.T, l *Ledger) { finishView(t, l, beginView(t, l, "P-1", back), verdict.OK) },
			"OK completed 2/2"},
		"in the last view": {
			func(t *testing.T, l *Ledger) {
				finishView(t, l, beginView(t, l, "P-1", front), verdict.OK)
				beginView(t, l, "P-1", back)
			}, nil,
			"Undefined aborted 2/2 restarted back: gladd ended before the inspection did"},
		"in both views": {
			func(t *testing.T, l *Ledger) { beginView(t, l, "P-1", front); beginView(t, l, "P-1", back) }, nil,
			"Undefined aborted 2/2 restarted back: gladd ended before the inspection did"},
		"in a view that is given again": {
			func(t *testing.T, l *Ledger) { beginView(t, l, "P-1", front) },
			func(t *testing.T, l *Ledger) {
				finishView(t, l, beginView(t, l, "P-1", front), verdict.OK)
				finishView(t, l, beginView(t, l, "P-1", back), verdict.OK)
			}, "OK completed 2/2"},
		"until after the deadline": {
			func(t *testing.T, l *Ledger) {
				rules := housing()
				rules.Part.Deadline = time.Minute // which has passed by the wall clock only
				record := ofPart("P-1", viewed(front), whole)
				record.Times.Triggered.Time = time.Now().Add(-time.Hour)
				finishView(t, l, beginWith(t, l, stationOf(front), record, rules), verdict.OK)
			},
			func(t *testing.T, l *Ledger) {
				if _, err := l.EndParts(); err != nil {
					t.Error(err)
				}
			},
			"Undefined failed 1/2 partial deadline back: no result by the part's deadline"},
		"and the views were changed": {
			func(t *testing.T, l *Ledger) { finishView(t, l, beginView(t, l, "P-1", front), verdict.OK) },
			func(t *testing.T, l *Ledger) {
				rules := housing()
				rules.Part.Views = []string{"front", "top"}
				finishView(t, l, beginWith(t, l, stationOf("top"), ofPart("P-1", viewed("top"), whole), rules), verdict.OK)
			}, "OK completed 2/2"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger.db")
			l := openTest(t, path)
			test.before(t, l)
			if found := parts(t, l); len(found) != 0 {
				t.Fatalf("found %v", found)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = openTest(t, path)
			if len(openIDs(l)) != 1 {
				t.Fatalf("want it open, found %d", len(openIDs(l)))
			}
			if _, err := l.Recover(time.Now(), NewImages(l, t.TempDir(), 1<<30)); err != nil {
				t.Fatal(err)
			}
			if test.after != nil {
				test.after(t, l)
			}
			part := onePart(t, l, test.want)
			if part.LatencyMS < 0 || part.Times.Finished.Before(part.Times.Triggered.Time) {
				t.Errorf("found %+v, %v ms", part.Times, part.LatencyMS)
			}
			if len(openIDs(l)) != 0 {
				t.Errorf("found %d open", len(openIDs(l)))
			}
		})
	}
}

// Two stations end the views of many parts at the same time; each part has one
// record, and all have the sequence.
func TestPartsAtOnce(t *testing.T) {
	l := newLedger(t)
	var mutex sync.Mutex
	told := map[string]int{}
	l.WatchParts(func(_ string, record *verdict.Record) {
		mutex.Lock()
		defer mutex.Unlock()
		told[*record.Part.ID]++
	})
	const many = 150
	var group sync.WaitGroup
	for _, view := range []string{front, back} {
		group.Go(func() {
			for i := range many {
				evaluation := verdict.OK
				if view == back && i%3 == 0 {
					evaluation = verdict.NotOK
				}
				finishView(t, l, beginView(t, l, fmt.Sprint("P-", i), view), evaluation)
			}
		})
	}
	ending := make(chan struct{})
	var ender sync.WaitGroup
	ender.Go(func() { // which has nothing to do, and must not get in the way
		for {
			select {
			case <-ending:
				return
			default:
			}
			if _, err := l.EndParts(); err != nil {
				t.Error(err)
			}
		}
	})
	group.Wait()
	close(ending)
	ender.Wait()
	found := map[string]verdict.Evaluation{}
	for _, part := range parts(t, l) {
		found[*part.Part.ID] = part.Evaluation
	}
	for i := range many {
		id, want := fmt.Sprint("P-", i), verdict.OK
		if i%3 == 0 {
			want = verdict.NotOK
		}
		if found[id] != want || told[id] != 1 {
			t.Errorf("%s: want %s, found %s, told %d times", id, want, found[id], told[id])
		}
	}
	if all := parts(t, l); len(all) != many {
		t.Errorf("want %d records, found %d", many, len(all))
	}
}

// A part that is open is a source, whose verdict is to be acknowledged, also where
// it is configured no more.
func TestOpenPartIsASource(t *testing.T) {
	l := newLedger(t)
	finishView(t, l, beginView(t, l, "P-1", front), verdict.OK)
	if sources, err := l.Sources(); err != nil || !slices.Contains(sources, partSource) {
		t.Errorf("found %q, %v", sources, err)
	}
}
