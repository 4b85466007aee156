//go:build tensorrt && cgo && linux

package trt

/*
#include <stdlib.h>
#include "trt.h"
*/
import "C"

import (
	"context"
	"errors"
	"time"
	"unsafe"
)

// pollInterval is how often a build's progress and log are read.
const pollInterval = 200 * time.Millisecond

// building holds one while an engine is built: two builds would spoil each
// other's timings, and an edge box has no memory for both.
var building = make(chan struct{}, 1)

// Build makes an engine of an ONNX graph. It takes seconds to many minutes and
// blocks until it is done or ctx ends; builds wait for each other. Its errors are
// a [BuildError], or a [LibraryError] where the ONNX parser is missing.
func (l *Library) Build(ctx context.Context, options BuildOptions) (*Plan, error) {
	if err := l.use(); err != nil {
		return nil, err
	}
	ranges, err := checkBuild(options)
	if err != nil {
		return nil, err
	}
	select {
	case building <- struct{}{}:
		defer func() { <-building }()
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		return nil, &BuildError{Stage: StageConfigure, Reason: ReasonCancelled, Err: err, Cause: err.Error()}
	}
	if err := l.openParser(); err != nil {
		return nil, err
	}
	native := C.gladd_trt_build_new()
	if native == nil {
		return nil, &BuildError{Stage: StageConfigure, Reason: ReasonMemory}
	}
	defer C.gladd_trt_build_free(native)
	begun := time.Now()
	stop := l.watch(ctx, native, options.Progress)
	err = l.build(native, options, ranges)
	stop()
	l.log.drain()
	if err != nil {
		var failed *BuildError
		if cause := ctx.Err(); cause != nil && errors.As(err, &failed) {
			failed.Reason, failed.Err = ReasonCancelled, cause
		}
		return nil, err
	}
	plan := &Plan{Duration: time.Since(begun), Layers: int(C.gladd_trt_build_layers(native))}
	var size C.size_t
	data := C.gladd_trt_build_plan(native, &size)
	plan.Data = copyBytes(data, size)
	data = C.gladd_trt_build_timing_cache(native, &size)
	plan.TimingCache = copyBytes(data, size)
	return plan, nil
}

func copyBytes(data unsafe.Pointer, size C.size_t) []byte {
	if size == 0 {
		return nil
	}
	return append([]byte(nil), unsafe.Slice((*byte)(data), uint64(size))...)
}

// watch reads a build's progress and log until the returned function is called,
// and cancels the build when ctx ends.
func (l *Library) watch(ctx context.Context, native *C.gladd_trt_build, progress func(Progress)) (stop func()) {
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(pollInterval)
		defer ticker.Stop()
		cancelled := ctx.Done()
		for {
			select {
			case <-end:
				return
			case <-cancelled:
				C.gladd_trt_build_cancel(native)
				cancelled = nil
			case <-ticker.C:
				l.log.drain()
				if progress != nil {
					if phases := phasesOf(native); len(phases) > 0 {
						progress(Progress{Phases: phases})
					}
				}
			}
		}
	}()
	return func() {
		close(end)
		<-done
	}
}

func phasesOf(native *C.gladd_trt_build) []Phase {
	var phases [C.GLADD_TRT_PHASES]C.gladd_trt_phase
	n := int(C.gladd_trt_build_progress(native, &phases[0], C.GLADD_TRT_PHASES))
	result := make([]Phase, n)
	for i := range result {
		phase := &phases[i]
		result[i] = Phase{
			Name: C.GoString(&phase.name[0]), Parent: C.GoString(&phase.parent[0]),
			Step: int(phase.step), Steps: int(phase.steps),
		}
	}
	return result
}

var stages = map[C.int]Stage{
	C.GLADD_TRT_PARSE: StageParse, C.GLADD_TRT_CONFIGURE: StageConfigure,
	C.GLADD_TRT_BUILD: StageBuild, C.GLADD_TRT_SERIALIZE: StageSerialize,
}

var reasons = map[C.int]Reason{
	C.GLADD_TRT_CORRUPT: ReasonCorrupt, C.GLADD_TRT_NO_OUTPUTS: ReasonNoOutputs, C.GLADD_TRT_UNSUPPORTED: ReasonUnsupported,
	C.GLADD_TRT_NO_PROFILE: ReasonNoProfile, C.GLADD_TRT_RANGE: ReasonRange, C.GLADD_TRT_CANCELLED: ReasonCancelled,
}

// build calls C. The graph and the timing cache are Go's memory: C reads them
// during this call only.
func (l *Library) build(native *C.gladd_trt_build, options BuildOptions, ranges []C.gladd_trt_range) error {
	failure := newFailure()
	defer C.free(unsafe.Pointer(failure))
	var path *C.char
	if options.Path != "" {
		path = C.CString(options.Path)
		defer C.free(unsafe.Pointer(path))
	}
	network := options.Network
	if network != nil && len(network) == 0 {
		network = make([]byte, 0, 1) // an address tells it from a network by path
	}
	settings := C.gladd_trt_build_options{
		profiles: C.int(len(options.Profiles)), ranges: C.int(len(ranges)),
		workspace: C.int64_t(options.Workspace), tactics: C.int64_t(options.Tactics), compute_capability: C.int(options.ComputeCapability),
	}
	if options.FP16 {
		settings.fp16 = 1
	}
	result := C.gladd_trt_do_build(l.native,
		unsafe.Pointer(unsafe.SliceData(network)), C.size_t(len(network)), path, unsafe.SliceData(ranges),
		unsafe.Pointer(unsafe.SliceData(options.TimingCache)), C.size_t(len(options.TimingCache)), &settings, native, failure)
	if result&C.GLADD_TRT_FAILED == 0 {
		return nil
	}
	err := &BuildError{
		Stage: stages[failure.stage], Reason: reasons[failure.reason],
		Node: C.GoString(&failure.node[0]), Operator: C.GoString(&failure.operation[0]),
		Call: C.GoString(&failure.call[0]), Cause: C.GoString(&failure.cause[0]),
	}
	if err.Stage == "" {
		err.Stage = StageBuild
	}
	switch {
	case err.Reason != "":
	case hasPhrase(err.Cause, memoryPhrases):
		err.Reason = ReasonMemory
	default:
		err.Reason = ReasonOther
	}
	return err
}

// setName copies a tensor's name into C's array.
func setName(to *[C.GLADD_TRT_NAME]C.char, name string) bool {
	if len(name) >= len(to) {
		return false
	}
	for i := range len(name) {
		to[i] = C.char(name[i])
	}
	to[len(name)] = 0
	return true
}
