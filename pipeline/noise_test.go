package pipeline

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
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

	// Rare values come from other branches of the generator.
	long := make([]float32, 16_384)
	fillNormal(long, noiseSource(digest, rgb))
	var encoded []byte
	for _, value := range long {
		encoded = binary.LittleEndian.AppendUint32(encoded, math.Float32bits(value))
	}
	if found := fmt.Sprintf("%x", sha256.Sum256(encoded)); found != "7570684fd34d49f88b34fdda223ab93cfe2058e72013135cb5fba28f9f166f4a" {
		t.Errorf("the digest of 16384 values is another: %s", found)
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
