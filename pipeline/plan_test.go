package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// scriptedModels find the gate scores that a test wants, by the index of the
// step.
type scriptedModels struct {
	linearModels
	inspector *Inspector
	curve     []float32
	compared  int
}

func (m *scriptedModels) Compare(_ context.Context, latentsTest, _, maps []float32) error {
	for k := range len(latentsTest) / 4 {
		for j := range 4 {
			maps[4*k+j] = m.curve[m.inspector.comparing[k]] / float32(1+j)
		}
		m.compared++
	}
	return nil
}

// longParameters give 12 steps from 452, of which 7 are compared.
func longParameters() Parameters {
	parameters := smallParameters()
	parameters.Denoise = Denoise{Step: 500, NoiseStep: 500, InferenceSteps: 12, MinStep: 240, Threshold: 1, GateTopK: 1}
	return parameters
}

func inspectCurve(t *testing.T, curve []float32, plan Plan, chunk int) (Result, *scriptedModels) {
	t.Helper()
	models := &scriptedModels{linearModels: linearModels{share: 0.1}, curve: curve}
	inspector, err := NewInspector(models, longParameters())
	if err != nil {
		t.Fatal(err)
	}
	if inspector.last != 6 || !inspector.forced {
		t.Fatalf("want 7 steps to compare, found %d", inspector.last+1)
	}
	models.inspector = inspector
	inspector.CompareInChunks(chunk)
	part := smallPart()
	part.Plan = plan
	result, err := inspector.Inspect(t.Context(), part)
	if err != nil {
		t.Fatal(err)
	}
	return result, models
}

func sameResult(t *testing.T, want, found Result) {
	t.Helper()
	if found.SwitchTimestep != want.SwitchTimestep || found.SwitchReason != want.SwitchReason || found.Score != want.Score || !slices.Equal(found.Latent, want.Latent) {
		t.Errorf("want a switch at %d (%s) and score %v, found %d (%s) and %v",
			want.SwitchTimestep, want.SwitchReason, want.Score, found.SwitchTimestep, found.SwitchReason, found.Score)
	}
}

// randomCurve has a crossing in about half of the cases.
func randomCurve(random *rand.Rand) []float32 {
	curve := make([]float32, 7)
	for i := range curve {
		curve[i] = random.Float32() * 1.1
	}
	return curve
}

func TestChunksChangeNothing(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		curve := randomCurve(random)
		want, _ := inspectCurve(t, curve, Plan{}, 1)
		for _, chunk := range []int{2, 3, 7, 50} {
			found, _ := inspectCurve(t, curve, Plan{}, chunk)
			sameResult(t, want, found)
			if len(found.Gate) < len(want.Gate) || !slices.Equal(found.Gate[:len(want.Gate)], want.Gate) {
				t.Fatalf("chunks of %d: want %v, found %v", chunk, want.Gate, found.Gate)
			}
		}
	}
}

func TestLatestFirstOfRisingCurves(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 1))
	seen := map[int]bool{}
	for range 200 {
		curve, scale := randomCurve(random), 0.8+4*random.Float32()
		slices.Sort(curve)
		for i := range curve {
			curve[i] *= scale
		}
		want, _ := inspectCurve(t, curve, Plan{}, 1)
		found, models := inspectCurve(t, curve, Plan{LatestFirst: true}, 1)
		sameResult(t, want, found)
		seen[want.SwitchTimestep] = true
		if most := 4; models.compared > most || (want.SwitchReason == SwitchMinStep && models.compared != 1) {
			t.Errorf("switch by %s: want 1 comparison, or at most %d, found %d", want.SwitchReason, most, models.compared)
		}
	}
	if len(seen) < 5 {
		t.Errorf("want switches at many steps, found %v", seen)
	}
}

