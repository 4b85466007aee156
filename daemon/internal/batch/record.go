package batch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"gladd/capture"
	"gladd/daemon/internal/app"
	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/verdict"
)

// Record is the JSON line of one picture. Every key is always present.
type Record struct {
	Image          string             `json:"image"`
	Evaluation     verdict.Evaluation `json:"evaluation"`
	Reason         *verdict.Reason    `json:"reason"` // null only for OK
	Score          *float64           `json:"score"`  // null without a completed inspection
	ImageThreshold *float64           `json:"image_threshold"`
	SwitchTimestep int                `json:"switch_timestep"` // 0 without a switch
	SwitchReason   string             `json:"switch_reason"`
	Gate           []gateScore        `json:"gate"`
	Regions        []verdict.Region   `json:"regions"` // null without a region threshold
	Width          *int               `json:"width"`   // of the source picture
	Height         *int               `json:"height"`
	Class          *string            `json:"class"`
	Bundle         bundleName         `json:"bundle"`
	CalibrationID  *string            `json:"calibration_id"`
	Method         method             `json:"method"`
	NoiseReplaced  bool               `json:"noise_replaced"` // the noise came from a file
	TimingsMS      timings            `json:"timings_ms"`
}

type gateScore struct {
	Timestep int     `json:"timestep"`
	Score    float64 `json:"score"`
}

type bundleName struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Digest  string `json:"digest"` // the model digest
}

type method struct {
	Backend   string `json:"backend"`
	Precision string `json:"precision"`
	Mode      string `json:"mode"`
	Plan      string `json:"plan"`
}

// timings in milliseconds. Networks is the sum of the five calls.
type timings struct {
	Read         float64 `json:"read"`
	Prepare      float64 `json:"prepare"`
	Encode       float64 `json:"encode"`
	PredictNoise float64 `json:"predict_noise"`
	Compare      float64 `json:"compare"`
	Reconstruct  float64 `json:"reconstruct"`
	Score        float64 `json:"score"`
	Networks     float64 `json:"networks"`
	Total        float64 `json:"total"`
}

// newRecord describes an outcome; picture is nil if it could not be read.
func newRecord(item *item, picture *capture.Picture, model *app.Model, class string, outcome inspection.Outcome, read time.Duration) Record {
	result := outcome.Result
	record := Record{
		Image:          item.Path,
		Evaluation:     outcome.Evaluation,
		Reason:         outcome.Reason,
		SwitchTimestep: result.SwitchTimestep,
		SwitchReason:   result.SwitchReason,
		Gate:           make([]gateScore, 0, len(result.Gate)),
		Regions:        outcome.Regions,
		Bundle: bundleName{
			Name:    model.Bundle.Manifest.Name,
			Version: model.Bundle.Manifest.Version,
			Digest:  model.Bundle.ModelDigest,
		},
		Method:        method(model.Method),
		NoiseReplaced: item.noise != "" || item.encodeNoise != "",
		TimingsMS: timings{
			Read:         milliseconds(read),
			Prepare:      milliseconds(outcome.Prepare),
			Encode:       milliseconds(result.Timings.Encode),
			PredictNoise: milliseconds(result.Timings.PredictNoise),
			Compare:      milliseconds(result.Timings.Compare),
			Reconstruct:  milliseconds(result.Timings.Reconstruct),
			Score:        milliseconds(result.Timings.Score),
			Networks:     milliseconds(result.Timings.Networks()),
			Total:        milliseconds(read + outcome.Prepare + result.Timings.Total),
		},
	}
	for _, gate := range result.Gate {
		record.Gate = append(record.Gate, gateScore(gate))
	}
	if outcome.Scored {
		record.Score = &result.Score
	}
	if calibration := model.Calibration; calibration != nil {
		record.ImageThreshold, record.CalibrationID = &calibration.ImageThreshold, &calibration.ID
	}
	if picture != nil {
		record.Width, record.Height = &picture.Width, &picture.Height
	}
	if class != "" {
		record.Class = &class
	}
	return record
}

// milliseconds to the microsecond; more would be noise.
func milliseconds(duration time.Duration) float64 {
	return math.Round(float64(duration)/float64(time.Microsecond)) / 1000
}

// line is the record as one compact JSON line.
func (r Record) line() ([]byte, error) {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false) // a file's name is data, not HTML
	if err := encoder.Encode(r); err != nil {
		return nil, err
	}
	return line.Bytes(), nil
}

// text is the record as one line for people.
func (r Record) text() []byte {
	var line bytes.Buffer
	fmt.Fprintf(&line, "%-12s  ", r.Evaluation)
	switch {
	case r.Score == nil:
		fmt.Fprintf(&line, "no score")
	case r.ImageThreshold == nil:
		fmt.Fprintf(&line, "score %6.4f, no threshold   ", *r.Score)
	default:
		fmt.Fprintf(&line, "score %6.4f, threshold %6.4f", *r.Score, *r.ImageThreshold)
	}
	if r.Score != nil {
		fmt.Fprintf(&line, "  switch %4d %-9s  %6.0f ms", r.SwitchTimestep, r.SwitchReason, r.TimingsMS.Total)
	}
	name := r.Image
	if strings.ContainsFunc(name, unicode.IsControl) {
		name = strconv.Quote(name) // or it would break the line or steer the terminal
	}
	fmt.Fprintf(&line, "  %s", name)
	if r.Score == nil || r.ImageThreshold == nil {
		fmt.Fprintf(&line, "  (%s)", r.Reason.Code)
	}
	line.WriteByte('\n')
	return line.Bytes()
}
