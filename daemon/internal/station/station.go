// Package station is one inspection point: a trigger comes, a frame is taken,
// inspected, and its verdict recorded. Every accepted trigger gets exactly one
// terminal record, whatever fails.
package station

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"gladd/capture"
	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
)

// Inspector inspects one picture.
type Inspector interface {
	Inspect(ctx context.Context, part inspection.Part) inspection.Outcome
}

// Model is what a station inspects with.
type Model struct {
	Inspector      Inspector
	Class          int
	Recipe         verdict.Recipe
	Bundle         verdict.Bundle
	Method         verdict.Method
	CalibrationID  *string  // nil without a calibration
	ImageThreshold *float64 // the same
}

// KeepImages says which pictures are stored.
type KeepImages int

// The pictures that are stored.
const (
	KeepAll KeepImages = iota
	KeepNotOK
	KeepNone
)

// Options of a station.
type Options struct {
	Site, Line, Name string
	Model            Model
	// ModelError says why there is no model; nil: there is one.
	ModelError error

	// Open opens the camera.
	Open      func() (capture.Source, error)
	Camera    verdict.Camera
	Simulated bool // the pictures come from files

	Turns    *Turns
	Ledger   *ledger.Ledger
	Images   *ledger.Images
	Keep     KeepImages
	Deadline time.Duration // from the trigger to the durable record
	Queue    int           // frames that may wait

	// Finished hears of every terminal record, after it became durable.
	Finished func(Finished)
	// Changed hears that the status may have changed. It must not block.
	Changed func()
	// Wall is the wall clock; nil: the system's.
	Wall func() time.Time
	// Clock says how far the wall clock can be trusted.
	Clock func() verdict.Clock
	Log   *slog.Logger
}

// Finished is a terminal record and what led to it.
type Finished struct {
	Source  string // of the events: /site/line/station
	Record  *verdict.Record
	Outcome inspection.Outcome
	File    string // the frame's file; empty for a camera's
}

// Station is one inspection point.
type Station struct {
	options Options
	source  string // /site/line/station
	reserve time.Duration

	starting sync.Mutex // held from the decision on a trigger to its place in the queue
	captures chan *job
	inspects chan *job
	ended    chan struct{} // closed when the last job is recorded
	// stop is cancelled when no waiting job shall begin any more.
	stop    context.Context
	stopNow context.CancelFunc
	// giveUp is cancelled when what cannot be recorded is left to the next
	// start.
	giveUp    context.Context
	giveUpNow context.CancelFunc
	closed    sync.Once
	camera    camera

	status      status
	refused     refusalLog
	outstanding atomic.Int64 // accepted triggers without a record
	busySince   atomic.Int64 // Unix nanoseconds at which the job under way began; 0: none
}

// job is an accepted trigger on its way.
type job struct {
	draft     verdict.Record
	triggered time.Time // with a monotonic reading
	deadline  time.Time // of the record
	file      string    // the frame's file, for triggers that bring one
	frame     *capture.Frame
	read      time.Duration
	sha256    string
	picture   *keptPicture
	failed    *verdict.Reason // the frame could not be taken
}

// New makes a station. It takes triggers once it was started.
func New(options Options) *Station {
	if options.Wall == nil {
		options.Wall = time.Now
	}
	if options.Clock == nil {
		options.Clock = SystemClock
	}
	s := &Station{
		options:  options,
		source:   "/" + options.Site + "/" + options.Line + "/" + options.Name,
		reserve:  min(50*time.Millisecond, options.Deadline/10),
		captures: make(chan *job, options.Queue+1),
		inspects: make(chan *job, options.Queue+1),
		ended:    make(chan struct{}),
	}
	s.stop, s.stopNow = context.WithCancel(context.Background())
	s.giveUp, s.giveUpNow = context.WithCancel(context.Background())
	s.camera.open = options.Open
	s.status.init(options.Wall, options.Changed)
	return s
}

// Name is the station's name.
func (s *Station) Name() string { return s.options.Name }

