package trt

import (
	"errors"
	"strings"
)

// TensorRT has no codes for these: an engine or a plan is null, and what it
// logged tells why. The phrases are those of its error messages; a cause that has
// none of them is ReasonOther, and its text is kept whole either way.
var (
	memoryPhrases = []string{
		"out of memory", "outofmemory", "insufficient memory", "insufficient device memory",
		"std::bad_alloc", "memory allocation", "cuda_error_out_of_memory", "cudaerrormemoryallocation",
	}
	versionPhrases = []string{
		"not compatible with this version of tensorrt", "version tag does not match", "expecting library version",
		"stdversionread", "version mismatch", "incompatible serialization version",
	}
	gpuPhrases = []string{
		"incompatible device", "expecting compute", "different models of devices", "compute capability",
		"not compatible with this gpu", "generated on an incompatible",
	}
	corruptPhrases = []string{
		"magic tag", "magictag", "truncated", "header.size", "serialization assertion", "malformed", "corrupt",
		"invalid engine", "checksum",
	}
	cudaPhrases = []string{"cuda runtime (", "cudaerror", "cuda initialization failure"}
	// 35 is cudaErrorInsufficientDriver.
	driverPhrases = []string{"cuda driver version is insufficient", "cudaerror 35:", "cuda initialization failure with error: 35"}
)

// OfCUDA says that TensorRT failed since CUDA did: the GPU or its driver, not the network.
func OfCUDA(err error) bool { return hasPhrase(causeOf(err), cudaPhrases) }

// DriverTooOld says that the GPU's driver is older than what TensorRT was made for.
func DriverTooOld(err error) bool { return hasPhrase(causeOf(err), driverPhrases) }

// causeOf is what TensorRT logged about an error; empty: it is none of TensorRT's.
func causeOf(err error) string {
	var build *BuildError
	var plan *PlanError
	var call *CallError
	switch {
	case errors.As(err, &build):
		return build.Cause
	case errors.As(err, &plan):
		return plan.Cause
	case errors.As(err, &call):
		return call.Cause
	}
	return ""
}

func hasPhrase(cause string, phrases []string) bool {
	cause = strings.ToLower(cause)
	for _, phrase := range phrases {
		if strings.Contains(cause, phrase) {
			return true
		}
	}
	return false
}

// planReason tells what is wrong with a plan. A version mismatch is found first:
// its text speaks of a serialization assertion, too, and since 10.x of the magic tag.
// There it is the same text for garbage, which gladd's cache does not let through.
func planReason(cause string) Reason {
	switch {
	case hasPhrase(cause, versionPhrases):
		return ReasonVersion
	case hasPhrase(cause, gpuPhrases):
		return ReasonGPU
	case hasPhrase(cause, memoryPhrases):
		return ReasonMemory
	case hasPhrase(cause, corruptPhrases):
		return ReasonCorrupt
	}
	return ReasonOther
}
