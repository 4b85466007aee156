package ledger

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gladd/daemon/internal/verdict"
)

// fill finishes a number of parts and returns their result ids in order.
func fill(t testing.TB, l *Ledger, count int) (ids []string) {
	t.Helper()
	for range count {
		record := begin(t, l, "")
		finish(t, l, record, verdict.OK)
		ids = append(ids, record.ResultID)
	}
	return ids
}

// next are the sequences that Next gives, from the oldest on.
func next(t testing.TB, l *Ledger) string {
	t.Helper()
	var sequences []string
	for after := int64(0); ; {
		entry, err := l.Next(source, after)
		if err != nil {
			t.Fatal(err)
		}
		if entry == nil {
			return strings.Join(sequences, " ")
		}
		after = entry.Sequence
		sequences = append(sequences, fmt.Sprintf("%d:%d", entry.Sequence, entry.Tries))
	}
}

func sent(t testing.TB, l *Ledger, due time.Time, park bool, sequences ...int64) {
	t.Helper()
	var sendings []Sending
	for _, sequence := range sequences {
		sendings = append(sendings, Sending{Entry: &Entry{Source: source, Sequence: sequence}, At: time.Now(), Due: due, Park: park})
	}
	if err := l.Sent(sendings...); err != nil {
		t.Fatal(err)
	}
}

func checkWaiting(t testing.TB, l *Ledger, count, unacknowledged, rejected int64) {
	t.Helper()
	for _, of := range []string{source, ""} {
		waiting, err := l.Waiting(of)
		if err != nil || waiting.Count != count || waiting.Unacknowledged != unacknowledged || waiting.Rejected != rejected || waiting.Oldest.IsZero() != (count == 0) {
			t.Errorf("of %q: want %d, %d unacknowledged, %d rejected, found %+v, %v", of, count, unacknowledged, rejected, waiting, err)
		}
	}
}

func TestAcknowledge(t *testing.T) {
	l := newLedger(t)
	ids := fill(t, l, 5)
	sent(t, l, time.Now().Add(time.Hour), false, 1, 2, 3)
	ack := func(index int, accepted bool) Acknowledgement {
		return Acknowledgement{Source: source, ResultID: ids[index], Accepted: accepted, Reason: "no such part"}
	}
	for _, test := range []struct { // one after the other
		name            string
		acks            []Acknowledgement
		effects         string
		next            string
		count, rejected int64
	}{
		{"unknown", []Acknowledgement{{Source: source, ResultID: "01UNKNOWN", Accepted: true}}, "[0]", "1:1 2:1 3:1 4:0 5:0", 5, 0},
		{"of another source", []Acknowledgement{{Source: "/p/l/st-02", ResultID: ids[0], Accepted: true}}, "[3]", "1:1 2:1 3:1 4:0 5:0", 5, 0},
		{"accepted", []Acknowledgement{ack(1, true)}, "[1]", "1:1 3:1 4:0 5:0", 4, 0},
		{"accepted again", []Acknowledgement{ack(1, true)}, "[0]", "1:1 3:1 4:0 5:0", 4, 0},
		{"rejected, and another accepted", []Acknowledgement{ack(0, false), ack(2, true)}, "[2 1]", "4:0 5:0", 2, 1},
		{"rejected again", []Acknowledgement{ack(0, false)}, "[0]", "4:0 5:0", 2, 1},
		{"before it was sent", []Acknowledgement{ack(3, true)}, "[1]", "5:0", 1, 1},
		{"rejected, and accepted at once", []Acknowledgement{ack(4, false), ack(4, true), ack(4, true)}, "[2 1 0]", "", 0, 1},
		{"a rejected one accepted", []Acknowledgement{ack(0, true)}, "[1]", "", 0, 0},
	} {
		effects, err := l.Acknowledge(test.acks)
		if err != nil || fmt.Sprint(effects) != test.effects {
			t.Errorf("%s: want %s, found %v, %v", test.name, test.effects, effects, err)
		}
		if found := next(t, l); found != test.next {
			t.Errorf("%s: want %s, found %s", test.name, test.next, found)
		}
		checkWaiting(t, l, test.count, 0, test.rejected)
	}
	// The record itself stays as it is.
	if results := countRows(t, l, "results"); results != 5 {
		t.Errorf("want 5 results, found %d", results)
	}
}

