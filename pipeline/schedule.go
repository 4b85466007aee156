package pipeline

import (
	"fmt"
	"math"
)

// Schedule describes the noise schedule of training.
type Schedule struct {
	// TrainTimesteps is the number of timesteps, usually 1000.
	TrainTimesteps int
	// BetaStart and BetaEnd are beta of the first and of the last timestep.
	BetaStart, BetaEnd float64
	// StepsOffset is added to every timestep of inference.
	StepsOffset int
	// SetAlphaToOne makes alphaBar 1 before the first timestep instead of
	// alphaBar[0].
	SetAlphaToOne bool
}

// alphaBars returns the cumulative product of 1 - beta for every timestep,
// where beta is scaled-linear: the square of a linear ramp from sqrt(BetaStart)
// to sqrt(BetaEnd) (Rombach et al., "High-Resolution Image Synthesis with
// Latent Diffusion Models", and diffusers' DDIMScheduler).
func (s Schedule) alphaBars() []float64 {
	alphaBars := make([]float64, s.TrainTimesteps)
	first, last := math.Sqrt(s.BetaStart), math.Sqrt(s.BetaEnd)
	product := 1.0
	for timestep := range alphaBars {
		root := first
		if s.TrainTimesteps > 1 {
			root += (last - first) * float64(timestep) / float64(s.TrainTimesteps-1)
		}
		product *= 1 - root*root
		alphaBars[timestep] = product
	}
	return alphaBars
}

// step is one timestep of inference with the coefficients of its equations.
type step struct {
	timestep int
	// at holds sqrt(alphaBar) and sqrt(1-alphaBar) of the timestep, previous
	// those of the timestep that follows in the trajectory.
	at, previous noiseLevel
}

// noiseLevel holds the weights of the clean latent and of the noise.
type noiseLevel struct {
	signal float32 // sqrt(alphaBar)
	noise  float32 // sqrt(1 - alphaBar)
}

func newNoiseLevel(alphaBar float64) noiseLevel {
	rounded := float64(float32(alphaBar)) // the official schedule is float32
	return noiseLevel{signal: float32(math.Sqrt(rounded)), noise: float32(math.Sqrt(1 - rounded))}
}

// trajectory returns the noise level at which denoising starts and its steps
// in the order in which they are taken.
func (s Schedule) trajectory(d Denoise) (start noiseLevel, steps []step, err error) {
	switch {
	case s.TrainTimesteps < 1:
		return start, nil, fmt.Errorf("train timesteps: expected at least 1, found %d", s.TrainTimesteps)
	case !(s.BetaStart > 0 && s.BetaStart <= s.BetaEnd && s.BetaEnd < 1):
		return start, nil, fmt.Errorf("betas: expected 0 < start <= end < 1, found %v and %v", s.BetaStart, s.BetaEnd)
	case d.InferenceSteps < 1 || d.InferenceSteps > d.Step:
		return start, nil, fmt.Errorf("inference steps: expected 1 to step (%d), found %d", d.Step, d.InferenceSteps)
	case d.NoiseStep < 0 || d.NoiseStep >= s.TrainTimesteps:
		return start, nil, fmt.Errorf("noise step: expected 0 to %d, found %d", s.TrainTimesteps-1, d.NoiseStep)
	}
	ratio := d.Step / d.InferenceSteps
	if first := ratio*(d.InferenceSteps-1) + s.StepsOffset; s.StepsOffset < 0 || first >= s.TrainTimesteps {
		return start, nil, fmt.Errorf("first timestep: expected at most %d, found %d (step %d, %d inference steps, offset %d)",
			s.TrainTimesteps-1, first, d.Step, d.InferenceSteps, s.StepsOffset)
	}

	alphaBars := s.alphaBars()
	final := alphaBars[0]
	if s.SetAlphaToOne {
		final = 1
	}
	for i := d.InferenceSteps - 1; i >= 0; i-- {
		timestep := ratio*i + s.StepsOffset
		alphaBarPrevious := final
		if previous := timestep - ratio; previous >= 0 {
			alphaBarPrevious = alphaBars[previous]
		}
		steps = append(steps, step{
			timestep: timestep,
			at:       newNoiseLevel(alphaBars[timestep]),
			previous: newNoiseLevel(alphaBarPrevious),
		})
	}
	return newNoiseLevel(alphaBars[d.NoiseStep]), steps, nil
}

// addNoise is the forward process: x = sqrt(alphaBar) z + sqrt(1-alphaBar) n.
func (level noiseLevel) addNoise(x, z, n []float32) {
	for i := range x {
		x[i] = level.signal*z[i] + level.noise*n[i]
	}
}

// predictClean estimates the clean latent from eps:
// x0 = (x - sqrt(1-alphaBar) eps) / sqrt(alphaBar).
func (level noiseLevel) predictClean(x0, x, eps []float32) {
	for i := range x0 {
		x0[i] = (x[i] - level.noise*eps[i]) / level.signal
	}
}
