package pipeline

import (
	"math"
	"slices"
	"testing"
)

// The noise decides every score. If this test fails, either the change must go
// or the scheme needs a new name, and every calibration is void.
func TestNoiseIsPinned(t *testing.T) {
	const digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	rgb := []byte{0, 1, 2, 253, 254, 255}
	noise := make([]float32, 6)
	fillNormal(noise, noiseSource(digest, rgb))
	want := []float32{-1.4759269, 0.82252574, -1.3571937, -0.3133036, -1.1255531, 0.97964853}
	if !slices.Equal(noise, want) {
		t.Errorf("want %v, found %v", want, noise)
	}

	other := make([]float32, 6)
	fillNormal(other, noiseSource(digest, []byte{0, 1, 2, 253, 254, 254}))
	if slices.Equal(noise, other) {
		t.Error("another picture has the same noise")
	}
	fillNormal(other, noiseSource("1"+digest[1:], rgb))
	if slices.Equal(noise, other) {
		t.Error("another model has the same noise")
	}
}

func TestNoiseIsStandardNormal(t *testing.T) {
	noise := make([]float32, 100_000)
	fillNormal(noise, noiseSource("model", []byte("picture")))
	var sum, squares float64
	for _, value := range noise {
		sum += float64(value)
		squares += float64(value) * float64(value)
	}
	mean := sum / float64(len(noise))
	if deviation := math.Sqrt(squares/float64(len(noise)) - mean*mean); math.Abs(mean) > 0.02 || math.Abs(deviation-1) > 0.02 {
		t.Errorf("want mean 0 and deviation 1, found %v and %v", mean, deviation)
	}
}
