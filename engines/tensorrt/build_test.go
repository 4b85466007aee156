//go:build tensorrt

package tensorrt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"gladd/engines"
	"gladd/engines/enginetest"
	"gladd/trt"
	"gladd/trt/cuda"
	"gladd/trt/trttest"
)

func TestEnginesAreBuiltOnce(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	var told []Progress
	box.options.Progress = func(p Progress) { told = append(told, p) }
	bundle := enginetest.Load(t, enginetest.TinyA(t))
	backend := box.backend(t)
	if built, err := backend.Build(t.Context(), bundle, false); built != 5 || err != nil {
		t.Fatalf("expected 5 engines built, found %d, %v", built, err)
	}
	if last := told[len(told)-1]; last.Done != 5 || last.Count != 5 {
		t.Errorf("progress: expected 5 of 5 at the end, found %+v", last)
	}
	if built, err := backend.Build(t.Context(), bundle, false); built != 0 || err != nil {
		t.Errorf("a second time: expected none built, found %d, %v", built, err)
	}
	key := backend.Key(bundle, engines.UNet)
	write(t, box.options.CacheDir, key.name()+planSuffix, "damaged")
	if built, err := backend.Build(t.Context(), bundle, false); built != 1 || err != nil || strings.Count(box.log.String(), "an engine cannot be used and is built again") != 1 {
		t.Errorf("a damaged one: expected it built again and one warning, found %d, %v", built, err)
	}
	if built, err := backend.Build(t.Context(), bundle, true); built != 5 || err != nil {
		t.Errorf("anew: expected 5 built, found %d, %v", built, err)
	}
	entries, err := backend.Cache().List()
	if len(entries) != 5 || err != nil || entries[0].For.Bundle != bundle.Manifest.Name || entries[0].Key.GPU != "Fake Orin" {
		t.Errorf("list: found %+v, %v", entries, err)
	}
	if pruned, err := backend.Prune(t.Context(), false, bundle); len(pruned.Removed) != 0 || err != nil {
		t.Errorf("prune: expected nothing to remove, found %v, %v", pruned, err)
	}
	if _, err := backend.Prune(t.Context(), false); err != nil {
		t.Error(err)
	}
	if entries, err := backend.Cache().List(); len(entries) != 0 || err != nil {
		t.Errorf("all pruned: found %v, %v", entries, err)
	}
}

// A plan that is whole but that TensorRT refuses is built again; a second refusal
// is an error.
func TestPlanThatTensorRTRefuses(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	bundle := enginetest.Load(t, enginetest.TinyA(t))
	backend := box.backend(t)
	if _, err := backend.Build(t.Context(), bundle, false); err != nil {
		t.Fatal(err)
	}
	key := backend.Key(bundle, engines.DINOGate)
	_, entry, err := backend.Cache().Get(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := backend.Cache().Put(entry, []byte("no plan of TensorRT's")); err != nil {
		t.Fatal(err)
	}
	networks := box.open(t, backend, enginetest.TinyA(t))
	if _, err := call(t.Context(), bundle.Manifest, networks, "compare", 1); err != nil {
		t.Error(err)
	}
	if found, _, err := backend.Cache().Get(key); err != nil || string(found) == "no plan of TensorRT's" {
		t.Errorf("expected the engine built again, found %.20q, %v", found, err)
	}
	if !strings.Contains(box.log.String(), "TensorRT refuses an engine") {
		t.Errorf("expected a warning, found %s", box.log)
	}

	trttest.Fault(t, "deserializeCudaEngine=null")
	_, err = backend.Open(t.Context(), bundle)
	var refused *trt.PlanError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "engine of vae_encoder") {
		t.Errorf("expected a PlanError that names the network, found %v", err)
	}
	var panicked *cuda.PanicError
	if errors.As(err, &panicked) {
		t.Errorf("freeing what was loaded failed: %v", panicked)
	}
}

