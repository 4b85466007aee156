//go:build tensorrt

package main

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gladd/daemon/internal/bench"
	"gladd/engines"
	"gladd/engines/enginetest"
	"gladd/trt/cuda/cudatest"
	"gladd/trt/trttest"
)

func init() { afterTests = append(afterTests, trttest.Cleanup) }

// withGPU gives the commands of a test a GPU and TensorRT, both fakes whose
// engines compute what ONNX Runtime computes.
func withGPU(t *testing.T) (cache string) {
	t.Helper()
	driver := cudatest.Library(t)
	driver.Set("memory_bytes", 1<<30)
	driver.Set("pinned_bytes", 1<<30)
	cache = filepath.Join(t.TempDir(), "engines")
	t.Setenv("FAKE_TRT_CUDA", driver.Path)
	t.Setenv("GLADD_CUDA_LIBRARY", driver.Path)
	t.Setenv("GLADD_TENSORRT_LIBRARY", trttest.Make(t, trttest.V10_3))
	t.Setenv("GLADD_ENGINE_CACHE", cache)
	return cache
}

func TestEngines(t *testing.T) {
	cache := withGPU(t)
	bundle := enginetest.TinyA(t)
	expect := func(want string, code int, arguments ...string) string {
		t.Helper()
		found, stdout, stderr := gladd(t, append([]string{"engines"}, arguments...)...)
		if found != code || !strings.Contains(stdout+stderr, want) {
			t.Fatalf("gladd engines %s: expected exit code %d and %q, found %d: %s%s", strings.Join(arguments, " "), code, want, found, stdout, stderr)
		}
		return stdout
	}
	nowhere := "engine cache " + cache + ": no such folder"
	expect(nowhere, 2, "list")
	expect(nowhere, 2, "prune", "--bundle", bundle)
	expect("5 engines built, 0 were there: TensorRT 10.3.0", 0, "build", "--bundle", bundle)
	expect("0 engines built, 5 were there", 0, "build", "--bundle", bundle)
	expect("5 engines built, 0 were there", 0, "build", "--bundle", bundle, "--anew")
	list := expect("Fake Orin (8.7)", 0, "list")
	if rows := strings.Count(list, "\n"); rows != 6 || !strings.Contains(list, "vae_decoder  fp16       1,2 ") {
		t.Errorf("expected a head and 5 engines, found\n%s", list)
	}
	expect("within 5 %: TensorRT 10.3.0", 0, "verify", "--bundle", bundle)
	expect("differ from ONNX Runtime by more than", 1, "verify", "--bundle", bundle, "--tolerance", "1e-7")
	expect("predict noise at 256, class right", 0, "verify", "--bundle", enginetest.Micro(t))
	expect("MB freed", 0, "prune", "--bundle", bundle)

	// A plan that was damaged is built again before it is used.
	plans, err := filepath.Glob(filepath.Join(cache, "*.engine"))
	if err != nil || len(plans) != 5 {
		t.Fatalf("expected 5 plans, found %v, %v", plans, err)
	}
	enginetest.WriteFile(t, plans[0], []byte("damaged"))
	expect("1 engines built, 4 were there", 0, "build", "--bundle", bundle)

	expect("0 removed, 0.0 MB freed", 0, "prune", "--bundle", bundle)
	expect("0 engines built, 5 were there", 0, "build", "--bundle", bundle)

	// Engines of another version are kept until they are asked for.
	newer := trttest.Make(t, trttest.V11_1)
	kept := expect("5 engines of other versions of TensorRT kept; --other-versions removes them", 0, "prune", "--bundle", bundle, "--tensorrt-library", newer)
	if strings.Contains(kept, "removed ") && !strings.Contains(kept, "0 removed, ") {
		t.Errorf("expected nothing removed, found %s", kept)
	}

	// What is damaged is told, each in a line of its own, and goes.
	for _, plan := range plans[:2] {
		enginetest.WriteFile(t, plan, []byte("damaged"))
	}
	_, _, stderr := gladd(t, "engines", "list")
	if strings.Count(stderr, "an engine cannot be read") != 2 || strings.Contains(stderr, `\n`) {
		t.Errorf("expected two warnings, found %s", stderr)
	}
	pruned := expect("2 removed, 0.0 MB freed in "+cache, 0, "prune", "--bundle", bundle)
	if !strings.Contains(pruned, "removed "+filepath.Base(plans[0])+": damaged, ") {
		t.Errorf("expected %s named, found %s", plans[0], pruned)
	}
	pruned = expect("removed, ", 0, "prune", "--bundle", bundle, "--tensorrt-library", newer, "--other-versions")
	if strings.Count(pruned, " of tiny-a 1.0.0 for TensorRT 10.3.0, Fake Orin, ") != 3 {
		t.Errorf("expected three engines named, found %s", pruned)
	}
	expect("no engines in "+cache, 0, "list")

	// A configuration names models, library and folder.
	config := filepath.Join(t.TempDir(), "gladd.yaml")
	other := filepath.Join(t.TempDir(), "other")
	enginetest.WriteFile(t, config, []byte("schema: gladd.config/v1\nsite: s\nline: l\nbox: b\nmqtt: {url: \"mqtt://127.0.0.1:1\", allow_plaintext: true}\n"+
		"engines: {cache_dir: "+other+", tensorrt_library: "+newer+"}\nrecipes: {a: {bundle: "+bundle+"}, b: {bundle: "+bundle+"}, m: {bundle: "+enginetest.Micro(t)+", class: left}}\n"+
		"stations: [{name: st-01, recipe: a, camera: {source: \"virtual:plate\"}}]\n"))
	t.Setenv("GLADD_ENGINE_CACHE", "")
	t.Setenv("GLADD_TENSORRT_LIBRARY", "")
	if built := expect("5 engines built, 0 were there: TensorRT 11.1.0", 0, "build", "--config", config); strings.Count(built, "\n") != 2 {
		t.Errorf("expected the engines of two models, found %s", built)
	}
	expect("tiny-a", 0, "list", "--config", config)
	expect("0 removed, 0.0 MB freed in "+other, 0, "prune", "--config", config)
	expect("5 removed, ", 0, "prune", "--config", config, "--bundle", bundle)
	expect("which models? Name them with --bundle", 2, "build")
	expect("no such folder", 2, "build", "--bundle", filepath.Join(cache, "nothing"))
}

