package tensorrt

import (
	"fmt"

	"gladd/trt"
	"gladd/trt/cuda"
)

// DriverError says that the GPU's driver is too old for this TensorRT, which shows only
// when TensorRT begins to use the GPU.
type DriverError struct {
	Driver  cuda.Version // the newest CUDA that it supports
	Library string       // TensorRT's version and place
	Err     error        // TensorRT's
}

// Wanted is the oldest CUDA that can be what TensorRT was made for. It does not say which
// that is; but within one major version programs run on drivers of every minor one
// (NVIDIA's CUDA Compatibility, "Minor Version Compatibility"), so it is of a later one.
func (e *DriverError) Wanted() cuda.Version { return (e.Driver/1000 + 1) * 1000 }

func (e *DriverError) Error() string {
	return fmt.Sprintf("backend %s: the NVIDIA driver is too old for %s: expected a driver for CUDA %s or newer, found one for CUDA %s; "+
		"update the driver (on a Jetson with JetPack), or install a TensorRT for CUDA %d: %v", Name, e.Library, e.Wanted(), e.Driver, e.Driver/1000, e.Err)
}

func (e *DriverError) Unwrap() error { return e.Err }

// explain makes a [DriverError] of an error that TensorRT has with its driver.
func (b *Backend) explain(err error) error {
	if !trt.DriverTooOld(err) {
		return err
	}
	return &DriverError{Driver: b.driver.Version(), Library: fmt.Sprintf("%s (%s)", b.library.Version(), b.library.Path()), Err: err}
}
