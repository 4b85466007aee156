package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// linearModels are networks simple enough to follow by hand: pictures of
// 2x2 px, latents of one channel and 2x2, maps of 2x2. The encoder takes red,
// eps is a share of the sample, the decoder repeats the latent in all colours,
// the distances are absolute differences.
type linearModels struct {
	share    float32
	calls    []string
	classes  []int
	failAt   string  // the call that fails
	poison   float32 // what poisonAt returns at index 0, if not 0
	poisonAt string
	onCall   func(name string)
}

func (m *linearModels) begin(name string) error {
	m.calls = append(m.calls, name)
	if m.onCall != nil {
		m.onCall(name)
	}
	if name == m.failAt {
		return errors.New("out of order")
	}
	return nil
}

func (m *linearModels) end(name string, output []float32) {
	if name == m.poisonAt {
		output[0] = m.poison
	}
}

func (m *linearModels) Encode(_ context.Context, images, mean, std []float32) error {
	err := m.begin("encode")
	copy(mean, images[:4])
	for i := range std {
		std[i] = 0.5
	}
	m.end("encode", mean)
	return err
}

func (m *linearModels) PredictNoise(_ context.Context, samples []float32, timesteps, classes []int, eps []float32) error {
	err := m.begin("predict noise")
	m.classes = append(m.classes, classes...)
	for i, sample := range samples {
		eps[i] = m.share * sample
	}
	if timesteps[0] < 1 || timesteps[0] > 999 {
		return errors.New("timestep out of range")
	}
	m.end("predict noise", eps)
	return err
}

func (m *linearModels) Compare(_ context.Context, latentsTest, latentsRecon, maps []float32) error {
	err := m.begin("compare")
	for i := range maps {
		maps[i] = float32(math.Abs(float64(latentsTest[i] - latentsRecon[i])))
	}
	m.end("compare", maps)
	return err
}

func (m *linearModels) Reconstruct(_ context.Context, latents, images []float32) error {
	err := m.begin("reconstruct")
	for channel := range 3 {
		copy(images[4*channel:], latents)
	}
	m.end("reconstruct", images)
	return err
}

func (m *linearModels) Score(_ context.Context, testImages, reconstructions, maps []float32) error {
	err := m.begin("score")
	for i := range maps {
		maps[i] = float32(math.Abs(float64(testImages[i] - reconstructions[i])))
	}
	m.end("score", maps)
	return err
}

func (m *linearModels) count(name string) int {
	count := 0
	for _, call := range m.calls {
		if call == name {
			count++
		}
	}
	return count
}

func smallParameters() Parameters {
	return Parameters{
		Digest:   "small",
		Image:    Image{Width: 2, Height: 2},
		Latent:   Latent{Channels: 1, Width: 2, Height: 2},
		Schedule: usualSchedule,
		Denoise:  Denoise{Step: 500, NoiseStep: 500, InferenceSteps: 5, MinStep: 250, Threshold: 1e9, GateTopK: 1},
		Score:    Score{MapSize: 2, TopK: 1, ObjectMask: ObjectMaskNone},
	}
}

func smallPart() Input {
	return Input{RGB: []byte{10, 20, 30, 200, 100, 50, 90, 90, 90, 0, 0, 0}, Noise: []float32{0.5, -1, 0.25, 2}}
}

