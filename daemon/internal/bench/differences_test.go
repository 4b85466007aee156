package bench

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"gladd/engines"
	"gladd/engines/enginetest"
)

// wrong are networks that compute what others do, save where a test says otherwise.
type wrong struct {
	engines.Networks
	noise func(timestep, class int) float32 // is added to what is predicted; nil: nothing is
	std   float32
	asked map[string]bool
}

func (w wrong) PredictNoise(ctx context.Context, samples []float32, timesteps, classes []int, eps []float32) error {
	if err := w.Networks.PredictNoise(ctx, samples, timesteps, classes, eps); err != nil || w.noise == nil {
		return err
	}
	sample := len(samples) / len(timesteps)
	for i := range eps {
		eps[i] += w.noise(timesteps[i/sample], classes[i/sample])
	}
	for i := range timesteps {
		w.asked[fmt.Sprintf("%d of %d: %d, class %d", i, len(timesteps), timesteps[i], classes[i])] = true
	}
	return nil
}

func (w wrong) Encode(ctx context.Context, images, mean, std []float32) error {
	err := w.Networks.Encode(ctx, images, mean, std)
	for i := range std {
		std[i] += w.std
	}
	return err
}

// What one class, one timestep or the standard deviation only has wrong is found, and
// named.
func TestDifferences(t *testing.T) {
	bundle := enginetest.Load(t, enginetest.Micro(t))
	reference, err := enginetest.Backend(t).Open(t.Context(), bundle)
	if err != nil {
		t.Fatal(err)
	}
	defer reference.Close() //nolint:errcheck // the test is about differences
	// 600 in 7 steps, offset 1: 85 apart, from 511 to 1.
	for name, test := range map[string]struct {
		noise func(timestep, class int) float32
		std   float32
		want  []string
	}{
		"nothing":       {nil, 0, nil},
		"a class":       {func(_, class int) float32 { return float32(class) }, 0, []string{"predict noise at 511, class right", "predict noise at 256, class right", "predict noise at 1, class right", "predict noise of 2", "predict noise of 8"}},
		"the last step": {func(timestep, _ int) float32 { return map[int]float32{1: 1}[timestep] }, 0, []string{"predict noise at 1, class left", "predict noise at 1, class right", "predict noise of 8"}},
		"the deviation": {nil, 0.5, []string{"encode, standard deviation", "encode, standard deviation of 2", "encode, standard deviation of 8"}},
	} {
		t.Run(name, func(t *testing.T) {
			asked := map[string]bool{}
			differences, err := Differences(t.Context(), bundle.Manifest, reference, wrong{reference, test.noise, test.std, asked})
			if err != nil {
				t.Fatal(err)
			}
			var found []string
			for _, each := range differences {
				if each.Batch > 1 {
					each.Call += fmt.Sprint(" of ", each.Batch)
				}
				if each.Share() > 0.01 {
					found = append(found, each.Call)
				}
			}
			if !slices.Equal(found, test.want) {
				t.Errorf("expected %q, found %q", test.want, found)
			}
			if count := 3*2 + 2 + 8; test.noise != nil && len(asked) != count {
				t.Errorf("expected noise predicted in %d ways, found %v", count, asked)
			}
		})
	}
}

func TestEvenly(t *testing.T) {
	for _, test := range []struct {
		count, most int
		want        []int
	}{{1, 4, []int{0}}, {4, 4, []int{0, 1, 2, 3}}, {100, 4, []int{0, 33, 66, 99}}} {
		if found := evenly(test.count, test.most); !slices.Equal(found, test.want) {
			t.Errorf("%d of %d: expected %v, found %v", test.most, test.count, test.want, found)
		}
	}
}
