package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gladd/daemon/internal/verdict"
)

func text(words string) *string { return &words }

// ofPart is a trigger at a part.
func ofPart(id string, change ...func(*verdict.Record)) *verdict.Record {
	record := draft("")
	record.Part.ID, record.Part.IDSource = &id, text("trigger")
	for _, each := range change {
		each(record)
	}
	return record
}

func measurement(id string) func(*verdict.Record) {
	return func(r *verdict.Record) { r.MeasurementID = &id }
}

func viewed(view string) func(*verdict.Record) { return func(r *verdict.Record) { r.View = &view } }

func purpose(purpose verdict.Purpose) func(*verdict.Record) {
	return func(r *verdict.Record) { r.Purpose = purpose }
}

// beginWith begins a trigger that must be accepted.
func beginWith(t testing.TB, l *Ledger, source string, record *verdict.Record, rules Rules) *verdict.Record {
	t.Helper()
	reply, repeated, err := l.BeginView(source, record, rules)
	if err != nil || repeated || !reply.Accepted || *reply.TriggerID != record.TriggerID {
		t.Fatalf("begin: %+v, %t, %v", reply, repeated, err)
	}
	return record
}

// ended is a trigger's record as it stands in the ledger.
func ended(t testing.TB, l *Ledger, triggerID string) *verdict.Record {
	t.Helper()
	content, err := l.Record(triggerID)
	if err != nil {
		t.Fatal(err)
	}
	if content == nil {
		return nil
	}
	record := &verdict.Record{}
	if err := json.Unmarshal(content, record); err != nil {
		t.Fatal(err)
	}
	return record
}

// Attempts are those at the same part, measurement, view, station and purpose;
// null is a value of its own.
func TestAttempts(t *testing.T) {
	l := newLedger(t)
	var results []string
	for i, step := range []struct {
		source   string
		record   *verdict.Record
		attempt  int
		previous int // index of the result; -1: none
	}{
		{source, ofPart("P-1"), 1, -1},
		{source, ofPart("P-1"), 2, 0},
		{source, ofPart("P-1"), 3, 1},
		{source, ofPart("P-2"), 1, -1},
		{source, ofPart("P-1", measurement("m")), 1, -1},
		{source, ofPart("P-1", measurement("m")), 2, 4},
		{source, ofPart("P-1", measurement("n")), 1, -1},
		{source, ofPart("P-1", viewed("top")), 1, -1},
		{source, ofPart("P-1", viewed("top"), measurement("m")), 1, -1},
		{"/p/l/st-02", ofPart("P-1"), 1, -1},
		{source, ofPart("P-1", purpose(verdict.Reinspection)), 4, 2}, // with production
		{source, ofPart("P-1", purpose(verdict.Challenge)), 1, -1},
		{source, ofPart("P-1", purpose(verdict.MSA)), 1, -1},
		{source, ofPart("P-1", purpose(verdict.Setup)), 1, -1},
		{source, ofPart("P-1", purpose(verdict.Challenge)), 2, 11},
		{source, ofPart("P-1"), 5, 10},
		{source, draft(""), 1, -1},
		{source, draft(""), 1, -1},
	} {
		record := beginWith(t, l, step.source, step.record, Rules{})
		record.Evaluation, record.ResultState = verdict.NotOK, verdict.Completed
		if err := l.Finish(step.source, record, time.Time{}, nil); err != nil {
			t.Fatal(err)
		}
		results = append(results, record.ResultID)
		want := "none"
		if step.previous >= 0 {
			want = results[step.previous]
		}
		found := ended(t, l, record.TriggerID)
		previous := "none"
		if found.PreviousResultID != nil {
			previous = *found.PreviousResultID
		}
		if found.Attempt != step.attempt || previous != want {
			t.Errorf("step %d: want attempt %d after %s, found %d after %s", i, step.attempt, want, found.Attempt, previous)
		}
	}
}