func countRows(t testing.TB, l *Ledger, table string) (count int) {
	t.Helper()
	if err := l.reads.QueryRow(`SELECT count(*) FROM ` + table).Scan(&count); err != nil {
		t.Fatal(err)
	}
	return count
}

// What is noted of an entry after the MES has answered changes nothing.
func TestAcknowledgedBeforeItIsNoted(t *testing.T) {
	l := newLedger(t)
	ids := fill(t, l, 3)
	if _, err := l.Acknowledge([]Acknowledgement{{Source: source, ResultID: ids[0], Accepted: true}, {Source: source, ResultID: ids[1], Reason: "broken"}}); err != nil {
		t.Fatal(err)
	}
	sent(t, l, time.Now(), true, 1, 2, 3)
	checkWaiting(t, l, 1, 1, 1)
	if found := next(t, l); found != "3:1" {
		t.Errorf("want the third only, found %s", found)
	}
	var parked, reason string
	if err := l.reads.QueryRow(`SELECT parked, reason FROM outbox WHERE sequence = 2`).Scan(&parked, &reason); err != nil || parked != "rejected" || reason != "broken" {
		t.Errorf("found %s for %q, %v", parked, reason, err)
	}
	if due, err := l.Due(source, time.Now().Add(time.Hour), time.Minute, 10); err != nil || len(due) != 1 || due[0].Sequence != 3 {
		t.Errorf("a rejected one is never due: found %v, %v", due, err)
	}
}

func TestDue(t *testing.T) {
	l := newLedger(t)
	fill(t, l, 6)
	now := time.Now()
	sent(t, l, now.Add(-time.Second), false, 4, 2)
	sent(t, l, now.Add(-2*time.Second), true, 3)
	sent(t, l, now.Add(30*time.Second), false, 1)
	sent(t, l, now.Add(time.Hour), false, 5) // a clock that was set back by an hour
	sequences := func(at time.Time, limit int) (found string) {
		due, err := l.Due(source, at, time.Minute, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range due {
			if len(entry.Record) == 0 || entry.ResultID == "" || entry.Source != source {
				t.Errorf("an entry is whole: found %+v", entry)
			}
			found += fmt.Sprintf("%d:%d ", entry.Sequence, entry.Tries)
		}
		return found
	}
	if found := sequences(now, 10); found != "2:1 3:1 4:1 5:1 " {
		t.Errorf("want what is due in order, found %s", found)
	}
	if found := sequences(now, 1); !strings.HasPrefix(found, "3:1 ") {
		t.Errorf("want first what is due for longest, found %s", found)
	}
	if found := sequences(now.Add(59*time.Minute+30*time.Second), 10); found != "1:1 2:1 3:1 4:1 " {
		t.Errorf("found %s", found)
	}
	if last, err := l.LastSent(source); err != nil || last != 5 {
		t.Errorf("want 5 sent last, found %d, %v", last, err)
	}
	if last, err := l.LastSent("/p/l/none"); err != nil || last != 0 {
		t.Errorf("want nothing sent, found %d, %v", last, err)
	}
	checkWaiting(t, l, 6, 1, 0)
}

// All that the outbox knows is there after a restart.
func TestOutboxOverRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := openTest(t, path)
	ids := fill(t, l, 4)
	sent(t, l, time.Now(), false, 1)
	sent(t, l, time.Now(), true, 2, 3)
	if _, err := l.Acknowledge([]Acknowledgement{{Source: source, ResultID: ids[2], Reason: "no"}}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openTest(t, path)
	checkWaiting(t, l, 3, 1, 1)
	if found := next(t, l); found != "1:1 2:1 4:0" {
		t.Errorf("found %s", found)
	}
}

// The count of a large outbox is not made anew each time.
func TestLargeOutbox(t *testing.T) {
	var held counts
	made := 0
	get := func(count int64) int64 {
		waiting, err := held.get(source, func() (Waiting, error) {
			made++
			time.Sleep(10 * time.Millisecond) // as long as a large one takes
			return Waiting{Count: count}, nil
		})
		if err != nil {
			t.Error(err)
		}
		return waiting.Count
	}
	if found := fmt.Sprint(get(7), get(large+1), get(0), made); found != fmt.Sprint(7, large+1, large+1, 2) {
		t.Errorf("found %s", found)
	}
}
