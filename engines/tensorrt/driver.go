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

// CapabilityError says that TensorRT for RTX has no kernels for this GPU.
type CapabilityError struct {
	Library      string // TensorRT's version and place
	GPU          string
	Major, Minor int // of the compute capability that was found
}

func (e *CapabilityError) Error() string {
	return fmt.Sprintf("backend %s: %s does not support this GPU: expected compute capability 7.5 to 8.9 without 8.7, or 12.0, found %d.%d (%s); "+
		"install TensorRT 10 or 11, which supports it, or use backend onnxruntime", Name, e.Library, e.Major, e.Minor, e.GPU)
}

// suits says whether a library serves a GPU. Only TensorRT for RTX is asked: it would refuse
// when it builds, after all else is ready. Its documentation's support matrix has the
// capabilities.
func suits(library *trt.Library, gpu cuda.Properties) error {
	capability := gpu.ComputeMajor*10 + gpu.ComputeMinor
	if library.Version().Flavor != trt.RTX || capability >= 75 && capability <= 89 && capability != 87 || capability == 120 {
		return nil
	}
	return &CapabilityError{
		Library: fmt.Sprintf("%s (%s)", library.Version(), library.Path()),
		GPU:     gpu.Name, Major: gpu.ComputeMajor, Minor: gpu.ComputeMinor,
	}
}