func inspectSmall(t *testing.T, models *linearModels, parameters Parameters, part Input) Result {
	t.Helper()
	inspector, err := NewInspector(models, parameters)
	if err != nil {
		t.Fatal(err)
	}
	result, err := inspector.Inspect(t.Context(), part)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// With eps = 0 the trajectory is known in closed form: every x0 is
// x / sqrt(alphaBar), which the DDIM step carries on unchanged.
func TestPlainDDIMInClosedForm(t *testing.T) {
	parameters := smallParameters()
	parameters.Denoise.Threshold = 0
	models := &linearModels{share: 0}
	part := smallPart()
	result := inspectSmall(t, models, parameters, part)
	if want := []string{"encode", "predict noise", "predict noise", "predict noise", "predict noise", "predict noise", "reconstruct", "score"}; !slices.Equal(models.calls, want) {
		t.Errorf("calls without an adaptive step: want %v, found %v", want, models.calls)
	}
	if result.SwitchReason != SwitchNone || result.SwitchTimestep != 0 || result.Gate != nil {
		t.Errorf("switch: want none, found %s at %d, %v", result.SwitchReason, result.SwitchTimestep, result.Gate)
	}
	alphaBars := usualSchedule.alphaBars()
	// The first timestep is 401, not the 500 to which the part was noised.
	scale := math.Sqrt(alphaBars[0]) / math.Sqrt(alphaBars[401])
	for i, n := range part.Noise {
		z := float64(part.RGB[3*i])/127.5 - 1
		want := scale * (math.Sqrt(alphaBars[500])*z + math.Sqrt(1-alphaBars[500])*float64(n))
		if found := float64(result.Latent[i]); math.Abs(found-want) > 1e-5 {
			t.Errorf("latent %d: want %v, found %v", i, want, found)
		}
	}
}

// A part that never crosses is compared down to the first timestep below
// min_step, where its own clean latent takes over.
func TestSwitchAtMinStep(t *testing.T) {
	models := &linearModels{share: 0.1}
	result := inspectSmall(t, models, smallParameters(), smallPart())
	if result.SwitchReason != SwitchMinStep || result.SwitchTimestep != 201 {
		t.Errorf("want min_step at 201, found %s at %d", result.SwitchReason, result.SwitchTimestep)
	}
	if found := models.count("compare"); found != 3 || len(result.Gate) != 3 {
		t.Errorf("want comparisons at 401, 301 and 201, found %d, %v", found, result.Gate)
	}
}

func TestSwitchAtThreshold(t *testing.T) {
	scores := inspectSmall(t, &linearModels{share: 0.1}, smallParameters(), smallPart()).Gate
	slices.SortFunc(scores, func(a, b GateScore) int { return b.Timestep - a.Timestep })

	for name, test := range map[string]struct {
		threshold float64
		minStep   int
		reason    string
		timestep  int
	}{
		"the first score crosses":       {scores[0].Score - 1e-6, 250, SwitchThreshold, 401},
		"the threshold must be crossed": {scores[0].Score, 450, SwitchMinStep, 401},
		"crossing wins below min_step":  {scores[0].Score - 1e-6, 450, SwitchThreshold, 401},
		"never below min_step":          {1e9, 0, SwitchNone, 0},
		"min_step itself is not below":  {1e9, 301, SwitchMinStep, 201},
	} {
		t.Run(name, func(t *testing.T) {
			parameters := smallParameters()
			parameters.Denoise.Threshold, parameters.Denoise.MinStep = test.threshold, test.minStep
			result := inspectSmall(t, &linearModels{share: 0.1}, parameters, smallPart())
			if result.SwitchReason != test.reason || result.SwitchTimestep != test.timestep {
				t.Errorf("want %s at %d, found %s at %d", test.reason, test.timestep, result.SwitchReason, result.SwitchTimestep)
			}
		})
	}
}

// The comparison does not depend on this step's eps: x0Test - x0Gen is
// (xTest - x) / sqrt(alphaBar).
func TestFirstComparison(t *testing.T) {
	part := smallPart()
	gate := inspectSmall(t, &linearModels{share: 0.1}, smallParameters(), part).Gate
	alphaBars := usualSchedule.alphaBars()
	var want float64
	for i, n := range part.Noise {
		z := float64(part.RGB[3*i])/127.5 - 1
		x := math.Sqrt(alphaBars[500])*z + math.Sqrt(1-alphaBars[500])*float64(n)
		xTest := math.Sqrt(alphaBars[401])*z + math.Sqrt(1-alphaBars[401])*float64(n)
		want = max(want, math.Abs(xTest-x)/math.Sqrt(alphaBars[401]))
	}
	if found := gate[0].Score; math.Abs(found-want) > 1e-5 {
		t.Errorf("want %v, found %v", want, found)
	}
}

func TestPosteriorSampling(t *testing.T) {
	parameters := smallParameters()
	parameters.Latent.Sample = true
	parameters.Denoise.Threshold = 0
	part := smallPart()
	part.EncodeNoise = []float32{1, 1, 1, 1}
	sampled := inspectSmall(t, &linearModels{}, parameters, part)
	part.EncodeNoise = []float32{0, 0, 0, 0}
	mean := inspectSmall(t, &linearModels{}, parameters, part)
	alphaBars := usualSchedule.alphaBars()
	want := 0.5 * math.Sqrt(alphaBars[500]) * math.Sqrt(alphaBars[0]) / math.Sqrt(alphaBars[401])
	for i := range sampled.Latent {
		if found := float64(sampled.Latent[i] - mean.Latent[i]); math.Abs(found-want) > 1e-5 {
			t.Errorf("latent %d moved by std * noise: want %v, found %v", i, want, found)
		}
	}
	part.EncodeNoise = nil
	if generated := inspectSmall(t, &linearModels{}, parameters, part); slices.Equal(generated.Latent, mean.Latent) {
		t.Error("without encode noise given, none was generated")
	}
}

func TestGeneratedNoiseRepeats(t *testing.T) {
	part := smallPart()
	part.Noise = nil
	first := inspectSmall(t, &linearModels{share: 0.1}, smallParameters(), part)
	second := inspectSmall(t, &linearModels{share: 0.1}, smallParameters(), part)
	if first.Score != second.Score || !slices.Equal(first.AnomalyMap, second.AnomalyMap) {
		t.Error("the same picture under the same model has two scores")
	}
	parameters := smallParameters()
	parameters.Digest = "another"
	if other := inspectSmall(t, &linearModels{share: 0.1}, parameters, part); other.Score == first.Score {
		t.Error("another model has the same noise")
	}
}

func TestClassReachesTheNetwork(t *testing.T) {
	parameters := smallParameters()
	parameters.Classes = 3
	part := smallPart()
	part.Class = 2
	models := &linearModels{}
	inspectSmall(t, models, parameters, part)
	if want := []int{2, 2, 2, 2, 2}; !slices.Equal(models.classes, want) {
		t.Errorf("want %v, found %v", want, models.classes)
	}
}

// NaN in a gate score would compare as false and read like a good part.
func TestEveryCallIsGuarded(t *testing.T) {
	for _, call := range []string{"encode", "predict noise", "compare", "reconstruct", "score"} {
		for name, poison := range map[string]float32{"NaN": float32(math.NaN()), "Inf": float32(math.Inf(1)), "-Inf": float32(math.Inf(-1))} {
			t.Run(call+" returns "+name, func(t *testing.T) {
				inspector, err := NewInspector(&linearModels{poison: poison, poisonAt: call}, smallParameters())
				if err != nil {
					t.Fatal(err)
				}
				result, err := inspector.Inspect(t.Context(), smallPart())
				var numericError *NumericError
				if !errors.As(err, &numericError) || numericError.Call != call || numericError.Index != 0 {
					t.Errorf("want a NumericError of %s at index 0, found %v", call, err)
				}
				if result.AnomalyMap != nil {
					t.Error("there is a map")
				}
			})
		}
		t.Run(call+" fails", func(t *testing.T) {
			inspector, err := NewInspector(&linearModels{failAt: call}, smallParameters())
			if err != nil {
				t.Fatal(err)
			}
			_, err = inspector.Inspect(t.Context(), smallPart())
			var callError *CallError
			if !errors.As(err, &callError) || callError.Call != call || !strings.Contains(err.Error(), "out of order") {
				t.Errorf("want a CallError of %s that keeps its cause, found %v", call, err)
			}
		})
	}
}

// hiddenNaN is what a network reports that saw a NaN within a call.
type hiddenNaN struct{ error }

func (hiddenNaN) NotFinite() (int, float32) { return 7, float32(math.NaN()) }

func TestNumericErrorWithinACall(t *testing.T) {
	var timings time.Duration
	err := call(t.Context(), "compare", 401, &timings, nil, func() error {
		return fmt.Errorf("decoder: %w", hiddenNaN{errors.New("found NaN")})
	})
	var numeric *NumericError
	if !errors.As(err, &numeric) || numeric.Index != 7 || err.Error() != "compare at timestep 401: decoder: found NaN" {
		t.Errorf("want a NumericError, found %v", err)
	}
}

// Finite predictions can lead out of float32's range, to a latent that a
// decoder may turn into an innocent picture.
func TestLatentThatOverflows(t *testing.T) {
	parameters := smallParameters()
	parameters.Denoise.Threshold = 0
	inspector, err := NewInspector(&linearModels{poisonAt: "predict noise", poison: -math.MaxFloat32}, parameters)
	if err != nil {
		t.Fatal(err)
	}
	result, err := inspector.Inspect(t.Context(), smallPart())
	var numeric *NumericError
	if !errors.As(err, &numeric) || numeric.Call != "denoise" || numeric.Timestep != 401 {
		t.Errorf("want a NumericError of denoise at timestep 401, found %v", err)
	}
	if result.AnomalyMap != nil {
		t.Error("the result is scored")
	}
}

func TestCancellationBetweenSteps(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	models := &linearModels{share: 0.1}
	models.onCall = func(name string) {
		if name == "compare" && models.count("compare") == 2 {
			cancel()
		}
	}
	inspector, err := NewInspector(models, smallParameters())
	if err != nil {
		t.Fatal(err)
	}
	result, err := inspector.Inspect(ctx, smallPart())
	if !errors.Is(err, context.Canceled) {
		t.Errorf("want context.Canceled, found %v", err)
	}
	if found := models.count("predict noise"); found != 2 || len(result.Gate) != 2 {
		t.Errorf("want an end after two steps with two gate scores, found %d, %v", found, result.Gate)
	}
	if _, err := inspector.Inspect(t.Context(), smallPart()); err != nil {
		t.Errorf("the next inspection: %v", err)
	}
}

func TestInspectRefusesWhatDoesNotFit(t *testing.T) {
	parameters := smallParameters()
	parameters.Classes = 2
	inspector, err := NewInspector(&linearModels{}, parameters)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Input){
		"picture of another size": func(part *Input) { part.RGB = part.RGB[:9] },
		"noise of another size":   func(part *Input) { part.Noise = part.Noise[:3] },
		"encode noise, unused":    func(part *Input) { part.EncodeNoise = []float32{1} },
		"class beyond":            func(part *Input) { part.Class = 2 },
		"class below":             func(part *Input) { part.Class = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			part := smallPart()
			change(&part)
			if _, err := inspector.Inspect(t.Context(), part); err == nil {
				t.Error("want an error, found none")
			}
		})
	}
}

