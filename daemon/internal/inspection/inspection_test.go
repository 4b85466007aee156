package inspection

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"gladd/capture"
	"gladd/daemon/internal/verdict"
	"gladd/engines"
	"gladd/pipeline"
)

// evenModels reconstruct every part as black and find the picture's brightness
// everywhere, so that the score is known.
type evenModels struct {
	onScore func() error // nil: nothing happens
	poison  float32
}

func (evenModels) Encode(_ context.Context, _, mean, _ []float32) error {
	clear(mean)
	return nil
}

func (evenModels) PredictNoise(_ context.Context, _ []float32, _, _ []int, eps []float32) error {
	clear(eps)
	return nil
}

func (evenModels) Compare(_ context.Context, _, _, maps []float32) error {
	clear(maps)
	return nil
}

func (evenModels) Reconstruct(_ context.Context, _, images []float32) error {
	for i := range images {
		images[i] = -1
	}
	return nil
}

func (m evenModels) Score(_ context.Context, testImages, reconstructions, maps []float32) error {
	for i := range maps {
		maps[i] = (testImages[i]-reconstructions[i])/2 + m.poison
	}
	if m.onScore != nil {
		return m.onScore()
	}
	return nil
}

const side = 8

func inspector(t *testing.T, models pipeline.Models, thresholds *verdict.Thresholds) (*Inspector, *strings.Builder) {
	t.Helper()
	var log strings.Builder
	inspector, err := New(Options{
		Models: models,
		Parameters: pipeline.Parameters{
			Image:    pipeline.Image{Width: side, Height: side},
			Latent:   pipeline.Latent{Channels: 1, Width: 1, Height: 1},
			Schedule: pipeline.Schedule{TrainTimesteps: 1000, BetaStart: 0.00085, BetaEnd: 0.012},
			Denoise:  pipeline.Denoise{Step: 500, NoiseStep: 500, InferenceSteps: 2, MinStep: 100, Threshold: 1, GateTopK: 1},
			Score:    pipeline.Score{MapSize: side, TopK: 1, ObjectMask: pipeline.ObjectMaskNone},
		},
		Plans: []Qualified{{Learned: []Learned{{
			Thresholds:   thresholds,
			Uncalibrated: verdict.Reason{Code: verdict.ReasonUnqualified, Detail: "for another method"},
		}}}},
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return inspector, &log
}

// gray is a picture of one brightness, 0 to 255, whose score is its share of
// white.
func gray(brightness byte) Part {
	picture := &capture.Picture{Width: 2 * side, Height: side, RGB: make([]byte, 3*2*side*side)}
	for i := range picture.RGB {
		picture.RGB[i] = brightness
	}
	return Part{Picture: picture}
}

func TestInspect(t *testing.T) {
	region := 0.9
	in, _ := inspector(t, evenModels{}, &verdict.Thresholds{Image: 0.5, Region: &region})

	good := in.Inspect(t.Context(), gray(51))
	if good.Evaluation != verdict.OK || good.Reason != nil || !good.Scored || math.Abs(good.Result.Score-0.2) > 1e-6 || good.Regions == nil || len(good.Regions) != 0 {
		t.Errorf("a dark part: want OK with score 0.2 and no regions, found %+v", good)
	}
	bad := in.Inspect(t.Context(), gray(255))
	if want := (verdict.Region{Width: 2 * side, Height: side, Area: 2 * side * side, Peak: 1}); bad.Evaluation != verdict.NotOK || len(bad.Regions) != 1 || bad.Regions[0] != want {
		t.Errorf("a bright part: want NotOK and %v, found %+v", want, bad)
	}
}

func TestWithoutThresholds(t *testing.T) {
	in, _ := inspector(t, evenModels{}, nil)
	outcome := in.Inspect(t.Context(), gray(0))
	if outcome.Evaluation != verdict.Undefined || outcome.Reason.Code != verdict.ReasonUnqualified || !outcome.Scored || outcome.Regions != nil {
		t.Errorf("want Undefined, unqualified, with a score, found %+v", outcome)
	}
}

// Whatever fails, nothing reads OK, and the next part is inspected.
func TestFaults(t *testing.T) {
	for name, test := range map[string]struct {
		models   evenModels
		part     Part
		code     verdict.ReasonCode
		detail   string
		canceled error
	}{
		"panic":          {models: evenModels{onScore: func() error { panic("out of bounds") }}, part: gray(0), code: verdict.ReasonInternal, detail: "panic: out of bounds"},
		"network fails":  {models: evenModels{onScore: func() error { return errors.New("out of memory") }}, part: gray(0), code: verdict.ReasonEngine, detail: "score: out of memory"},
		"NaN":            {models: evenModels{poison: float32(math.NaN())}, part: gray(0), code: verdict.ReasonNumeric, detail: "score: expected finite values, found NaN at index 0 of the output"},
		"infinity":       {models: evenModels{poison: float32(math.Inf(-1))}, part: gray(0), code: verdict.ReasonNumeric, detail: "found -Inf"},
		"one pixel":      {part: Part{Picture: &capture.Picture{Width: 1, Height: 1, RGB: make([]byte, 3)}}, code: verdict.ReasonImageHealth, detail: "expected at least 8x8 px, found 1x1"},
		"noise too long": {part: Part{Picture: gray(0).Picture, Noise: make([]float32, 2)}, code: verdict.ReasonInternal, detail: "noise: expected 1 values, found 2"},
		"no pixels":      {part: Part{Picture: &capture.Picture{Width: 8, Height: 8}}, code: verdict.ReasonInternal, detail: "expected 192 bytes"},
		"stopped":        {part: gray(0), code: verdict.ReasonAborted, detail: "context canceled", canceled: context.Canceled},
		"late":           {part: gray(0), code: verdict.ReasonDeadline, detail: "deadline exceeded", canceled: context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			in, log := inspector(t, test.models, &verdict.Thresholds{Image: 0.5})
			ctx, cancel := t.Context(), context.CancelFunc(func() {})
			if errors.Is(test.canceled, context.Canceled) {
				ctx, cancel = context.WithCancel(ctx)
				cancel()
			} else if test.canceled != nil {
				ctx, cancel = context.WithTimeout(ctx, 0)
			}
			defer cancel()
			outcome := in.Inspect(ctx, test.part)
			if outcome.Evaluation != verdict.Undefined || outcome.Scored || outcome.Reason == nil || outcome.Reason.Code != test.code || !strings.Contains(outcome.Reason.Detail, test.detail) {
				t.Errorf("want Undefined, %s, %q, found %+v, %+v", test.code, test.detail, outcome.Evaluation, outcome.Reason)
			}
			if outcome.Result.SwitchReason == "" {
				t.Error("the switch has no reason")
			}
			if name == "panic" && !strings.Contains(log.String(), "inspection_test.go") {
				t.Errorf("the log does not say where: %s", log)
			}
			if test.models.onScore == nil && test.models.poison == 0 {
				if next := in.Inspect(t.Context(), gray(0)); next.Evaluation != verdict.OK {
					t.Errorf("the next part: want OK, found %+v", next.Reason)
				}
			}
		})
	}
}

// slowModels take a while for every comparison, by a clock that the test sets.
type slowModels struct {
	evenModels
	comparison time.Duration
}

func (m *slowModels) Compare(ctx context.Context, test, reconstructed, maps []float32) error {
	time.Sleep(m.comparison)
	return m.evenModels.Compare(ctx, test, reconstructed, maps)
}

// twoPlans inspects by exact, ten comparisons, or by latest-first, one.
func twoPlans(t *testing.T, models *slowModels) (in *Inspector, calibration string) {
	t.Helper()
	in, _ = inspector(t, models, nil)
	threshold, id := verdict.Thresholds{Image: 0.7}, "of latest-first"
	options := in.options
	options.Parameters.Denoise.InferenceSteps, options.Parameters.Denoise.MinStep = 10, 0
	options.Plans[0].Method.Plan = engines.PlanExact
	options.Plans = append(options.Plans, Qualified{
		Method: engines.Method{Plan: engines.PlanLatestFirst}, Learned: []Learned{{Plan: pipeline.Plan{LatestFirst: true}, Thresholds: &threshold, CalibrationID: &id}},
	})
	in, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	return in, id
}

// within inspects a part that has so much time left, of a whole budget.
func within(t *testing.T, in *Inspector, left, budget time.Duration) Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), left)
	defer cancel()
	part := gray(128)
	part.Budget = budget
	return in.Inspect(ctx, part)
}

