// Package inspection turns a picture into an evaluation. Whatever fails on the
// way becomes Undefined with a reason; a fault never reads OK.
package inspection

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"time"

	"gladd/capture"
	"gladd/daemon/internal/verdict"
	"gladd/engines"
	"gladd/pipeline"
)

// Inspector inspects pictures with one model. Use it from one goroutine at a
// time.
type Inspector struct {
	options Options
	glad    *pipeline.Inspector
	costs   costs
}

// Options of an [Inspector].
type Options struct {
	Models     pipeline.Models
	Parameters pipeline.Parameters
	// Plans are those that a part may be inspected by, the best first. Without
	// a deadline it is the first, with one the first that fits.
	Plans []Qualified
	Log   *slog.Logger
}

// Qualified is a plan that thresholds were learned for.
type Qualified struct {
	Method engines.Method
	// Learned is what calibration learned, by the index of the parts' class.
	Learned []Learned
}

// Learned is what calibration learned for the parts of a class.
type Learned struct {
	// CalibrationID is nil where there is no calibration.
	CalibrationID *string
	// Thresholds are nil where there is no calibration.
	Thresholds *verdict.Thresholds
	// Uncalibrated is the reason that a verdict carries without thresholds.
	Uncalibrated verdict.Reason
	// Health limits what a fit picture is; nil: every picture is.
	Health *capture.HealthLimits
	// GateThreshold replaces the bundle's, unless nil.
	GateThreshold *float64
	// Location holds how good parts' maps run; nil: maps stay as they are.
	Location *pipeline.Location
	// Plan of the comparisons.
	Plan pipeline.Plan
}

// New prepares inspections.
func New(options Options) (*Inspector, error) {
	glad, err := pipeline.NewInspector(options.Models, options.Parameters)
	if err != nil {
		return nil, err
	}
	// What is wrong with a plan that is seldom needed shall not show under load.
	for _, plan := range options.Plans {
		for _, learned := range plan.Learned {
			if _, err := glad.Calls(learned.Plan); err != nil {
				return nil, fmt.Errorf("plan %s: %w; calibrate again", plan.Method.Plan, err)
			}
		}
	}
	return &Inspector{options: options, glad: glad}, nil
}

// Part is one picture to inspect.
type Part struct {
	Picture *capture.Picture
	// Class is the index of the part's class, for models of several.
	Class int
	// Noise and EncodeNoise [C,h,w] replace the generated noise, unless nil.
	Noise, EncodeNoise []float32
	// GateThreshold replaces the model's, unless nil.
	GateThreshold *float64
	// Location replaces the model's statistics of good parts' maps, unless nil.
	Location *pipeline.Location
	// Plan replaces the model's, unless nil.
	Plan *pipeline.Plan
	// Reuse is an earlier outcome that nobody needs any more: its memory becomes
	// the new one's. Nil: new memory is taken.
	Reuse *Outcome
	// Budget is the most time that a part can have, however early it comes; 0: as
	// much as this one has.
	Budget time.Duration
	// Chosen hears how the part is inspected, before it is: an outcome with
	// Method, CalibrationID and ImageThreshold. Nil: nobody does.
	Chosen func(Outcome)
	// AnyHealth says that the limits of image health do not matter.
	AnyHealth bool
}

// Outcome is what an inspection found.
type Outcome struct {
	Evaluation verdict.Evaluation
	Reason     *verdict.Reason // nil only for OK
	// Method is how the part was inspected; nil: it was not.
	Method *engines.Method
	// CalibrationID and ImageThreshold are those of the calibration for it; nil
	// without one.
	CalibrationID  *string
	ImageThreshold *float64
	// Scored says that the inspection was completed: Result is whole.
	Scored bool
	Result pipeline.Result
	// Regions are nil without a region threshold or a score.
	Regions []verdict.Region
	// Prepared is the picture at the networks' size, [H][PreparedWidth][3].
	Prepared      []byte
	PreparedWidth int
	// MapSize is the side of the result's anomaly map.
	MapSize int
	// Prepare is the time that it took to resize the picture.
	Prepare time.Duration
}

// Health measures the prepared picture.
func (o *Outcome) Health() capture.Health {
	return capture.MeasureHealth(o.Prepared, o.PreparedWidth, len(o.Prepared)/3/o.PreparedWidth)
}

