//go:build tensorrt && cgo && linux

package trt

/*
#include <stdlib.h>
#include "trt.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"
)

// Runtime loads engines.
type Runtime struct {
	library *Library
	object  unsafe.Pointer // IRuntime
	life    *lifetime
}

// NewRuntime makes a runtime. A GPU must be there, see the package's text. Its
// errors are a [CallError].
func (l *Library) NewRuntime() (*Runtime, error) {
	if err := l.use(); err != nil {
		return nil, err
	}
	failure := newFailure()
	defer C.free(unsafe.Pointer(failure))
	var object unsafe.Pointer
	if err := l.check(C.gladd_trt_do_runtime(l.native, &object, failure), failure, ""); err != nil { //nolint:gocritic // the comparison is in what cgo makes of it
		return nil, err
	}
	r := &Runtime{library: l, object: object}
	r.life = newLifetime(func() {
		l.free(func(f *C.gladd_trt_failure) C.int { return C.gladd_trt_do_free_runtime(l.native, object, f) })
	})
	return r, nil
}

// free frees an object. Nobody can do anything about a failure; what TensorRT
// says of it is logged.
func (l *Library) free(call func(*C.gladd_trt_failure) C.int) {
	failure := newFailure()
	defer C.free(unsafe.Pointer(failure))
	if err := l.check(call(failure), failure, ""); err != nil {
		l.options.Log.Warn("TensorRT object cannot be freed", "error", err)
	}
}

// Close frees the runtime when its last engine is closed, too. It may be called
// twice.
func (r *Runtime) Close() error {
	r.life.close()
	return nil
}

// Engine is a loaded plan. Its methods may be called by many goroutines.
type Engine struct {
	runtime  *Runtime
	object   unsafe.Pointer // ICudaEngine
	life     *lifetime
	tensors  []Tensor
	names    map[string]*C.char // of the tensors, for the calls of contexts
	profiles int
	memory   int64
}

// Deserialize loads a plan, which is not needed afterwards. Its errors are a
// [PlanError] where TensorRT refuses the plan, and a [CallError] where an engine
// was loaded that gladd cannot run.
func (r *Runtime) Deserialize(plan []byte) (*Engine, error) {
	if !r.life.enter() {
		return nil, closedError("runtime")
	}
	if len(plan) == 0 {
		r.life.leave()
		return nil, &PlanError{Reason: ReasonCorrupt, Cause: "the plan is empty"}
	}
	failure := newFailure()
	defer C.free(unsafe.Pointer(failure))
	l := r.library
	var object unsafe.Pointer
	result := C.gladd_trt_do_engine(l.native, r.object, unsafe.Pointer(&plan[0]), C.size_t(len(plan)), &object, failure) //nolint:gocritic // the comparison is in what cgo makes of it
	if err := l.check(result, failure, ""); err != nil {
		r.life.leave()
		var failed *CallError
		errors.As(err, &failed)
		return nil, &PlanError{Reason: planReason(failed.Cause), Cause: failed.Cause}
	}
	e := &Engine{runtime: r, object: object, names: map[string]*C.char{}}
	e.life = newLifetime(e.free)
	if err := e.describe(failure); err != nil {
		e.life.close()
		return nil, err
	}
	return e, nil
}

func (e *Engine) free() {
	l := e.runtime.library
	l.free(func(f *C.gladd_trt_failure) C.int { return C.gladd_trt_do_free_engine(l.native, e.object, f) })
	for _, name := range e.names {
		C.free(unsafe.Pointer(name))
	}
	e.runtime.life.leave()
}

// dataTypes are the names of nvinfer1::DataType as ONNX has them.
var dataTypes = []string{
	"float", "float16", "int8", "int32", "bool", "uint8", "float8e4m3fn", "bfloat16", "int64", "int4", "float4e2m1", "float8e8m0",
}

// describe reads what the engine holds.
func (e *Engine) describe(failure *C.gladd_trt_failure) error {
	l := e.runtime.library
	var tensors, profiles C.int
	var memory C.int64_t
	if err := l.check(C.gladd_trt_do_engine_info(l.native, e.object, &tensors, &profiles, &memory, failure), failure, ""); err != nil {
		return err
	}
	e.profiles, e.memory = int(profiles), int64(memory)
	for i := range tensors {
		var tensor C.gladd_trt_tensor
		if err := l.check(C.gladd_trt_do_engine_tensor(l.native, e.object, i, &tensor, failure), failure, ""); err != nil {
			return err
		}
		name := C.GoString(&tensor.name[0])
		switch {
		case tensor.on_host != 0:
			return &CallError{Call: "getTensorLocation", Object: name, Cause: "expected a tensor in device memory, found one in the host's"}
		case tensor.is_linear == 0:
			return &CallError{Call: "getTensorFormat", Object: name, Cause: "expected the linear format, found a packed one"}
		case tensor._type < 0 || int(tensor._type) >= len(dataTypes):
			return &CallError{Call: "getTensorDataType", Object: name, Cause: fmt.Sprintf("expected a type of 0 to %d, found %d", len(dataTypes)-1, tensor._type)}
		}
		e.tensors = append(e.tensors, Tensor{
			Name: name, Input: tensor.input != 0, Type: dataTypes[tensor._type], Shape: shapeOf(&tensor.shape, tensor.dims),
		})
		e.names[name] = C.CString(name)
	}
	return nil
}

// Tensors are the engine's inputs and outputs, in its own order. The caller
// must not change them.
func (e *Engine) Tensors() []Tensor { return e.tensors }

// Profiles is the number of optimization profiles, at least 1.
func (e *Engine) Profiles() int { return e.profiles }

// DeviceMemory is what a context needs for its layers, in bytes, whatever its
// profile. Inputs, outputs and weights are not counted.
func (e *Engine) DeviceMemory() int64 { return e.memory }

// ProfileRange is the range of an input's shape in a profile. Its errors are a
// [CallError].
func (e *Engine) ProfileRange(profile int, input string) (Range, error) {
	if !e.life.enter() {
		return Range{}, closedError("engine")
	}
	defer e.life.leave()
	if profile < 0 || profile >= e.profiles {
		return Range{}, &CallError{Call: "getProfileShape", Object: input, Cause: fmt.Sprintf("expected a profile of 0 to %d, found %d", e.profiles-1, profile)}
	}
	r := C.gladd_trt_range{profile: C.int(profile)}
	if tensor := e.tensor(input); tensor == nil || !tensor.Input || !setName(&r.input, input) {
		return Range{}, &CallError{Call: "getProfileShape", Object: input, Cause: "the engine has no such input"}
	}
	failure := newFailure()
	defer C.free(unsafe.Pointer(failure))
	l := e.runtime.library
	if err := l.check(C.gladd_trt_do_engine_range(l.native, e.object, &r, failure), failure, input); err != nil {
		return Range{}, err
	}
	return Range{Min: shapeOf(&r.min, r.dims), Opt: shapeOf(&r.opt, r.dims), Max: shapeOf(&r.max, r.dims)}, nil
}

func (e *Engine) tensor(name string) *Tensor {
	for i := range e.tensors {
		if e.tensors[i].Name == name {
			return &e.tensors[i]
		}
	}
	return nil
}

// Close frees the engine when its last context is closed, too. It may be called
// twice.
func (e *Engine) Close() error {
	e.life.close()
	return nil
}