// An engine for which the disk has no room took minutes to build: it is used from
// memory, and kept as soon as there is room. What was asked to build engines only fails.
func TestFullDisk(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	box.options.CacheDir = t.TempDir()
	if err := syscall.Mount("tmpfs", box.options.CacheDir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatalf("mount a small file system: %v (tests run as root)", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(box.options.CacheDir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	bundle := enginetest.Load(t, enginetest.TinyA(t))
	backend := box.backend(t)
	var cache *CacheError
	if _, err := backend.Build(t.Context(), bundle, false); !errors.As(err, &cache) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("build: expected a CacheError, no space left, found %v", err)
	}
	networks := box.open(t, backend, enginetest.TinyA(t))
	before, err := call(t.Context(), bundle.Manifest, networks, "compare", 1)
	if err != nil {
		t.Fatal(err)
	}
	if text := box.log.String(); !strings.Contains(text, "an engine cannot be kept: it is used from memory, and the next start builds it again") || !strings.Contains(text, "no space left") {
		t.Errorf("expected a warning, found %s", text)
	}

	// A lost GPU needs them again.
	box.cuda.Fail("cuStreamSynchronize", 700)
	if _, err := call(t.Context(), bundle.Manifest, networks, "compare", 1); err == nil {
		t.Error("expected the GPU lost")
	}
	if after, err := call(t.Context(), bundle.Manifest, networks, "compare", 1); err != nil || !slices.Equal(before, after) {
		t.Errorf("afterwards: expected the same map, found %v", err)
	}

	if err := syscall.Mount("tmpfs", box.options.CacheDir, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	if _, err := backend.Open(t.Context(), bundle); err != nil {
		t.Error(err)
	}
	if entries, err := backend.Cache().List(); len(entries) != 5 || err != nil {
		t.Errorf("with room: expected 5 engines kept, found %d, %v", len(entries), err)
	}
	if built, err := backend.Build(t.Context(), bundle, false); built != 0 || err != nil {
		t.Errorf("with room: expected nothing to build, found %d, %v", built, err)
	}
}

// An integrated GPU's memory is the computer's: a build takes no more than half of what
// is free. Engines are not built anew because another amount is.
func TestMemoryOfABuild(t *testing.T) {
	for name, test := range map[string]struct {
		integrated, bytes int
		want              []string
		conversion        string
	}{
		"integrated":           {1, 1 << 30, []string{"memory pool 0: 536870912 bytes", "memory pool 4: 536870912 bytes"}, "build/1,pools/1"},
		"integrated and large": {1, 1 << 33, []string{"memory pool 0: 1073741824 bytes", "memory pool 4: 4294967296 bytes"}, "build/1,pools/1"},
		"a card":               {0, 1 << 30, nil, "build/1"},
	} {
		t.Run(name, func(t *testing.T) {
			box := newBox(t, trttest.V10_3)
			box.cuda.Set("integrated", test.integrated)
			box.cuda.Set("memory_bytes", test.bytes)
			bundle := enginetest.Load(t, enginetest.Micro(t))
			backend := box.backend(t)
			if _, err := backend.Build(t.Context(), bundle, false); err != nil {
				t.Fatal(err)
			}
			text := box.log.String()
			for _, want := range test.want {
				if !strings.Contains(text, want) {
					t.Errorf("expected %q, found %s", want, text)
				}
			}
			if found := strings.Contains(text, "memory pool"); found != (test.want != nil) {
				t.Errorf("expected limits: %t, found %s", !found, text)
			}
			if found := backend.Key(bundle, engines.UNet).Conversion; found != test.conversion {
				t.Errorf("key: expected %s, found %s", test.conversion, found)
			}
			box.cuda.Set("memory_bytes", 1<<29)
			if built, err := backend.Build(t.Context(), bundle, false); built != 0 || err != nil {
				t.Errorf("with less memory free: expected none built, found %d, %v", built, err)
			}
		})
	}
}

func TestBuildThatIsCanceledLeavesNothing(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	trttest.Fault(t, "buildSerializedNetwork=slow")
	ctx, cancel := context.WithCancel(t.Context())
	box.options.Progress = func(p Progress) {
		if p.Phase != "" {
			cancel()
		}
	}
	backend := box.backend(t)
	built, err := backend.Build(ctx, enginetest.Load(t, enginetest.TinyA(t)), false)
	if built != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("expected to be canceled, found %d built, %v", built, err)
	}
	files, err := os.ReadDir(box.options.CacheDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if ours(file.Name()) {
			t.Errorf("left behind: %s", file.Name())
		}
	}
}

// Two programs on one GPU hear of each other, whatever folders they use: the later one
// when it begins, the earlier one when the other comes.
func TestTwoProgramsOnOneGPU(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	box.backend(t)
	first, second := box.log, newJournal()
	if strings.Contains(first.String(), "another gladd") {
		t.Errorf("alone: expected no warning, found %s", first)
	}
	box.options.Log, box.options.CacheDir = second.logger(), t.TempDir()
	box.backend(t)
	warning := fmt.Sprintf("processes=[%d]", os.Getpid())
	for !strings.Contains(first.String(), "another gladd uses this GPU") {
		<-first.written
	}
	for name, log := range map[string]*journal{"first": first, "second": second} {
		if text := log.String(); strings.Count(text, "another gladd uses this GPU") != 1 || !strings.Contains(text, warning) {
			t.Errorf("the %s: expected one warning with %s, found %s", name, warning, text)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	for name, test := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"precision":   {func(o *Options) { o.Precision = "int8" }, "precision: expected fp16 or fp32, found \"int8\""},
		"no driver":   {func(o *Options) { o.CUDALibrary = "/nowhere/libcuda.so.1" }, "or use backend onnxruntime"},
		"no TensorRT": {func(o *Options) { o.Library = "/nowhere/libnvinfer.so.10" }, "/nowhere/libnvinfer.so.10"},
	} {
		t.Run(name, func(t *testing.T) {
			options := box.options
			test.change(&options)
			if _, err := New(options); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("expected %q, found %v", test.want, err)
			}
		})
	}
	t.Run("no GPU", func(t *testing.T) {
		box.cuda.Set("device_count", 0)
		defer box.cuda.Set("device_count", 1)
		var gpu *GPUError
		if _, err := New(box.options); !errors.As(err, &gpu) {
			t.Errorf("expected a GPUError, found %v", err)
		}
	})
}

// TensorRT as pip installs it into an environment is found there.
func TestLibraryOfAPythonPackage(t *testing.T) {
	box := newBox(t, trttest.V10_3)
	environment := t.TempDir()
	folder := filepath.Join(environment, "lib", "python3.11", "site-packages", "tensorrt_libs")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"libnvinfer.so.10", "libnvonnxparser.so.10"} {
		// Copies: a link is, to some loaders, the file that is loaded already.
		enginetest.WriteFile(t, filepath.Join(folder, name), enginetest.ReadFile(t, filepath.Join(filepath.Dir(box.options.Library), name)))
	}
	t.Setenv("VIRTUAL_ENV", environment)
	box.options.Library = ""
	if found := box.backend(t).library.Path(); found != filepath.Join(folder, "libnvinfer.so.10") {
		t.Errorf("expected the one in %s, found %s", folder, found)
	}
}
