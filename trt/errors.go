package trt

import (
	"errors"
	"fmt"
	"strings"
)

// ErrClosed is what the use of a closed object returns, wrapped in the name of
// the object.
var ErrClosed = errors.New("it is closed")

// LibraryError says that TensorRT's library was not found or cannot be used.
type LibraryError struct {
	Tried   []string // files, folders and names that were tried
	Version Version  // of the library that was found; zero: none was read
	Err     error    // why one that was found cannot be used; nil: none was found
}

func (e *LibraryError) Error() string {
	const advice = "install TensorRT, or name its library with --tensorrt-library or in the configuration"
	tried := strings.Join(e.Tried, ", ")
	var parser *ParserError
	var lean *RuntimeOnlyError
	switch {
	case errors.As(e.Err, &parser): // it names the library, and has advice of its own
		return parser.Error()
	case errors.As(e.Err, &lean):
		return fmt.Sprintf("TensorRT library %s: %v", tried, lean)
	case errors.Is(e.Err, errNotBuilt):
		return e.Err.Error()
	case e.Err != nil:
		return fmt.Sprintf("TensorRT library %s: %v; %s", tried, e.Err, advice)
	}
	return fmt.Sprintf("TensorRT library: not found in %s; %s", tried, advice)
}

func (e *LibraryError) Unwrap() error { return e.Err }

var errNotBuilt = errors.New("this gladd was built without TensorRT; build it with cgo on Linux and the tag tensorrt, " +
	"or choose the backend onnxruntime")

// ParserError says that the ONNX parser of a library is missing, or cannot be used. It
// comes within a [LibraryError].
type ParserError struct {
	Library string // TensorRT's own, which is there
	Version Version
	Tried   []string
	Missing bool // none is there
	Err     error
}

func (e *ParserError) Error() string {
	found := fmt.Sprintf("cannot be used: %v", e.Err)
	if e.Missing {
		found = "is missing, looked for as " + strings.Join(e.Tried, ", ")
	}
	return fmt.Sprintf("TensorRT's ONNX parser, which building engines needs, %s; install the parser of %s beside %s, or name another library with --tensorrt-library or in the configuration",
		found, e.Version, e.Library)
}

func (e *ParserError) Unwrap() error { return e.Err }

// RuntimeOnlyError says that a library runs engines and builds none, as TensorRT's lean
// and dispatch libraries. It comes within a [LibraryError].
type RuntimeOnlyError struct {
	Library string // file name of the one that builds, too
}

func (e *RuntimeOnlyError) Error() string {
	return fmt.Sprintf("it is runtime only: it runs engines and cannot build them; install the whole TensorRT, and name %s instead", e.Library)
}

// Stage of a build.
type Stage string

// The stages of a build.
const (
	StageParse     Stage = "parse"
	StageConfigure Stage = "configure"
	StageBuild     Stage = "build"
	StageSerialize Stage = "serialize"
)

// Reason is what kind of failure ended a build, or why a plan cannot be used.
type Reason string

// Reasons of a [BuildError].
const (
	ReasonCorrupt     Reason = "corrupt"     // the ONNX file cannot be read
	ReasonNoOutputs   Reason = "no outputs"  // the network is empty
	ReasonUnsupported Reason = "unsupported" // an operator that this TensorRT has not
	ReasonNoProfile   Reason = "no profile"  // a dynamic input without a range
	ReasonRange       Reason = "range"       // a range that cannot be
	ReasonMemory      Reason = "memory"      // out of memory, of the host or the device
	ReasonCancelled   Reason = "cancelled"
	ReasonOther       Reason = "other"
)

// More reasons of a [PlanError], which may be corrupt, memory and other, too.
const (
	ReasonVersion Reason = "version" // built by another version of TensorRT
	ReasonGPU     Reason = "gpu"     // built for another GPU
)

// BuildError says why an engine was not built.
type BuildError struct {
	Stage    Stage
	Reason   Reason
	Node     string // of the network, or the input; empty: not known
	Operator string
	Call     string // TensorRT's function that failed; empty: gladd's own check
	Cause    string // the first error that TensorRT logged
	Err      error  // the context's, where the build was cancelled
}

var buildWords = map[Reason]string{
	ReasonCorrupt:     "the ONNX file is damaged or no ONNX file; export it again",
	ReasonNoOutputs:   "the ONNX file holds no network; export it again",
	ReasonUnsupported: "an operator is not supported by this TensorRT; export the network without it, or use a newer TensorRT",
	ReasonNoProfile:   "an input of a dynamic shape needs a range in every profile",
	ReasonRange:       "a range must have min <= opt <= max and belong to an input of the network",
	ReasonMemory:      "out of memory; end other programs that use the GPU, or stop the service and build with gladd engines build, or take a smaller model",
	ReasonCancelled:   "cancelled",
	ReasonOther:       "TensorRT refused",
}

func (e *BuildError) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "TensorRT build: %s: %s", e.Stage, buildWords[e.Reason])
	switch {
	case e.Operator != "" && e.Node != "":
		fmt.Fprintf(&text, ": operator %s of node %s", e.Operator, e.Node)
	case e.Operator != "":
		fmt.Fprintf(&text, ": operator %s", e.Operator)
	case e.Node != "":
		fmt.Fprintf(&text, ": %s", e.Node)
	}
	if e.Call != "" {
		fmt.Fprintf(&text, ": %s", e.Call)
	}
	if e.Cause != "" {
		fmt.Fprintf(&text, ": %s", e.Cause)
	}
	return text.String()
}

// Unwrap gives the context's error where the build was cancelled.
func (e *BuildError) Unwrap() error { return e.Err }

// PlanError says why a plan cannot be loaded. A plan of another version or GPU
// is built again; a corrupt one, too, after it was removed.
type PlanError struct {
	Reason Reason // version | gpu | corrupt | memory | other
	Cause  string // the first error that TensorRT logged
}

var planWords = map[Reason]string{
	ReasonVersion: "it was built by another version of TensorRT; build it again",
	ReasonGPU:     "it was built for another GPU; build it again",
	ReasonCorrupt: "it is damaged; remove it and build it again",
	ReasonMemory:  "out of memory; end other programs",
	ReasonOther:   "TensorRT refused it",
}

func (e *PlanError) Error() string {
	return fmt.Sprintf("TensorRT engine: %s: %s", planWords[e.Reason], e.Cause)
}

// CallError says that one of TensorRT's functions failed.
type CallError struct {
	Call   string // TensorRT's function
	Object string // the tensor; empty: none
	Cause  string // the first error that TensorRT logged during the call
}

func (e *CallError) Error() string {
	if e.Object != "" {
		return fmt.Sprintf("TensorRT %s %s: %s", e.Call, e.Object, e.Cause)
	}
	return fmt.Sprintf("TensorRT %s: %s", e.Call, e.Cause)
}
