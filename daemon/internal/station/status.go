package station

import (
	"slices"
	"sync"
	"time"
)

// Status is a station's state, why, and since when.
type Status struct {
	State  State
	Reason string // empty where there is nothing to say
	Since  time.Time
}

// fault is a kind of trouble.
type fault string

const (
	faultModel    fault = "model"
	faultCamera   fault = "camera"
	faultFinished fault = "camera finished"
	faultLedger   fault = "ledger"
	// faultImages is for the station's health only: it inspects all the same.
	faultImages fault = "pictures"
)

// status keeps a station's state.
type status struct {
	mutex   sync.Mutex
	wall    func() time.Time
	changed func()

	started    bool
	ended      bool // with the daemon
	halted     bool // by a command
	prepared   bool
	continuous bool // it triggers by itself
	busy       bool
	faults     map[fault]error

	current Status
	entered []Status // since they were last asked for, the current one last
}

// maxEntered is how many states wait for whoever publishes them; of more, the
// oldest are forgotten.
const maxEntered = 100

func (s *status) init(wall func() time.Time, changed func()) {
	s.wall, s.changed = wall, changed
	s.faults = map[fault]error{}
	s.current = Status{State: Preoperational, Reason: "starting", Since: wall()}
}

// update applies a change and goes to the state that follows from it, by the
// transitions that there are.
func (s *status) update(change func()) {
	s.mutex.Lock()
	change()
	next := s.follows()
	same := next.State == s.current.State && next.Reason == s.current.Reason
	if !same {
		now := s.wall()
		through := way(s.current.State, next.State)
		for i := range len(through) - 1 { // without the last, which has its reason
			s.enter(Status{State: through[i], Since: now})
		}
		next.Since = now
		s.current = next
		s.enter(next)
	}
	s.mutex.Unlock()
	if !same && s.changed != nil {
		s.changed()
	}
}

func (s *status) enter(state Status) {
	if len(s.entered) >= maxEntered {
		s.entered = slices.Delete(s.entered, 0, len(s.entered)-maxEntered+1)
	}
	s.entered = append(s.entered, state)
}

// follows is the state that follows from what is so.
func (s *status) follows() Status {
	kind := s.firstFault()
	switch {
	case s.ended:
		return Status{State: Halted, Reason: "gladd has ended"}
	case s.halted:
		return Status{State: Halted, Reason: "halted by a command; reset ends it"}
	case !s.started:
		return Status{State: Preoperational, Reason: "starting"}
	case kind != "":
		return Status{State: Error, Reason: string(kind) + ": " + s.faults[kind].Error()}
	case !s.prepared:
		return Status{State: Initialized, Reason: "no recipe is prepared"}
	case s.continuous:
		return Status{State: ContinuousExecution}
	case s.busy:
		return Status{State: SingleExecution}
	}
	return Status{State: Ready}
}

// firstFault is the first kind of trouble for which the station cannot inspect;
// empty: it can.
func (s *status) firstFault() fault {
	first := fault("")
	for kind := range s.faults {
		if kind != faultImages && (first == "" || kind < first) {
			first = kind
		}
	}
	return first
}

// fault notes a kind of trouble; nil: it is over.
func (s *status) fault(kind fault, err error) {
	s.update(func() { s.set(kind, err) })
}

// set is fault within an update.
func (s *status) set(kind fault, err error) {
	if err == nil {
		delete(s.faults, kind)
	} else {
		s.faults[kind] = err
	}
}

// now is the state, and the kind of trouble in it.
func (s *status) now() (Status, fault) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.current, s.firstFault()
}

func (s *status) isContinuous() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.continuous && s.started && !s.halted && !s.ended
}

func (s *status) of(kind fault) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.faults[kind]
}

// Status is the station's state now.
func (s *Station) Status() Status {
	s.checkCamera()
	s.status.mutex.Lock()
	defer s.status.mutex.Unlock()
	return s.status.current
}

// Entered are the states since it was last called, in order, the present one
// last. It is for whoever publishes them.
func (s *Station) Entered() []Status {
	s.checkCamera()
	s.status.mutex.Lock()
	defer s.status.mutex.Unlock()
	entered := s.status.entered
	s.status.entered = nil
	if len(entered) == 0 {
		return []Status{s.status.current}
	}
	return entered
}

// checkCamera asks a camera that knows how it is.
func (s *Station) checkCamera() {
	if knows, err := s.camera.alive(); knows {
		s.status.fault(faultCamera, err)
	}
}

// CameraError says what is wrong with the camera; nil: nothing.
func (s *Station) CameraError() error {
	s.checkCamera()
	if err := s.status.of(faultCamera); err != nil {
		return err
	}
	return s.status.of(faultFinished)
}

// CameraFinished says that the camera's pictures are used up.
func (s *Station) CameraFinished() bool { return s.status.of(faultFinished) != nil }

// LedgerError says why nothing can be recorded; nil: it can.
func (s *Station) LedgerError() error { return s.status.of(faultLedger) }

// ModelError says why the recipe that is wanted has no model; nil: it has one, or
// none is wanted.
func (s *Station) ModelError() error { return s.status.of(faultModel) }

// ImagesError says why pictures cannot be stored; nil: they can.
func (s *Station) ImagesError() error { return s.status.of(faultImages) }

// Camera is the name of the station's camera.
func (s *Station) Camera() string { return s.options.Camera.Name }

// Capacity is how many triggers may be without a record.
func (s *Station) Capacity() int { return s.options.Queue + 1 }
