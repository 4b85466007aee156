package pipeline

import (
	"fmt"
	"math"
)

// Parameters are what a model fixes beside its networks.
type Parameters struct {
	// Digest identifies the model; the noise of a picture follows from it.
	Digest string
	Image  Image
	Latent Latent
	// Schedule of the noise that the networks were trained with.
	Schedule Schedule
	Denoise  Denoise
	Score    Score
	// Classes is the number of classes of the UNet, 0 if it knows none.
	Classes int
}

// Image is the size of the pictures that the networks see, in pixels.
type Image struct{ Width, Height int }

// Latent is the size of the latents.
type Latent struct {
	Channels, Width, Height int
	// Sample says that a latent is drawn from the encoder's posterior,
	// mean + std * noise, instead of being its mean.
	Sample bool
}

// Denoise steers the reconstruction.
type Denoise struct {
	// Step is T, the timestep from which a part is denoised.
	Step int
	// NoiseStep is the timestep to which a part is noised; usually Step.
	NoiseStep int
	// InferenceSteps is S, the number of denoising steps.
	InferenceSteps int
	// MinStep is the timestep below which the trajectory switches at the
	// latest.
	MinStep int
	// Threshold of the gate score. 0 turns the adaptive step off.
	Threshold float64
	// GateTopK is the number of highest map values whose mean is the gate
	// score.
	GateTopK int
}

// Score steers the final comparison.
type Score struct {
	// MapSize is S, the side of the anomaly map.
	MapSize int
	// TopK is the number of highest map values whose mean is the score.
	TopK int
	// ObjectMask limits the map to the object.
	ObjectMask ObjectMask
}

func (p Parameters) imageLen() int      { return 3 * p.Image.Width * p.Image.Height }
func (p Parameters) latentPlane() int   { return p.Latent.Width * p.Latent.Height }
func (p Parameters) latentLen() int     { return p.Latent.Channels * p.latentPlane() }
func (p Parameters) anomalyMapLen() int { return p.Score.MapSize * p.Score.MapSize }

// check finds values that no inspection could be computed with. A bundle is
// checked more closely, and in the user's terms, when it is loaded.
func (p Parameters) check() error {
	for _, n := range []struct {
		name  string
		value int
		min   int
	}{
		{"image width", p.Image.Width, 1},
		{"image height", p.Image.Height, 1},
		{"latent channels", p.Latent.Channels, 1},
		{"latent width", p.Latent.Width, 1},
		{"latent height", p.Latent.Height, 1},
		{"map size", p.Score.MapSize, 1},
		{"gate top-k", p.Denoise.GateTopK, 1},
		{"score top-k", p.Score.TopK, 1},
		{"number of classes", p.Classes, 0},
	} {
		if n.value < n.min {
			return fmt.Errorf("%s: expected at least %d, found %d", n.name, n.min, n.value)
		}
	}
	if p.Denoise.GateTopK > p.latentPlane() {
		return fmt.Errorf("gate top-k: expected at most the latent grid's %d, found %d", p.latentPlane(), p.Denoise.GateTopK)
	}
	if p.Score.TopK > p.anomalyMapLen() {
		return fmt.Errorf("score top-k: expected at most the map's %d, found %d", p.anomalyMapLen(), p.Score.TopK)
	}
	if threshold := p.Denoise.Threshold; math.IsNaN(threshold) || math.IsInf(threshold, 0) || threshold < 0 {
		return fmt.Errorf("gate threshold: expected a finite number of at least 0, found %v", threshold)
	}
	if !p.Score.ObjectMask.valid() {
		return fmt.Errorf("object mask: unknown kind %q", p.Score.ObjectMask)
	}
	return nil
}
