package batch

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"gladd/capture"
	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/verdict"
	"gladd/engines"
)

// Record is the JSON line of one picture. Every key is always present.
type Record struct {
	Image          string              `json:"image"`
	Evaluation     verdict.Evaluation  `json:"evaluation"`
	Reason         *verdict.Reason     `json:"reason"` // null only for OK
	Score          *float64            `json:"score"`  // null without a completed inspection
	ImageThreshold *float64            `json:"image_threshold"`
	SwitchTimestep int                 `json:"switch_timestep"` // 0 without a switch
	SwitchReason   string              `json:"switch_reason"`
	Gate           []verdict.GateScore `json:"gate"`
	Regions        []verdict.Region    `json:"regions"` // null without a region threshold
	Width          *int                `json:"width"`   // of the source picture
	Height         *int                `json:"height"`
	Class          *string             `json:"class"`
	Bundle         verdict.Bundle      `json:"bundle"`
	CalibrationID  *string             `json:"calibration_id"`
	Method         method              `json:"method"`
	NoiseReplaced  bool                `json:"noise_replaced"` // the noise came from a file
	TimingsMS      verdict.TimingsMS   `json:"timings_ms"`
}

type method struct {
	Backend   string `json:"backend"`
	Precision string `json:"precision"`
	Mode      string `json:"mode"`
	Plan      string `json:"plan"`
}

// newRecord describes an outcome; picture is nil if it could not be read.
func newRecord(item *item, picture *capture.Picture, model *inspection.Model, class string, calibration *engines.Calibration, outcome inspection.Outcome, read time.Duration) Record {
	diagnostics := outcome.Diagnostics(read)
	record := Record{
		Image:          item.Path,
		Evaluation:     outcome.Evaluation,
		Reason:         outcome.Reason,
		SwitchTimestep: diagnostics.SwitchTimestep,
		SwitchReason:   diagnostics.SwitchReason,
		Gate:           diagnostics.Gate,
		Regions:        outcome.Regions,
		Bundle: verdict.Bundle{
			Name:    model.Bundle.Manifest.Name,
			Version: model.Bundle.Manifest.Version,
			Digest:  model.Bundle.ModelDigest,
		},
		Method:        method(model.Method),
		NoiseReplaced: item.noise != "" || item.encodeNoise != "",
		TimingsMS:     diagnostics.TimingsMS,
	}
	if outcome.Scored {
		record.Score = &outcome.Result.Score
	}
	if calibration != nil {
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

// line is the record as one compact JSON line.
func (r Record) line() ([]byte, error) {
	line, err := verdict.JSON(r)
	return append(line, '\n'), err
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
