// Package trt builds and runs engines of NVIDIA's TensorRT, whose libraries are
// found and opened at run time. It is the only package with TensorRT's C++.
//
// TensorRT's classes are called through their virtual tables, which differ
// between its major versions. One binary therefore holds the same code compiled
// with the headers of each: Enterprise 10.x and 11.x, TensorRT for RTX 1.6, and,
// with the build tag tensorrt8 and the system's headers, 8.5 and 8.6. The
// version that a library states chooses among them, before anything else of it
// is called.
//
// The package knows nothing of CUDA: streams are the driver's CUstream and
// device addresses its CUdeviceptr, both as numbers. A CUDA context must be
// current on the calling thread wherever a GPU is used; without a GPU some
// versions of TensorRT crash in [Library.NewRuntime], so ask the driver first.
//
// Contexts of TensorRT for RTX compile the kernels of a shape before they run it
// for the first time, which takes seconds: run every shape once before time
// counts.
//
// Without the build tag tensorrt, [Open] returns a [LibraryError] that says so.
package trt

import (
	"fmt"
	"log/slog"
	"time"
)

// Flavors of TensorRT.
const (
	Enterprise = "enterprise"
	RTX        = "rtx" // TensorRT for RTX
)

// Version of a library.
type Version struct {
	Flavor              string // enterprise | rtx
	Major, Minor, Patch int
}

// String is such as "TensorRT 10.3.0" or "TensorRT for RTX 1.6.1".
func (v Version) String() string {
	product := "TensorRT"
	if v.Flavor == RTX {
		product = "TensorRT for RTX"
	}
	return fmt.Sprintf("%s %d.%d.%d", product, v.Major, v.Minor, v.Patch)
}

// Options of [Open]. The zero value looks in the usual places.
type Options struct {
	// Library is the path of libnvinfer or libtensorrt_rtx; empty: it is looked for.
	Library string
	// ParserLibrary is the path of the ONNX parser of the same version; empty: it
	// is looked for beside the library, then by the loader.
	ParserLibrary string
	// RuntimeOnly is enough: a library that has no builder, or no parser beside it, is
	// opened, too.
	RuntimeOnly bool
	// Folders are searched instead of [DefaultFolders]; patterns as in
	// path/filepath are allowed. When they are given, the loader's own search by
	// name is left out.
	Folders []string
	// SitePackages are Python's folders of packages: TensorRT's wheels put their
	// libraries into tensorrt_libs and tensorrt_rtx_libs in them.
	SitePackages []string
	Log          *slog.Logger // of what TensorRT says; nil: discarded
}

// Range of one input's shape in a profile. The three have one length, and
// min <= opt <= max in each dimension.
type Range struct{ Min, Opt, Max []int64 }

// Profile is one optimization profile: the shapes that an engine is built for.
type Profile struct{ Ranges map[string]Range }

// BuildOptions of one engine.
type BuildOptions struct {
	// Network is the ONNX graph. It is read during the call only.
	Network []byte
	// Path of the graph: read from there if Network is nil, and the place beside
	// which external weights are looked for.
	Path string
	// Profiles are needed where an input has a dynamic shape.
	Profiles []Profile
	// Workspace is the most device memory that one layer may use while it
	// runs, in bytes; 0: TensorRT's own limit.
	Workspace int64
	// Tactics is the most memory that the builder may use to try out how a layer is
	// computed, in bytes; 0: TensorRT's own limit. Where a GPU shares the computer's
	// memory, all that TensorRT builds with counts. 8.x has no such limit.
	Tactics int64
	// FP16 allows 8.x to choose FP16 layers. Later versions take the precision
	// from the graph.
	FP16 bool
	// TimingCache of an earlier build makes this one quicker. One that does not
	// fit is left out.
	TimingCache []byte
	// ComputeCapability of the GPU that TensorRT for RTX builds for, as major * 10 +
	// minor, such as 86; 0: the GPU of this machine. Others build for this machine
	// only.
	ComputeCapability int
	// Progress is called a few times a second while the engine is built, never
	// by two goroutines at once, and not after Build returned. 8.x tells no progress.
	Progress func(Progress)
}

// Progress of a build.
type Progress struct {
	Phases []Phase // the running ones, in the order in which they began
}

// Phase of a build. Phases are nested.
type Phase struct {
	Name, Parent string // Parent is empty for the outermost
	Step, Steps  int    // steps that are done, of how many
}

// Plan is a built engine in the form that is stored.
type Plan struct {
	Data        []byte
	TimingCache []byte // for the next build; empty for TensorRT for RTX
	Duration    time.Duration
	Layers      int // of the network, before layers were fused
}

// Tensor is an input or output of an engine.
type Tensor struct {
	Name  string
	Input bool
	Type  string  // as ONNX names it: float, float16, int64, int32 ...
	Shape []int64 // -1: dynamic
}
