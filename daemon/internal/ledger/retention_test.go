package ledger

import (
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
	const day = 24 * time.Hour
	for name, test := range map[string]struct {
		jump    time.Duration
		running bool // it is set while gladd runs, not before it is started again
		want    string
	}{
		"none":                              {0, true, ""},
		"half an hour ahead":                {30 * time.Minute, true, ""},
		"half an hour back":                 {-30 * time.Minute, true, ""},
		"two hours ahead":                   {2 * time.Hour, true, "the clock was set by 2h0m0s while gladd ran"},
		"two hours back":                    {-2 * time.Hour, true, "the clock was set by -2h0m0s while gladd ran"},
		"a hundred days ahead":              {100 * day, true, "the clock was set by 2400h0m0s while gladd ran"},
		"some hours ahead, between two":     {20 * time.Hour, false, ""},
		"a hundred days ahead, between two": {100 * day, false, "by the clock gladd did not run for 2400h0m0s"},
		"a hundred days back, between two":  {-100 * day, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t)
			began, ran, jump := time.Now(), 10*time.Minute, time.Duration(0)
			start := func() *Retention {
				return startRetention(t, l, func() time.Time { return began.Add(ran + jump) }, func() time.Duration { return ran })
			}
			retention := start()
			old := begin(t, l, "c-old")
			old.Times.Finished = verdict.Time{Time: began.Add(-88 * day)}
			if err := l.Finish(source, old, time.Time{}, nil); err != nil {
				t.Fatal(err)
			}
			if err := l.Delivered(&Entry{Source: source, Sequence: 1}); err != nil {
				t.Fatal(err)
			}
			if err := retention.Prune(t.Context()); err != nil {
				t.Fatal(err)
			}
			check := func(want string, records int) {
				t.Helper()
				err := retention.Prune(t.Context())
				switch {
				case want == "" && err != nil:
					t.Error(err)
				case want != "":
					want += "; nothing is removed for its age until the clock has gone on evenly for 4 hours"
					if err == nil || err.Error() != want {
						t.Errorf("want  %s\nfound %v", want, err)
					}
				}
				if found := countRows(t, l, "results"); found != records {
					t.Errorf("want %d records, found %d", records, found)
				}
			}
			jump = test.jump
			if !test.running {
				retention = start()
			}
			check(test.want, 1)
			ran += doubted - time.Minute
			check(test.want, 1)
			if test.want != "" && !test.running { // another start changes nothing
				retention = start()
				check("by the clock gladd did not run for 2404h0m0s", 1)
			}
			ran += doubted
			if gone := jump > day; gone {
				check("", 0) // a clock that goes on for hours is believed
				return
			}
			check("", 1)
			ran += 3*day - jump
			check("", 0)
		})
	}
}

// startRetention begins as a start of gladd does; records are kept for 90 days.
func startRetention(t *testing.T, l *Ledger, wall func() time.Time, elapsed func() time.Duration) *Retention {
	t.Helper()
	retention, err := newRetention(NewImages(l, t.TempDir(), 1<<30), 90*24*time.Hour, wall, elapsed)
	if err != nil {
		t.Fatal(err)
	}
	return retention
}

// A ledger of a version that noted nothing of the clock is compared with its
// newest record.
func TestClockOfTheFirstStart(t *testing.T) {
	l := newLedger(t)
	finish(t, l, begin(t, l, ""), verdict.OK)
	if err := l.Delivered(&Entry{Source: source, Sequence: 1}); err != nil {
		t.Fatal(err)
	}
	retention := startRetention(t, l, func() time.Time { return time.Now().Add(365 * 24 * time.Hour) }, func() time.Duration { return 0 })
	if err := retention.Prune(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "by the clock gladd did not run for 8760h0m0s; ") {
		t.Errorf("found %v", err)
	}
	if countRows(t, l, "results") != 1 {
		t.Error("the young record is gone")
	}
}

// A box that runs three hours a day is not doubted forever after a weekend.
func TestClockOfShortRuns(t *testing.T) {
	const day = 24 * time.Hour
	l := newQuickLedger(t)
	began := time.Now()
	run := func(day time.Duration) (last error) {
		var ran time.Duration
		retention := startRetention(t, l, func() time.Time { return began.Add(day + ran) }, func() time.Duration { return ran })
		for ; ran < 3*time.Hour; ran += time.Minute {
			last = retention.Prune(t.Context())
		}
		return last
	}
	for _, test := range []struct {
		on      time.Duration
		trusted bool
	}{{0, true}, {3 * day, false}, {4 * day, true}, {5 * day, true}, {8 * day, false}} {
		if err := run(test.on); (err == nil) != test.trusted {
			t.Errorf("on day %.0f: want it trusted: %t, found %v", test.on.Hours()/24, test.trusted, err)
		}
	}
}
