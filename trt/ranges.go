//go:build tensorrt && cgo && linux

package trt

// #include "trt.h"
import "C"

import (
	"fmt"
	"maps"
	"slices"
)

// checkBuild checks what can be checked before TensorRT is asked, whose own
// words name no input, and returns the ranges in C's form.
func checkBuild(options BuildOptions) ([]C.gladd_trt_range, error) {
	wrong := func(reason Reason, input, format string, values ...any) error {
		return &BuildError{Stage: StageConfigure, Reason: reason, Node: input, Cause: fmt.Sprintf(format, values...)}
	}
	if options.Network == nil && options.Path == "" {
		return nil, wrong(ReasonOther, "", "expected a network or its path, found neither")
	}
	if options.Workspace < 0 || options.ComputeCapability < 0 {
		return nil, wrong(ReasonOther, "", "expected a workspace and a compute capability of at least 0, found %d and %d",
			options.Workspace, options.ComputeCapability)
	}
	var ranges []C.gladd_trt_range
	for index, profile := range options.Profiles {
		if len(profile.Ranges) == 0 {
			return nil, wrong(ReasonNoProfile, "", "profile %d has no ranges", index)
		}
		for _, input := range slices.Sorted(maps.Keys(profile.Ranges)) {
			given := profile.Ranges[input]
			r := C.gladd_trt_range{profile: C.int(index), dims: C.int(len(given.Opt))}
			if !setName(&r.input, input) {
				return nil, wrong(ReasonRange, input, "expected a name of less than %d bytes, found %d", C.GLADD_TRT_NAME, len(input))
			}
			if len(given.Min) != len(given.Opt) || len(given.Max) != len(given.Opt) || len(given.Opt) > C.GLADD_TRT_DIMS {
				return nil, wrong(ReasonRange, input, "expected three shapes of one length of at most %d, found %v, %v and %v",
					C.GLADD_TRT_DIMS, given.Min, given.Opt, given.Max)
			}
			for d := range given.Opt {
				if given.Min[d] < 0 || given.Min[d] > given.Opt[d] || given.Opt[d] > given.Max[d] {
					return nil, wrong(ReasonRange, input, "expected 0 <= min <= opt <= max in profile %d, found %v, %v and %v",
						index, given.Min, given.Opt, given.Max)
				}
				r.min[d], r.opt[d], r.max[d] = C.int64_t(given.Min[d]), C.int64_t(given.Opt[d]), C.int64_t(given.Max[d])
			}
			ranges = append(ranges, r)
		}
	}
	return ranges, nil
}

// shapeOf reads a shape of C's.
func shapeOf(shape *[C.GLADD_TRT_DIMS]C.int64_t, dims C.int) []int64 {
	result := make([]int64, dims)
	for i := range result {
		result[i] = int64(shape[i])
	}
	return result
}