// Source is the origin of the station's verdicts: /site/line/station.
func (s *Station) Source() string { return s.source }

// Run opens the camera and begins to take triggers. A camera that cannot be
// opened is tried again with every trigger.
func (s *Station) Run() {
	if s.options.ModelError != nil {
		s.status.fault(faultModel, s.options.ModelError)
	} else {
		_, err := s.camera.get()
		s.status.fault(faultCamera, err)
	}
	go s.capture()
	go s.inspect()
	s.status.start()
}

// Start decides on a trigger that came at a time and, if it is accepted,
// records it and sends it on its way. A trigger may bring the file of its
// frame.
func (s *Station) Start(start verdict.Start, received time.Time, file string) verdict.Reply {
	s.starting.Lock()
	defer s.starting.Unlock()
	if start.CommandID != nil {
		first, err := s.options.Ledger.Answered(s.source, *start.CommandID)
		if err != nil {
			return s.refuse(start.CommandID, verdict.RefusedLedger, err.Error())
		}
		if first != nil {
			return *first
		}
	}
	if code, detail := s.decide(start); code != "" {
		return s.refuse(start.CommandID, code, detail)
	}
	return s.accept(start, received, file)
}

// accept records a trigger and sends it on its way.
func (s *Station) accept(start verdict.Start, received time.Time, file string) verdict.Reply {
	accepted := &job{
		draft:     s.draft(start, received),
		triggered: received,
		deadline:  received.Add(s.options.Deadline),
		file:      file,
	}
	reply, repeated, err := s.options.Ledger.Begin(s.source, &accepted.draft)
	s.status.fault(faultLedger, err)
	if err != nil {
		return s.refuse(start.CommandID, verdict.RefusedLedger, "the trigger cannot be recorded: "+err.Error())
	}
	if repeated {
		return reply
	}
	s.refused.over(s.options.Log, s.options.Name)
	s.outstanding.Add(1)
	s.status.setBusy(s.full())
	s.captures <- accepted // as many as there is room for: see decide
	return reply
}

// full says that no further trigger has room: one inspection under way, and
// the queue.
func (s *Station) full() bool { return s.outstanding.Load() > int64(s.options.Queue) }

// decide returns the code of a refusal; empty: the trigger is accepted.
func (s *Station) decide(start verdict.Start) (verdict.RefusalCode, string) {
	now := s.options.Wall()
	switch {
	case start.ExpiresAt != nil && now.After(*start.ExpiresAt):
		return verdict.RefusedExpired, fmt.Sprintf("it expired at %s, and it is %s", verdict.Time{Time: *start.ExpiresAt}, verdict.Time{Time: now})
	case s.stop.Err() != nil:
		return verdict.RefusedNotReady, "gladd is shutting down"
	case !s.status.started():
		return verdict.RefusedNotReady, "the station is starting"
	case s.options.ModelError != nil:
		return verdict.RefusedNotReady, "there is no model: " + s.options.ModelError.Error()
	case start.Recipe != nil && *start.Recipe != s.options.Model.Recipe.Name:
		return verdict.RefusedUnknownRecipe, fmt.Sprintf("expected the active recipe %s, found %q", s.options.Model.Recipe.Name, *start.Recipe)
	case s.full():
		return verdict.RefusedBusy, fmt.Sprintf("%d parts wait already, as many as the queue holds", s.options.Queue)
	}
	return "", ""
}

// Invalid refuses a command that cannot be understood.
func (s *Station) Invalid(commandID *string, cause error) verdict.Reply {
	s.starting.Lock()
	defer s.starting.Unlock()
	return s.refuse(commandID, verdict.RefusedInvalid, cause.Error())
}

func (s *Station) refuse(commandID *string, code verdict.RefusalCode, detail string) verdict.Reply {
	reply, err := s.options.Ledger.Refuse(s.source, verdict.Reply{
		CommandID: commandID,
		Reason:    &verdict.Refusal{Code: code, Detail: detail},
	})
	if err != nil {
		s.status.fault(faultLedger, err)
	}
	s.refused.tell(s.options.Log, s.options.Name, code, detail)
	return reply
}