func TestTheBestPlanThatFits(t *testing.T) {
	models := &slowModels{comparison: 20 * time.Millisecond}
	in, id := twoPlans(t, models)
	if first := in.Inspect(t.Context(), gray(128)); !first.Scored || first.Method.Plan != engines.PlanExact {
		t.Fatalf("without a deadline: found %+v", first)
	}
	if found := within(t, in, time.Minute, 0); found.Method.Plan != engines.PlanExact || found.CalibrationID != nil || found.ImageThreshold != nil {
		t.Errorf("there is time for the first: found %+v", found)
	}
	found := within(t, in, 120*time.Millisecond, 0)
	if !found.Scored || found.Method.Plan != engines.PlanLatestFirst || *found.CalibrationID != id || *found.ImageThreshold != 0.7 || len(found.Result.Gate) != 1 {
		t.Errorf("there is time for the second: found %+v", found)
	}
	found = within(t, in, 10*time.Millisecond, 0)
	if found.Method != nil || found.Reason == nil || found.Reason.Code != verdict.ReasonDeadline ||
		!strings.Contains(found.Reason.Detail, "not begun: the quickest plan, latest-first, takes about 2") {
		t.Errorf("there is no time: found %+v", found.Reason)
	}
}

// A plan that takes longer than it did is not begun again and again.
func TestAPlanThatBecameTooSlow(t *testing.T) {
	models := &slowModels{comparison: 2 * time.Millisecond}
	in, _ := twoPlans(t, models)
	in.Inspect(t.Context(), gray(128))
	models.comparison = 20 * time.Millisecond
	overrun := 0
	for found := within(t, in, 150*time.Millisecond, 0); !found.Scored; found = within(t, in, 150*time.Millisecond, 0) {
		if overrun++; overrun > 3 {
			t.Fatal("found no part scored, though one comparison fits")
		}
	}
	if overrun == 0 {
		t.Error("the first part was to overrun its time")
	}
}

