package engines

import (
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"gladd/internal/strictyaml"
)

// Limits that no real model comes near, against manifests that would exhaust
// memory.
const (
	maxImageSide      = 8192
	maxImagePixels    = 1 << 24
	maxLatentValues   = 1 << 26
	maxLatentChannels = 1024
	maxTimesteps      = 100_000
	maxMapSide        = 8192
)

var hexSHA256 = regexp.MustCompile(`^[0-9a-f]{64}$`)

// check refuses impossible values, in the order of the file.
func (m Manifest) check(document *strictyaml.Document) error {
	refuse := document.Errorf
	between := func(key string, value, low, high int) error {
		if value < low || value > high {
			return refuse(key, "expected a whole number from %d to %d, found %d", low, high, value)
		}
		return nil
	}
	oneOf := func(key, value string, allowed ...string) error {
		if !slices.Contains(allowed, value) {
			return refuse(key, "expected %s, found %q", strings.Join(allowed, " or "), value)
		}
		return nil
	}
	ratio := 0
	if m.Denoise.InferenceSteps > 0 {
		ratio = m.Denoise.Step / m.Denoise.InferenceSteps
	}
	first := ratio*(m.Denoise.InferenceSteps-1) + m.Schedule.StepsOffset
	checks := []func() error{
		func() error { return oneOf("schema", m.Schema, ManifestSchema) },
		func() error {
			if m.Name == "" {
				return refuse("name", "expected a name, found nothing")
			}
			return nil
		},
		func() error {
			if m.Version == "" {
				return refuse("version", "expected a version such as \"1.0.0\", found nothing")
			}
			return nil
		},
		func() error { return between("image.width", m.Image.Width, 1, maxImageSide) },
		func() error { return between("image.height", m.Image.Height, 1, maxImageSide) },
		func() error { return between("latent.channels", m.Latent.Channels, 1, maxLatentChannels) },
		func() error { return between("latent.width", m.Latent.Width, 1, m.Image.Width) },
		func() error { return between("latent.height", m.Latent.Height, 1, m.Image.Height) },
		func() error {
			if pixels := m.Image.Width * m.Image.Height; pixels > maxImagePixels {
				return refuse("image.width", "expected at most %d pixels (width times height), found %d", maxImagePixels, pixels)
			}
			return nil
		},
		func() error {
			if values := m.Latent.Channels * m.Latent.Width * m.Latent.Height; values > maxLatentValues {
				return refuse("latent.channels", "expected at most %d values (channels times width times height), found %d", maxLatentValues, values)
			}
			return nil
		},
		func() error { return oneOf("latent.encode", m.Latent.Encode, EncodeMean, EncodeSample) },
		func() error { return between("schedule.train_timesteps", m.Schedule.TrainTimesteps, 1, maxTimesteps) },
		func() error { return oneOf("schedule.beta_schedule", m.Schedule.BetaSchedule, "scaled_linear") },
		func() error {
			if beta := m.Schedule.BetaStart; !(beta > 0 && beta < 1) {
				return refuse("schedule.beta_start", "expected a number above 0 and below 1, found %v", beta)
			}
			return nil
		},
		func() error {
			if beta := m.Schedule.BetaEnd; !(beta >= m.Schedule.BetaStart && beta < 1) {
				return refuse("schedule.beta_end", "expected a number from beta_start (%v) to below 1, found %v", m.Schedule.BetaStart, beta)
			}
			return nil
		},
		func() error {
			return between("schedule.steps_offset", m.Schedule.StepsOffset, 0, m.Schedule.TrainTimesteps-1)
		},
		func() error { return between("denoise.step", m.Denoise.Step, 1, m.Schedule.TrainTimesteps) },
		func() error {
			return between("denoise.inference_steps", m.Denoise.InferenceSteps, 1, m.Denoise.Step)
		},
		func() error {
			if last := m.Schedule.TrainTimesteps - 1; first > last {
				return refuse("denoise.step", "expected a first timestep of at most %d, found %d (step %d in %d steps, offset %d)",
					last, first, m.Denoise.Step, m.Denoise.InferenceSteps, m.Schedule.StepsOffset)
			}
			return nil
		},
		func() error {
			// The schedule ends at train_timesteps - 1: T itself can lie beyond.
			if noiseStep, last := *m.Denoise.NoiseStep, m.Schedule.TrainTimesteps-1; noiseStep < 0 || noiseStep > last {
				return refuse("denoise.noise_step", "expected 0 to %d, the schedule's last timestep, found %d (without the key it is denoise.step)", last, noiseStep)
			}
			return nil
		},
		func() error { return between("denoise.min_step", m.Denoise.MinStep, 0, m.Schedule.TrainTimesteps) },
		func() error {
			if threshold := m.Denoise.Threshold; !finiteAndNotNegative(threshold) {
				return refuse("denoise.threshold", "expected a number of at least 0, found %v", threshold)
			}
			return nil
		},
		func() error {
			return between("denoise.gate_top_k", m.Denoise.GateTopK, 1, m.Latent.Width*m.Latent.Height)
		},
		func() error { return between("score.map_size", m.Score.MapSize, 1, maxMapSide) },
		func() error { return between("score.top_k", m.Score.TopK, 1, m.Score.MapSize*m.Score.MapSize) },
		func() error {
			return oneOf("score.object_mask", m.Score.ObjectMask, "none", "otsu_dark", "otsu_bright")
		},
		func() error {
			return oneOf("score.standardise", m.Score.Standardise, StandardiseNone, StandardiseLocation)
		},
		func() error { return m.checkClasses(refuse) },
		func() error { return m.checkGraphs(refuse) },
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func finiteAndNotNegative(value float64) bool {
	return value >= 0 && !math.IsInf(value, 1) // NaN is not >= 0
}

func (m Manifest) checkClasses(refuse func(key, format string, arguments ...any) error) error {
	for i, name := range m.Classes {
		key := fmt.Sprintf("classes.%d", i)
		if name == "" {
			return refuse(key, "expected a name, found nothing")
		}
		if first := slices.Index(m.Classes, name); first < i {
			return refuse(key, "expected a name of its own, found %q, which is also classes.%d", name, first)
		}
	}
	return nil
}

func (m Manifest) checkGraphs(refuse func(key, format string, arguments ...any) error) error {
	check := func(key string, file DigestedFile) error {
		if !plainName(file.File) {
			return refuse(key+".file", "expected the plain name of a file in the bundle's folder, found %q", file.File)
		}
		if !hexSHA256.MatchString(file.SHA256) {
			return refuse(key+".sha256", "expected 64 lower-case hex digits, found %q", file.SHA256)
		}
		return nil
	}
	for _, name := range GraphNames {
		graph := m.Graphs.file(name)
		key := "graphs." + string(name)
		if err := check(key, graph.DigestedFile); err != nil {
			return err
		}
		for i, external := range graph.ExternalData {
			if err := check(fmt.Sprintf("%s.external_data.%d", key, i), external); err != nil {
				return err
			}
		}
	}
	return nil
}

// plainName tells a file's name from a path that may leave the folder.
func plainName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, `/\`+"\x00") && filepath.IsLocal(name)
}
