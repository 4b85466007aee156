package station

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"gladd/capture"
	"gladd/daemon/internal/verdict"
)

// reopenEvery is how often at most a source that cannot be opened is tried.
const reopenEvery = time.Second

// camera is a station's source of frames, opened when it can be.
type camera struct {
	open func() (capture.Source, error)

	mutex  sync.Mutex
	source capture.Source // nil until it was opened
	failed error
	tried  time.Time
	anew   bool // the source has failed and is to be opened again
}

// get opens the source, if it is not open and was not tried just now.
func (c *camera) get() (capture.Source, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.source == nil && time.Since(c.tried) > reopenEvery {
		c.source, c.failed = c.open()
		c.tried = time.Now()
	}
	return c.source, c.failed
}

// alive says what is wrong with the source, as far as it knows by itself.
func (c *camera) alive() (knows bool, err error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	live, knows := c.source.(interface{ Alive() error })
	if !knows {
		return false, nil
	}
	return true, live.Alive()
}

// again has the source opened anew before the next frame is taken: whoever is
// taking one now has it until then.
func (c *camera) again() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.anew, c.tried = c.source != nil, time.Time{}
}

// closeForAgain closes the source that is to be opened anew.
func (c *camera) closeForAgain() error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if !c.anew {
		return nil
	}
	c.anew = false
	source := c.source
	c.source = nil
	return source.Close()
}

// finished says that the source has no more pictures.
func (c *camera) finished() bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	ends, knows := c.source.(interface{ Finished() bool })
	return knows && ends.Finished()
}

func (c *camera) close() error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.source == nil {
		return nil
	}
	return c.source.Close()
}

// errFinished is the fault of a source whose pictures are used up.
var errFinished = errors.New("all its pictures were given")

// capture takes the frame of every accepted trigger at once, in the order in
// which they came.
func (s *Station) capture() {
	defer close(s.inspects)
	for taken := range s.captures {
		s.take(taken)
		s.inspects <- taken
	}
}

// take takes the frame of one trigger.
func (s *Station) take(taken *job) {
	defer func() {
		if caught := recover(); caught != nil {
			taken.failed = s.panicked("a capture", caught)
		}
	}()
	if taken.failed = s.over(taken); taken.failed != nil {
		return
	}
	ctx, cancel := context.WithDeadline(s.stop, taken.deadline.Add(-s.reserve()))
	defer cancel()
	defer context.AfterFunc(taken.underWay, cancel)()
	began := time.Now()
	frame, err := s.grab(ctx, taken.file)
	taken.read = time.Since(began)
	if err != nil {
		if taken.failed = s.over(taken); taken.failed == nil {
			taken.failed = &verdict.Reason{Code: verdict.ReasonCamera, Detail: err.Error()}
		}
		return
	}
	taken.frame = frame
	s.acquired(taken)
	sum := sha256.Sum256(frame.Picture.RGB)
	taken.sha256 = hex.EncodeToString(sum[:])
	taken.picture = s.keep(taken)
}

// over says that a part is not to be inspected any more, and why.
func (s *Station) over(one *job) *verdict.Reason {
	if s.stop.Err() != nil {
		return &verdict.Reason{Code: verdict.ReasonShutdown, Detail: errShutdown.Error()}
	}
	return one.underWay.aborted()
}

// acquired tells that a part may move on.
func (s *Station) acquired(taken *job) {
	if s.options.Acquired == nil {
		return
	}
	s.options.Acquired(Acquired{
		TriggerID: taken.draft.TriggerID, CommandID: taken.draft.CommandID, PartID: taken.draft.Part.ID, View: taken.draft.View,
		Captured: taken.draft.Times.Triggered.Add(taken.frame.Captured.Sub(taken.triggered)),
	})
}

// grab takes a frame, from the file that the trigger brought or the camera,
// and keeps the camera's state.
func (s *Station) grab(ctx context.Context, file string) (*capture.Frame, error) {
	if file != "" {
		return capture.ReadFrame(file)
	}
	if err := s.camera.closeForAgain(); err != nil {
		s.options.Log.Warn("camera closed with an error", "station", s.options.Name, "error", err)
	}
	source, err := s.camera.get()
	if err != nil {
		s.status.fault(faultCamera, err)
		return nil, err
	}
	frame, err := source.Grab(ctx)
	if errors.Is(err, io.EOF) {
		s.status.fault(faultFinished, errFinished)
		return nil, fmt.Errorf("camera %s: %w", s.options.Camera.Name, errFinished)
	}
	if s.camera.finished() {
		s.status.fault(faultFinished, errFinished)
	}
	if err == nil || ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) { // not because it was aborted
		s.status.fault(faultCamera, err)
	}
	return frame, err
}
