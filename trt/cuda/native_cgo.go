//go:build linux && cgo

package cuda

// #cgo CFLAGS: -std=gnu11 -Wall -Wextra
// #cgo LDFLAGS: -ldl
// #include <stdlib.h>
// #include "library.h"
import "C"

import (
	"fmt"
	"syscall"
	"unsafe"

	"gladd/internal/sharedlib"
)

// native makes the driver's calls. Its methods return the driver's code, 0 is
// success; C keeps nothing of what they pass.
type native struct{ cuda *C.gladd_cuda }

// openNative loads the library. The version is given with an error, too, where
// the driver says one.
func openNative(path string) (opened *native, version int, err error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	opening := C.gladd_cuda_open(name)
	defer C.free(unsafe.Pointer(opening.problem))
	version = int(opening.version)
	switch opening.status {
	case C.GLADD_CUDA_OPENED:
		return &native{cuda: opening.cuda}, version, nil
	case C.GLADD_CUDA_SYMBOL_MISSING:
		return nil, version, missingSymbol(C.GoString(opening.problem))
	case C.GLADD_CUDA_NOT_LOADED:
		return nil, 0, sharedlib.Explain(path, C.GoString(opening.problem))
	default:
		return nil, 0, fmt.Errorf("no memory for its calls (status %d)", int(opening.status))
	}
}

func (n *native) close() { C.gladd_cuda_close(n.cuda) }

// currentThread is the operating system's number of the calling thread.
func currentThread() int { return syscall.Gettid() }

func (n *native) init() int { return int(C.gladd_cuda_cuInit(n.cuda, 0)) }

// errorName and errorText are empty for a code that the driver does not know.
func (n *native) errorName(code int) string {
	return C.GoString(C.gladd_cuda_error_name(n.cuda, C.int(code)))
}

func (n *native) errorText(code int) string {
	return C.GoString(C.gladd_cuda_error_text(n.cuda, C.int(code)))
}

func (n *native) deviceCount() (count, code int) {
	var number C.int
	code = int(C.gladd_cuda_cuDeviceGetCount(n.cuda, &number))
	return int(number), code
}

func (n *native) device(ordinal int) (device, code int) {
	var handle C.int
	code = int(C.gladd_cuda_cuDeviceGet(n.cuda, &handle, C.int(ordinal)))
	return int(handle), code
}

func (n *native) deviceName(device int) (name string, code int) {
	var text [256]C.char
	code = int(C.gladd_cuda_cuDeviceGetName(n.cuda, &text[0], C.int(len(text)-1), C.int(device)))
	return C.GoString(&text[0]), code
}

func (n *native) deviceUUID(device int) (uuid [16]byte, code int) {
	code = int(C.gladd_cuda_cuDeviceGetUuid(n.cuda, (*C.char)(unsafe.Pointer(&uuid[0])), C.int(device)))
	return uuid, code
}

func (n *native) deviceMemory(device int) (bytes uint64, code int) {
	var size C.size_t
	code = int(C.gladd_cuda_cuDeviceTotalMem_v2(n.cuda, &size, C.int(device)))
	return uint64(size), code
}

func (n *native) deviceAttribute(attribute, device int) (value, code int) {
	var number C.int
	code = int(C.gladd_cuda_cuDeviceGetAttribute(n.cuda, &number, C.int(attribute), C.int(device)))
	return int(number), code
}

func (n *native) retainContext(device int) (context uintptr, code int) {
	var handle C.uintptr_t
	code = int(C.gladd_cuda_cuDevicePrimaryCtxRetain(n.cuda, &handle, C.int(device)))
	return uintptr(handle), code
}

func (n *native) releaseContext(device int) int {
	return int(C.gladd_cuda_cuDevicePrimaryCtxRelease_v2(n.cuda, C.int(device)))
}

func (n *native) resetContext(device int) int {
	return int(C.gladd_cuda_cuDevicePrimaryCtxReset_v2(n.cuda, C.int(device)))
}

func (n *native) setCurrent(context uintptr) int {
	return int(C.gladd_cuda_cuCtxSetCurrent(n.cuda, C.uintptr_t(context)))
}

func (n *native) memoryInfo() (free, total uint64, code int) {
	var available, all C.size_t
	code = int(C.gladd_cuda_cuMemGetInfo_v2(n.cuda, &available, &all))
	return uint64(available), uint64(all), code
}

func (n *native) allocate(bytes int) (address uintptr, code int) {
	var found C.uint64_t
	code = int(C.gladd_cuda_cuMemAlloc_v2(n.cuda, &found, C.size_t(bytes)))
	return uintptr(found), code
}

func (n *native) free(address uintptr) int {
	return int(C.gladd_cuda_cuMemFree_v2(n.cuda, C.uint64_t(address)))
}

