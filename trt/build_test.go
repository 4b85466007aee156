//go:build tensorrt && cgo && linux

package trt

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gladd/trt/trttest"
)

func TestBuild(t *testing.T) {
	eachFake(t, func(t *testing.T, library *Library) {
		network := trttest.Graph("Relu", -1, 3)
		profiles := []Profile{atBatches(network, 1, 2, 4)}
		path := filepath.Join(t.TempDir(), "graph.onnx")
		if err := os.WriteFile(path, network, 0o600); err != nil {
			t.Fatal(err)
		}
		first := must[*Plan](t)(library.Build(t.Context(), BuildOptions{Network: network, Profiles: profiles, Workspace: 1 << 20, FP16: true}))
		if first.Layers != 1 || first.Duration <= 0 || !bytes.Contains(first.Data, network) {
			t.Errorf("found %+v", first)
		}
		again := must[*Plan](t)(library.Build(t.Context(), BuildOptions{Path: path, Profiles: profiles, TimingCache: first.TimingCache}))
		if !bytes.Equal(again.Data, first.Data) {
			t.Error("the plan of a file is not that of its bytes")
		}
		other := must[*Plan](t)(library.Build(t.Context(), BuildOptions{Network: network, Profiles: profiles, TimingCache: []byte("of another version")}))
		if library.Version().Flavor == RTX {
			if len(first.TimingCache)+len(again.TimingCache) > 0 {
				t.Error("TensorRT for RTX has no timing cache, found one")
			}
			return
		}
		// The fake's cache grows by a sign a build.
		if want := append(bytes.Clone(first.TimingCache), '+'); !bytes.Equal(again.TimingCache, want) {
			t.Errorf("timing cache: want %q, found %q", want, again.TimingCache)
		}
		if !bytes.Equal(other.TimingCache, first.TimingCache) {
			t.Errorf("a timing cache that does not fit: want a new one %q, found %q", first.TimingCache, other.TimingCache)
		}
	})
}

func TestBuildErrors(t *testing.T) {
	network := trttest.Graph("Relu", -1, 3)
	profiles := []Profile{atBatches(network, 1, 2, 4)}
	of := func(least, best, most []int64) []Profile {
		return []Profile{{Ranges: map[string]Range{"in": {Min: least, Opt: best, Max: most}}}}
	}
	good := BuildOptions{Network: network, Profiles: profiles}
	eachFake(t, func(t *testing.T, library *Library) {
		for _, test := range []struct {
			name, fault string
			options     BuildOptions
			want        BuildError
		}{
			{"nothing to build", "", BuildOptions{}, BuildError{Stage: StageConfigure, Reason: ReasonOther, Cause: "expected a network or its path"}},
			{"corrupt", "", BuildOptions{Network: bytes.Repeat([]byte("gladd"), 20)},
				BuildError{Stage: StageParse, Reason: ReasonCorrupt, Call: "IParser::parse", Cause: "Failed to parse the ONNX model"}},
			{"empty", "", BuildOptions{Network: []byte{}}, BuildError{Stage: StageParse, Reason: ReasonNoOutputs, Call: "IParser::parse"}},
			{"no such file", "", BuildOptions{Path: "no/such.onnx"}, BuildError{Stage: StageParse, Reason: ReasonOther, Call: "IParser::parseFromFile", Cause: "no/such.onnx"}},
			{"unsupported operator", "", BuildOptions{Network: trttest.Graph("Frobnicate", -1, 3)},
				BuildError{Stage: StageParse, Reason: ReasonUnsupported, Node: "the_node", Operator: "Frobnicate", Call: "IParser::parse"}},
			{"no profile", "", BuildOptions{Network: network}, BuildError{Stage: StageConfigure, Reason: ReasonNoProfile, Node: "in", Call: "addOptimizationProfile"}},
			{"no profile of ranges", "", BuildOptions{Network: network, Profiles: []Profile{{}}}, BuildError{Stage: StageConfigure, Reason: ReasonNoProfile}},
			{"min > max", "", BuildOptions{Network: network, Profiles: of([]int64{4, 3}, []int64{2, 3}, []int64{1, 3})},
				BuildError{Stage: StageConfigure, Reason: ReasonRange, Node: "in", Cause: "found [4 3], [2 3] and [1 3]"}},
			{"shapes of two lengths", "", BuildOptions{Network: network, Profiles: of([]int64{4}, []int64{2, 3}, []int64{1, 3})}, BuildError{Stage: StageConfigure, Reason: ReasonRange, Node: "in"}},
			{"another shape", "", BuildOptions{Network: network, Profiles: of([]int64{1, 4}, []int64{1, 4}, []int64{1, 4})},
				BuildError{Stage: StageConfigure, Reason: ReasonRange, Node: "in", Call: "setDimensions", Cause: "does not fit the shape"}},
			{"another input", "", BuildOptions{Network: network, Profiles: []Profile{{Ranges: map[string]Range{"x": {}}}}},
				BuildError{Stage: StageConfigure, Reason: ReasonRange, Node: "x", Call: "setDimensions"}},
			{"dimensions are refused", "setDimensions=false", good, BuildError{Stage: StageConfigure, Reason: ReasonRange, Node: "in", Call: "setDimensions"}},
			{"profile is not valid", "isValid=false", good, BuildError{Stage: StageConfigure, Reason: ReasonRange, Call: "addOptimizationProfile"}},
			{"profile is refused", "addOptimizationProfile=trail", good,
				BuildError{Stage: StageConfigure, Reason: ReasonRange, Call: "addOptimizationProfile", Cause: "the true cause"}},
			{"garbage for a builder", "createInferBuilder=garbage", good, BuildError{Stage: StageConfigure, Reason: ReasonOther, Call: "createInferBuilder_INTERNAL"}},
			{"exception of the builder", "createInferBuilder=throw", good, BuildError{Stage: StageConfigure, Reason: ReasonOther, Cause: "the fake's exception"}},
			{"no network", "createNetworkV2=null", good, BuildError{Stage: StageConfigure, Reason: ReasonOther, Call: "createNetworkV2"}},
			{"no parser", "createNvOnnxParser=garbage", good, BuildError{Stage: StageParse, Reason: ReasonOther, Call: "createNvOnnxParser_INTERNAL"}},
			{"exception of the parser", "parse=false,desc=throw", good, BuildError{Stage: StageParse, Reason: ReasonOther, Cause: "the fake's exception"}},
			{"no configuration", "createBuilderConfig=null", good, BuildError{Stage: StageConfigure, Reason: ReasonOther, Call: "createBuilderConfig"}},
			{"no plan", "buildSerializedNetwork=null", good, BuildError{Stage: StageBuild, Reason: ReasonOther, Call: "buildSerializedNetwork", Cause: "no reason"}},
			{"garbage for a plan", "buildSerializedNetwork=garbage", good, BuildError{Stage: StageBuild, Reason: ReasonOther, Call: "buildSerializedNetwork"}},
			{"the first error is the cause", "buildSerializedNetwork=trail", good, BuildError{Stage: StageBuild, Reason: ReasonOther, Cause: "the true cause"}},
			{"out of memory", "buildSerializedNetwork=memory", good, BuildError{Stage: StageBuild, Reason: ReasonMemory, Cause: "out of memory"}},
		} {
			t.Run(test.name, func(t *testing.T) {
				trttest.Fault(t, test.fault)
				_, err := library.Build(t.Context(), test.options)
				var found *BuildError
				if !errors.As(err, &found) {
					t.Fatalf("want a BuildError, found %v", err)
				}
				want := test.want
				if want.Operator != "" && library.Version().Major == 8 { // whose parser tells the index only
					want.Node, want.Operator = "node 0", ""
				}
				if found.Stage != want.Stage || found.Reason != want.Reason || found.Node != want.Node || found.Operator != want.Operator ||
					want.Call != "" && found.Call != want.Call || !strings.Contains(found.Cause, want.Cause) {
					t.Errorf("want %+v, found %+v", want, *found)
				}
			})
		}
		// A build after all these is as good as the first.
		if _, err := library.Build(t.Context(), good); err != nil {
			t.Error(err)
		}
	})
}

