//go:build tensorrt && cgo && linux

package trt

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gladd/engines/mixed"
	"gladd/trt/trttest"
)

// rtx opens the real TensorRT for RTX, which builds without a GPU. The tests that
// call it run in scripts/test-tensorrt-rtx.sh only.
func rtx(t *testing.T) *Library {
	t.Helper()
	path := os.Getenv("GLADD_TENSORRT_RTX_LIBRARY")
	if path == "" {
		t.Skip("GLADD_TENSORRT_RTX_LIBRARY names no library; scripts/test-tensorrt-rtx.sh sets it")
	}
	library, err := Open(Options{Library: path, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := library.Close(); err != nil {
			t.Error(err)
		}
	})
	if want := (Version{Flavor: RTX, Major: 1, Minor: 6, Patch: 1}); library.Version() != want {
		t.Fatalf("version: want %v, found %v", want, library.Version())
	}
	return library
}

// batches is a profile of batches of 1 to 8 for every input of a graph.
func batches(network []byte) []Profile {
	profile := Profile{Ranges: map[string]Range{}}
	for name, shape := range trttest.Inputs(network) {
		at := func(batch int64) []int64 {
			fixed := append([]int64(nil), shape...)
			for i := range fixed {
				if fixed[i] < 0 {
					fixed[i] = batch
				}
			}
			return fixed
		}
		profile.Ranges[name] = Range{Min: at(1), Opt: at(4), Max: at(8)}
	}
	return []Profile{profile}
}

const sm86 = 86 // a GPU that TensorRT for RTX builds for

func TestRTXBuildsGladdsNetworks(t *testing.T) {
	library := rtx(t)
	for _, folder := range []string{"../testdata/golden/tiny-a", "../bundles/demo"} {
		paths, err := filepath.Glob(filepath.Join(folder, "*.onnx"))
		if err != nil || len(paths) != 5 {
			t.Fatalf("%s: want 5 graphs, found %v, %v", folder, paths, err)
		}
		for _, path := range paths {
			fp32, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			fp16, _, err := mixed.Convert(fp32, mixed.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for precision, network := range map[string][]byte{"fp32": fp32, "fp16": fp16} {
				buildsWithRTX(t, library, strings.TrimPrefix(path, "../")+"/"+precision, network)
			}
		}
	}
}

func buildsWithRTX(t *testing.T, library *Library, name string, network []byte) {
	t.Run(name, func(t *testing.T) {
		plan, err := library.Build(t.Context(), BuildOptions{Network: network, Profiles: batches(network), ComputeCapability: sm86})
		if err != nil {
			t.Fatal(err)
		}
		if len(plan.Data) < 1000 || plan.Layers < 1 {
			t.Errorf("found a plan of %d bytes of %d layers", len(plan.Data), plan.Layers)
		}
		t.Logf("%d bytes of ONNX, %d layers, %d bytes of plan, %v", len(network), plan.Layers, len(plan.Data), plan.Duration)
	})
}
func TestRTXBuildsFromAPath(t *testing.T) {
	library := rtx(t)
	const path = "../testdata/golden/tiny-a/vae_decoder.onnx"
	network, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := library.Build(t.Context(), BuildOptions{Path: path, Profiles: batches(network), ComputeCapability: sm86})
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Data) == 0 {
		t.Error("want a plan, found none")
	}
}