// Triggers that wait in the queue count, a repeated command does not, and a
// daemon that was killed goes on where it was.
func TestAttemptsInTheQueueAndAfterAKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := openTest(t, path)
	first := beginWith(t, l, source, ofPart("P-1", func(r *verdict.Record) { r.CommandID = text("c-1") }), Rules{})
	again := ofPart("P-1", func(r *verdict.Record) { r.CommandID = text("c-1") })
	if reply, repeated, err := l.BeginView(source, again, Rules{}); err != nil || !repeated || *reply.TriggerID != first.TriggerID {
		t.Errorf("found %+v, %t, %v", reply, repeated, err)
	}
	second := beginWith(t, l, source, ofPart("P-1"), Rules{})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openTest(t, path)
	if recovered, err := l.Recover(time.Now(), NewImages(l, t.TempDir(), 1<<30)); err != nil || recovered != 2 {
		t.Fatalf("found %d, %v", recovered, err)
	}
	third := beginWith(t, l, source, ofPart("P-1"), Rules{})
	finish(t, l, third, verdict.OK)
	one, two, three := ended(t, l, first.TriggerID), ended(t, l, second.TriggerID), ended(t, l, third.TriggerID)
	if one.Attempt != 1 || two.Attempt != 2 || three.Attempt != 3 {
		t.Errorf("want attempts 1, 2, 3, found %d, %d, %d", one.Attempt, two.Attempt, three.Attempt)
	}
	if one.PreviousResultID != nil || *two.PreviousResultID != one.ResultID || *three.PreviousResultID != two.ResultID {
		t.Errorf("found %v, %v, %v", one.PreviousResultID, *two.PreviousResultID, *three.PreviousResultID)
	}
}