// What probes and a margin are for: curves that cross and fall back.
func TestCurvesThatFallBack(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 1))
	missed := 0
	for range 300 {
		curve := randomCurve(random)
		want, _ := inspectCurve(t, curve, Plan{}, 1)
		all, models := inspectCurve(t, curve, Plan{LatestFirst: true, Probes: []int{247, 288, 329, 370, 411, 452}}, 1)
		sameResult(t, want, all)
		if models.compared != 7 {
			t.Fatalf("every step probed: want 7 comparisons, found %d", models.compared)
		}
		if curve[6] <= 1 {
			near, models := inspectCurve(t, curve, Plan{LatestFirst: true, Margin: 1}, 2)
			// Every second step, and what it takes to find the first of a crossing.
			if crosses := max(curve[0], curve[2], curve[4]) > 1; models.compared > 5 || crosses != (near.SwitchReason == SwitchThreshold) {
				t.Fatalf("%v: found a switch by %s after %d comparisons, %v", curve, near.SwitchReason, models.compared, near.Gate)
			}
			if want.SwitchReason == SwitchMinStep {
				sameResult(t, want, near)
			}
		}
		if found, _ := inspectCurve(t, curve, Plan{LatestFirst: true}, 1); found.SwitchTimestep != want.SwitchTimestep {
			missed++
		}
	}
	if missed == 0 {
		t.Error("no curve fell back: the test shows nothing")
	}
}

func TestMarginIsBelowTheThreshold(t *testing.T) {
	curve := []float32{0, 0, 1.5, 0, 0, 0, 0.75}
	within, _ := inspectCurve(t, curve, Plan{LatestFirst: true, Margin: 0.5}, 1)
	if within.SwitchTimestep != 370 || within.SwitchReason != SwitchThreshold {
		t.Errorf("within the margin: want a switch at 370, found %d", within.SwitchTimestep)
	}
	beyond, models := inspectCurve(t, curve, Plan{LatestFirst: true, Margin: 0.25}, 1)
	if beyond.SwitchReason != SwitchMinStep || models.compared != 1 {
		t.Errorf("on the margin's edge: want min_step after 1 comparison, found %s after %d", beyond.SwitchReason, models.compared)
	}
}

// What is computed from a curve is what an inspection does.
func TestFollow(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 1))
	for range 300 {
		curve := randomCurve(random)
		for _, plan := range []Plan{{}, {LatestFirst: true}, {LatestFirst: true, Margin: 0.3}, {LatestFirst: true, Probes: []int{370}}, {LatestFirst: true, Probes: []int{411, 329}, Margin: 0.1}} {
			found, models := inspectCurve(t, curve, plan, 1)
			points := make([]GateScore, len(curve))
			for i := range points {
				points[i] = GateScore{Timestep: models.inspector.comparable[i], Score: float64(curve[i])}
			}
			switched, comparisons, err := plan.Follow(points, 1)
			if err != nil || points[switched].Timestep != found.SwitchTimestep || comparisons != models.compared {
				t.Fatalf("%v under %+v: want a switch at %d after %d comparisons, found %d after %d, %v",
					curve, plan, found.SwitchTimestep, models.compared, points[switched].Timestep, comparisons, err)
			}
		}
	}
}

func TestTail(t *testing.T) {
	for count, want := range map[int]string{0: "[]", 1: "[6]", 2: "[5 6]", 3: "[4 6 7]", 4: "[4 5 6 7]", 9: "[4 5 6 7]"} {
		if found := fmt.Sprint(tail(8, 3, count, nil)); found != want {
			t.Errorf("tail of %d: want %s, found %s", count, want, found)
		}
	}
	quiet, crossing := make([]float32, 7), []float32{2, 2, 2, 2, 2, 2, 2}
	whole, _ := inspectCurve(t, quiet, Plan{}, 1)
	five := 5
	same, _ := inspectCurve(t, quiet, Plan{Tail: &five}, 1)
	sameResult(t, whole, same)
	for count := range 5 {
		short, models := inspectCurve(t, quiet, Plan{LatestFirst: true, Tail: &count}, 1)
		if found := models.count("predict noise"); found != 7+count {
			t.Errorf("tail of %d: want %d steps, found %d", count, 7+count, found)
		}
		if short.Score == whole.Score {
			t.Errorf("a tail of %d changes nothing", count)
		}
		// Only a switch at the minimal step shortens the tail.
		early, _ := inspectCurve(t, crossing, Plan{Tail: &count}, 1)
		full, _ := inspectCurve(t, crossing, Plan{}, 1)
		sameResult(t, full, early)
	}
}

