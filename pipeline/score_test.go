package pipeline

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestMeanTopKEqualsSorting(t *testing.T) {
	source := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		values := make([]float32, 1+source.IntN(400))
		for i := range values {
			values[i] = float32(source.IntN(20)) - 5 // many ties
		}
		k := 1 + source.IntN(len(values))
		sorted := slices.Sorted(slices.Values(values))
		var want float64
		for _, value := range sorted[len(sorted)-k:] {
			want += float64(value)
		}
		want /= float64(k)
		if found := meanTopK(values, make([]float32, k)); math.Abs(found-want) > 1e-12 {
			t.Fatalf("the %d highest of %v: want mean %v, found %v", k, values, want, found)
		}
	}
}

// m = sigmoid(0) = 1/2 takes the middle; a large distance takes the generated
// latent. Every channel of a place has the same weight.
func TestFuse(t *testing.T) {
	generated := []float32{2, 2, 20, 20}
	tested := []float32{4, 4, 40, 40}
	x0 := make([]float32, 4)
	fuse(x0, generated, tested, []float32{0, 50})
	if want := []float32{3, 2, 30, 20}; !slices.Equal(x0, want) {
		t.Errorf("want %v, found %v", want, x0)
	}
}