// What is removed by age does not begin the attempts anew while others are
// there.
func TestAttemptsOutliveTheOldest(t *testing.T) {
	l := newLedger(t)
	old := ofPart("P-1", func(r *verdict.Record) { r.Times.Triggered.Time = time.Now().Add(-2 * time.Hour) })
	beginWith(t, l, source, old, Rules{})
	old.Evaluation, old.ResultState, old.Times.Finished.Time = verdict.NotOK, verdict.Completed, time.Now().Add(-2*time.Hour)
	if err := l.Finish(source, old, time.Time{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := l.Delivered(&Entry{Source: source, Sequence: old.Sequence}); err != nil {
		t.Fatal(err)
	}
	second := beginWith(t, l, source, ofPart("P-1"), Rules{})
	if err := NewImages(l, t.TempDir(), 1<<30).PruneRecords(t.Context(), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if ended(t, l, old.TriggerID) != nil {
		t.Fatal("the old one should be gone")
	}
	finish(t, l, second, verdict.OK)
	if found := ended(t, l, second.TriggerID); found.Attempt != 2 || found.PreviousResultID != nil {
		t.Errorf("found attempt %d after %v", found.Attempt, found.PreviousResultID)
	}
	if third := beginWith(t, l, source, ofPart("P-1"), Rules{}); third.Attempt != 3 {
		t.Errorf("want attempt 3, found %d", third.Attempt)
	}
}

func TestAttemptsAreLimited(t *testing.T) {
	l := newLedger(t)
	rules := Rules{Attempts: 2}
	refused := func(record *verdict.Record, want string) {
		t.Helper()
		record.CommandID = text(record.TriggerID)
		for _, repeat := range []bool{false, true} {
			reply, repeated, err := l.BeginView(source, record, rules)
			if err != nil || repeated != repeat || reply.Accepted || reply.TriggerID != nil || reply.Reason.Code != verdict.RefusedAttempts ||
				!strings.Contains(reply.Reason.Detail, want) || *reply.CommandID != record.TriggerID {
				t.Fatalf("want it refused with %s, found %+v, %t, %v", want, reply, repeated, err)
			}
		}
	}
	fail := func(record *verdict.Record) {
		t.Helper()
		record.Evaluation, record.ResultState = verdict.Undefined, verdict.Failed
		record.Reason = &verdict.Reason{Code: verdict.ReasonCamera}
		if err := l.Finish(source, record, time.Time{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 { // a dead camera uses nothing up
		fail(beginWith(t, l, source, ofPart("P-1"), rules))
	}
	finish(t, l, beginWith(t, l, source, ofPart("P-1"), rules), verdict.NotOK)
	underWay := beginWith(t, l, source, ofPart("P-1"), rules)
	if underWay.Attempt != 5 {
		t.Errorf("all are attempts: want 5, found %d", underWay.Attempt)
	}
	refused(ofPart("P-1"), `part "P-1": 2 attempts are done or under way, and stations.attempts allows 2; take the part out`)
	fail(underWay)
	finish(t, l, beginWith(t, l, source, ofPart("P-1"), rules), verdict.OK)
	refused(ofPart("P-1"), "")
	refused(ofPart("P-1", purpose(verdict.Reinspection)), "")
	for _, free := range []*verdict.Record{
		ofPart("P-1", purpose(verdict.Challenge)), ofPart("P-1", purpose(verdict.Challenge)), ofPart("P-1", purpose(verdict.Challenge)),
		ofPart("P-1", measurement("m")), ofPart("P-1", viewed("top")), ofPart("P-2"), draft(""), draft(""), draft(""),
	} {
		beginWith(t, l, source, free, rules)
	}
	finish(t, l, beginWith(t, l, source, ofPart("P-1", measurement("m"), viewed("top")), Rules{Attempts: 1}), verdict.OK)
	rules.Attempts = 1
	refused(ofPart("P-1", measurement("m"), viewed("top")), `part "P-1", measurement "m", view "top": 1 attempts`)
	counters, err := l.Counters(source)
	if err != nil || counters.Refusals[verdict.RefusedAttempts] != 4 {
		t.Errorf("every refusal counts once: found %+v, %v", counters.Refusals, err)
	}
}

// Of two triggers at once only one is the last.
func TestAttemptsAtOnce(t *testing.T) {
	l := newLedger(t)
	var group sync.WaitGroup
	var mutex sync.Mutex
	attempts := map[int]int{}
	for range 40 {
		group.Go(func() {
			record := ofPart("P-1")
			reply, _, err := l.BeginView(source, record, Rules{Attempts: 7})
			if err != nil {
				t.Error(err)
			}
			mutex.Lock()
			defer mutex.Unlock()
			if reply.Accepted {
				attempts[record.Attempt]++
			}
		})
	}
	group.Wait()
	if fmt.Sprint(attempts) != "map[1:1 2:1 3:1 4:1 5:1 6:1 7:1]" {
		t.Errorf("want 1 to 7 once each, found %v", attempts)
	}
	counters, err := l.Counters(source)
	if err != nil || counters.Accepted != 7 || counters.Refusals[verdict.RefusedAttempts] != 33 {
		t.Errorf("found %+v, %v", counters, err)
	}
}

// Parts that try out the inspection stay out of the counters of production.
func TestPurposesAreCountedApart(t *testing.T) {
	l := newLedger(t)
	for _, each := range []verdict.Purpose{verdict.Production, verdict.Reinspection, verdict.Challenge, verdict.Challenge, verdict.MSA} {
		record := beginWith(t, l, source, ofPart("P", purpose(each)), Rules{})
		record.Evaluation, record.ResultState = verdict.NotOK, verdict.Completed
		record.Reason = &verdict.Reason{Code: verdict.ReasonAnomaly}
		if err := l.Finish(source, record, time.Time{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	// One that turns out late is counted as what it became.
	late := beginWith(t, l, source, ofPart("P", purpose(verdict.Setup)), Rules{})
	late.Evaluation = verdict.OK
	if err := l.Finish(source, late, time.Now().Add(-time.Second), nil); err != nil {
		t.Fatal(err)
	}
	counters, err := l.Counters(source)
	if err != nil {
		t.Fatal(err)
	}
	content, err := verdict.JSON(counters)
	want := `{"accepted":2,"evaluations":{"NotDecidable":0,"NotOK":2,"OK":0,"Undefined":0},"reasons":{"anomaly":2},"refusals":{},"purposes":{` +
		`"challenge":{"accepted":2,"evaluations":{"NotDecidable":0,"NotOK":2,"OK":0,"Undefined":0}},` +
		`"msa":{"accepted":1,"evaluations":{"NotDecidable":0,"NotOK":1,"OK":0,"Undefined":0}},` +
		`"setup":{"accepted":1,"evaluations":{"NotDecidable":0,"NotOK":0,"OK":0,"Undefined":1}}}}`
	if err != nil || string(content) != want {
		t.Errorf("want  %s\nfound %s, %v", want, content, err)
	}
}

func TestDigest(t *testing.T) {
	l := newLedger(t)
	finish(t, l, begin(t, l, ""), verdict.OK)
	amended := begin(t, l, "")
	finish(t, l, amended, verdict.OK)
	was := *amended
	becomeLate(amended)
	if err := l.commit(func(tx transaction) error { return amend(tx, source, &was, amended) }); err != nil {
		t.Fatal(err)
	}
	rows, err := l.reads.Query(`SELECT record, digest FROM results ORDER BY sequence`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var record, digest string
		if err := rows.Scan(&record, &digest); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(record))
		if digest != hex.EncodeToString(sum[:]) {
			t.Errorf("found %s of %s", digest, record)
		}
		found = append(found, digest)
	}
	if len(found) != 2 || found[0] == found[1] || !strings.Contains(fmt.Sprint(amended.Reason), "recorded after the deadline") {
		t.Errorf("found %v", found)
	}
}
