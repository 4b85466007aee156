//go:build tensorrt && cgo && linux

package trt

/*
#include <stdlib.h>
#include "trt.h"
*/
import "C"

import (
	"fmt"
	"sync"
	"unsafe"
)

// Context runs an engine, for one stream at a time. It has no device memory of
// its own: give it some with [Context.SetDeviceMemory] before the first
// [Context.Enqueue]. Calls wait for each other. Its errors are a [CallError].
type Context struct {
	engine  *Engine
	library *Library

	mutex   sync.Mutex
	object  unsafe.Pointer // IExecutionContext; nil: closed
	scratch *scratch
}

// scratch is C's memory for the calls of a context, so that none of them
// allocates.
type scratch struct {
	failure C.gladd_trt_failure
	shape   [C.GLADD_TRT_DIMS]C.int64_t
}

// NewContext makes a context.
func (e *Engine) NewContext() (*Context, error) {
	context, _, err := e.NewContextWith(nil)
	return context, err
}

// NewContextWith makes a context with the kernels that an earlier one of the same engine
// had, see [Context.Kernels], and says whether they are of use: TensorRT for RTX
// refuses those of another version, GPU or driver, and compiles its own. Other versions use none.
func (e *Engine) NewContextWith(kernels []byte) (context *Context, taken bool, err error) {
	if !e.life.enter() {
		return nil, false, closedError("engine")
	}
	c := &Context{engine: e, library: e.runtime.library}
	c.scratch = (*scratch)(C.calloc(1, C.size_t(unsafe.Sizeof(scratch{}))))
	var used C.int
	result := C.gladd_trt_do_context(c.library.native, e.object, unsafe.Pointer(unsafe.SliceData(kernels)), C.size_t(len(kernels)), &used, &c.object, &c.scratch.failure) //nolint:gocritic // the comparison is in what cgo makes of it
	if err := c.check(result, ""); err != nil {
		C.free(unsafe.Pointer(c.scratch))
		e.life.leave()
		return nil, false, err
	}
	return c, used != 0, nil
}

// Kernels are those that the context has compiled or was given, for a later one. Only
// TensorRT for RTX compiles kernels when it runs; others give nil.
func (c *Context) Kernels() ([]byte, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.mutex.Unlock()
	l, failure := c.library, &c.scratch.failure
	var memory, data unsafe.Pointer
	var size C.size_t
	if err := c.check(C.gladd_trt_do_kernels(l.native, c.object, &memory, &data, &size, failure), ""); err != nil || memory == nil { //nolint:gocritic // as above
		return nil, err
	}
	kernels := copyBytes(data, size)
	return kernels, c.check(C.gladd_trt_do_free_memory(l.native, memory, failure), "")
}

// Close frees the context. Work that it enqueued must be done. It may be called
// twice.
func (c *Context) Close() error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.object == nil {
		return nil
	}
	l := c.library
	l.free(func(f *C.gladd_trt_failure) C.int { return C.gladd_trt_do_free_context(l.native, c.object, f) })
	C.free(unsafe.Pointer(c.scratch))
	c.object, c.scratch = nil, nil
	c.engine.life.leave()
	return nil
}

func (c *Context) check(result C.int, object string) error {
	if result == 0 {
		return nil
	}
	return c.library.check(result, &c.scratch.failure, object)
}

// enter locks the context for a call; the caller unlocks it if there is no error.
func (c *Context) enter() error {
	c.mutex.Lock()
	if c.object == nil {
		c.mutex.Unlock()
		return closedError("context")
	}
	return nil
}

// name is C's copy of a tensor's name.
func (c *Context) name(call, tensor string) (*C.char, error) {
	name := c.engine.names[tensor]
	if name == nil {
		known := make([]string, 0, len(c.engine.tensors))
		for _, tensor := range c.engine.tensors {
			known = append(known, tensor.Name)
		}
		return nil, &CallError{Call: call, Object: tensor, Cause: fmt.Sprintf("expected one of the engine's tensors %v, found none of this name", known)}
	}
	return name, nil
}

