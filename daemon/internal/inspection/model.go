package inspection

import (
	"context"
	"fmt"
	"math"
	"time"

	"gladd/capture"
	"gladd/daemon/internal/verdict"
	"gladd/engines"
	"gladd/pipeline"
)

// Model is a bundle that is ready to inspect.
type Model struct {
	Bundle *engines.Bundle
	Mode   string
	// Method of the best plan.
	Method engines.Method
	// Calibrations in use for it, by the index of the parts' class; nil: there is
	// none.
	Calibrations []*engines.Calibration
	Runtime      engines.Runtime
	Parameters   pipeline.Parameters
	Inspector    *Inspector
}

// GateThreshold is that of the calibration in use for a class, or the bundle's.
func (m *Model) GateThreshold(class int) float64 {
	if calibration := m.Calibrations[class]; calibration != nil {
		return calibration.GateThreshold
	}
	return m.Parameters.Denoise.Threshold
}

// Thresholds are those of a calibration.
func Thresholds(calibration *engines.Calibration) verdict.Thresholds {
	return verdict.Thresholds{
		Image:     calibration.ImageThreshold,
		GuardBand: calibration.GuardBand,
		Region:    calibration.RegionThreshold,
	}
}

// HealthLimits are those of a calibration; nil: it has none, or there is no
// calibration.
func HealthLimits(calibration *engines.Calibration) *capture.HealthLimits {
	if calibration == nil || calibration.ImageHealth == nil {
		return nil
	}
	limits := calibration.ImageHealth
	return &capture.HealthLimits{
		Brightness: capture.Limits(limits.Brightness),
		Contrast:   capture.Limits(limits.Contrast),
		Sharpness:  capture.Limits(limits.Sharpness),
		Clipped:    capture.Limits(limits.Clipped),
	}
}

// Location holds how good parts' maps run by a calibration of a bundle; empty
// where it says nothing of it.
func Location(bundle *engines.Bundle, calibration *engines.Calibration) (*pipeline.Location, error) {
	mean, std, err := bundle.Location(calibration)
	if err != nil {
		return nil, err
	}
	location, err := pipeline.NewLocation(mean, std)
	if err != nil {
		return nil, fmt.Errorf("calibration %s: %w; calibrate again", calibration.ID, err)
	}
	return location, nil
}

// Plan is that of a calibration; the zero plan where it is for comparisons in
// order, or nil.
func Plan(calibration *engines.Calibration) pipeline.Plan {
	if calibration == nil || calibration.PlanSettings == nil {
		return pipeline.Plan{}
	}
	settings := calibration.PlanSettings
	return pipeline.Plan{LatestFirst: true, Probes: settings.Probes, Margin: settings.Margin, Tail: settings.Tail}
}

// SelfTest inspects a picture of nothing, a ramp. A gate threshold, statistics
// of good parts' maps and a plan replace the model's, unless nil.
func (m *Model) SelfTest(ctx context.Context, class int, gateThreshold *float64, location *pipeline.Location, plan *pipeline.Plan) Outcome {
	picture := &capture.Picture{
		Width:  max(m.Parameters.Image.Width, capture.MinSide),
		Height: max(m.Parameters.Image.Height, capture.MinSide),
	}
	picture.RGB = make([]byte, 3*picture.Width*picture.Height)
	for i := range picture.RGB {
		picture.RGB[i] = byte(i / 3 % picture.Width * 255 / picture.Width)
	}
	return m.Inspector.Inspect(ctx, Part{Picture: picture, Class: class, GateThreshold: gateThreshold, Location: location, Plan: plan, AnyHealth: true})
}

const (
	// shortSelfTest is how long a self-test may take to be made twice: the first
	// inspection after a start takes longer than those that follow.
	shortSelfTest = 5 * time.Second
	// measuringChunks may take that long.
	measuringChunks = 3 * time.Second
)

// CheckSelf makes sure that every network answers, and that the self-test gives
// what it gave when the model was calibrated. What it takes is what the first
// parts are expected to take.
func (m *Model) CheckSelf(ctx context.Context, class int) error {
	outcome := m.SelfTest(ctx, class, nil, nil, nil)
	m.Inspector.costs = costs{} // of the first: the first part teaches them, if nothing else does
	if outcome.Scored && outcome.Result.Timings.Total < shortSelfTest {
		if len(outcome.Result.Gate) > 0 {
			if err := m.Inspector.glad.ChunksByCost(ctx, measuringChunks); err != nil {
				return err
			}
		}
		outcome = m.SelfTest(ctx, class, nil, nil, nil)
	}
	if err := ctx.Err(); err != nil { // which would read as a broken model otherwise
		return err
	}
	if !outcome.Scored {
		return fmt.Errorf("%s: %s", outcome.Reason.Code, outcome.Reason.Detail)
	}
	calibration := m.Calibrations[class]
	if calibration == nil || calibration.SelfTest == nil {
		return nil
	}
	reference, result := calibration.SelfTest, outcome.Result
	for i, gate := range result.Gate {
		if i == len(reference.Gate) {
			break // a gate score that all but touches the threshold may switch elsewhere
		}
		want := reference.Gate[i]
		if gate.Timestep != want.Timestep {
			break // so does another plan's search
		}
		if !near(gate.Score, want.Score) {
			return differs(fmt.Sprintf("the gate score at timestep %d", want.Timestep), want.Score, gate.Score)
		}
	}
	if result.SwitchTimestep == reference.SwitchTimestep && result.SwitchReason == reference.SwitchReason && !near(result.Score, reference.Score) {
		return differs("the score", reference.Score, result.Score)
	}
	return nil
}

// near allows for the last digits of another processor or another number of
// threads, which are below 1e-4, and for no other network.
func near(a, b float64) bool {
	return math.Abs(a-b) <= 1e-3+5e-3*math.Abs(b)
}

func differs(what string, expected, found float64) error {
	return fmt.Errorf("%s: expected %v as when the bundle was calibrated, found %v; the networks do not compute what they did then: "+
		"reinstall the bundle and the runtime library, or calibrate again", what, expected, found)
}
