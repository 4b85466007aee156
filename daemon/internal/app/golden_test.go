package app_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"gladd/capture"
	"gladd/daemon/internal/app"
	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/verdict"
	"gladd/engines"
	"gladd/engines/enginetest"
	"gladd/internal/npy"
	"gladd/pipeline"
)

func openModel(t testing.TB, bundle *engines.Bundle) *inspection.Model {
	t.Helper()
	return openModelOn(t, bundle, app.EngineOptions{Backend: app.BackendONNXRuntime, ONNXRuntimeLibrary: enginetest.Library(t)})
}

func openModelOn(t testing.TB, bundle *engines.Bundle, options app.EngineOptions) *inspection.Model {
	t.Helper()
	opened, err := app.OpenEngines(options, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	model, err := opened.OpenModel(t.Context(), bundle, engines.ModeExact)
	if err != nil {
		t.Fatal(err)
	}
	return model
}

func readArray(t *testing.T, path string, shape ...int) []float32 {
	t.Helper()
	values, err := npy.Decode(enginetest.ReadFile(t, path), shape...)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return values
}

func readJSON(t *testing.T, path string, out any) {
	t.Helper()
	if err := json.Unmarshal(enginetest.ReadFile(t, path), out); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func inspect(t *testing.T, model *inspection.Model, picture string, part inspection.Part) inspection.Outcome {
	t.Helper()
	var err error
	if part.Picture, err = capture.ReadPicture(picture, 0); err != nil {
		t.Fatal(err)
	}
	outcome := model.Inspector.Inspect(t.Context(), part)
	if !outcome.Scored {
		t.Fatalf("%s: %v", picture, outcome.Reason)
	}
	return outcome
}

// expectation is what a reference computed for one picture.
type expectation struct {
	Timesteps []int `json:"timesteps"`
	Gate      []struct {
		Timestep int     `json:"timestep"`
		Score    float64 `json:"score"`
	} `json:"gate"`
	SwitchTimestep int     `json:"switch_timestep"`
	SwitchReason   string  `json:"switch_reason"`
	Score          float64 `json:"score"`
}

func (want expectation) compare(t *testing.T, result pipeline.Result, tolerance float64) {
	t.Helper()
	if result.SwitchTimestep != want.SwitchTimestep || result.SwitchReason != want.SwitchReason {
		t.Errorf("switch: want %s at %d, found %s at %d", want.SwitchReason, want.SwitchTimestep, result.SwitchReason, result.SwitchTimestep)
	}
	if len(result.Gate) != len(want.Gate) {
		t.Fatalf("gate: want %v, found %v", want.Gate, result.Gate)
	}
	for i, gate := range want.Gate {
		if found := result.Gate[i]; found.Timestep != gate.Timestep || math.Abs(found.Score-gate.Score) > tolerance {
			t.Errorf("gate: want %v, found %v", gate, found)
		}
	}
	if math.Abs(result.Score-want.Score) > tolerance {
		t.Errorf("score: want %v, found %v", want.Score, result.Score)
	}
}

func compareArrays(t *testing.T, name string, found, want []float32, tolerance float64) {
	t.Helper()
	largest, at := 0.0, 0
	for i := range want {
		if difference := math.Abs(float64(found[i] - want[i])); difference > largest {
			largest, at = difference, i
		}
	}
	if len(found) != len(want) || largest > tolerance {
		t.Errorf("%s: want %d values within %v, found %d, off by %v at %d", name, len(want), tolerance, len(found), largest, at)
	}
}

// The official code's values on the golden bundle, within the tolerances that
// stand beside them.
func TestGoldenTinyA(t *testing.T) {
	model := openModel(t, enginetest.Load(t, enginetest.TinyA(t)))
	goldenTinyA(t, model, 1)
}

// goldenTinyA compares a model with the official code's values, within so many
// times the tolerances.
func goldenTinyA(t *testing.T, model *inspection.Model, times float64) {
	t.Helper()
	dir := enginetest.TinyA(t)
	var golden struct {
		Tolerance struct {
			Gate           float64 `json:"gate"`
			ScoreAbs       float64 `json:"score_abs"`
			AnomalyMap     float64 `json:"anomaly_map"`
			Reconstruction float64 `json:"reconstruction"`
		} `json:"tolerance"`
		Images map[string]expectation `json:"images"`
	}
	readJSON(t, filepath.Join(dir, "golden.json"), &golden)
	if len(golden.Images) != 6 {
		t.Fatalf("want 6 images, found %d", len(golden.Images))
	}
	for name, want := range golden.Images {
		t.Run(name, func(t *testing.T) {
			path := func(kind string) string { return filepath.Join(dir, "golden", name+"."+kind+".npy") }
			noise := readArray(t, filepath.Join(dir, "noise", name+".npy"), 4, 8, 8)
			outcome := inspect(t, model, filepath.Join(dir, "images", name+".png"), inspection.Part{Noise: noise})
			if outcome.Evaluation != verdict.Undefined || outcome.Reason.Code != verdict.ReasonUncalibrated {
				t.Errorf("want Undefined, uncalibrated, found %s, %v", outcome.Evaluation, outcome.Reason)
			}
			want.compare(t, outcome.Result, times*golden.Tolerance.Gate)
			compareArrays(t, "anomaly map", outcome.Result.AnomalyMap, readArray(t, path("anomaly_map"), 64, 64), times*golden.Tolerance.AnomalyMap)
			compareArrays(t, "reconstruction", outcome.Result.Reconstruction, readArray(t, path("reconstruction"), 3, 64, 64), times*golden.Tolerance.Reconstruction)
			compareArrays(t, "latent", outcome.Result.Latent, readArray(t, path("latent_final"), 4, 8, 8), times*1e-3)
		})
	}
}

// The reference's values on the micro bundle under other settings, one by one:
// what they are stands in testdata/goldens/micro.py.
func TestGoldenMicro(t *testing.T) {
	dir := enginetest.Micro(t)
	var golden struct {
		Cases []struct {
			expectation
			Name                string                    `json:"name"`
			Changes             map[string]map[string]any `json:"changes"`
			Picture             string                    `json:"picture"`
			Class               string                    `json:"class"`
			ReconstructionRange [2]float64                `json:"reconstruction_range"`
		} `json:"cases"`
	}
	readJSON(t, filepath.Join(dir, "golden.json"), &golden)
	if len(golden.Cases) < 17 {
		t.Fatalf("want at least 17 cases, found %d", len(golden.Cases))
	}
	reasons := map[string]int{}
	for _, want := range golden.Cases {
		t.Run(want.Name, func(t *testing.T) {
			var manifest map[string]any
			readJSON(t, filepath.Join(dir, engines.ManifestFile), &manifest)
			for section, values := range want.Changes {
				for key, value := range values {
					manifest[section].(map[string]any)[key] = value
				}
			}
			changed, err := json.Marshal(manifest)
			if err != nil {
				t.Fatal(err)
			}
			copied := enginetest.Copy(t, dir)
			enginetest.WriteFile(t, filepath.Join(copied, engines.ManifestFile), changed)
			bundle := enginetest.Load(t, copied)

			class, err := bundle.Manifest.Class(want.Class)
			if err != nil {
				t.Fatal(err)
			}
			part := inspection.Part{Class: class, Noise: readArray(t, filepath.Join(dir, "noise", want.Picture+".npy"), 3, 12, 20)}
			if bundle.Manifest.Latent.Encode == engines.EncodeSample {
				part.EncodeNoise = readArray(t, filepath.Join(dir, "encode_noise", want.Picture+".npy"), 3, 12, 20)
			}
			result := inspect(t, openModel(t, bundle), filepath.Join(dir, "images", want.Picture+".png"), part).Result
			want.compare(t, result, 1e-4)
			compareArrays(t, "anomaly map", result.AnomalyMap, readArray(t, filepath.Join(dir, "golden", want.Name+".anomaly_map.npy"), 40, 40), 1e-4)
			low, high := math.Inf(1), math.Inf(-1)
			for _, value := range result.Reconstruction {
				low, high = min(low, float64(value)), max(high, float64(value))
			}
			if math.Abs(low-want.ReconstructionRange[0]) > 1e-3 || math.Abs(high-want.ReconstructionRange[1]) > 1e-3 {
				t.Errorf("reconstruction: want %v, unclamped, found %v to %v", want.ReconstructionRange, low, high)
			}
		})
		reasons[want.SwitchReason]++
	}
	if reasons["threshold"] == 0 || reasons["min_step"] == 0 || reasons["none"] == 0 {
		t.Errorf("the cases do not cover every reason of a switch: %v", reasons)
	}
}

// New thresholds count, whichever plan had old ones.
func TestPlansOlderThanExactAreLeftOut(t *testing.T) {
	dir := enginetest.Copy(t, enginetest.TinyA(t))
	digest := enginetest.Load(t, dir).ModelDigest
	entry := func(id, mode, plan, settings string) string {
		return fmt.Sprintf("  - {id: %s, model_digest: %q, backend: onnxruntime, precision: fp32, mode: %s, plan: %s, gate_threshold: 0.02, image_threshold: 1.0%s}\n", id, digest, mode, plan, settings)
	}
	latest := entry("latest", engines.ModeAdaptive, engines.PlanLatestFirst, ", plan_settings: {margin: 0}")
	exact := entry("exact", engines.ModeExact, engines.PlanExact, "")
	again := strings.Replace(latest, "id: latest", "id: again", 1)
	for name, test := range map[string]struct {
		entries string
		plans   []string
		want    string // the calibration in use
		warns   bool
	}{
		"exact first":          {exact + latest, nil, "latest", false},
		"exact again":          {latest + exact, nil, "exact", true},
		"both again":           {latest + exact + again, nil, "again", false},
		"adaptive only":        {latest, nil, "latest", false},
		"exact only":           {exact, nil, "exact", false},
		"older, but asked for": {latest + exact, []string{engines.PlanLatestFirst}, "latest", false},
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.WriteFile(t, filepath.Join(dir, engines.CalibrationsFile), []byte("schema: gladd.calibrations/v1\ncalibrations:\n"+test.entries))
			var log strings.Builder
			opened, err := app.OpenEngines(app.EngineOptions{Backend: app.BackendONNXRuntime, ONNXRuntimeLibrary: enginetest.Library(t)}, slog.New(slog.NewTextHandler(&log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			defer opened.Close() //nolint:errcheck // the test is about plans
			model, err := opened.OpenModel(t.Context(), enginetest.Load(t, dir), engines.ModeAdaptive, test.plans...)
			if err != nil {
				t.Fatal(err)
			}
			if found := model.Calibrations[0]; found == nil || found.ID != test.want {
				t.Errorf("expected calibration %s, found %+v", test.want, found)
			}
			if warned := strings.Contains(log.String(), "plan left out"); warned != test.warns {
				t.Errorf("expected a warning: %t, found %s", test.warns, &log)
			}
		})
	}
}

// A calibration's gate threshold takes the place of the manifest's, and its
// image threshold decides.
func TestCalibrationInUse(t *testing.T) {
	dir := enginetest.Copy(t, enginetest.TinyA(t))
	bundle := enginetest.Load(t, dir)
	write := func(backend string) *engines.Bundle {
		enginetest.WriteFile(t, filepath.Join(dir, engines.CalibrationsFile), fmt.Appendf(nil, `schema: gladd.calibrations/v1
calibrations:
  - {id: c1, model_digest: "%s", backend: %s, precision: fp32, mode: exact, plan: exact, gate_threshold: 0.02, image_threshold: 1.0, region_threshold: 0.9}
`, bundle.ModelDigest, backend))
		return enginetest.Load(t, dir)
	}
	picture := func(name string) string { return filepath.Join(enginetest.TinyA(t), "images", name+".png") }
	noise := func(name string) inspection.Part {
		return inspection.Part{Noise: readArray(t, filepath.Join(enginetest.TinyA(t), "noise", name+".npy"), 4, 8, 8)}
	}

	model := openModel(t, write("onnxruntime"))
	good := inspect(t, model, picture("good_0"), noise("good_0"))
	// 0.0246 at the second step crosses 0.02; the manifest's 0.074 is never crossed.
	if good.Evaluation != verdict.OK || good.Result.SwitchTimestep != 691 || good.Result.SwitchReason != pipeline.SwitchThreshold {
		t.Errorf("good_0: want OK, switched at 691 by the calibration's threshold, found %s, %s at %d", good.Evaluation, good.Result.SwitchReason, good.Result.SwitchTimestep)
	}
	bad := inspect(t, model, picture("blob_dark"), noise("blob_dark"))
	if bad.Evaluation != verdict.NotOK || bad.Reason.Code != verdict.ReasonAnomaly || len(bad.Regions) == 0 {
		t.Errorf("blob_dark: want NotOK with regions, found %s, %v, %v", bad.Evaluation, bad.Reason, bad.Regions)
	}

	other := inspect(t, openModel(t, write("tensorrt")), picture("good_0"), noise("good_0"))
	if other.Evaluation != verdict.Undefined || other.Reason.Code != verdict.ReasonUnqualified || other.Result.SwitchTimestep != 331 {
		t.Errorf("calibrated for TensorRT: want Undefined, unqualified, by the manifest's threshold, found %s, %v, %d", other.Evaluation, other.Reason, other.Result.SwitchTimestep)
	}
}

func TestOpenEnginesRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		options app.EngineOptions
		want    string
	}{
		"TensorRT":         {app.EngineOptions{Backend: "tensorrt", TensorRT: app.TensorRTOptions{CUDALibrary: "/nowhere/libcuda.so.1"}}, "backend tensorrt: CUDA driver library /nowhere/libcuda.so.1: "},
		"CUDA":             {app.EngineOptions{Backend: "onnxruntime-cuda", ONNXRuntimeLibrary: enginetest.Library(t)}, "backend onnxruntime-cuda: no libonnxruntime_providers_cuda.so beside the library; expected the GPU build of ONNX Runtime"},
		"unknown backend":  {app.EngineOptions{Backend: "openvino"}, `backend "openvino": expected auto, onnxruntime`},
		"library not here": {app.EngineOptions{Backend: "auto", ONNXRuntimeLibrary: "/nowhere.so"}, "ONNX Runtime library /nowhere.so"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := app.OpenEngines(test.options, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("want %q, found %v", test.want, err)
			}
		})
	}
}

func TestEngines(t *testing.T) {
	var log strings.Builder
	opened, err := app.OpenEngines(app.EngineOptions{
		Backend: app.BackendAuto, ONNXRuntimeLibrary: enginetest.Library(t),
		TensorRT: app.TensorRTOptions{CUDALibrary: "/nowhere/libcuda.so.1"},
	}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	bundle := enginetest.Load(t, enginetest.Micro(t))
	if _, err := opened.OpenModel(t.Context(), bundle, "quick"); err == nil || !strings.Contains(err.Error(), `mode: expected exact or adaptive, found "quick"`) {
		t.Errorf("another mode: found %v", err)
	}
	for range 2 { // the second model shares the first one's networks
		if _, err := opened.OpenModel(t.Context(), bundle, engines.ModeExact); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	}
	if !strings.Contains(log.String(), "onnxruntime") || !strings.Contains(log.String(), "no NVIDIA driver is here") {
		t.Errorf("it says which backend was chosen and why; found %s", &log)
	}
}