// What is not here is told from what is here and does not work.
func TestVersionNamesBackends(t *testing.T) {
	expect := func(want string) {
		t.Helper()
		if code, stdout, stderr := gladd(t, "version"); code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("expected exit code 0 and %q, found %d: %s%s", want, code, stdout, stderr)
		}
	}
	t.Setenv("GLADD_CUDA_LIBRARY", "/nowhere/libcuda.so.1")
	expect("Backend       onnxruntime      here\nBackend       onnxruntime-cuda not here: no GPU build of ONNX Runtime is here\n" +
		"Backend       tensorrt         not here: no NVIDIA driver is here\n")
	withGPU(t)
	expect("Backend       tensorrt         here\n")
	t.Setenv("GLADD_TENSORRT_LIBRARY", "/dev/null")
	expect("Backend       tensorrt         broken: TensorRT library /dev/null: ")
	t.Setenv("GLADD_CUDA_LIBRARY", "/dev/null")
	expect("Backend       tensorrt         broken: CUDA driver library /dev/null: ")
}

// The program chooses TensorRT where it is, and a threshold that was learned on
// another backend does not serve it.
func TestInspectOnTensorRT(t *testing.T) {
	withGPU(t)
	bundle := enginetest.TinyA(t)
	picture := filepath.Join(bundle, "images", "good_0.png")
	inspect := func(backend string) (line map[string]any, stderr string) {
		t.Helper()
		code, stdout, stderr := gladd(t, "inspect", "--bundle", bundle, "--backend", backend, picture)
		if code != 0 {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
		if err := json.Unmarshal([]byte(stdout), &line); err != nil {
			t.Fatal(err)
		}
		return line, stderr
	}
	processors, _ := inspect("onnxruntime")
	gpu, stderr := inspect("auto")
	method := gpu["method"].(map[string]any)
	if method["backend"] != "tensorrt" || method["precision"] != "fp16" || !strings.Contains(stderr, "backend tensorrt chosen") {
		t.Errorf("expected tensorrt, fp16, found %v; %s", method, stderr)
	}
	if gpu["switch_timestep"] != processors["switch_timestep"] {
		t.Errorf("switch: expected %v, found %v", processors["switch_timestep"], gpu["switch_timestep"])
	}
	difference := gpu["score"].(float64) - processors["score"].(float64)
	if difference == 0 || difference > 0.02 || difference < -0.02 {
		t.Errorf("score: expected about %v and not the same, found %v", processors["score"], gpu["score"])
	}
	if _, err := os.Stat(os.Getenv("GLADD_ENGINE_CACHE")); err != nil {
		t.Error(err)
	}
}

// A daemon whose engines are missing builds them before it says that it is ready,
// and tells systemd so, which would end a start that takes too long.
func TestRunBuildsEnginesFirst(t *testing.T) {
	cache := withGPU(t)
	s := newSite(t, "")
	s.more = "engines: {backend: tensorrt, tensorrt_library: \"" + os.Getenv("GLADD_TENSORRT_LIBRARY") + "\", cache_dir: \"" + cache + "\"}\n"
	config := s.config(oneStation)
	p := launch(t, []string{"run", "--config", config})
	p.waitState("READY=1")
	p.mutex.Lock()
	states := p.states
	p.mutex.Unlock()
	if len(states) < 3 || !strings.HasPrefix(states[0], "STATUS=building engines: vae_encoder, 0 of 5 done") || !strings.HasPrefix(states[1], "EXTEND_TIMEOUT_USEC=") {
		t.Errorf("expected systemd to be told of the build before READY, found %q", states)
	}
	if count := strings.Count(p.errors(), "engine built"); count != 5 {
		t.Errorf("expected 5 engines built, found %d:\n%s", count, p.errors())
	}
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
	again := start(t, config)
	if strings.Contains(again.errors(), "building an engine") {
		t.Errorf("expected nothing to build the second time:\n%s", again.errors())
	}
	if code := again.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, again.errors())
	}
}