// Diagnostics are the outcome's details; read is the time that it took to get
// the picture.
func (o *Outcome) Diagnostics(read time.Duration) *verdict.Diagnostics {
	timings := o.Result.Timings
	diagnostics := &verdict.Diagnostics{
		SwitchTimestep: o.Result.SwitchTimestep,
		SwitchReason:   o.Result.SwitchReason,
		Gate:           make([]verdict.GateScore, 0, len(o.Result.Gate)),
		TimingsMS: verdict.TimingsMS{
			Read:         verdict.Milliseconds(read),
			Prepare:      verdict.Milliseconds(o.Prepare),
			Encode:       verdict.Milliseconds(timings.Encode),
			PredictNoise: verdict.Milliseconds(timings.PredictNoise),
			Compare:      verdict.Milliseconds(timings.Compare),
			Reconstruct:  verdict.Milliseconds(timings.Reconstruct),
			Score:        verdict.Milliseconds(timings.Score),
			Networks:     verdict.Milliseconds(timings.Networks()),
			Total:        verdict.Milliseconds(read + o.Prepare + timings.Total),
		},
	}
	for _, gate := range o.Result.Gate {
		diagnostics.Gate = append(diagnostics.Gate, verdict.GateScore(gate))
	}
	return diagnostics
}

// Undefined is the outcome of a fault.
func Undefined(code verdict.ReasonCode, detail string) Outcome {
	return Outcome{
		Evaluation: verdict.Undefined,
		Reason:     &verdict.Reason{Code: code, Detail: detail},
		Result:     pipeline.Result{SwitchReason: pipeline.SwitchNone},
	}
}

// Inspect inspects one part.
func (in *Inspector) Inspect(ctx context.Context, part Part) (outcome Outcome) {
	defer func() {
		if caught := recover(); caught != nil {
			in.options.Log.Error("panic during an inspection", "panic", caught, "stack", string(debug.Stack()))
			outcome = Undefined(verdict.ReasonInternal, fmt.Sprintf("panic: %v", caught))
		}
	}()
	if err := part.Picture.CheckHealth(); err != nil {
		return Undefined(verdict.ReasonImageHealth, err.Error())
	}

	if classes := len(in.options.Plans[0].Learned); part.Class < 0 || part.Class >= classes {
		return Undefined(verdict.ReasonInternal, fmt.Sprintf("class: expected an index below %d, found %d", classes, part.Class))
	}
	plan, left, err := in.choose(ctx, part)
	if err != nil {
		return Undefined(reasonOf(err), err.Error())
	}
	learned := plan.Learned[part.Class]
	chosen := Outcome{Method: &plan.Method, CalibrationID: learned.CalibrationID}
	if learned.Thresholds != nil {
		chosen.ImageThreshold = &learned.Thresholds.Image
	}
	if part.Chosen != nil {
		part.Chosen(chosen)
	}
	defer func() {
		outcome.Method, outcome.CalibrationID, outcome.ImageThreshold = chosen.Method, chosen.CalibrationID, chosen.ImageThreshold
	}()
	began := time.Now()
	size := in.options.Parameters.Image
	prepared, err := pipeline.Prepare(part.Picture.RGB, part.Picture.Width, part.Picture.Height, size.Width, size.Height)
	if err != nil {
		return Undefined(verdict.ReasonInternal, err.Error())
	}
	if limits := learned.Health; limits != nil && !part.AnyHealth {
		if err := limits.Check(capture.MeasureHealth(prepared, size.Width, size.Height)); err != nil {
			return Undefined(verdict.ReasonImageHealth, err.Error())
		}
	}
	prepare := time.Since(began)
	if part.GateThreshold == nil {
		part.GateThreshold = learned.GateThreshold
	}
	if part.Location == nil {
		part.Location = learned.Location
	}
	if part.Plan == nil {
		part.Plan = &learned.Plan
	}
	var reuse *pipeline.Result
	if part.Reuse != nil {
		reuse = &part.Reuse.Result
	}

	result, err := in.glad.Inspect(ctx, pipeline.Input{
		RGB:         prepared,
		Class:       part.Class,
		Noise:       part.Noise,
		EncodeNoise: part.EncodeNoise,

		GateThreshold: part.GateThreshold,
		Location:      part.Location,
		Plan:          *part.Plan,
		Reuse:         reuse,
	})
	if err != nil {
		outcome = Undefined(reasonOf(err), err.Error())
		if errors.Is(err, context.DeadlineExceeded) {
			if calls, err := in.glad.Calls(*part.Plan); err == nil {
				in.costs.overran(calls, left)
			}
		}
	} else {
		outcome = in.evaluate(result, part.Picture, learned)
		in.costs.learn(&result, prepare)
	}
	outcome.Result, outcome.Prepared, outcome.Prepare = result, prepared, prepare
	outcome.PreparedWidth, outcome.MapSize = size.Width, in.options.Parameters.Score.MapSize
	return outcome
}

