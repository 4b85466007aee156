package station

import (
	"slices"
	"sync"
	"time"
)

// State is a station's state, in the words of OPC 40100-1.
type State string

// The states.
const (
	Preoperational  State = "Preoperational"  // starting
	Ready           State = "Ready"           // takes triggers
	SingleExecution State = "SingleExecution" // inspects, and has no room for a trigger
	Error           State = "Error"           // something is broken; the reason says what
	Halted          State = "Halted"          // ended
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
	running bool
	halted  bool
	busy    bool
	faults  map[fault]error
	current Status
}

func (s *status) init(wall func() time.Time, changed func()) {
	s.wall, s.changed = wall, changed
	s.faults = map[fault]error{}
	s.current = Status{State: Preoperational, Reason: "starting", Since: wall()}
}

// update applies a change and works out the state.
func (s *status) update(change func()) {
	s.mutex.Lock()
	change()
	next := Status{State: Ready}
	switch {
	case s.halted:
		next = Status{State: Halted, Reason: "gladd has ended"}
	case !s.running:
		next = Status{State: Preoperational, Reason: "starting"}
	case s.reason() != "":
		next = Status{State: Error, Reason: s.reason()}
	case s.busy:
		next.State = SingleExecution
	}
	same := next.State == s.current.State && next.Reason == s.current.Reason
	if !same {
		next.Since = s.wall()
		s.current = next
	}
	s.mutex.Unlock()
	if !same && s.changed != nil {
		s.changed()
	}
}

// reason is why the station cannot inspect; empty: it can.
func (s *status) reason() string {
	var kinds []fault
	for kind := range s.faults {
		if kind != faultImages {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) == 0 {
		return ""
	}
	slices.Sort(kinds)
	return string(kinds[0]) + ": " + s.faults[kinds[0]].Error()
}

// fault notes a kind of trouble; nil: it is over.
func (s *status) fault(kind fault, err error) {
	s.update(func() {
		if err == nil {
			delete(s.faults, kind)
		} else {
			s.faults[kind] = err
		}
	})
}

func (s *status) setBusy(busy bool) { s.update(func() { s.busy = busy }) }
func (s *status) start()            { s.update(func() { s.running = true }) }
func (s *status) halt()             { s.update(func() { s.halted = true }) }

func (s *status) started() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.running
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

// ModelError says why there is no model; nil: there is one.
func (s *Station) ModelError() error { return s.options.ModelError }

// ImagesError says why pictures cannot be stored; nil: they can.
func (s *Station) ImagesError() error { return s.status.of(faultImages) }

// Camera is the name of the station's camera.
func (s *Station) Camera() string { return s.options.Camera.Name }

// Capacity is how many triggers may be without a record.
func (s *Station) Capacity() int { return s.options.Queue + 1 }
