package cuda

import (
	"errors"
	"fmt"
)

// Thread makes what lives on the device. It is given to a function by
// [Device.Do] and works in such functions only.
type Thread struct{ device *Device }

// Device is the device whose thread this is.
func (t *Thread) Device() *Device { return t.device }

// MemoryInfo is the device's memory in bytes: what is free, other programs'
// use counted, and all.
func (t *Thread) MemoryInfo() (free, total uint64, err error) {
	if err := t.device.use("memory info"); err != nil {
		return 0, 0, err
	}
	free, total, code := t.device.native.memoryInfo()
	if err := t.device.check("cuMemGetInfo_v2", code); err != nil {
		return 0, 0, t.device.wrap("memory info", err)
	}
	return free, total, nil
}

// resource is what streams, events, memories and graphs have in common.
type resource struct {
	device     *Device
	kind       string // "stream"
	generation int64  // of the device when it was made
	freed      bool   // used on the thread only
}

// owned is a resource that the device counts.
type owned interface {
	// count adds it.
	count(live *Live)
	// destroy gives it back to the driver, on the thread.
	destroy() error
	base() *resource
}

func (r *resource) base() *resource { return r }

// use reports why a call cannot be made now, on the thread and with these
// resources; nil: it can.
func (d *Device) use(what string, resources ...*resource) error {
	if err := d.usable(resources); err != nil {
		return d.wrap(what, err)
	}
	if err := d.Lost(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (d *Device) usable(resources []*resource) error {
	if !d.onThread() {
		select {
		case <-d.done:
			return fmt.Errorf("the device %w", ErrClosed)
		default:
			return ErrOutsideDo
		}
	}
	for _, r := range resources {
		switch {
		case r == nil:
			return errors.New("expected a stream, an event, a memory or a graph, found nil")
		case r.device != d:
			return fmt.Errorf("the %s is of device %d, expected one of this device", r.kind, r.device.properties.Ordinal)
		case r.generation != d.generation.Load():
			return fmt.Errorf("the %s %w", r.kind, ErrStale)
		case r.freed:
			return fmt.Errorf("the %s %w", r.kind, ErrFreed)
		}
	}
	return nil
}

func (d *Device) resource(kind string) resource {
	return resource{device: d, kind: kind, generation: d.generation.Load()}
}

func (d *Device) keep(made owned) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.live[made] = struct{}{}
}

// forget counts a resource no more, and reports whether the context works.
func (d *Device) forget(made owned) (works bool) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	delete(d.live, made)
	return d.lost == nil
}

// free gives a resource back once; one that a reset or Close took away, or
// whose context is lost, is only forgotten.
func (d *Device) free(made owned) error {
	r := made.base()
	if r.generation != d.generation.Load() {
		return nil
	}
	if !d.onThread() {
		return d.wrap("free "+r.kind, ErrOutsideDo)
	}
	if r.freed {
		return nil
	}
	r.freed = true
	if works := d.forget(made); !works {
		return nil
	}
	if err := made.destroy(); err != nil {
		return d.wrap("free "+r.kind, err)
	}
	return nil
}

// freeAll frees all that is left: graphs, events and streams before the
// memories that they may use.
func (d *Device) freeAll() error {
	d.mutex.Lock()
	var first, last []owned
	for made := range d.live {
		switch made.(type) {
		case *Memory, *Pinned:
			last = append(last, made)
		default:
			first = append(first, made)
		}
	}
	d.mutex.Unlock()
	var err error
	for _, made := range append(first, last...) {
		err = errors.Join(err, d.free(made))
	}
	return err
}

// Live counts what was made and is not freed. It may be called anywhere.
func (d *Device) Live() Live {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	var live Live
	for made := range d.live {
		made.count(&live)
	}
	return live
}
