package pipeline

import (
	"encoding/json"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
)

var usualSchedule = Schedule{TrainTimesteps: 1000, BetaStart: 0.00085, BetaEnd: 0.012, StepsOffset: 1}

func TestAlphaBarEqualsNumPy(t *testing.T) {
	data, err := os.ReadFile("testdata/alpha_bar.json")
	if err != nil {
		t.Fatal(err)
	}
	var expected map[string]float64
	if err := json.Unmarshal(data, &expected); err != nil {
		t.Fatal(err)
	}
	alphaBars := usualSchedule.alphaBars()
	for key, want := range expected {
		timestep, err := strconv.Atoi(key)
		if err != nil {
			t.Fatal(err)
		}
		if found := alphaBars[timestep]; math.Abs(found-want) > 1e-12 {
			t.Errorf("alphaBar[%d]: want %v, found %v", timestep, want, found)
		}
	}
}

func TestTrajectory(t *testing.T) {
	alphaBars := usualSchedule.alphaBars()
	start, steps, final, err := usualSchedule.trajectory(Denoise{Step: 750, NoiseStep: 749, InferenceSteps: 25})
	if err != nil {
		t.Fatal(err)
	}
	if want := newNoiseLevel(alphaBars[749]); start != want {
		t.Errorf("start: want the noise step's %v, found %v", want, start)
	}
	if len(steps) != 25 || steps[0].timestep != 721 || steps[1].timestep != 691 || steps[24].timestep != 1 {
		t.Errorf("timesteps: want 721, 691, ... 1, found %v", steps)
	}
	if want := newNoiseLevel(alphaBars[691]); steps[1].at != want {
		t.Errorf("after 721: want alphaBar of 691, %v, found %v", want, steps[1].at)
	}
	if want := newNoiseLevel(alphaBars[0]); final != want {
		t.Errorf("after the last timestep: want alphaBar[0], %v, found %v", want, final)
	}

	schedule := usualSchedule
	schedule.SetAlphaToOne = true
	_, _, final, err = schedule.trajectory(Denoise{Step: 750, NoiseStep: 749, InferenceSteps: 25})
	if err != nil {
		t.Fatal(err)
	}
	if want := (noiseLevel{signal: 1}); final != want {
		t.Errorf("set_alpha_to_one: want %v after the last timestep, found %v", want, final)
	}
}

// T/S is an integer division: 500/15 is 33, and the first timestep 463.
func TestTrajectoryWithARemainder(t *testing.T) {
	_, steps, _, err := usualSchedule.trajectory(Denoise{Step: 500, NoiseStep: 500, InferenceSteps: 15})
	if err != nil {
		t.Fatal(err)
	}
	if steps[0].timestep != 463 || steps[14].timestep != 1 {
		t.Errorf("want 463 ... 1, found %d ... %d", steps[0].timestep, steps[14].timestep)
	}
}

func TestTrajectoryRefusesTheImpossible(t *testing.T) {
	for name, test := range map[string]struct {
		schedule Schedule
		denoise  Denoise
		want     string
	}{
		"no timesteps":      {Schedule{BetaStart: 0.1, BetaEnd: 0.2}, Denoise{Step: 1, InferenceSteps: 1}, "train timesteps"},
		"betas reversed":    {Schedule{TrainTimesteps: 10, BetaStart: 0.2, BetaEnd: 0.1}, Denoise{Step: 1, InferenceSteps: 1}, "betas"},
		"no steps":          {usualSchedule, Denoise{Step: 750, NoiseStep: 750}, "inference steps"},
		"more steps than T": {usualSchedule, Denoise{Step: 5, NoiseStep: 5, InferenceSteps: 6}, "inference steps"},
		"noise beyond":      {usualSchedule, Denoise{Step: 1000, NoiseStep: 1000, InferenceSteps: 10}, "noise step"},
		"first beyond":      {usualSchedule, Denoise{Step: 1000, NoiseStep: 999, InferenceSteps: 1000}, "first timestep"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, _, err := test.schedule.trajectory(test.denoise); err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("want an error that begins %q, found %v", test.want, err)
			}
		})
	}
}
