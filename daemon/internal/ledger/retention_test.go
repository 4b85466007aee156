package ledger

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gladd/daemon/internal/verdict"
)

// newQuickLedger is a ledger for tests that write much: it waits for no disk.
func newQuickLedger(t testing.TB) *Ledger {
	t.Helper()
	l := newLedger(t)
	if _, err := l.writer.ExecContext(t.Context(), `PRAGMA synchronous = OFF`); err != nil {
		t.Fatal(err)
	}
	return l
}

// What the MES does not have stays, whatever its age; what it rejected does not.
func TestRetentionOfTheOutbox(t *testing.T) {
	l := newQuickLedger(t)
	images := NewImages(l, t.TempDir(), 1<<30)
	const many = 2*pruneStep + 50
	ids := fill(t, l, many)
	sent(t, l, time.Now(), true, 1, 2) // 1 and 2 are parked, the others wait
	var rejected []Acknowledgement
	for _, id := range ids[2:] { // and from the third on every second one is rejected
		if len(rejected) < (many-2)/2 {
			rejected = append(rejected, Acknowledgement{Source: source, ResultID: id})
		}
	}
	if _, err := l.Acknowledge(rejected); err != nil {
		t.Fatal(err)
	}
	review := `INSERT INTO reviews (review_id, result_id, reviewed, review) VALUES ('r', ?, 0, '{}')`
	if err := l.commit(func(tx transaction) error { return tx.exec(review, rejected[0].ResultID) }); err != nil {
		t.Fatal(err)
	}
	if err := images.PruneRecords(t.Context(), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if found := countRows(t, l, "results"); found != many {
		t.Errorf("what is young stays: want %d results, found %d", many, found)
	}
	if err := images.PruneRecords(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	left := many - len(rejected)
	for _, table := range []string{"results", "triggers", "outbox"} {
		if found := countRows(t, l, table); found != left {
			t.Errorf("want %d %s, found %d", left, table, found)
		}
	}
	if found := countRows(t, l, "reviews"); found != 0 {
		t.Errorf("a review goes with its result, found %d", found)
	}
	checkWaiting(t, l, int64(left), 2, 0)
	if found := next(t, l); !strings.HasPrefix(found, "1:1 2:1 ") {
		t.Errorf("found %s", found)
	}
}

// Whatever is removed, the parts come first.
func TestRetentionYields(t *testing.T) {
	l := newQuickLedger(t)
	images := NewImages(l, t.TempDir(), 1<<30)
	for _, id := range fill(t, l, 5*pruneStep) {
		if _, err := l.Acknowledge([]Acknowledgement{{Source: source, ResultID: id, Accepted: true}}); err != nil {
			t.Fatal(err)
		}
	}
	// A part begins with every step, and is not behind all of them.
	steps := 0
	done := make(chan error, 1)
	go func() { done <- images.PruneRecords(t.Context(), time.Now().Add(time.Hour)) }()
	for pruned := false; !pruned; {
		record := begin(t, l, "")
		finish(t, l, record, verdict.OK)
		if countRows(t, l, "results") > 1 {
			steps++
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			pruned = true
		default:
		}
	}
	if steps < 3 {
		t.Errorf("want parts between the steps, found %d", steps)
	}
}

func TestClockJumps(t *testing.T) {
	for name, test := range map[string]struct {
		jump  time.Duration
		wrong bool
	}{
		"none":                 {0, false},
		"half an hour ahead":   {30 * time.Minute, false},
		"half an hour back":    {-30 * time.Minute, false},
		"two hours ahead":      {2 * time.Hour, true},
		"two hours back":       {-2 * time.Hour, true},
		"a hundred days ahead": {100 * 24 * time.Hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t)
			retention := NewRetention(NewImages(l, t.TempDir(), 1<<30), 90*24*time.Hour)
			ran, jump := 10*time.Minute, time.Duration(0)
			retention.elapsed = func() time.Duration { return ran }
			retention.wall = func() time.Time { return retention.began.Add(ran + jump) }
			old := begin(t, l, "c-old")
			old.Times.Finished = verdict.Time{Time: time.Now().Add(-89 * 24 * time.Hour)}
			if err := l.Finish(source, old, time.Time{}, nil); err != nil {
				t.Fatal(err)
			}
			if err := l.Delivered(&Entry{Source: source, Sequence: 1}); err != nil {
				t.Fatal(err)
			}
			if err := retention.Prune(t.Context()); err != nil {
				t.Fatal(err)
			}
			jump = test.jump
			err := retention.Prune(t.Context())
			if (err != nil) != test.wrong {
				t.Fatalf("want %t, found %v", test.wrong, err)
			}
			if test.wrong {
				if want := fmt.Sprintf("the clock was set by %s while gladd ran; nothing is removed for its age until the next start", test.jump); err.Error() != want {
					t.Errorf("want  %s\nfound %v", want, err)
				}
				jump, ran = 0, 100*24*time.Hour // set right again, and the record is old now
				if again := retention.Prune(t.Context()); again == nil || again.Error() != err.Error() {
					t.Errorf("want the same again, found %v", again)
				}
			}
			if found := countRows(t, l, "results"); found != 1 {
				t.Errorf("want it kept, found %d", found)
			}
			ran = 100 * 24 * time.Hour
			if err := retention.Prune(t.Context()); err == nil && countRows(t, l, "results") != 0 {
				t.Error("it is old now")
			}
		})
	}
}
