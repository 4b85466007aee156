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

// step is one timestep of inference.
type step struct {
	timestep int
	at       noiseLevel
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

// trajectory returns the noise level at which denoising starts, its steps in
// the order in which they are taken, and the level at which it ends.
func (s Schedule) trajectory(d Denoise) (start noiseLevel, steps []step, final noiseLevel, err error) {
	switch {
	case s.TrainTimesteps < 1:
		return start, nil, final, fmt.Errorf("train timesteps: expected at least 1, found %d", s.TrainTimesteps)
	case !(s.BetaStart > 0 && s.BetaStart <= s.BetaEnd && s.BetaEnd < 1):
		return start, nil, final, fmt.Errorf("betas: expected 0 < start <= end < 1, found %v and %v", s.BetaStart, s.BetaEnd)
	case d.InferenceSteps < 1 || d.InferenceSteps > d.Step:
		return start, nil, final, fmt.Errorf("inference steps: expected 1 to step (%d), found %d", d.Step, d.InferenceSteps)
	case d.NoiseStep < 0 || d.NoiseStep >= s.TrainTimesteps:
		return start, nil, final, fmt.Errorf("noise step: expected 0 to %d, found %d", s.TrainTimesteps-1, d.NoiseStep)
	}
	timesteps := s.Timesteps(d)
	if first := timesteps[0]; s.StepsOffset < 0 || first >= s.TrainTimesteps {
		return start, nil, final, fmt.Errorf("first timestep: expected at most %d, found %d (step %d, %d inference steps, offset %d)",
			s.TrainTimesteps-1, first, d.Step, d.InferenceSteps, s.StepsOffset)
	}

	alphaBars := s.alphaBars()
	for _, timestep := range timesteps {
		steps = append(steps, step{timestep: timestep, at: newNoiseLevel(alphaBars[timestep])})
	}
	final = newNoiseLevel(alphaBars[0])
	if s.SetAlphaToOne {
		final = newNoiseLevel(1)
	}
	if previous := s.StepsOffset - d.Step/d.InferenceSteps; previous >= 0 {
		final = newNoiseLevel(alphaBars[previous])
	}
	return newNoiseLevel(alphaBars[d.NoiseStep]), steps, final, nil
}

// Timesteps of inference, in the order in which they are taken. There must be an
// inference step.
func (s Schedule) Timesteps(d Denoise) []int {
	timesteps := make([]int, d.InferenceSteps)
	for i := range timesteps {
		timesteps[i] = d.Step/d.InferenceSteps*(d.InferenceSteps-1-i) + s.StepsOffset
	}
	return timesteps
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

// denoise takes a plain DDIM step to another noise level:
// next = sqrt(alphaBarNext) x0 + sqrt(1-alphaBarNext) eps (Song et al.,
// "Denoising Diffusion Implicit Models", equation 12 with sigma 0).
func (level noiseLevel) denoise(next, x, eps []float32, to noiseLevel) {
	for i := range next {
		x0 := (x[i] - level.noise*eps[i]) / level.signal
		next[i] = to.signal*x0 + to.noise*eps[i]
	}
}
