package cuda

import (
	"errors"
	"fmt"
)

// captureThreadLocal of enum CUstreamCaptureMode: only calls of the device's
// own thread can spoil a capture.
const captureThreadLocal = 1

// Graph is work that was captured once and is launched as a whole.
type Graph struct {
	resource
	executable uintptr
}

// Capture makes a graph of the work that the function enqueues in the stream;
// nothing of it runs yet. Allocating and synchronizing in the function spoil
// the capture. The capture ends in any case, and the stream can be used again.
func (t *Thread) Capture(stream *Stream, record func() error) (*Graph, error) {
	const what = "capture a graph"
	d := t.device
	if err := d.use(what, stream.part()); err != nil {
		return nil, err
	}
	if d.capturing != nil {
		return nil, d.wrap(what, errors.New("a capture is under way already; end it first"))
	}
	if err := d.told(what, "cuStreamBeginCapture_v2", d.native.beginCapture(stream.handle, captureThreadLocal)); err != nil {
		return nil, err
	}
	captured, err := d.record(stream, record)
	if err != nil {
		return nil, d.wrap(what, err)
	}
	executable, code := d.native.instantiateGraph(captured)
	if code != codeSuccess {
		err = d.check("cuGraphInstantiateWithFlags", code)
	}
	// What was instantiated does not need it any more.
	err = errors.Join(err, d.check("cuGraphDestroy", d.native.destroyGraph(captured)))
	if executable == 0 || code != codeSuccess {
		return nil, d.wrap(what, err)
	}
	graph := &Graph{resource: d.resource("graph"), executable: executable}
	d.keep(graph)
	if err != nil {
		return nil, errors.Join(d.wrap(what, err), graph.Free())
	}
	return graph, nil
}

// record runs the function and ends the capture, even where the function
// fails, panics or ends the goroutine.
func (d *Device) record(stream *Stream, record func() error) (captured uintptr, err error) {
	d.capturing = stream
	returned := false
	end := func() (uintptr, error) {
		d.capturing = nil
		captured, code := d.native.endCapture(stream.handle)
		return captured, d.check("cuStreamEndCapture", code)
	}
	discard := func() {
		// The function's failure is what counts: a capture that it spoilt cannot
		// end well.
		if captured, _ := end(); captured != 0 {
			_ = d.native.destroyGraph(captured)
		}
	}
	defer func() {
		if !returned {
			discard()
		}
	}()
	err = record()
	returned = true
	if err != nil {
		discard()
		return 0, fmt.Errorf("while it was captured: %w", err)
	}
	captured, err = end()
	if err == nil && captured == 0 {
		err = errors.New("cuStreamEndCapture gave no graph; the stream was captured by others, too")
	}
	return captured, err
}

// Launch enqueues the graph's work in the stream.
func (g *Graph) Launch(stream *Stream) error {
	const what = "launch a graph"
	if g == nil {
		return errors.New("CUDA graph: expected one of Thread.Capture, found nil")
	}
	d := g.device
	if err := d.use(what, &g.resource, stream.part()); err != nil {
		return err
	}
	return d.told(what, "cuGraphLaunch", d.native.launchGraph(g.executable, stream.handle))
}

// Free gives the graph back. It may be called twice.
func (g *Graph) Free() error {
	if g == nil {
		return nil
	}
	return g.device.free(g)
}

func (g *Graph) destroy() error {
	return g.device.check("cuGraphExecDestroy", g.device.native.destroyExecutable(g.executable))
}

func (g *Graph) count(live *Live) { live.Graphs++ }
