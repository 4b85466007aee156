package tensorrt

import (
	"errors"
	"fmt"

	"gladd/trt"
	"gladd/trt/cuda"
)

// growScratch makes the memory that engines compute in large enough. All engines of
// all models share it, since they run one after the other. An engine
// has one profile for each batch that calls make, and a profile that one shape, so that what an engine
// wants is what the largest call in use takes, and no more.
//
// The models that are loaded move to the new memory: their CUDA graphs know the old
// one's address, and are captured again. The caller has the turn.
func (b *Backend) growScratch(thread *cuda.Thread, bytes int) error {
	if b.scratch != nil && b.scratch.Size() >= bytes {
		return nil
	}
	larger, err := thread.Alloc(bytes)
	if err != nil {
		return fmt.Errorf("memory that the engines compute in: %w", err)
	}
	smaller := b.scratch
	b.scratch = larger
	for networks := range b.networks {
		if networks.loaded == nil {
			continue
		}
		if err := networks.loaded.move(thread); err != nil {
			b.log.Warn("engines do not move to a larger memory; they are loaded anew by their next call", "bundle", networks.bundle.Manifest.Name, "error", err)
			left := networks.loaded
			networks.loaded = nil
			if err := left.free(); err != nil {
				return errors.Join(err, smaller.Free())
			}
		}
	}
	return smaller.Free()
}

// freeScratch frees the memory that engines compute in, if none are loaded. It runs on
// the device's thread.
func (b *Backend) freeScratch() error {
	for networks := range b.networks {
		if networks.loaded != nil {
			return nil
		}
	}
	unused := b.scratch
	b.scratch = nil
	return unused.Free()
}

// move gives all contexts the memory that they compute in now, and warms the calls up
// again.
func (l *loaded) move(thread *cuda.Thread) error {
	for _, routine := range l.routines {
		graph := routine.graph
		routine.graph = nil
		if err := graph.Free(); err != nil {
			return err
		}
	}
	for _, network := range l.networks {
		for _, context := range network.contexts {
			if err := l.compute(context); err != nil {
				return err
			}
		}
	}
	return l.warmUp(thread)
}

// compute tells a context where to compute.
func (l *loaded) compute(context *trt.Context) error {
	scratch := l.backend.scratch
	return context.SetDeviceMemory(scratch.Address(), int64(scratch.Size()))
}
