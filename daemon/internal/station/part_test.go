package station

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
)

// housing is a part of three views, of which a station sees some.
func housing(here ...string) *Part {
	return &Part{Name: "housing", Source: "/p/l/housing", Views: []string{"front", "left", "right"}, Here: here, Deadline: time.Minute}
}

func TestPartFieldsAreRecorded(t *testing.T) {
	b := newBench(t, nil)
	b.Run()
	b.start(verdict.Start{
		PartID: text("P-1"), ParentID: text("a"), Position: text("b"), ProductID: text("c"), OrderID: text("d"), CarrierID: text("e"),
	})
	content, err := verdict.JSON(b.wait(1)[0].Part)
	want := `{"id":"P-1","id_source":"trigger","parent_id":"a","position":"b","product_id":"c","order_id":"d","carrier_id":"e"}`
	if err != nil || string(content) != want {
		t.Errorf("want  %s\nfound %s, %v", want, content, err)
	}
}

// What a station that sees views of a part needs of a trigger.
func TestViewsOfAPart(t *testing.T) {
	for name, test := range map[string]struct {
		part  *Part
		start verdict.Start
		view  string // empty: refused
		want  string
	}{
		"no part":               {nil, verdict.Start{}, "none", ""},
		"no part, any view":     {nil, verdict.Start{View: text("anything goes")}, "anything goes", ""},
		"the one view":          {housing("front"), verdict.Start{PartID: text("P-1")}, "front", ""},
		"the one view, named":   {housing("front"), verdict.Start{PartID: text("P-1"), View: text("front")}, "front", ""},
		"one of several":        {housing("left", "right"), verdict.Start{PartID: text("P-1"), View: text("right")}, "right", ""},
		"no part id":            {housing("front"), verdict.Start{View: text("front")}, "", "part_id: required, but missing; the station sees views of part housing, which are put together by it"},
		"which of several":      {housing("left", "right"), verdict.Start{PartID: text("P-1")}, "", "view: expected left or right, found none; the station sees several views of part housing"},
		"another station's":     {housing("left", "right"), verdict.Start{PartID: text("P-1"), View: text("front")}, "", `view: expected left or right (of part housing at this station), found "front"`},
		"another one's, one is": {housing("front"), verdict.Start{PartID: text("P-1"), View: text("left")}, "", `view: expected front (of part housing at this station), found "left"`},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, func(o *Options) { o.Part = test.part })
			b.Run()
			test.start.CommandID = text("c-1")
			reply := b.Start(test.start, time.Now(), "")
			if test.view == "" {
				if reply.Accepted || reply.Reason.Code != verdict.RefusedInvalid || reply.Reason.Detail != test.want {
					t.Errorf("want it refused with %s, found %+v", test.want, reply.Reason)
				}
				if again := b.Start(test.start, time.Now(), ""); again.Reason == nil || again.Reason.Detail != test.want {
					t.Errorf("the first reply again: found %+v", again)
				}
				return
			}
			if !reply.Accepted {
				t.Fatalf("refused: %+v", reply.Reason)
			}
			record, found := b.wait(1)[0], "none"
			if record.View != nil {
				found = *record.View
			}
			if found != test.view || (record.ViewsExpected == nil) != (test.part == nil) {
				t.Errorf("want view %s, found %s, of %v", test.view, found, record.ViewsExpected)
			}
		})
	}
}

// The limit of attempts is a refusal as others are.
func TestAttemptsAreRefused(t *testing.T) {
	var log bytes.Buffer
	b := newBench(t, func(o *Options) {
		o.Attempts, o.Log = 2, slog.New(slog.NewTextHandler(&log, nil))
	})
	b.Run()
	for range 2 {
		b.start(verdict.Start{PartID: text("P-1")})
	}
	for range 2 {
		reply := b.Start(verdict.Start{PartID: text("P-1"), CommandID: text("c-1")}, time.Now(), "")
		if reply.Accepted || reply.Reason.Code != verdict.RefusedAttempts || *reply.CommandID != "c-1" {
			t.Errorf("found %+v", reply)
		}
	}
	b.start(verdict.Start{PartID: text("P-2")})
	if records := b.wait(3); records[0].Attempt != 1 || records[1].Attempt != 2 || *records[1].PreviousResultID != records[0].ResultID || records[2].Attempt != 1 {
		t.Errorf("found %+v", records)
	}
	if !strings.Contains(log.String(), `msg="trigger refused" station=st-01 reason=attempts`) || b.Outstanding() != 0 {
		t.Errorf("found %d outstanding,\n%s", b.Outstanding(), &log)
	}
}

// line is two stations on one ledger that see the views of one part.
type line struct {
	t        *testing.T
	ledger   *ledger.Ledger
	parts    *Parts
	stations map[string]*Station
	told     chan *verdict.Record // of parts
}

