package station

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
)

// Waits between attempts to record a verdict.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 2 * time.Second
)

// inspect inspects the frames in the order in which they were taken.
func (s *Station) inspect() {
	defer close(s.ended)
	for next := range s.inspects {
		s.goesOn()
		outcome := s.inspectOne(next)
		s.finish(next, outcome)
		if outcome.Scored {
			s.reuse = reusable{&outcome, next.model} // who heard of it is done with it
		}
		next.model.drop()
		s.busySince.Store(nil)
	}
}

// inspectOne brings one part to its outcome, in time to record it.
func (s *Station) inspectOne(next *job) inspection.Outcome {
	if next.failed != nil {
		return inspection.Undefined(next.failed.Code, next.failed.Detail)
	}
	ctx, cancel := context.WithDeadline(context.Background(), next.deadline.Add(-s.reserve()))
	defer cancel()
	waiting, stopWaiting := context.WithCancel(ctx)
	defer stopWaiting()
	defer context.AfterFunc(s.stop, stopWaiting)()
	defer context.AfterFunc(next.underWay, cancel)()
	err := s.options.Turns.Take(waiting)
	if reason := s.over(next); reason != nil {
		if err == nil {
			s.options.Turns.Give()
		}
		return inspection.Undefined(reason.Code, reason.Detail)
	}
	if err != nil {
		return inspection.Undefined(verdict.ReasonDeadline,
			fmt.Sprintf("the inspection could not begin within %s; the engines were busy", s.options.Deadline))
	}
	// A network that hangs keeps its turn and what it writes to, but not the
	// verdict.
	done := make(chan inspection.Outcome, 1)
	var reuse *inspection.Outcome
	if s.reuse.model == next.model {
		reuse = s.reuse.outcome
	}
	s.reuse = reusable{}
	var chosen atomic.Pointer[inspection.Outcome]
	part := inspection.Part{
		Picture: next.frame.Picture, Class: next.model.Class, Reuse: reuse, Budget: s.options.Deadline - s.reserve(),
		Chosen: func(how inspection.Outcome) { chosen.Store(&how) },
	}
	next.model.hold()
	go func() {
		defer next.model.drop()
		defer s.options.Turns.Give()
		done <- s.call(ctx, next.model, part)
	}()
	select {
	case outcome := <-done:
		if reason := next.underWay.aborted(); reason != nil {
			return inspection.Undefined(reason.Code, reason.Detail)
		}
		if outcome.Reason != nil && outcome.Reason.Code == verdict.ReasonDeadline && outcome.Method != nil { // it was begun
			outcome.Reason.Detail = s.lateDetail()
		}
		return outcome
	case <-ctx.Done():
	}
	if reason := next.underWay.aborted(); reason != nil {
		return inspection.Undefined(reason.Code, reason.Detail)
	}
	late := inspection.Undefined(verdict.ReasonDeadline, s.lateDetail())
	if how := chosen.Load(); how != nil {
		late.Method, late.CalibrationID, late.ImageThreshold = how.Method, how.CalibrationID, how.ImageThreshold
	}
	return late
}

func (s *Station) lateDetail() string {
	return fmt.Sprintf("the inspection was not done within %s", s.options.Deadline)
}

// call inspects; a panic becomes an outcome.
func (s *Station) call(ctx context.Context, model *prepared, part inspection.Part) (outcome inspection.Outcome) {
	defer func() {
		if caught := recover(); caught != nil {
			reason := s.panicked("an inspection", caught)
			outcome = inspection.Undefined(reason.Code, reason.Detail)
		}
	}()
	return model.Inspector.Inspect(ctx, part)
}

func (s *Station) panicked(where string, caught any) *verdict.Reason {
	s.options.Log.Error("panic during "+where, "station", s.options.Name, "panic", caught, "stack", string(debug.Stack()))
	return &verdict.Reason{Code: verdict.ReasonInternal, Detail: fmt.Sprintf("panic: %v", caught)}
}

