package ledger

import (
	"bytes"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"

	"gladd/daemon/internal/verdict"
)

// A commit that itself takes too long is found out only afterwards, by the
// view's deadline or the part's. Nobody may have seen the part OK by then, also
// where another view of the same commit was in time.
func TestPartIsLateByItsCommit(t *testing.T) {
	for name, test := range map[string]struct {
		late  []string // the views whose own deadline passes
		part  bool     // the part's does
		first bool     // the first view has its record already
		want  string
	}{
		"the last view is late":             {[]string{back}, false, true, "Undefined failed 2/2 deadline back: the result, OK, was recorded after the deadline"},
		"one of both is late":               {[]string{back}, false, false, "Undefined failed 2/2 deadline back: the result, OK, was recorded after the deadline"},
		"the other of both is late":         {[]string{front}, false, false, "Undefined failed 2/2 deadline front: the result, OK, was recorded after the deadline"},
		"both are late":                     {[]string{front, back}, false, false, "Undefined failed 2/2 deadline back: the result, OK, was recorded after the deadline"},
		"the part is late":                  {nil, true, true, "Undefined failed 1/2 partial deadline back: no result by the part's deadline"},
		"the part is late with both":        {nil, true, false, "Undefined failed 0/2 partial deadline back, front: no result by the part's deadline"},
		"the part is late and so is a view": {[]string{back}, true, true, "Undefined failed 1/2 partial deadline back: no result by the part's deadline"},
		"nothing is late":                   {nil, false, false, "OK completed 2/2"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t)
			views := map[string]*verdict.Record{front: beginView(t, l, "P-1", front), back: beginView(t, l, "P-1", back)}
			waiting := []string{front, back}
			if test.first {
				finishView(t, l, views[front], verdict.OK)
				waiting = []string{back}
			}
			deadline := time.Now().Add(100 * time.Millisecond)
			if test.part {
				id := openIDs(l)[0]
				part := l.parts.get(id)
				part.deadline = deadline
				l.parts.add(id, part)
			}
			// One operation holds the batch up until all of it is there; the last of
			// it ends after the deadline.
			inside, release := make(chan struct{}), make(chan struct{})
			done := make(chan error, 10)
			go func() { done <- l.commit(func(transaction) error { close(inside); <-release; return nil }) }()
			<-inside
			queued := func(count int) {
				for len(l.pending) < count {
					time.Sleep(time.Millisecond)
				}
			}
			for i, view := range waiting {
				until := time.Time{}
				for _, late := range test.late {
					if late == view {
						until = deadline
					}
				}
				go func() {
					done <- l.Finish(stationOf(view), evaluated(views[view], verdict.OK), until, nil)
				}()
				queued(i + 1)
			}
			go func() {
				done <- l.commit(func(transaction) error { <-time.After(time.Until(deadline) + 5*time.Millisecond); return nil })
			}()
			queued(len(waiting) + 1)

			id := openIDs(l)[0]
			ended := make(chan struct{})
			var lookers sync.WaitGroup
			look := func() []byte {
				content, err := l.Record(id)
				if err != nil {
					t.Error(err)
				}
				entry, err := l.Next(partSource, 0)
				if err != nil {
					t.Error(err)
				}
				if entry != nil {
					content = append(content, entry.Record...)
				}
				return content
			}
			lookers.Go(func() {
				for {
					select {
					case <-ended:
						return
					default:
					}
					if bytes.Contains(look(), []byte(`"evaluation":"OK"`)) && name != "nothing is late" {
						t.Error("a late OK was seen")
						return
					}
				}
			})
			heard := make(chan string, 10) // what whoever watches the outbox finds there
			defer l.Watch(func(source string) {
				if source != partSource {
					return
				}
				if entry, err := l.Next(source, 0); err == nil && entry != nil {
					heard <- string(entry.Record)
				}
			})()
			close(release)
			for range len(waiting) + 2 {
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			}
			close(ended)
			lookers.Wait()
			part := onePart(t, l, test.want)
			select {
			case <-heard:
			default:
				t.Error("who watches the outbox never heard of it")
			}
			counters, err := l.Counters(partSource)
			total := int64(0)
			for _, count := range counters.Evaluations {
				total += count
			}
			if err != nil || counters.Evaluations[part.Evaluation] != 1 || total != 1 {
				t.Errorf("the counters follow: found %+v, %v", counters, err)
			}
			if len(openIDs(l)) != 0 {
				t.Errorf("found %d open", len(openIDs(l)))
			}
		})
	}
}

