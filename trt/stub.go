//go:build !tensorrt || !cgo || !linux

package trt

import "context"

// Built says whether this gladd was built with TensorRT.
const Built = false

// Open returns a [LibraryError]: this gladd was built without TensorRT.
func Open(Options) (*Library, error) { return nil, &LibraryError{Err: errNotBuilt} }

// Library is an opened TensorRT.
type Library struct{}

// Version of the library.
func (*Library) Version() Version { return Version{} }

// CompilesKernels says whether contexts compile kernels when they run.
func (*Library) CompilesKernels() bool { return false }

// Path of the library's file.
func (*Library) Path() string { return "" }

// Close does nothing.
func (*Library) Close() error { return nil }

// Build returns a [LibraryError].
func (*Library) Build(context.Context, BuildOptions) (*Plan, error) {
	return nil, &LibraryError{Err: errNotBuilt}
}

// NewRuntime returns a [LibraryError].
func (*Library) NewRuntime() (*Runtime, error) { return nil, &LibraryError{Err: errNotBuilt} }

// Runtime loads engines.
type Runtime struct{}

// Deserialize returns a [LibraryError].
func (*Runtime) Deserialize([]byte) (*Engine, error) { return nil, &LibraryError{Err: errNotBuilt} }

// Close does nothing.
func (*Runtime) Close() error { return nil }

// Engine is a loaded plan.
type Engine struct{}

// Tensors are the engine's inputs and outputs.
func (*Engine) Tensors() []Tensor { return nil }

// Profiles is the number of optimization profiles.
func (*Engine) Profiles() int { return 0 }

// ProfileRange returns a [LibraryError].
func (*Engine) ProfileRange(int, string) (Range, error) {
	return Range{}, &LibraryError{Err: errNotBuilt}
}

// DeviceMemory that a context needs, in bytes.
func (*Engine) DeviceMemory() int64 { return 0 }

// NewContext returns a [LibraryError].
func (*Engine) NewContext() (*Context, error) { return nil, &LibraryError{Err: errNotBuilt} }

// NewContextWith returns a [LibraryError].
func (*Engine) NewContextWith([]byte) (*Context, bool, error) {
	return nil, false, &LibraryError{Err: errNotBuilt}
}

// Close does nothing.
func (*Engine) Close() error { return nil }

// Context runs an engine.
type Context struct{}

// SetProfile returns a [LibraryError].
func (*Context) SetProfile(int, uintptr) error { return &LibraryError{Err: errNotBuilt} }

// SetDeviceMemory returns a [LibraryError].
func (*Context) SetDeviceMemory(uintptr, int64) error { return &LibraryError{Err: errNotBuilt} }

// SetInputShape returns a [LibraryError].
func (*Context) SetInputShape(string, []int64) error { return &LibraryError{Err: errNotBuilt} }

// SetAddress returns a [LibraryError].
func (*Context) SetAddress(string, uintptr) error { return &LibraryError{Err: errNotBuilt} }

// OutputShape returns a [LibraryError].
func (*Context) OutputShape(string) ([]int64, error) { return nil, &LibraryError{Err: errNotBuilt} }

// Kernels returns a [LibraryError].
func (*Context) Kernels() ([]byte, error) { return nil, &LibraryError{Err: errNotBuilt} }

// Enqueue returns a [LibraryError].
func (*Context) Enqueue(uintptr) error { return &LibraryError{Err: errNotBuilt} }

// Close does nothing.
func (*Context) Close() error { return nil }

// Repeat returns a [LibraryError].
func Repeat([]*Context, uintptr, int) error { return &LibraryError{Err: errNotBuilt} }