// Calls are what a good part of a class takes under the best plan, and what it
// takes under comparisons in order.
func (in *Inspector) Calls(class int) (best, inOrder pipeline.Calls, err error) {
	if best, err = in.glad.Calls(in.options.Plans[0].Learned[class].Plan); err != nil {
		return best, inOrder, err
	}
	inOrder, err = in.glad.Calls(pipeline.Plan{})
	return best, inOrder, err
}

// Calibrations are the ids of those in use for a class, one for each plan that
// has one.
func (in *Inspector) Calibrations(class int) (ids []string) {
	for _, plan := range in.options.Plans {
		if id := plan.Learned[class].CalibrationID; id != nil {
			ids = append(ids, *id)
		}
	}
	return ids
}

// CompareInChunks has so many steps in a row compared in one call where the
// order of comparisons allows it, whatever the self-test found best.
func (in *Inspector) CompareInChunks(count int) { in.glad.CompareInChunks(count) }

// choose returns the best plan that fits the time that is left, and that time; an
// error that is [context.DeadlineExceeded] where none does.
func (in *Inspector) choose(ctx context.Context, part Part) (plan *Qualified, left time.Duration, err error) {
	plans := in.options.Plans
	deadline, limited := ctx.Deadline()
	left = time.Until(deadline)
	if !limited || !in.costs.known || part.Plan != nil {
		return &plans[0], left, nil
	}
	quickest, least := "", time.Duration(math.MaxInt64)
	for i := range plans {
		calls, err := in.glad.Calls(plans[i].Learned[part.Class].Plan)
		if err != nil {
			return nil, left, err
		}
		estimate := in.costs.estimate(calls)
		if estimate <= left {
			return &plans[i], left, nil
		}
		if estimate < least {
			quickest, least = plans[i].Method.Plan, estimate
		}
	}
	if least > max(part.Budget, left) {
		in.costs.relax()
	}
	return nil, left, fmt.Errorf("the inspection was not begun: the quickest plan, %s, takes about %v, and %v were left: %w",
		quickest, least.Round(time.Millisecond), left.Round(time.Millisecond), context.DeadlineExceeded)
}

// reasonOf classes the errors of the pipeline.
func reasonOf(err error) verdict.ReasonCode {
	var numericError *pipeline.NumericError
	var callError *pipeline.CallError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return verdict.ReasonDeadline
	case errors.Is(err, context.Canceled):
		return verdict.ReasonAborted
	case errors.As(err, &numericError):
		return verdict.ReasonNumeric
	case errors.As(err, &callError):
		return verdict.ReasonEngine
	}
	return verdict.ReasonInternal
}

// evaluate applies the thresholds to a completed inspection.
func (in *Inspector) evaluate(result pipeline.Result, picture *capture.Picture, learned Learned) Outcome {
	outcome := Outcome{Scored: true}
	thresholds := learned.Thresholds
	if thresholds == nil {
		outcome.Evaluation = verdict.Undefined
		reason := learned.Uncalibrated
		outcome.Reason = &reason
		return outcome
	}
	outcome.Evaluation, outcome.Reason = verdict.Evaluate(result.Score, *thresholds)
	if thresholds.Region != nil {
		outcome.Regions = verdict.FindRegions(result.AnomalyMap, in.options.Parameters.Score.MapSize,
			*thresholds.Region, picture.Width, picture.Height)
	}
	return outcome
}