// Parts that come late because others were before them teach nothing of the
// costs; refusals of parts that had all the time there is do.
func TestRefusals(t *testing.T) {
	models := &slowModels{comparison: 20 * time.Millisecond}
	in, _ := twoPlans(t, models)
	in.Inspect(t.Context(), gray(128))
	for range 200 {
		if found := within(t, in, 5*time.Millisecond, time.Second); found.Method != nil {
			t.Fatalf("found %+v", found)
		}
	}
	if found := within(t, in, 120*time.Millisecond, time.Second); !found.Scored || found.Method.Plan != engines.PlanLatestFirst {
		t.Errorf("after late parts: found %+v", found)
	}

	models.comparison = 0
	tries := 0
	for found := within(t, in, 15*time.Millisecond, 15*time.Millisecond); !found.Scored && tries < 500; tries++ {
		found = within(t, in, 15*time.Millisecond, 15*time.Millisecond)
	}
	if tries == 500 || tries < 2 {
		t.Errorf("the machine is fast again: found %d refusals", tries)
	}
}

func TestAPlanThatDoesNotFitTheModel(t *testing.T) {
	in, _ := inspector(t, evenModels{}, nil)
	options := in.options
	options.Plans = append(options.Plans, Qualified{
		Method: engines.Method{Plan: engines.PlanLatestFirst}, Learned: []Learned{{Plan: pipeline.Plan{LatestFirst: true, Probes: []int{7}}}},
	})
	if _, err := New(options); err == nil || !strings.Contains(err.Error(), "plan latest-first: plan: probe: expected a timestep") {
		t.Errorf("found %v", err)
	}
}

func TestMemoryIsUsedAgain(t *testing.T) {
	in, _ := inspector(t, evenModels{}, nil)
	first := in.Inspect(t.Context(), gray(128))
	anomalyMap := &first.Result.AnomalyMap[0]
	part := gray(64)
	part.Reuse = &first
	second := in.Inspect(t.Context(), part)
	if &second.Result.AnomalyMap[0] != anomalyMap || math.Abs(second.Result.Score-64./255) > 1e-6 {
		t.Errorf("found score %v", second.Result.Score)
	}
}
