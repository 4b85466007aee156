//go:build !linux || !cgo

package cuda

import (
	"errors"
	"unsafe"
)

// native takes the place of the driver in a build that cannot have one. It is
// never made: opening says why, and no method is reached.
type native struct{}

func openNative(string) (opened *native, version int, err error) {
	return nil, 0, errNotBuilt
}

var errNotBuilt = errors.New("this gladd was built without cgo, or not for Linux; build it on Linux with CGO_ENABLED=1")

// notBuilt is CUDA_ERROR_NOT_SUPPORTED.
const notBuilt = 801

func currentThread() int { return -1 }

func (n *native) close()                                                 {}
func (n *native) init() int                                              { return notBuilt }
func (n *native) errorName(int) string                                   { return "" }
func (n *native) errorText(int) string                                   { return "" }
func (n *native) deviceCount() (count, code int)                         { return 0, notBuilt }
func (n *native) device(int) (device, code int)                          { return 0, notBuilt }
func (n *native) deviceName(int) (name string, code int)                 { return "", notBuilt }
func (n *native) deviceUUID(int) (uuid [16]byte, code int)               { return uuid, notBuilt }
func (n *native) deviceMemory(int) (bytes uint64, code int)              { return 0, notBuilt }
func (n *native) deviceAttribute(int, int) (value, code int)             { return 0, notBuilt }
func (n *native) retainContext(int) (context uintptr, code int)          { return 0, notBuilt }
func (n *native) releaseContext(int) int                                 { return notBuilt }
func (n *native) resetContext(int) int                                   { return notBuilt }
func (n *native) setCurrent(uintptr) int                                 { return notBuilt }
func (n *native) memoryInfo() (free, total uint64, code int)             { return 0, 0, notBuilt }
func (n *native) allocate(int) (address uintptr, code int)               { return 0, notBuilt }
func (n *native) free(uintptr) int                                       { return notBuilt }
func (n *native) allocatePinned(int) (unsafe.Pointer, int)               { return nil, notBuilt }
func (n *native) freePinned(unsafe.Pointer) int                          { return notBuilt }
func (n *native) copyToDevice(uintptr, unsafe.Pointer, int, uintptr) int { return notBuilt }
func (n *native) copyToHost(unsafe.Pointer, uintptr, int, uintptr) int   { return notBuilt }
func (n *native) copyOnDevice(uintptr, uintptr, int, uintptr) int        { return notBuilt }
func (n *native) fill(uintptr, byte, int, uintptr) int                   { return notBuilt }
func (n *native) createStream(uint) (stream uintptr, code int)           { return 0, notBuilt }
func (n *native) destroyStream(uintptr) int                              { return notBuilt }
func (n *native) synchronizeStream(uintptr) int                          { return notBuilt }
func (n *native) queryStream(uintptr) int                                { return notBuilt }
func (n *native) beginCapture(uintptr, int) int                          { return notBuilt }
func (n *native) endCapture(uintptr) (graph uintptr, code int)           { return 0, notBuilt }
func (n *native) instantiateGraph(uintptr) (uintptr, int)                { return 0, notBuilt }
func (n *native) destroyGraph(uintptr) int                               { return notBuilt }
func (n *native) launchGraph(uintptr, uintptr) int                       { return notBuilt }
func (n *native) destroyExecutable(uintptr) int                          { return notBuilt }
func (n *native) createEvent(uint) (event uintptr, code int)             { return 0, notBuilt }
func (n *native) destroyEvent(uintptr) int                               { return notBuilt }
func (n *native) recordEvent(uintptr, uintptr) int                       { return notBuilt }
func (n *native) synchronizeEvent(uintptr) int                           { return notBuilt }
func (n *native) elapsed(uintptr, uintptr) (float32, int)                { return 0, notBuilt }