func (n *native) allocatePinned(bytes int) (memory unsafe.Pointer, code int) {
	var result C.int
	memory = C.gladd_cuda_allocate_pinned(n.cuda, C.size_t(bytes), &result)
	return memory, int(result)
}

func (n *native) freePinned(memory unsafe.Pointer) int {
	return int(C.gladd_cuda_cuMemFreeHost(n.cuda, memory))
}

func (n *native) copyToDevice(to uintptr, from unsafe.Pointer, bytes int, stream uintptr) int {
	return int(C.gladd_cuda_cuMemcpyHtoDAsync_v2(n.cuda, C.uint64_t(to), from, C.size_t(bytes), C.uintptr_t(stream)))
}

func (n *native) copyToHost(to unsafe.Pointer, from uintptr, bytes int, stream uintptr) int {
	return int(C.gladd_cuda_cuMemcpyDtoHAsync_v2(n.cuda, to, C.uint64_t(from), C.size_t(bytes), C.uintptr_t(stream)))
}

func (n *native) copyOnDevice(to, from uintptr, bytes int, stream uintptr) int {
	return int(C.gladd_cuda_cuMemcpyDtoDAsync_v2(n.cuda, C.uint64_t(to), C.uint64_t(from), C.size_t(bytes), C.uintptr_t(stream)))
}

func (n *native) fill(to uintptr, value byte, bytes int, stream uintptr) int {
	return int(C.gladd_cuda_cuMemsetD8Async(n.cuda, C.uint64_t(to), C.uchar(value), C.size_t(bytes), C.uintptr_t(stream)))
}

func (n *native) createStream(flags uint) (stream uintptr, code int) {
	var handle C.uintptr_t
	code = int(C.gladd_cuda_cuStreamCreate(n.cuda, &handle, C.uint(flags)))
	return uintptr(handle), code
}

func (n *native) destroyStream(stream uintptr) int {
	return int(C.gladd_cuda_cuStreamDestroy_v2(n.cuda, C.uintptr_t(stream)))
}

func (n *native) synchronizeStream(stream uintptr) int {
	return int(C.gladd_cuda_cuStreamSynchronize(n.cuda, C.uintptr_t(stream)))
}

func (n *native) queryStream(stream uintptr) int {
	return int(C.gladd_cuda_cuStreamQuery(n.cuda, C.uintptr_t(stream)))
}

func (n *native) beginCapture(stream uintptr, mode int) int {
	return int(C.gladd_cuda_cuStreamBeginCapture_v2(n.cuda, C.uintptr_t(stream), C.int(mode)))
}

func (n *native) endCapture(stream uintptr) (graph uintptr, code int) {
	var handle C.uintptr_t
	code = int(C.gladd_cuda_cuStreamEndCapture(n.cuda, C.uintptr_t(stream), &handle))
	return uintptr(handle), code
}

func (n *native) instantiateGraph(graph uintptr) (executable uintptr, code int) {
	var handle C.uintptr_t
	code = int(C.gladd_cuda_cuGraphInstantiateWithFlags(n.cuda, &handle, C.uintptr_t(graph), 0))
	return uintptr(handle), code
}

func (n *native) destroyGraph(graph uintptr) int {
	return int(C.gladd_cuda_cuGraphDestroy(n.cuda, C.uintptr_t(graph)))
}

func (n *native) launchGraph(executable, stream uintptr) int {
	return int(C.gladd_cuda_cuGraphLaunch(n.cuda, C.uintptr_t(executable), C.uintptr_t(stream)))
}

func (n *native) destroyExecutable(executable uintptr) int {
	return int(C.gladd_cuda_cuGraphExecDestroy(n.cuda, C.uintptr_t(executable)))
}

func (n *native) createEvent(flags uint) (event uintptr, code int) {
	var handle C.uintptr_t
	code = int(C.gladd_cuda_cuEventCreate(n.cuda, &handle, C.uint(flags)))
	return uintptr(handle), code
}

func (n *native) destroyEvent(event uintptr) int {
	return int(C.gladd_cuda_cuEventDestroy_v2(n.cuda, C.uintptr_t(event)))
}

func (n *native) recordEvent(event, stream uintptr) int {
	return int(C.gladd_cuda_cuEventRecord(n.cuda, C.uintptr_t(event), C.uintptr_t(stream)))
}

func (n *native) synchronizeEvent(event uintptr) int {
	return int(C.gladd_cuda_cuEventSynchronize(n.cuda, C.uintptr_t(event)))
}

func (n *native) elapsed(start, end uintptr) (milliseconds float32, code int) {
	var time C.float
	code = int(C.gladd_cuda_cuEventElapsedTime(n.cuda, &time, C.uintptr_t(start), C.uintptr_t(end)))
	return float32(time), code
}
