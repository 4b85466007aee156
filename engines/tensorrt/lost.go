package tensorrt

import (
	"context"
	"errors"
	"fmt"
	"math"

	"gladd/trt/cuda"
)

// LostError says that the GPU cannot be used again in this process: making everything
// anew after a loss failed, or gives something else than before. NVIDIA promises an end
// of such errors for a new process only.
type LostError struct{ Err error }

func (e *LostError) Error() string {
	return fmt.Sprintf("backend %s: the GPU is lost for this process (%v); start gladd again, and the box if that does not help", Name, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// giveUp remembers that nothing can be run any more, and tells whoever can start the
// process again, once. An error that says nothing of the GPU, as a wait that ended, or
// of one that hangs, which is told otherwise, stays what it is. The caller has the turn.
func (b *Backend) giveUp(err error) error {
	var hung *cuda.HungError
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &hung) {
		return err
	}
	gone := &LostError{err}
	if !b.gone.CompareAndSwap(nil, gone) {
		return b.gone.Load()
	}
	b.log.Error("GPU lost: this process cannot use it again", "error", err)
	if b.options.OnLost != nil {
		b.options.OnLost(gone)
	}
	return gone
}

// unlikeTolerance is how far values may be from those that the same engines gave on the
// same GPU, as a share of the largest: kernels may add up in another order. A GPU that
// computes wrong is further off.
const unlikeTolerance = 0.01

// unlike says that networks that were loaded anew give other values for the same
// made-up inputs than when they were first loaded, before the self-test passed on them;
// nil: they give the same. A GPU that computes wrong after a reset would give verdicts.
func unlike(first, now map[string][]float32) error {
	for _, call := range routineCalls {
		want, got := first[call], now[call]
		if len(got) != len(want) {
			return fmt.Errorf("%s: expected %d values as before, found %d", call, len(want), len(got))
		}
		largest, difference := 0.0, 0.0
		for i := range want {
			before, after := float64(want[i]), float64(got[i])
			if math.Float32bits(want[i]) == math.Float32bits(got[i]) && (math.IsNaN(before) || math.IsInf(before, 0)) {
				continue
			}
			largest = max(largest, math.Abs(before)) // a NaN stays in both
			difference = max(difference, math.Abs(before-after))
		}
		if !(difference <= unlikeTolerance*largest) {
			return fmt.Errorf("%s: expected the values as before, found them apart by %.3g of at most %.3g", call, difference, largest)
		}
	}
	return nil
}