// SetProfile chooses an optimization profile. Shapes must be set anew after it.
func (c *Context) SetProfile(profile int, stream uintptr) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.mutex.Unlock()
	if profile < 0 || profile >= c.engine.profiles {
		return &CallError{Call: "setOptimizationProfileAsync", Cause: fmt.Sprintf("expected a profile of 0 to %d, found %d", c.engine.profiles-1, profile)}
	}
	return c.check(C.gladd_trt_do_set_profile(c.library.native, c.object, C.int(profile), C.uintptr_t(stream), &c.scratch.failure), "")
}

// SetDeviceMemory gives the context memory for its layers, at least
// [Engine.DeviceMemory] bytes at an address that is a multiple of 256. It must
// live until the context is closed or given other memory, and contexts that run
// at the same time cannot share it.
func (c *Context) SetDeviceMemory(address uintptr, bytes int64) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.mutex.Unlock()
	if bytes < c.engine.memory || address%256 != 0 {
		return &CallError{Call: "setDeviceMemory", Cause: fmt.Sprintf("expected at least %d bytes at a multiple of 256, found %d bytes at %#x", c.engine.memory, bytes, address)}
	}
	return c.check(C.gladd_trt_do_set_memory(c.library.native, c.object, C.uintptr_t(address), C.int64_t(bytes), &c.scratch.failure), "")
}

// SetInputShape sets the shape of an input, within the profile's range.
func (c *Context) SetInputShape(name string, shape []int64) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.mutex.Unlock()
	const call = "setInputShape"
	native, err := c.name(call, name)
	if err != nil {
		return err
	}
	if len(shape) > C.GLADD_TRT_DIMS {
		return &CallError{Call: call, Object: name, Cause: fmt.Sprintf("expected at most %d dimensions, found %d", C.GLADD_TRT_DIMS, len(shape))}
	}
	for i, size := range shape {
		c.scratch.shape[i] = C.int64_t(size)
	}
	result := C.gladd_trt_do_set_shape(c.library.native, c.object, native, &c.scratch.shape[0], C.int(len(shape)), &c.scratch.failure)
	return c.check(result, name)
}

// SetAddress sets the device address of an input or output.
func (c *Context) SetAddress(name string, address uintptr) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.mutex.Unlock()
	native, err := c.name("setTensorAddress", name)
	if err != nil {
		return err
	}
	return c.check(C.gladd_trt_do_set_address(c.library.native, c.object, native, C.uintptr_t(address), &c.scratch.failure), name)
}

// OutputShape is the shape of an output, which is known when the shapes of all
// inputs are set.
func (c *Context) OutputShape(name string) ([]int64, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.mutex.Unlock()
	const call = "getTensorShape"
	native, err := c.name(call, name)
	if err != nil {
		return nil, err
	}
	var dims C.int
	result := C.gladd_trt_do_shape(c.library.native, c.object, native, &c.scratch.shape[0], &dims, &c.scratch.failure)
	if err := c.check(result, name); err != nil {
		return nil, err
	}
	shape := shapeOf(&c.scratch.shape, dims)
	for _, size := range shape {
		if size < 0 {
			return nil, &CallError{Call: call, Object: name, Cause: fmt.Sprintf("the shape %v is not determined; set the shapes of all inputs first", shape)}
		}
	}
	return shape, nil
}

// Enqueue puts the engine's work on a stream and returns before it is done.
func (c *Context) Enqueue(stream uintptr) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.mutex.Unlock()
	return c.check(C.gladd_trt_do_enqueue(c.library.native, c.object, C.uintptr_t(stream), &c.scratch.failure), "")
}

// Repeat enqueues the work of some contexts, one after the other, so many times, in one
// call of C and without a look at the log: the least that can be done, to
// measure [Context.Enqueue] against. No context may be given twice.
func Repeat(contexts []*Context, stream uintptr, rounds int) error {
	if len(contexts) == 0 || rounds < 1 {
		return nil
	}
	objects := make([]unsafe.Pointer, len(contexts))
	for i, each := range contexts {
		if err := each.enter(); err != nil {
			return err
		}
		defer each.mutex.Unlock()
		objects[i] = each.object
	}
	first := contexts[0]
	return first.check(C.gladd_trt_do_repeat(first.library.native, &objects[0], C.int(len(objects)), C.uintptr_t(stream), C.int(rounds), &first.scratch.failure), "")
}
