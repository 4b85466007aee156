package station

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
)

// Part is a part of several views, as a station that sees some of them knows
// it.
type Part struct {
	Name     string
	Source   string   // of its verdicts: /site/line/part
	Views    []string // all of them, in order
	Here     []string // those of this station, in order
	Deadline time.Duration
	Attempts int // limit for the same part; 0: none
	// Begun hears that a view of it was accepted. It must not block.
	Begun func()
}

// choose fills in the view that a trigger means, and says what it lacks.
func (p *Part) choose(start *verdict.Start) error {
	switch {
	case p == nil:
		return nil
	case start.PartID == nil:
		return fmt.Errorf("part_id: required, but missing; the station sees views of part %s, which are put together by it", p.Name)
	case start.View == nil && len(p.Here) == 1:
		start.View = &p.Here[0]
	case start.View == nil:
		return fmt.Errorf("view: expected %s, found none; the station sees several views of part %s", p.here(), p.Name)
	case !slices.Contains(p.Here, *start.View):
		return fmt.Errorf("view: expected %s (of part %s at this station), found %q", p.here(), p.Name, *start.View)
	}
	return nil
}

// here lists the station's views for people.
func (p *Part) here() string { return strings.Join(p.Here, " or ") }

// begin records a trigger, with its place among the attempts at the part and in
// the part itself.
func (s *Station) begin(accepted *job) (reply verdict.Reply, repeated bool, err error) {
	rules := ledger.Rules{Attempts: s.options.Attempts}
	if part := s.options.Part; part != nil {
		// Or a view would be tried until it is OK while its part is open.
		if rules.Attempts == 0 {
			rules.Attempts = part.Attempts
		}
		rules.Part = &ledger.PartRules{
			Source: part.Source, Views: part.Views, Deadline: part.Deadline, Attempts: part.Attempts, Received: accepted.triggered,
		}
		if part.Begun != nil {
			defer part.Begun()
		}
	}
	return s.options.Ledger.BeginView(s.source, &accepted.draft, rules)
}

// fieldsOf are what a trigger says of its part.
func fieldsOf(start verdict.Start) verdict.Part {
	part := verdict.Part{
		ID: start.PartID, ParentID: start.ParentID, Position: start.Position, ProductID: start.ProductID, OrderID: start.OrderID, CarrierID: start.CarrierID,
	}
	if start.PartID != nil {
		byTrigger := "trigger"
		part.IDSource = &byTrigger
	}
	return part
}

// Parts ends the parts of several views whose deadline has passed, and tells of
// every part's record.
type Parts struct {
	ledger   *ledger.Ledger
	finished func(Finished)
	log      *slog.Logger
	woken    chan struct{}
	stop     context.Context
	stopNow  context.CancelFunc
	done     sync.WaitGroup
}

// lookEvery is how often open parts are looked at, at the least: deadlines of an
// earlier run go by the wall clock, which may be set.
const lookEvery = time.Second

// NewParts returns what ends the parts in a ledger, those that an earlier run
// left open among them.
func NewParts(ledger *ledger.Ledger, finished func(Finished), log *slog.Logger) *Parts {
	p := &Parts{ledger: ledger, finished: finished, log: log, woken: make(chan struct{}, 1)}
	p.stop, p.stopNow = context.WithCancel(context.Background())
	return p
}

// Run begins.
func (p *Parts) Run() {
	p.ledger.WatchParts(p.tell)
	p.done.Go(p.work)
}

// Wake says that a part may have been begun, whose deadline is next.
func (p *Parts) Wake() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

// Close ends it; parts that are open stay so for the next start. It may be
// called twice.
func (p *Parts) Close() {
	p.stopNow()
	p.done.Wait()
}

func (p *Parts) work() {
	told := ""
	for {
		next, err := p.ledger.EndParts()
		if err != nil && err.Error() != told {
			p.log.Error("parts past their deadline cannot be recorded; trying until they can", "error", err)
			told = err.Error()
		} else if err == nil {
			told = ""
		}
		var due <-chan time.Time
		if !next.IsZero() || err != nil {
			wait := lookEvery
			if !next.IsZero() {
				wait = min(wait, time.Until(next))
			}
			due = time.After(wait)
		}
		select {
		case <-p.stop.Done():
			return
		case <-p.woken:
		case <-due:
		}
	}
}

// tell tells of a part's record; a panic of who listens is not the ledger's.
func (p *Parts) tell(source string, record *verdict.Record) {
	defer func() {
		if caught := recover(); caught != nil {
			p.log.Error("panic during the report of a part", "part", source, "panic", caught, "stack", string(debug.Stack()))
		}
	}()
	p.finished(Finished{Source: source, Record: record})
}