// With eps = 0 every x0 is carried on unchanged: the tail's steps do not matter.
func TestTailInClosedForm(t *testing.T) {
	parameters := smallParameters()
	whole := inspectSmall(t, &linearModels{}, parameters, smallPart())
	for count := range 2 {
		part := smallPart()
		part.Plan.Tail = &count
		short := inspectSmall(t, &linearModels{}, parameters, part)
		for i := range whole.Latent {
			if math.Abs(float64(whole.Latent[i]-short.Latent[i])) > 1e-5 {
				t.Errorf("tail of %d: want %v, found %v", count, whole.Latent, short.Latent)
			}
		}
	}
}

func TestImpossiblePlans(t *testing.T) {
	negative := -1
	for want, plan := range map[string]Plan{
		"latest first": {Probes: []int{411}},
		"margin: expected a finite number of at least 0, found -1":          {LatestFirst: true, Margin: -1},
		"margin: expected a finite number of at least 0, found NaN":         {LatestFirst: true, Margin: math.NaN()},
		"probe: expected a timestep that is compared before 206, found 206": {LatestFirst: true, Probes: []int{206}},
		"probe: expected a timestep that is compared before 206, found 400": {LatestFirst: true, Probes: []int{400}},
		"probe 411 is there twice":                                          {LatestFirst: true, Probes: []int{411, 411}},
		"tail: expected at least 0 steps, found -1":                         {Tail: &negative},
	} {
		inspector, err := NewInspector(&linearModels{}, longParameters())
		if err != nil {
			t.Fatal(err)
		}
		part := smallPart()
		part.Plan = plan
		if _, err := inspector.Inspect(t.Context(), part); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, found %v", want, err)
		}
	}
}

func TestCalls(t *testing.T) {
	inspector, err := NewInspector(&linearModels{share: 0.1}, longParameters())
	if err != nil {
		t.Fatal(err)
	}
	two := 2
	for name, each := range map[string]struct {
		plan Plan
		want Calls
	}{
		"exact":                 {Plan{}, Calls{12, 7}},
		"latest first":          {Plan{LatestFirst: true}, Calls{12, 1}},
		"with probes":           {Plan{LatestFirst: true, Probes: []int{370, 288}}, Calls{12, 3}},
		"with a shorter tail":   {Plan{LatestFirst: true, Tail: &two}, Calls{9, 1}},
		"in order, shorter too": {Plan{Tail: &two}, Calls{9, 7}},
	} {
		part, unreached := smallPart(), 1e9
		part.Plan, part.GateThreshold = each.plan, &unreached
		result, err := inspector.Inspect(t.Context(), part)
		if err != nil {
			t.Fatal(err)
		}
		if found := (Calls{result.Predictions, len(result.Gate)}); found != each.want || result.SwitchReason != SwitchMinStep {
			t.Errorf("%s: want %v and a switch at the minimal step, found %v, %s", name, each.want, found, result.SwitchReason)
		}
		if found, err := inspector.Calls(each.plan); err != nil || found != each.want {
			t.Errorf("%s: want %v, found %v, %v", name, each.want, found, err)
		}
	}
	if _, err := inspector.Calls(Plan{LatestFirst: true, Probes: []int{1}}); err == nil {
		t.Error("want an error for a probe that cannot be compared, found none")
	}
}