// Where the amendment fails the part stays unseen, until it is done with the
// next try.
func TestPartStaysUnseenUntilAmended(t *testing.T) {
	l := newLedger(t)
	finishView(t, l, beginView(t, l, "P-1", front), verdict.OK)
	last := evaluated(beginView(t, l, "P-1", back), verdict.OK)
	id := openIDs(l)[0]
	// As if the process had come just so far: written, and then no more room.
	l.unsettled.add(stationOf(back), last.TriggerID)
	if err := l.commit(func(tx transaction) error {
		last.ResultID = "01M86EGTH21DJCNX2R261KQR66"
		if err := insertResult(tx, stationOf(back), last); err != nil {
			return err
		}
		_, err := l.completePart(tx, id, last)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	onePart(t, l, "OK completed 2/2")
	if entry, err := l.Next(partSource, 0); entry != nil || err != nil {
		t.Errorf("found %+v, %v", entry, err)
	}
	if err := l.Finish(stationOf(back), last, time.Now().Add(-time.Second), nil); err != nil {
		t.Fatal(err)
	}
	part := onePart(t, l, "Undefined failed 2/2 deadline back: the result, OK, was recorded after the deadline")
	if entry, err := l.Next(partSource, 0); err != nil || entry == nil || entry.ResultID != part.ResultID {
		t.Errorf("found %+v, %v", entry, err)
	}
	if found := ended(t, l, last.TriggerID); found.ResultID != "01M86EGTH21DJCNX2R261KQR66" || found.Evaluation != verdict.Undefined {
		t.Errorf("found %+v", found)
	}
}

// A result that was written too late, and could not be amended, stays unseen also
// when the next attempt fails before it can look for it.
func TestLateResultStaysUnseen(t *testing.T) {
	l := newLedger(t)
	late := evaluated(begin(t, l, ""), verdict.OK)
	// As if the process had come just so far: written, and then no more room.
	l.unsettled.add(source, late.TriggerID)
	if err := l.commit(func(tx transaction) error {
		late.ResultID = "01M86EGTH21DJCNX2R261KQR66"
		return insertResult(tx, source, late)
	}); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(-time.Second)
	// A write before it in the same transaction fails, and takes it with it.
	inside, release := make(chan struct{}), make(chan struct{})
	var writes sync.WaitGroup
	write := func(do func(transaction) error) {
		before := len(l.pending)
		writes.Go(func() { l.commit(do) }) //nolint:errcheck // it is to fail
		for len(l.pending) == before {
			runtime.Gosched()
		}
	}
	go l.commit(func(transaction) error { close(inside); <-release; return nil }) //nolint:errcheck // it does nothing
	<-inside
	write(func(tx transaction) error {
		tx.exec(`ROLLBACK`) //nolint:errcheck // as SQLite does by itself when the disk is full
		return sqlite3.Error{Code: sqlite3.ErrFull}
	})
	failed := make(chan error, 1)
	go func() { failed <- l.Finish(source, late, deadline, nil) }()
	for len(l.pending) < 2 {
		runtime.Gosched()
	}
	close(release)
	if err := <-failed; err == nil {
		t.Fatal("want an error")
	}
	writes.Wait()
	if entry, err := l.Next(source, 0); entry != nil || err != nil {
		t.Fatalf("a late OK is seen: %+v, %v", entry, err)
	}
	late.Times.Finished.Time = late.Times.Finished.Add(time.Second) // a station makes the record anew
	if err := l.Finish(source, late, deadline, nil); err != nil {
		t.Fatal(err)
	}
	if found := next(t, l); found != "1:0" {
		t.Errorf("found %s", found)
	}
	if problems, _ := verify(t, openTestReader(t, l.path), VerifyOptions{}); problems != nil {
		t.Errorf("found %q", problems)
	}
	found := ended(t, l, late.TriggerID)
	if found.Evaluation != verdict.Undefined || found.Reason.Code != verdict.ReasonDeadline {
		t.Errorf("found %s, %+v", found.Evaluation, found.Reason)
	}
}

// A part of an earlier run that began in the future has been open for nobody knows
// how long: its missing view comes too late.
func TestPartBeganInTheFuture(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := openTest(t, path)
	finishView(t, l, beginView(t, l, "P-1", front), verdict.OK)
	if err := l.commit(func(tx transaction) error {
		return tx.exec(`UPDATE triggers SET accepted = accepted + 3600000, deadline = deadline + 3600000 WHERE kind = ?`, verdict.KindPart)
	}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openTest(t, path)
	if _, err := l.EndParts(); err != nil {
		t.Fatal(err)
	}
	onePart(t, l, "Undefined failed 1/2 partial deadline back: no result by the part's deadline")
}