// gladd bench shows what the wrapper costs around the engines.
func TestBenchOnTensorRT(t *testing.T) {
	withGPU(t)
	report := filepath.Join(t.TempDir(), "report.json")
	code, stdout, stderr := gladd(t, "bench", "--backend", "tensorrt", "--bundle", enginetest.TinyA(t), "--data", labelled(t, 1, 1), "--parts", "0", "--json", report)
	if code != 0 || !strings.Contains(stdout, "by events, at most 1.02  end to end, at most 1.05") || !strings.Contains(stdout, "memory in use, GB") {
		t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
	}
	var found bench.Report
	if err := json.Unmarshal(enginetest.ReadFile(t, report), &found); err != nil {
		t.Fatal(err)
	}
	if found.Machine.Precision != "fp16" || found.GPU == nil || len(found.GPU.Calls) != 5 || found.GPU.Calls[2].Call != "compare" || found.GPU.Calls[2].Whole <= 0 ||
		found.GPU.Calls[2].EndToEnd <= 0 || found.GPU.Bars != (bench.Bars{Events: 1.02, EndToEnd: 1.05}) {
		t.Errorf("found %+v, %+v", found.Machine, found.GPU)
	}
}

// Without a driver the words are few, and one remedy is told once.
func TestNoDriver(t *testing.T) {
	t.Setenv("GLADD_CUDA_LIBRARY", "/nowhere/libcuda.so.1")
	code, stdout, stderr := gladd(t, "inspect", "--bundle", enginetest.TinyA(t), "--backend", "tensorrt", filepath.Join(enginetest.TinyA(t), "images"))
	if code != 1 || stdout != "" || !strings.Contains(stderr, "CUDA driver library /nowhere/libcuda.so.1: cannot open") ||
		strings.Count(stderr, "/nowhere/libcuda.so.1") != 1 || strings.Count(stderr, "use backend onnxruntime") != 1 || strings.Count(stderr, "install") != 1 {
		t.Errorf("expected exit code 1, the library and the remedy once, found %d: %s%s", code, stdout, stderr)
	}
}

