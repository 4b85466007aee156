package tensorrt

import (
	"errors"
	"io/fs"
	"strconv"
	"time"

	"gladd/engines"
	"gladd/trt"
)

// compiled are the kernels that a context of TensorRT for RTX compiled, which are kept
// beside the engine: else they are compiled anew at every start, which takes
// seconds to minutes.
type compiled struct {
	key  Key    // of the kernels
	plan string // the digest of the plan that they belong to
	size int    // of those that the context was given; 0: it took none
}

// kernelsKey is that of the kernels of a plan's context for a batch.
func kernelsKey(plan Key, batch string) Key {
	plan.Batches = "kernels of " + batch
	return plan
}

// newContext makes a context with the kernels that an earlier one left behind.
func (l *loaded) newContext(name engines.GraphName, batch int) (*trt.Context, error) {
	network := l.networks[name]
	if !l.backend.library.CompilesKernels() {
		return network.engine.NewContext()
	}
	made := &compiled{key: kernelsKey(network.entry.Key, strconv.Itoa(batch)), plan: network.entry.Plan.SHA256}
	kernels, entry, err := l.backend.cache.read(made.key, kernelsSuffix)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		l.backend.log.Warn("kernels of an earlier start cannot be used and are compiled again", "network", string(name), "error", err)
	case entry.Of != made.plan:
		kernels = nil // those of an engine that was built again
	}
	context, taken, err := network.engine.NewContextWith(kernels)
	if err != nil {
		return nil, err
	}
	if taken {
		made.size = len(kernels)
	} else {
		l.backend.log.Info("TensorRT compiles an engine's kernels for this GPU", "network", string(name), "batch", batch)
	}
	network.compiled[batch] = made
	return context, nil
}

// keepKernels writes down what was compiled while the calls warmed up.
func (l *loaded) keepKernels() error {
	for name, network := range l.networks {
		for batch, each := range network.compiled {
			kernels, err := network.contexts[batch].Kernels()
			if err != nil {
				return err
			}
			if len(kernels) <= each.size {
				continue // nothing new
			}
			manifest := l.bundle.Manifest
			err = l.backend.cache.put(Entry{
				Key: each.key, Of: each.plan, At: time.Now().UTC(),
				For: purpose{Bundle: manifest.Name, Version: manifest.Version, Network: string(name)},
			}, kernelsSuffix, kernels)
			if err != nil {
				l.backend.log.Warn("kernels cannot be kept: the next start compiles them again", "network", string(name), "error", err)
				continue
			}
			each.size = len(kernels)
		}
	}
	return nil
}
