package cuda

import (
	"errors"
	"fmt"
)

// Flags of streams and events: enum CUstream_flags and CUevent_flags.
const (
	streamNonBlocking  = 1 // it does not wait for the default stream
	eventDisableTiming = 2
)

// Stream is a queue of work on the device. It is never the default stream.
type Stream struct {
	resource
	handle uintptr
}

// NewStream makes a stream that runs beside all others.
func (t *Thread) NewStream() (*Stream, error) {
	d := t.device
	if err := d.use("make a stream"); err != nil {
		return nil, err
	}
	handle, code := d.native.createStream(streamNonBlocking)
	if code != codeSuccess {
		return nil, d.told("make a stream", "cuStreamCreate", code)
	}
	stream := &Stream{resource: d.resource("stream"), handle: handle}
	d.keep(stream)
	return stream, nil
}

// Handle is the CUstream, for libraries that take one.
func (s *Stream) Handle() uintptr { return s.handle }

// Synchronize waits until the stream's work is done, and returns the error of
// that work, too.
func (s *Stream) Synchronize() error {
	const what = "synchronize a stream"
	if s == nil {
		return errNoStream
	}
	if err := s.device.use(what, &s.resource); err != nil {
		return err
	}
	return s.device.told(what, "cuStreamSynchronize", s.device.native.synchronizeStream(s.handle))
}

// Query reports whether the stream's work is done.
func (s *Stream) Query() (done bool, err error) {
	const what = "query a stream"
	if s == nil {
		return false, errNoStream
	}
	if err := s.device.use(what, &s.resource); err != nil {
		return false, err
	}
	code := s.device.native.queryStream(s.handle)
	if code == codeNotReady {
		return false, nil
	}
	if err := s.device.told(what, "cuStreamQuery", code); err != nil {
		return false, err
	}
	return true, nil
}

var errNoStream = errors.New("CUDA stream: expected one of Thread.NewStream, found nil")

// Free gives the stream back; its work is still done. It may be called twice.
func (s *Stream) Free() error {
	if s == nil {
		return nil
	}
	if s.device.onThread() && s.device.capturing == s {
		return s.device.wrap("free stream", errors.New("its work is captured now; free it after the capture"))
	}
	return s.device.free(s)
}

func (s *Stream) destroy() error {
	return s.device.check("cuStreamDestroy_v2", s.device.native.destroyStream(s.handle))
}

func (s *Stream) count(live *Live) { live.Streams++ }

func (s *Stream) part() *resource {
	if s == nil {
		return nil
	}
	return &s.resource
}

// Event is a mark in a stream.
type Event struct {
	resource
	handle   uintptr
	timing   bool
	recorded bool
}

// NewEvent makes an event. One without timing costs less.
func (t *Thread) NewEvent(timing bool) (*Event, error) {
	d := t.device
	if err := d.use("make an event"); err != nil {
		return nil, err
	}
	flags := uint(eventDisableTiming)
	if timing {
		flags = 0
	}
	handle, code := d.native.createEvent(flags)
	if code != codeSuccess {
		return nil, d.told("make an event", "cuEventCreate", code)
	}
	event := &Event{resource: d.resource("event"), handle: handle, timing: timing}
	d.keep(event)
	return event, nil
}

// Handle is the CUevent, for libraries that take one.
func (e *Event) Handle() uintptr { return e.handle }

// Record marks the stream's place: the event happens once the work so far is
// done.
func (e *Event) Record(stream *Stream) error {
	const what = "record an event"
	if e == nil {
		return errNoEvent
	}
	if err := e.device.use(what, &e.resource, stream.part()); err != nil {
		return err
	}
	if err := e.device.told(what, "cuEventRecord", e.device.native.recordEvent(e.handle, stream.handle)); err != nil {
		return err
	}
	e.recorded = true
	return nil
}

// Synchronize waits until the event has happened.
func (e *Event) Synchronize() error {
	const what = "synchronize an event"
	if e == nil {
		return errNoEvent
	}
	if err := e.device.use(what, &e.resource); err != nil {
		return err
	}
	if !e.recorded {
		return e.device.wrap(what, errors.New("the event was never recorded; record it in a stream first"))
	}
	return e.device.told(what, "cuEventSynchronize", e.device.native.synchronizeEvent(e.handle))
}

// ElapsedMilliseconds is the time from start to this event. Both must have
// timing and have happened; the resolution is about 0.5 microseconds.
func (e *Event) ElapsedMilliseconds(start *Event) (float64, error) {
	const what = "time between events"
	if e == nil || start == nil {
		return 0, errNoEvent
	}
	d := e.device
	if err := d.use(what, &e.resource, &start.resource); err != nil {
		return 0, err
	}
	for _, event := range []*Event{start, e} {
		if !event.timing || !event.recorded {
			return 0, d.wrap(what, fmt.Errorf("expected events with timing (Thread.NewEvent(true)) that were recorded; found timing %t, recorded %t", event.timing, event.recorded))
		}
	}
	milliseconds, code := d.native.elapsed(start.handle, e.handle)
	if code == codeNotReady {
		return 0, d.wrap(what, fmt.Errorf("an event has not happened yet; synchronize it first: %w", d.check("cuEventElapsedTime", code)))
	}
	if err := d.told(what, "cuEventElapsedTime", code); err != nil {
		return 0, err
	}
	return float64(milliseconds), nil
}

var errNoEvent = errors.New("CUDA event: expected one of Thread.NewEvent, found nil")

// Free gives the event back. It may be called twice.
func (e *Event) Free() error {
	if e == nil {
		return nil
	}
	return e.device.free(e)
}

func (e *Event) destroy() error {
	return e.device.check("cuEventDestroy_v2", e.device.native.destroyEvent(e.handle))
}

func (e *Event) count(live *Live) { live.Events++ }