// draft is the record of a trigger as far as it is known at once.
func (s *Station) draft(start verdict.Start, received time.Time) verdict.Record {
	model := s.options.Model
	record := verdict.Record{
		TriggerID:      ulid.Make().String(),
		CommandID:      start.CommandID,
		LedgerID:       s.options.Ledger.ID(),
		Kind:           "view",
		View:           start.View,
		Attempt:        1,
		MeasurementID:  start.MeasurementID,
		Purpose:        verdict.Production,
		IsSimulated:    s.options.Simulated,
		Evaluation:     verdict.Undefined,
		ResultState:    verdict.Failed,
		ImageThreshold: model.ImageThreshold,
		Recipe:         model.Recipe,
		Bundle:         model.Bundle,
		CalibrationID:  model.CalibrationID,
		Method:         model.Method,
		Camera:         s.options.Camera,
		Context:        start.Context,
		Times:          verdict.Times{Triggered: verdict.Time{Time: s.options.Wall().Add(-time.Since(received))}},
		Clock:          s.options.Clock(),
	}
	if start.PartID != nil {
		byTrigger := "trigger"
		record.Part.ID, record.Part.IDSource = start.PartID, &byTrigger
	}
	if start.Purpose != nil {
		record.Purpose = *start.Purpose
	}
	if record.Context == nil {
		record.Context = []byte("{}")
	}
	return record
}

// Stop ends the station: no more triggers, waiting ones become Undefined,
// reason shutdown, the inspection under way ends within its deadline. It
// returns when every accepted trigger has its record, or ctx ends.
func (s *Station) Stop(ctx context.Context) error {
	s.stopNow()
	s.closed.Do(func() {
		s.starting.Lock() // a trigger under decision goes first
		defer s.starting.Unlock()
		close(s.captures)
		if !s.status.started() {
			close(s.ended)
		}
	})
	select {
	case <-s.ended:
		s.status.halt()
		return s.camera.close()
	case <-ctx.Done():
	}
	s.giveUpNow()
	s.status.halt()
	return fmt.Errorf("station %s: %d triggers have no record yet; the next start ends them: %w", s.options.Name, s.outstanding.Load(), ctx.Err())
}

// Outstanding is the number of accepted triggers that have no record yet.
func (s *Station) Outstanding() int { return int(s.outstanding.Load()) }

// BusySince is when the job under way began; zero: there is none.
func (s *Station) BusySince() time.Time {
	began := s.busySince.Load()
	if began == 0 {
		return time.Time{}
	}
	return time.Unix(0, began)
}

// Deadline is how long an inspection may take.
func (s *Station) Deadline() time.Duration { return s.options.Deadline }

// Model is what the station inspects with.
func (s *Station) Model() Model { return s.options.Model }

var errShutdown = errors.New("gladd was told to end before the inspection began")

// Offer triggers with a file, if there is room now. A file with an id that was
// offered before is done already. The result says whether the file is settled;
// if not, it is to be offered again.
func (s *Station) Offer(id, path, rel string) bool {
	s.starting.Lock()
	defer s.starting.Unlock()
	sum := sha256.Sum256([]byte(id))
	command := "file-" + hex.EncodeToString(sum[:16])
	if first, err := s.options.Ledger.Answered(s.source, command); err != nil || first != nil {
		return first != nil
	}
	// Not a refusal: nobody asked but the folder, which waits.
	if code, _ := s.decide(verdict.Start{}); code != "" {
		return false
	}
	context, err := verdict.JSON(map[string]string{"file": strings.ToValidUTF8(rel, "\uFFFD")})
	if err != nil || len(context) > verdict.MaxContextBytes {
		context = nil
	}
	return s.accept(verdict.Start{CommandID: &command, Context: context}, time.Now(), path).Accepted
}

// CameraProblem notes what is wrong with the camera; nil: nothing.
func (s *Station) CameraProblem(err error) { s.status.fault(faultCamera, err) }