// finish records the outcome and tells of it. It does not give up: a trigger
// without a record would be lost. Only at the end of the daemon it is left to
// the next start, which finds it.
func (s *Station) finish(next *job, outcome inspection.Outcome) {
	stored := next.picture.wait(s, outcome.Evaluation, next.deadline.Add(-s.reserve()/2))
	if stored == nil {
		next.picture.discard(s)
	}
	record := s.record(next, outcome, stored)
	if _, err := verdict.JSON(record); err != nil { // a number that is none, where none was looked for
		outcome = inspection.Undefined(verdict.ReasonInternal, "the result cannot be written: "+err.Error())
		record = s.record(next, outcome, stored)
	}
	for retry := firstRetry; ; retry = min(2*retry, lastRetry) {
		began := time.Now()
		s.ending.Lock()
		// Whoever aborted was told so: no result comes after that.
		if reason := next.underWay.aborted(); reason != nil && record.Evaluation != verdict.Undefined {
			outcome = inspection.Undefined(reason.Code, reason.Detail)
			record = s.record(next, outcome, stored)
		}
		if retry > firstRetry { // its times are those of the record
			record = s.record(next, outcome, stored)
		}
		err := s.options.Ledger.Finish(s.source, record, next.deadline, stored)
		s.ending.Unlock()
		s.recorded(time.Since(began))
		s.status.fault(faultLedger, err)
		if err == nil {
			break
		}
		if retry == firstRetry { // once, not at every attempt
			s.options.Log.Error("verdict cannot be recorded; trying until it can", "station", s.options.Name, "trigger_id", record.TriggerID, "error", err)
		}
		select {
		case <-time.After(retry):
			s.goesOn() // a restart would not help
		case <-s.giveUp.Done():
			return
		}
		if errors.Is(err, ledger.ErrClosed) {
			return
		}
	}
	s.outstanding.Add(-1)
	s.status.update(func() { s.status.busy = s.full() })
	s.tell(Finished{Source: s.source, Record: record, Outcome: outcome, Name: nameOf(next)})
}

// reserve is what is kept of the deadline for the record: twice what the ledger
// takes lately, up to a quarter of all.
func (s *Station) reserve() time.Duration {
	return max(min(50*time.Millisecond, s.options.Deadline/10), 2*time.Duration(s.recording.Load()))
}

// recorded notes how long the ledger took. A stall is forgotten within some
// parts: what is kept for the record is lost to the inspection.
func (s *Station) recorded(took time.Duration) {
	s.recording.Store(max(int64(min(took, s.options.Deadline/8)), s.recording.Load()*9/10))
}

func nameOf(next *job) string {
	if next.frame == nil {
		return next.file
	}
	return next.frame.Name
}

// tell calls who listens; their panic is not the station's.
func (s *Station) tell(finished Finished) {
	defer func() {
		if caught := recover(); caught != nil {
			s.panicked("the report of a verdict", caught)
		}
	}()
	if s.options.Finished != nil {
		s.options.Finished(finished)
	}
}

// record completes a trigger's record.
func (s *Station) record(next *job, outcome inspection.Outcome, stored *ledger.StoredImage) *verdict.Record {
	record := next.draft
	record.Evaluation, record.Reason = outcome.Evaluation, outcome.Reason
	record.ResultState = verdict.StateOf(outcome.Evaluation, outcome.Reason)
	record.Regions = outcome.Regions
	if method := outcome.Method; method != nil {
		record.Method.Backend, record.Method.Mode, record.Method.Plan = method.Backend, method.Mode, method.Plan
		record.CalibrationID, record.ImageThreshold = outcome.CalibrationID, outcome.ImageThreshold
	}
	if outcome.Scored {
		score := outcome.Result.Score
		record.AnomalyScore = &score
	}
	// Wall-clock times that cannot contradict each other; see verdict.Times.
	triggered := record.Times.Triggered.Time
	elapsed := time.Since(next.triggered)
	record.Times.Finished = verdict.Time{Time: triggered.Add(elapsed)}
	record.LatencyMS = verdict.Milliseconds(elapsed)
	if next.frame != nil {
		record.Times.Captured = &verdict.Time{Time: triggered.Add(next.frame.Captured.Sub(next.triggered))}
		record.Image = &verdict.Image{
			SHA256: next.sha256, Width: next.frame.Picture.Width, Height: next.frame.Picture.Height, Kept: stored != nil,
		}
		record.Diagnostics = outcome.Diagnostics(next.read)
	}
	return &record
}
