package mixed

import (
	"encoding/json"
	"math"
	"path/filepath"
	"testing"

	"gladd/capture/virtualline"
	"gladd/engines"
	"gladd/engines/enginetest"
	"gladd/internal/npy"
	"gladd/pipeline"
)

// parameters of a bundle, in the pipeline's terms.
func parameters(bundle *engines.Bundle) pipeline.Parameters {
	m := bundle.Manifest
	return pipeline.Parameters{
		Digest: bundle.ModelDigest,
		Image:  pipeline.Image{Width: m.Image.Width, Height: m.Image.Height},
		Latent: pipeline.Latent{Channels: m.Latent.Channels, Width: m.Latent.Width, Height: m.Latent.Height, Sample: m.Latent.Encode == engines.EncodeSample},
		Schedule: pipeline.Schedule{
			TrainTimesteps: m.Schedule.TrainTimesteps, BetaStart: m.Schedule.BetaStart, BetaEnd: m.Schedule.BetaEnd,
			StepsOffset: m.Schedule.StepsOffset, SetAlphaToOne: m.Schedule.SetAlphaToOne,
		},
		Denoise: pipeline.Denoise{
			Step: m.Denoise.Step, NoiseStep: *m.Denoise.NoiseStep, InferenceSteps: m.Denoise.InferenceSteps,
			MinStep: m.Denoise.MinStep, Threshold: m.Denoise.Threshold, GateTopK: m.Denoise.GateTopK,
		},
		Score:   pipeline.Score{MapSize: m.Score.MapSize, TopK: m.Score.TopK, ObjectMask: pipeline.ObjectMask(m.Score.ObjectMask)},
		Classes: len(m.Classes),
	}
}

// convertBundle copies a bundle with all graphs converted.
func convertBundle(t *testing.T, bundle *engines.Bundle, rewrite func([]byte) []byte) *engines.Bundle {
	t.Helper()
	dir := enginetest.Copy(t, bundle.Dir)
	for _, graph := range engines.GraphNames {
		converted, _ := convert(t, readGraphOf(t, bundle, graph), Options{})
		enginetest.ReplaceGraph(t, dir, graph, rewrite(converted))
	}
	return enginetest.Load(t, dir)
}

// inspector runs a bundle's networks with the parameters of another, as which it
// draws the same noise.
func inspector(t *testing.T, bundle *engines.Bundle, parameters pipeline.Parameters) *pipeline.Inspector {
	t.Helper()
	networks, err := enginetest.Backend(t).Open(t.Context(), bundle)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := networks.Close(); err != nil {
			t.Error(err)
		}
	})
	glad, err := pipeline.NewInspector(networks, parameters)
	if err != nil {
		t.Fatal(err)
	}
	return glad
}

// both are a bundle's converted graphs, as they are and with every FP16 value
// rounded.
func both(t *testing.T) map[string]func([]byte) []byte {
	return map[string]func([]byte) []byte{
		"as it is": func(converted []byte) []byte { return converted },
		"rounded":  func(converted []byte) []byte { return rounding(t, converted) },
	}
}

func inspect(t *testing.T, glad *pipeline.Inspector, input pipeline.Input) pipeline.Result {
	t.Helper()
	result, err := glad.Inspect(t.Context(), input)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// The official code's values on the golden bundle: the converted bundle switches
// where it does.
func TestGoldenVectors(t *testing.T) {
	const tolerance = 0.003 // of the score; 0.0011 was measured
	bundle := enginetest.Load(t, enginetest.TinyA(t))
	var golden struct {
		Images map[string]struct {
			SwitchTimestep int     `json:"switch_timestep"`
			Score          float64 `json:"score"`
		} `json:"images"`
	}
	if err := json.Unmarshal(enginetest.ReadFile(t, filepath.Join(bundle.Dir, "golden.json")), &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden.Images) != 6 {
		t.Fatalf("expected 6 pictures, found %d", len(golden.Images))
	}
	for kind, rewrite := range both(t) {
		t.Run(kind, func(t *testing.T) {
			glad := inspector(t, convertBundle(t, bundle, rewrite), parameters(bundle))
			for name, want := range golden.Images {
				noise, err := npy.Decode(enginetest.ReadFile(t, filepath.Join(bundle.Dir, "noise", name+".npy")), 4, 8, 8)
				if err != nil {
					t.Fatal(err)
				}
				found := inspect(t, glad, pipeline.Input{RGB: rgb(t, filepath.Join(bundle.Dir, "images", name+".png")), Noise: noise})
				off := math.Abs(found.Score-want.Score) / want.Score
				t.Logf("%s: score %.5f, off by %.2g", name, found.Score, off)
				if found.SwitchTimestep != want.SwitchTimestep || off > tolerance {
					t.Errorf("%s: expected a switch at %d and a score of %v within %v, found %d and %v",
						name, want.SwitchTimestep, want.Score, tolerance, found.SwitchTimestep, found.Score)
				}
			}
		})
	}
}

// Plates of the virtual line are judged as in FP32, by the demo's thresholds.
func TestPlates(t *testing.T) {
	const tolerance = 0.005 // of the score; 0.0022 was measured
	bundle := enginetest.Load(t, enginetest.Path(t, demo))
	calibration := bundle.Calibrations[0]
	full := inspector(t, bundle, parameters(bundle))
	for kind, rewrite := range both(t) {
		t.Run(kind, func(t *testing.T) {
			count := 20
			if kind != "rounded" || testing.Short() {
				count = 3
			}
			belt, err := virtualline.NewBelt("plate?seed=11&defective=50")
			if err != nil {
				t.Fatal(err)
			}
			glad := inspector(t, convertBundle(t, bundle, rewrite), parameters(bundle))
			bad := 0
			for range count {
				name, part := belt.Next()
				input := pipeline.Input{RGB: part.RGB, GateThreshold: &calibration.GateThreshold}
				want, found := inspect(t, full, input), inspect(t, glad, input)
				off := math.Abs(found.Score-want.Score) / want.Score
				t.Logf("%s: switch at %d, score %.5f, off by %.2g", name, want.SwitchTimestep, want.Score, off)
				notOK := want.Score > calibration.ImageThreshold
				if notOK {
					bad++
				}
				if found.SwitchTimestep != want.SwitchTimestep || found.SwitchReason != want.SwitchReason || off > tolerance || notOK != (found.Score > calibration.ImageThreshold) {
					t.Errorf("%s: expected a switch by %s at %d and a score of %v within %v, found %s at %d and %v; threshold %v", name,
						want.SwitchReason, want.SwitchTimestep, want.Score, tolerance, found.SwitchReason, found.SwitchTimestep, found.Score, calibration.ImageThreshold)
				}
			}
			if bad == 0 || bad == count {
				t.Errorf("expected good and bad plates, found %d bad of %d", bad, count)
			}
		})
	}
}
