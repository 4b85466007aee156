package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// noTimestep stands for calls outside of the trajectory.
const noTimestep = -1

// CallError says that a call of [Models] failed.
type CallError struct {
	Call     string // the call of [Models], in words
	Timestep int    // of the step, -1 outside of the trajectory
	Err      error
}

func (e *CallError) Error() string { return where(e.Call, e.Timestep) + ": " + e.Err.Error() }
func (e *CallError) Unwrap() error { return e.Err }

// NumericError says that a network returned, or a denoising step led to, a
// value that is not a finite number.
type NumericError struct {
	Call     string // the call of [Models], or "denoise" for a step's result
	Timestep int    // of the step, -1 outside of the trajectory
	Index    int    // of the first such value in the output
	Value    float32
	Err      error // of the call that saw it first; nil: it was in the output
}

func (e *NumericError) Error() string {
	if e.Err != nil {
		return where(e.Call, e.Timestep) + ": " + e.Err.Error()
	}
	return fmt.Sprintf("%s: expected finite values, found %v at index %d of the output", where(e.Call, e.Timestep), e.Value, e.Index)
}

func (e *NumericError) Unwrap() error { return e.Err }

func where(call string, timestep int) string {
	if timestep == noTimestep {
		return call
	}
	return fmt.Sprintf("%s at timestep %d", call, timestep)
}

// call runs one call of the models unless the context is done, adds its time
// to a stage's and makes sure that its output is finite.
func call(ctx context.Context, name string, timestep int, stage *time.Duration, output []float32, run func() error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", where(name, timestep), err)
	}
	began := time.Now()
	err := run()
	*stage += time.Since(began)
	if err != nil {
		return failed(name, timestep, err)
	}
	return finite(name, timestep, output)
}

// failed is the error of a call of the models.
func failed(name string, timestep int, err error) error {
	var notFinite interface {
		error
		NotFinite() (index int, value float32)
	}
	if errors.As(err, &notFinite) {
		index, value := notFinite.NotFinite()
		return &NumericError{Call: name, Timestep: timestep, Index: index, Value: value, Err: err}
	}
	return &CallError{Call: name, Timestep: timestep, Err: err}
}

func finite(name string, timestep int, values []float32) error {
	const exponent = 0x7f800000 // all of its bits are set in NaN and infinity
	for i, value := range values {
		if math.Float32bits(value)&exponent == exponent {
			return &NumericError{Call: name, Timestep: timestep, Index: i, Value: value}
		}
	}
	return nil
}