func TestNewInspectorRefusesTheImpossible(t *testing.T) {
	for name, change := range map[string]func(*Parameters){
		"no picture":          func(p *Parameters) { p.Image.Width = 0 },
		"no latent":           func(p *Parameters) { p.Latent.Channels = 0 },
		"no map":              func(p *Parameters) { p.Score.MapSize = 0 },
		"gate top-k beyond":   func(p *Parameters) { p.Denoise.GateTopK = 5 },
		"score top-k beyond":  func(p *Parameters) { p.Score.TopK = 5 },
		"threshold NaN":       func(p *Parameters) { p.Denoise.Threshold = math.NaN() },
		"threshold below 0":   func(p *Parameters) { p.Denoise.Threshold = -1 },
		"unknown object mask": func(p *Parameters) { p.Score.ObjectMask = "sobel" },
		"no steps":            func(p *Parameters) { p.Denoise.InferenceSteps = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			parameters := smallParameters()
			change(&parameters)
			if _, err := NewInspector(&linearModels{}, parameters); err == nil {
				t.Error("want an error, found none")
			}
		})
	}
}

// The object mask silences what lies outside of the object.
func TestObjectMaskIsApplied(t *testing.T) {
	parameters := smallParameters()
	// Wider than the mask's reach, dark at the left: the map's left column is
	// the object, its right column is not.
	parameters.Image = Image{Width: 200, Height: 2}
	part := Input{RGB: bytes.Repeat([]byte{200}, 3*200*2), Noise: smallPart().Noise}
	for y := range 2 {
		copy(part.RGB[3*200*y:], make([]byte, 3*20))
	}
	without := inspectSmall(t, &linearModels{share: 0.1}, parameters, part)
	parameters.Score.ObjectMask = ObjectMaskOtsuDark
	with := inspectSmall(t, &linearModels{share: 0.1}, parameters, part)
	for i, plain := range without.AnomalyMap {
		want := plain * float32(1-i%2)
		if plain == 0 || math.Abs(float64(with.AnomalyMap[i]-want)) > 1e-6 {
			t.Errorf("at %d: want %v of %v, found %v", i, want, plain, with.AnomalyMap[i])
		}
	}
}

func TestPipelineIsPureGo(t *testing.T) {
	output, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{.ImportPath}} {{len .CgoFiles}} {{.Standard}}", "gladd/pipeline").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if !strings.Contains(string(output), "gladd/pipeline 0 false") {
		t.Fatalf("go list shows another package: %s", output)
	}
	for line := range strings.Lines(string(output)) {
		fields := strings.Fields(line)
		if name := fields[0]; fields[1] != "0" || name == "runtime/cgo" || (fields[2] == "false" && name != "gladd/pipeline") {
			t.Errorf("pipeline reaches %s", name)
		}
	}
}
