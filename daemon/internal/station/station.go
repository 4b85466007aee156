// Package station is one inspection point: a trigger comes, a frame is taken,
// inspected, and its verdict recorded. Every accepted trigger gets exactly one
// terminal record, whatever fails.
package station

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"gladd/capture"
	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
)

// Inspector inspects one picture.
type Inspector interface {
	Inspect(ctx context.Context, part inspection.Part) inspection.Outcome
}

// Model is what a station inspects with. Method, CalibrationID and ImageThreshold
// are those of its best plan; an outcome that has its own goes before them.
type Model struct {
	Inspector      Inspector // nil: no recipe is prepared
	Class          int
	Recipe         verdict.Recipe
	Bundle         verdict.Bundle
	Method         verdict.Method
	CalibrationID  *string  // nil without a calibration
	ImageThreshold *float64 // the same
	// Release is called when no inspection uses the model any more; nil: nobody
	// waits for it.
	Release func()
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
	// Model is the one at the start; without an inspector no recipe is prepared.
	Model Model
	// ModelError says why the model's recipe could not be prepared at the start.
	ModelError error
	// Prepare loads and checks a recipe's model; its error is [ErrUnknownRecipe]
	// for one that is not configured. Nil: there are no other recipes.
	Prepare func(ctx context.Context, recipe string) (Model, error)
	// Memory is what the ledger kept of the station; see [Recall].
	Memory Memory
	// Continuous says that the station triggers by itself once it is started: a
	// clock or a folder calls Trigger and Offer.
	Continuous bool
	// ByFile says that its parts come as files, which trigger it: it has no camera
	// for others to trigger.
	ByFile bool

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
	Attempts int           // limit for the same part; 0: none
	Part     *Part         // of several views, that the station sees; nil: none

	// Finished hears of every terminal record, after it became durable. It must
	// not keep the outcome, whose memory the next one may get.
	Finished func(Finished)
	// Acquired hears of every frame that was taken. It must not block.
	Acquired func(Acquired)
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
	Name    string // the frame's; empty for a camera's
}

// Acquired tells that a trigger's frame was taken: the part may move on.
type Acquired struct {
	TriggerID string
	CommandID *string
	PartID    *string
	View      *string
	Captured  time.Time // by the wall clock
}

// ErrUnknownRecipe is the error of a recipe that is not configured.
var ErrUnknownRecipe = errors.New("unknown recipe")

// Station is one inspection point.
type Station struct {
	options Options
	source  string // /site/line/station
	// recording is how long the ledger takes for a record, at the longest and
	// lately, in nanoseconds.
	recording atomic.Int64

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
	ran       atomic.Bool
	closed    sync.Once
	camera    camera
	reuse     reusable
	keeping   sync.Mutex // held while a picture is encoded and written

	active atomic.Pointer[prepared] // nil: no recipe is prepared; changed under starting
	memory Memory                   // under starting
	kept   Memory                   // what the ledger has of it; under starting
	untold map[string]verdict.Reply // by command id: replies that could not be kept; under starting
	// ending is held while a part is recorded, and while those under way are
	// aborted: one that is recorded after an abort is aborted.
	ending    sync.Mutex
	preparing *preparation // under way; nil: none; under starting
	underWay  *underWay    // what abort ends; under starting
	resets    int          // under starting

	status      status
	refused     refusalLog
	outstanding atomic.Int64              // accepted triggers without a record
	busySince   atomic.Pointer[time.Time] // when the job under way began; nil: there is none
}

// reusable is an outcome whose memory the next inspection with its model gets.
type reusable struct {
	outcome *inspection.Outcome
	model   *prepared
}

// job is an accepted trigger on its way.
type job struct {
	model     *prepared // it inspects with the one that was active when it was accepted
	underWay  *underWay
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
		captures: make(chan *job, options.Queue+1),
		inspects: make(chan *job, options.Queue+1),
		ended:    make(chan struct{}),
	}
	s.stop, s.stopNow = context.WithCancel(context.Background())
	s.giveUp, s.giveUpNow = context.WithCancel(context.Background())
	s.camera.open = options.Open
	s.status.init(options.Wall, options.Changed)
	s.memory, s.untold = options.Memory, map[string]verdict.Reply{}
	if s.memory == (Memory{}) { // nothing is kept of it
		s.memory.Recipe = options.Model.Recipe.Name
	}
	s.kept = s.memory
	s.status.halted = options.Memory.Halted
	s.underWay = newUnderWay()
	if options.ModelError == nil && options.Model.Inspector != nil {
		s.active.Store(newPrepared(options.Model))
		s.status.prepared = true
	}
	return s
}

// Name is the station's name.
func (s *Station) Name() string { return s.options.Name }

// Source is the origin of the station's verdicts: /site/line/station.
func (s *Station) Source() string { return s.source }

// Run opens the camera and begins to take triggers. A camera that cannot be
// opened is tried again with every trigger.
func (s *Station) Run() {
	s.ran.Store(true)
	go s.capture()
	go s.inspect()
	var cameraFault error
	if s.options.ModelError == nil {
		_, cameraFault = s.camera.get()
	}
	s.status.update(func() {
		s.status.set(faultModel, s.options.ModelError)
		s.status.set(faultCamera, cameraFault)
		s.status.started = true
		s.status.continuous = s.options.Continuous && !s.options.Memory.Stopped
	})
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
		if !s.ran.Load() {
			close(s.ended)
		}
	})
	end := func() { s.status.update(func() { s.status.ended = true }) }
	select {
	case <-s.ended:
		end()
		s.activate(nil)
		return s.camera.close()
	case <-ctx.Done():
	}
	s.giveUpNow()
	end()
	return fmt.Errorf("station %s: %d triggers have no record yet; the next start ends them: %w", s.options.Name, s.outstanding.Load(), ctx.Err())
}

// Outstanding is the number of accepted triggers that have no record yet.
func (s *Station) Outstanding() int { return int(s.outstanding.Load()) }

// BusySince is when the job under way began; zero: there is none.
func (s *Station) BusySince() time.Time {
	if began := s.busySince.Load(); began != nil {
		return *began
	}
	return time.Time{}
}

// goesOn notes that a job begins, or still gets on.
func (s *Station) goesOn() {
	now := time.Now()
	s.busySince.Store(&now)
}

// Deadline is how long an inspection may take.
func (s *Station) Deadline() time.Duration { return s.options.Deadline }

// Model is what the station inspects with; without an inspector no recipe is
// prepared.
func (s *Station) Model() Model {
	if active := s.active.Load(); active != nil {
		return active.Model
	}
	return Model{}
}

var errShutdown = errors.New("gladd was told to end before the inspection began")

// CameraProblem notes what is wrong with the camera; nil: nothing.
func (s *Station) CameraProblem(err error) { s.status.fault(faultCamera, err) }

// LedgerProblem notes why nothing can be recorded; nil: it can, and what could not
// be kept is.
func (s *Station) LedgerProblem(err error) {
	s.status.fault(faultLedger, err)
	if err == nil {
		s.keepMemory()
	}
}
