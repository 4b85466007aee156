//go:build tensorrt && cgo && linux

package trt

/*
#cgo CXXFLAGS: -std=c++17 -fvisibility=hidden -Wno-deprecated-declarations -I${SRCDIR} -I${SRCDIR}/../lib/tensorrt-headers
#cgo LDFLAGS: -ldl
#include <stdlib.h>
#include "trt.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"unsafe"

	"gladd/internal/sharedlib"
)

// Built says whether this gladd was built with TensorRT.
const Built = true

// Library is an opened TensorRT. Its methods may be called by many goroutines.
type Library struct {
	native  *C.gladd_trt_library
	version Version
	abi     int
	options Options
	log     *logDrain

	mutex  sync.Mutex
	parser bool // opened
	closed bool
}

// opened holds the libraries of this process by the loader's handle. TensorRT
// keeps the first logger that it is given, and does not survive dlclose; so a
// library is opened once and never closed.
var opened struct {
	sync.Mutex
	libraries map[unsafe.Pointer]*C.gladd_trt_library
}

// Open opens TensorRT's library and chooses the interface by the version that it
// states. Its errors are a [LibraryError].
func Open(options Options) (*Library, error) {
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	paths, tried := candidates(options, func(abi int) bool { return C.gladd_trt_has(C.int(abi)) != 0 })
	var failed *LibraryError
	for _, path := range paths {
		library, err := openLibrary(path, options)
		if err == nil {
			options.Log.Debug("TensorRT opened", "library", library.Path(), "version", library.version.String())
			return library, nil
		}
		// The error of a file that is there tells more than that of a bare name
		// that the loader does not find, and that of a version most.
		var found *LibraryError
		if errors.As(err, &found) && (failed == nil || failed.Version == Version{}) {
			failed = found
		}
	}
	if failed == nil || options.Library == "" && failed.Version == (Version{}) && !fromFile(failed.Tried) {
		return nil, &LibraryError{Tried: tried}
	}
	return nil, failed
}

// fromFile says whether what was tried is a path and no bare name.
func fromFile(tried []string) bool {
	for _, path := range tried {
		for _, letter := range path {
			if letter == '/' {
				return true
			}
		}
	}
	return false
}

func openLibrary(path string, options Options) (*Library, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	failure := newFailure()
	defer C.free(unsafe.Pointer(failure))
	opened.Lock()
	defer opened.Unlock()
	native := C.gladd_trt_open(name, failure)
	if native == nil {
		return nil, &LibraryError{Tried: []string{path}, Err: sharedlib.Explain(path, C.GoString(&failure.cause[0]))}
	}
	version := decodeVersion(int(native.version))
	abi, err := version.abi()
	if err == nil && C.gladd_trt_has(C.int(abi)) == 0 {
		err = fmt.Errorf("%s, found %s; for 8.x build gladd with the tag tensorrt8, too", supported, version)
	}
	if earlier := opened.libraries[native.handle]; earlier != nil {
		C.gladd_trt_forget(native)
		native = earlier
	} else if err == nil {
		if C.gladd_trt_use(native, C.int(abi)) == 0 {
			err = errors.New("out of memory")
		} else {
			if opened.libraries == nil {
				opened.libraries = map[unsafe.Pointer]*C.gladd_trt_library{}
			}
			opened.libraries[native.handle] = native
		}
	}
	if err != nil {
		C.gladd_trt_forget(native)
		return nil, &LibraryError{Tried: []string{path}, Version: version, Err: err}
	}
	library := &Library{native: native, version: version, abi: abi, options: options, log: newLogDrain(native.log, options.Log)}
	if options.RuntimeOnly {
		return library, nil
	}
	if native.create_builder == nil {
		return nil, &LibraryError{Tried: []string{path}, Version: version, Err: &RuntimeOnlyError{Library: libraryName(abi)}}
	}
	if err := library.openParser(); err != nil {
		return nil, err
	}
	return library, nil
}

// newFailure makes what C's functions tell errors in. C keeps no Go memory, so it
// is C's; free it with C.free.
func newFailure() *C.gladd_trt_failure {
	return (*C.gladd_trt_failure)(C.calloc(1, C.sizeof_gladd_trt_failure))
}

// Version is what the library says of itself.
func (l *Library) Version() Version { return l.version }

// CompilesKernels says whether contexts compile kernels when they run, and hence have some
// to keep: TensorRT for RTX does.
func (l *Library) CompilesKernels() bool { return l.abi == abiRTX }

// Path of the library's file.
func (l *Library) Path() string { return C.GoString(&l.native.path[0]) }

// Close ends the use of the library: no build and no runtime is begun any more;
// those that are open go on. The file stays loaded, since TensorRT does not
// survive being unloaded. It may be called twice.
func (l *Library) Close() error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.closed = true
	l.log.drain()
	return nil
}

// use says whether the library may be used.
func (l *Library) use() error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.closed {
		return closedError("library")
	}
	return nil
}

// openParser opens the ONNX parser's library, once. Its errors are a
// [LibraryError] with a [ParserError] in it.
func (l *Library) openParser() error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.parser {
		return nil
	}
	if l.options.ParserLibrary == "" && l.native.create_parser != nil { // by an earlier Open
		l.parser = true
		return nil
	}
	failure := newFailure()
	defer C.free(unsafe.Pointer(failure))
	paths := parserCandidates(l.abi, l.Path(), l.options.ParserLibrary)
	var first error
	missing := true
	for _, path := range paths {
		err := checkParser(path, l.version)
		if err == nil {
			name := C.CString(path)
			if C.gladd_trt_open_parser(l.native, name, failure)&C.GLADD_TRT_FAILED != 0 {
				err = fmt.Errorf("%s: %w", path, sharedlib.Explain(path, C.GoString(&failure.cause[0])))
			}
			C.free(unsafe.Pointer(name))
		}
		if err == nil {
			l.parser = true
			return nil
		}
		// One that is there and cannot be used tells more than one that is not.
		there := isThere(path)
		if first == nil || there && missing {
			first = err
		}
		missing = missing && !there
	}
	return &LibraryError{Tried: []string{l.Path()}, Version: l.version, Err: &ParserError{Library: l.Path(), Version: l.version, Tried: paths, Missing: missing, Err: first}}
}

// check turns the result of one of C's functions into an error, and passes on
// what was logged.
func (l *Library) check(result C.int, failure *C.gladd_trt_failure, object string) error {
	if result == 0 {
		return nil
	}
	var err error
	if result&C.GLADD_TRT_FAILED != 0 {
		err = &CallError{Call: C.GoString(&failure.call[0]), Object: object, Cause: C.GoString(&failure.cause[0])}
	}
	if result&C.GLADD_TRT_LOGGED != 0 {
		l.log.drain()
	}
	return err
}