func TestRTXBuildErrors(t *testing.T) {
	library := rtx(t)
	good := trttest.Graph("Relu", -1, 3)
	profiles := []Profile{{Ranges: map[string]Range{"in": {Min: []int64{1, 3}, Opt: []int64{2, 3}, Max: []int64{4, 3}}}}}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		name    string
		ctx     context.Context
		options BuildOptions
		want    BuildError // stage, reason, node and operator
	}{
		{name: "corrupt", options: BuildOptions{Network: bytes.Repeat([]byte("gladd"), 100)}, want: BuildError{Stage: StageParse, Reason: ReasonCorrupt}},
		{name: "truncated", options: BuildOptions{Network: good[:len(good)/2]}, want: BuildError{Stage: StageParse, Reason: ReasonCorrupt}},
		{name: "empty", options: BuildOptions{Network: []byte{}}, want: BuildError{Stage: StageParse, Reason: ReasonNoOutputs}},
		{name: "missing file", options: BuildOptions{Path: "no such file.onnx"}, want: BuildError{Stage: StageParse, Reason: ReasonOther}},
		{name: "unsupported operator", options: BuildOptions{Network: trttest.Graph("Frobnicate", -1, 3), Profiles: profiles},
			want: BuildError{Stage: StageParse, Reason: ReasonUnsupported, Node: "the_node", Operator: "Frobnicate"}},
		{name: "no profile", options: BuildOptions{Network: good}, want: BuildError{Stage: StageConfigure, Reason: ReasonNoProfile, Node: "in"}},
		{name: "profile of another input", options: BuildOptions{Network: good, Profiles: []Profile{{Ranges: map[string]Range{"other": profiles[0].Ranges["in"]}}}},
			want: BuildError{Stage: StageConfigure, Reason: ReasonRange, Node: "other"}},
		{name: "range against the graph", options: BuildOptions{Network: good, Profiles: []Profile{{Ranges: map[string]Range{
			"in": {Min: []int64{1, 4}, Opt: []int64{2, 4}, Max: []int64{4, 4}}}}}}, want: BuildError{Stage: StageConfigure, Reason: ReasonRange, Node: "in"}},
		{name: "unknown compute capability", options: BuildOptions{Network: good, Profiles: profiles, ComputeCapability: 87},
			want: BuildError{Stage: StageConfigure, Reason: ReasonOther}},
		{name: "cancelled", ctx: cancelled, options: BuildOptions{Network: good, Profiles: profiles}, want: BuildError{Stage: StageConfigure, Reason: ReasonCancelled}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.ctx == nil {
				test.ctx = t.Context()
			}
			if test.options.ComputeCapability == 0 {
				test.options.ComputeCapability = sm86
			}
			_, err := library.Build(test.ctx, test.options)
			t.Log(err)
			var found *BuildError
			if !errors.As(err, &found) {
				t.Fatalf("want a BuildError, found %v", err)
			}
			if found.Stage != test.want.Stage || found.Reason != test.want.Reason || found.Node != test.want.Node || found.Operator != test.want.Operator {
				t.Errorf("want %+v, found %+v", test.want, *found)
			}
			if cancelled := test.ctx.Err(); cancelled != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("want %v, found %v", context.Canceled, err)
			}
		})
	}
}

// The library tells its progress, and stops when it is told to.
func TestRTXBuildIsCancelled(t *testing.T) {
	library := rtx(t)
	network, err := os.ReadFile("../testdata/golden/tiny-a/dino_gate.onnx")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var seen []Phase
	_, err = library.Build(ctx, BuildOptions{Network: network, Profiles: batches(network), ComputeCapability: sm86, Progress: func(p Progress) {
		seen = p.Phases
		cancel()
	}})
	var found *BuildError
	if !errors.As(err, &found) || found.Reason != ReasonCancelled || !errors.Is(err, context.Canceled) {
		t.Errorf("want a build that was cancelled, found %v", err)
	}
	if len(seen) == 0 || seen[0].Name == "" || seen[0].Steps < 1 {
		t.Errorf("want phases with names and steps, found %+v", seen)
	}
	t.Logf("%+v: %v", seen, err)
}

// Without a GPU, plans are read as far as that they are none.
func TestRTXPlanErrors(t *testing.T) {
	runtime, err := rtx(t).NewRuntime()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := runtime.Close(); err != nil {
			t.Error(err)
		}
	}()
	_, err = runtime.Deserialize(bytes.Repeat([]byte("gladd"), 100))
	var found *PlanError
	if !errors.As(err, &found) || !isForeign(found.Reason) {
		t.Errorf("want a PlanError of a corrupt plan, found %v", err)
	}
}

// isForeign says that a plan is none of this library's. Since 10.x TensorRT says the
// same of garbage as of the plan of another version.
func isForeign(reason Reason) bool { return reason == ReasonCorrupt || reason == ReasonVersion }

// The real libraries of 10.x and 11.x that have a runtime and no builder. Where
// there is no GPU they return a small number for a runtime, and the logger, whose
// table is of this side, gets to know why.
func TestRTXSiblingsWithoutGPU(t *testing.T) {
	for _, path := range filepath.SplitList(os.Getenv("GLADD_TENSORRT_LEAN_LIBRARIES")) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			library, err := Open(Options{Library: path, RuntimeOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			runtime, err := library.NewRuntime()
			if err == nil { // there is a GPU
				_, err = runtime.Deserialize(bytes.Repeat([]byte("gladd"), 100))
				var found *PlanError
				if !errors.As(err, &found) || !isForeign(found.Reason) {
					t.Errorf("want a PlanError of a corrupt plan, found %v", err)
				}
				err = runtime.Close()
				if err != nil {
					t.Error(err)
				}
				return
			}
			var found *CallError
			if !errors.As(err, &found) || found.Call != "createInferRuntime_INTERNAL" || !strings.Contains(found.Cause, "CUDA initialization failure") {
				t.Errorf("want CUDA's failure, found %v", err)
			}
		})
	}
}