func newLine(t *testing.T, path string, deadline time.Duration, change ...func(*Options)) *line {
	t.Helper()
	opened, err := ledger.Open(t.Context(), ledger.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	l := &line{t: t, ledger: opened, stations: map[string]*Station{}, told: make(chan *verdict.Record, 1000)}
	if _, err := opened.Recover(time.Now(), ledger.NewImages(opened, t.TempDir(), 1<<30)); err != nil {
		t.Fatal(err)
	}
	l.parts = NewParts(opened, func(finished Finished) {
		if finished.Source != "/p/l/housing" {
			t.Errorf("found %s", finished.Source)
		}
		l.told <- finished.Record
		panic("what who listens does wrong harms nobody")
	}, slog.New(slog.DiscardHandler))
	l.parts.Run()
	turns := NewTurns()
	for _, view := range []string{"front", "back"} {
		b := newBench(t, func(o *Options) {
			o.Name, o.Ledger, o.Images, o.Turns = "st-"+view, opened, nil, turns
			o.Part = &Part{Name: "housing", Source: "/p/l/housing", Views: []string{"back", "front"}, Here: []string{view}, Deadline: deadline, Begun: l.parts.Wake}
			for _, each := range change {
				each(o)
			}
		})
		b.Run()
		l.stations[view] = b.Station
	}
	return l
}

func (l *line) start(view, part string) {
	l.t.Helper()
	if reply := l.stations[view].Start(verdict.Start{PartID: &part}, time.Now(), ""); !reply.Accepted {
		l.t.Fatalf("refused: %+v", reply.Reason)
	}
}

func (l *line) wait() *verdict.Record {
	l.t.Helper()
	select {
	case record := <-l.told:
		return record
	case <-time.After(20 * time.Second):
		l.t.Fatal("no part's record came")
		return nil
	}
}

func (l *line) close() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, each := range l.stations {
		if err := each.Stop(ctx); err != nil {
			l.t.Error(err)
		}
	}
	l.parts.Close()
	if err := l.ledger.Close(); err != nil {
		l.t.Error(err)
	}
}

func TestPartsOfTwoStations(t *testing.T) {
	l := newLine(t, filepath.Join(t.TempDir(), "ledger.db"), time.Minute)
	const many = 20
	for i := range many {
		for _, view := range []string{"front", "back"} {
			for reply := (verdict.Reply{}); !reply.Accepted; { // its queue may be full for a moment
				id := fmt.Sprint("P-", i)
				reply = l.stations[view].Start(verdict.Start{PartID: &id}, time.Now(), "")
			}
		}
	}
	found := map[string]int{}
	for i := range many {
		record := l.wait()
		found[*record.Part.ID]++
		if record.Evaluation != verdict.OK || record.Sequence != int64(i+1) || len(record.SourceResultIDs) != 2 {
			t.Errorf("found %+v", record)
		}
	}
	if len(found) != many {
		t.Errorf("want %d parts, found %v", many, found)
	}
	l.close()
}

// The deadline of a part goes by the monotonic clock, and is not waited for
// longer than it lasts.
func TestPartIsEndedByItsDeadline(t *testing.T) {
	l := newLine(t, filepath.Join(t.TempDir(), "ledger.db"), 200*time.Millisecond)
	began := time.Now()
	l.start("front", "P-1")
	record := l.wait()
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("it ended after %s", took)
	}
	if record.Evaluation != verdict.Undefined || record.Reason.Code != verdict.ReasonDeadline || !record.IsPartial || record.LatencyMS < 200 {
		t.Errorf("found %+v", record)
	}
	l.close()
}

// At the end open parts stay open, and the next start goes on with them.
func TestPartsStayOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := newLine(t, path, time.Minute)
	l.start("front", "P-1")
	l.close()
	if len(l.told) != 0 {
		t.Fatalf("found %+v", <-l.told)
	}
	l = newLine(t, path, time.Minute)
	l.start("back", "P-1")
	if record := l.wait(); len(record.SourceResultIDs) != 2 || record.IsPartial {
		t.Errorf("found %+v", record)
	}
	l.close()
}

// An inspection that outlives the part's deadline is a verdict of its own.
func TestViewOutlivesItsPart(t *testing.T) {
	release := make(chan struct{})
	l := newLine(t, filepath.Join(t.TempDir(), "ledger.db"), 150*time.Millisecond, func(o *Options) {
		o.Model.Inspector = fakeInspector(func(context.Context) inspection.Outcome {
			<-release
			return inspection.Outcome{Evaluation: verdict.OK}
		})
	})
	part := "P-1"
	reply := l.stations["back"].Start(verdict.Start{PartID: &part}, time.Now(), "")
	record := l.wait()
	if record.Evaluation != verdict.Undefined || record.Reason.Detail != "back, front: no result by the part's deadline" {
		t.Errorf("found %+v", record.Reason)
	}
	close(release)
	content, err := l.stations["back"].Wait(t.Context(), *reply.TriggerID)
	if err != nil || !bytes.Contains(content, []byte(`"evaluation":"OK"`)) {
		t.Errorf("found %s, %v", content, err)
	}
	l.close()
	if len(l.told) != 0 {
		t.Errorf("one record for each part: found %+v", <-l.told)
	}
}