func TestBuildTellsTimingCachesFault(t *testing.T) {
	library := openFake(t, trttest.V10_3, nil)
	network := trttest.Graph("Relu", 1, 3)
	trttest.Fault(t, "serialize=null")
	_, err := library.Build(t.Context(), BuildOptions{Network: network})
	var found *BuildError
	if !errors.As(err, &found) || found.Stage != StageSerialize || found.Call != "ITimingCache::serialize" {
		t.Errorf("want a BuildError of the stage serialize, found %v", err)
	}
}

// The progress of a build is told while it runs, and its context ends it.
func TestBuildIsCancelled(t *testing.T) {
	eachFake(t, func(t *testing.T, library *Library) {
		if library.Version().Major == 8 {
			t.Skip("8.x tells no progress and cannot be cancelled")
		}
		network := trttest.Graph("Relu", -1, 3)
		trttest.Fault(t, "buildSerializedNetwork=slow")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var seen Progress
		_, err := library.Build(ctx, BuildOptions{Network: network, Profiles: []Profile{atBatches(network, 1, 2, 4)}, Progress: func(p Progress) {
			seen = p
			cancel()
		}})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("want %v, found %v", context.Canceled, err)
		}
		var found *BuildError
		if !errors.As(err, &found) || found.Reason != ReasonCancelled || found.Stage != StageBuild {
			t.Errorf("found %+v", found)
		}
		if len(seen.Phases) != 2 || seen.Phases[0] != (Phase{Name: "Building Engine", Steps: 2}) {
			t.Fatalf("found the phases %+v", seen.Phases)
		}
		if inner := seen.Phases[1]; inner.Name != "Tactic Selection" || inner.Parent != "Building Engine" || inner.Steps != 60000 || inner.Step < 1 {
			t.Errorf("found the phase %+v", inner)
		}
	})
}

// Builds wait for each other, and give up waiting when their context ends.
func TestBuildsWaitForEachOther(t *testing.T) {
	library := openFake(t, trttest.V11_1, nil)
	network := trttest.Graph("Relu", 1, 3)
	trttest.Fault(t, "buildSerializedNetwork=slow")
	first, endFirst := context.WithCancel(t.Context())
	second, endSecond := context.WithCancel(t.Context())
	defer endSecond()
	done := make(chan error, 1)
	running := make(chan struct{}, 1)
	go func() {
		_, err := library.Build(first, BuildOptions{Network: network, Progress: func(Progress) {
			select {
			case running <- struct{}{}:
			default:
			}
		}})
		done <- err
	}()
	<-running
	waited := make(chan error, 1)
	go func() {
		_, err := library.Build(second, BuildOptions{Network: network})
		waited <- err
	}()
	endSecond()
	var found *BuildError
	if err := <-waited; !errors.As(err, &found) || found.Reason != ReasonCancelled || found.Call != "" {
		t.Errorf("want a build that was cancelled before it began, found %v", err)
	}
	endFirst()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("want %v, found %v", context.Canceled, err)
	}
}
