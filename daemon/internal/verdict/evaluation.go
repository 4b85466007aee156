// Package verdict holds the outcome of an inspection and the rule by which a
// score becomes an evaluation.
package verdict

import (
	"fmt"
	"math"
)

// Evaluation is the outcome in the terms of OPC UA 40001-101.
type Evaluation string

// The evaluations. Nothing but a completed inspection gives OK.
const (
	OK           Evaluation = "OK"
	NotOK        Evaluation = "NotOK"
	NotDecidable Evaluation = "NotDecidable"
	Undefined    Evaluation = "Undefined"
)

// ReasonCode says why an evaluation is not OK.
type ReasonCode string

// The reasons of NotOK and of NotDecidable.
const (
	ReasonAnomaly   ReasonCode = "anomaly"
	ReasonGuardBand ReasonCode = "guard-band"
)

// The reasons of Undefined.
const (
	ReasonCamera       ReasonCode = "camera"       // there was no picture
	ReasonImageHealth  ReasonCode = "image-health" // the picture is not fit for inspection
	ReasonEngine       ReasonCode = "engine"       // a network failed
	ReasonNumeric      ReasonCode = "numeric"      // a network gave no finite number
	ReasonInternal     ReasonCode = "internal"     // gladd failed
	ReasonDeadline     ReasonCode = "deadline"     // the result would have come late
	ReasonOverrun      ReasonCode = "overrun"      // a hardware trigger came while no room was left
	ReasonRestarted    ReasonCode = "restarted"    // gladd ended before the inspection did
	ReasonShutdown     ReasonCode = "shutdown"     // gladd was told to end
	ReasonAborted      ReasonCode = "aborted"      // somebody stopped the inspection
	ReasonUncalibrated ReasonCode = "uncalibrated" // there is no threshold
	ReasonUnqualified  ReasonCode = "unqualified"  // the threshold was learned with another method
)

// Reason is a code for machines and a sentence for people.
type Reason struct {
	Code   ReasonCode `json:"code"`
	Detail string     `json:"detail"`
}

// Thresholds turn a score into an evaluation.
type Thresholds struct {
	Image     float64
	GuardBand float64
	Region    *float64 // nil: regions are not reported
}

// Evaluate applies the rule: NotDecidable within the guard band, where there
// is one, otherwise NotOK if and only if the score is above the threshold. The
// reason is nil only for OK. Numbers that are not finite never give OK.
func Evaluate(score float64, thresholds Thresholds) (Evaluation, *Reason) {
	distance := math.Abs(score - thresholds.Image)
	switch {
	case math.IsNaN(distance) || math.IsInf(distance, 0) || math.IsNaN(thresholds.GuardBand):
		return Undefined, &Reason{ReasonNumeric, fmt.Sprintf("score %v, image threshold %v, guard band %v: expected finite numbers",
			score, thresholds.Image, thresholds.GuardBand)}
	case thresholds.GuardBand > 0 && distance <= thresholds.GuardBand:
		return NotDecidable, &Reason{ReasonGuardBand, fmt.Sprintf("score %.4g lies within %.4g of the image threshold %.4g",
			score, thresholds.GuardBand, thresholds.Image)}
	case score > thresholds.Image:
		return NotOK, &Reason{ReasonAnomaly, fmt.Sprintf("score %.4g is above the image threshold %.4g", score, thresholds.Image)}
	default:
		return OK, nil
	}
}