// What the machine lacks ends every command with exit code 1, so that systemd starts the
// daemon again; a wrong word or bundle ends it with 2.
func TestFaultsOfTheMachine(t *testing.T) {
	withGPU(t)
	whole := os.Getenv("GLADD_TENSORRT_LIBRARY")
	tooNew := trttest.Make(t, trttest.V11_1.Numbered(120000))
	file := filepath.Join(t.TempDir(), "file")
	enginetest.WriteFile(t, file, nil)
	bundle := enginetest.TinyA(t)
	calibrated := enginetest.Copy(t, bundle)
	method := engines.Method{Backend: "tensorrt", Precision: "fp16", Mode: engines.ModeExact, Plan: engines.PlanExact}
	if err := engines.AppendCalibration(calibrated, engines.Calibration{ID: "c", ModelDigest: enginetest.Load(t, bundle).ModelDigest, GateThreshold: 0.02, ImageThreshold: 1, Method: method}); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		library, fault, cache, backend, bundle string
		want                                   string
	}{
		"no TensorRT":           {library: "/nowhere/libnvinfer.so.10", want: "/nowhere/libnvinfer.so.10"},
		"no TensorRT, auto":     {library: "/nowhere/libnvinfer.so.10", backend: "auto", bundle: calibrated, want: "is calibrated for tensorrt"},
		"version":               {library: tooNew, want: "found TensorRT 12.0.0"},
		"no parser":             {library: trttest.WithoutParser(t, trttest.V10_3), want: "ONNX parser, which building engines needs, is missing"},
		"driver too old":        {fault: "createInferBuilder=driver", want: "expected a driver for CUDA 13.0 or newer, found one for CUDA 12.4"},
		"folder is a file":      {cache: file, want: "engine cache: "},
		"folder below a file":   {cache: filepath.Join(file, "engines"), want: "engine cache: "},
		"driver cannot be used": {fault: "createInferRuntime=driver", want: "the NVIDIA driver is too old for TensorRT 10.3.0"},
	} {
		t.Run(name, func(t *testing.T) {
			library, cache, backend, dir := cmp.Or(test.library, whole), cmp.Or(test.cache, t.TempDir()), cmp.Or(test.backend, "tensorrt"), cmp.Or(test.bundle, bundle)
			trttest.Fault(t, test.fault)
			s := newSite(t, "")
			if err := os.RemoveAll(filepath.Join(s.dir, "bundle")); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(filepath.Join(s.dir, "bundle"), os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			s.more = "engines: {backend: " + backend + ", cache_dir: \"" + cache + "\"}\n"
			commands := [][]string{
				{"run", "--config", s.config(oneStation), "--tensorrt-library", library},
				{"inspect", "--bundle", dir, "--backend", backend, "--tensorrt-library", library, "--cache-dir", cache, filepath.Join(bundle, "images", "good_0.png")},
			}
			if test.backend == "" && test.fault != "createInferRuntime=driver" { // which building does not need
				commands = append(commands, []string{"engines", "build", "--bundle", dir, "--tensorrt-library", library, "--cache-dir", cache})
			}
			for _, command := range commands {
				if code, stdout, stderr := gladd(t, command...); code != 1 || !strings.Contains(stderr, test.want) {
					t.Errorf("gladd %s: expected exit code 1 and %q, found %d: %s%s", command[0], test.want, code, stdout, stderr)
				}
			}
		})
	}
}