// slowCompare takes for a call what the test wants, by the number of pairs.
type slowCompare struct {
	linearModels
	cost  map[int]time.Duration
	other float32 // what a pair's map differs by where it is not alone
}

func (m *slowCompare) Compare(ctx context.Context, test, gen, maps []float32) error {
	count := len(test) / 4
	if m.cost[count] == 0 {
		return errors.New("out of memory")
	}
	time.Sleep(m.cost[count])
	err := m.linearModels.Compare(ctx, test, gen, maps)
	if count > 1 {
		maps[0] += m.other
	}
	return err
}

func TestChunksByCost(t *testing.T) {
	const ms = time.Millisecond
	for name, each := range map[string]struct {
		cost  map[int]time.Duration
		other float32
		want  int
	}{
		"as much as their parts":       {map[int]time.Duration{1: 5 * ms, 2: 10 * ms, 3: 15 * ms, 4: 20 * ms}, 0, 1},
		"a batch for the price of one": {map[int]time.Duration{1: 5 * ms, 2: 5 * ms, 3: 5 * ms, 4: 5 * ms, 5: 50 * ms, 6: 60 * ms, 7: 70 * ms}, 0, 4},
		"three are too many":           {map[int]time.Duration{1: 5 * ms, 2: 5 * ms}, 0, 2},
		"not the same to the last bit": {map[int]time.Duration{1: 5 * ms, 2: 5 * ms, 3: 5 * ms}, 1e-7, 1},
	} {
		models := &slowCompare{linearModels: linearModels{share: 0.1}, cost: each.cost, other: each.other}
		inspector, err := NewInspector(models, longParameters())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := inspector.Inspect(t.Context(), smallPart()); err != nil {
			t.Fatal(err)
		}
		if err := inspector.ChunksByCost(t.Context(), time.Minute); err != nil || inspector.chunk != each.want {
			t.Errorf("%s: want %d a call, found %d, %v", name, each.want, inspector.chunk, err)
		}
	}
}

func TestSteadyStateHasNoGarbage(t *testing.T) {
	tailSteps := 2
	for name, plan := range map[string]Plan{
		"exact": {}, "adaptive": {LatestFirst: true, Probes: []int{370, 288}, Margin: 0.1, Tail: &tailSteps},
	} {
		inspector, err := NewInspector(quietModels{}, longParameters())
		if err != nil {
			t.Fatal(err)
		}
		var earlier Result
		part, unreached := smallPart(), 1e9
		part.Plan, part.Reuse, part.GateThreshold = plan, &earlier, &unreached
		inspect := func() {
			if earlier, err = inspector.Inspect(t.Context(), part); err != nil {
				t.Fatal(err)
			}
		}
		// What is left is small and does not grow with the part or the steps: the source of the noise, the result itself.
		if found := testing.AllocsPerRun(50, inspect); found > 6 {
			t.Errorf("%s: want six small allocations at most, found %v allocations", name, found)
		}
	}
}

// quietModels are linear, and take no memory.
type quietModels struct{}

func (quietModels) Encode(_ context.Context, images, mean, _ []float32) error {
	copy(mean, images[:4])
	return nil
}

func (quietModels) PredictNoise(_ context.Context, samples []float32, _, _ []int, eps []float32) error {
	for i, sample := range samples {
		eps[i] = 0.1 * sample
	}
	return nil
}

func (quietModels) Compare(_ context.Context, test, gen, maps []float32) error {
	for i := range maps {
		maps[i] = float32(math.Abs(float64(test[i] - gen[i])))
	}
	return nil
}

func (quietModels) Reconstruct(_ context.Context, latents, images []float32) error {
	for i := range images {
		images[i] = latents[i%4]
	}
	return nil
}

func (quietModels) Score(_ context.Context, test, gen, maps []float32) error {
	for i := range maps {
		maps[i] = float32(math.Abs(float64(test[i] - gen[i])))
	}
	return nil
}
