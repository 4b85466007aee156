package verdict

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// Record is the terminal record of one trigger: the data of a verdict, as it
// stands in the ledger and goes to the MES. Every key is always present; null
// says that there is no such thing.
type Record struct {
	ResultID  string  `json:"result_id"`
	TriggerID string  `json:"trigger_id"`
	CommandID *string `json:"command_id"`
	LedgerID  string  `json:"ledger_id"`
	// Sequence is given per station with the terminal record, without gaps.
	Sequence int64 `json:"sequence"`

	Kind            string   `json:"kind"` // KindView or KindPart
	View            *string  `json:"view"`
	ViewsExpected   *int     `json:"views_expected"`
	SourceResultIDs []string `json:"source_result_ids"`
	IsPartial       bool     `json:"is_partial"`

	Part             Part    `json:"part"`
	MeasurementID    *string `json:"measurement_id"`
	Attempt          int     `json:"attempt"` // from 1
	PreviousResultID *string `json:"previous_result_id"`
	Purpose          Purpose `json:"purpose"`
	IsSimulated      bool    `json:"is_simulated"` // the picture comes from no camera

	Evaluation     Evaluation  `json:"evaluation"`
	ResultState    ResultState `json:"result_state"`
	Reason         *Reason     `json:"reason"` // null only for OK
	AnomalyScore   *float64    `json:"anomaly_score"`
	ImageThreshold *float64    `json:"image_threshold"`

	Recipe        Recipe   `json:"recipe"`
	Bundle        Bundle   `json:"bundle"`
	CalibrationID *string  `json:"calibration_id"`
	Method        Method   `json:"method"`
	Camera        Camera   `json:"camera"`
	Image         *Image   `json:"image"`   // null without a frame
	Regions       []Region `json:"regions"` // null without a region threshold
	// Context is the trigger's, as it came.
	Context json.RawMessage `json:"context"`

	Times       Times        `json:"times"`
	Clock       Clock        `json:"clock"`
	LatencyMS   float64      `json:"latency_ms"` // from the trigger to the record
	Diagnostics *Diagnostics `json:"diagnostics"`
}

// The kinds of record. That of a part combines those of its views; it has no
// picture, and what goes with one is null.
const (
	KindView = "view"
	KindPart = "part"
)

// Part is what was inspected.
type Part struct {
	ID        *string `json:"id"`
	IDSource  *string `json:"id_source"` // trigger; null without an id
	ParentID  *string `json:"parent_id"`
	Position  *string `json:"position"`
	ProductID *string `json:"product_id"`
	OrderID   *string `json:"order_id"`
	CarrierID *string `json:"carrier_id"`
}

// Purpose says what an inspection is for.
type Purpose string

// The purposes.
const (
	Production   Purpose = "production"
	Challenge    Purpose = "challenge"
	MSA          Purpose = "msa" // measurement system analysis
	Reinspection Purpose = "reinspection"
	Setup        Purpose = "setup"
)

// Purposes are all that there are.
var Purposes = []Purpose{Production, Challenge, MSA, Reinspection, Setup}

// Group lists the purposes that are counted together with this one, as what is
// made and sold or as something apart.
func (p Purpose) Group() []Purpose {
	if p.IsProduction() {
		return []Purpose{Production, Reinspection}
	}
	return []Purpose{p}
}

// IsProduction says that a part is made and sold. Parts that try out the
// inspection itself are not.
func (p Purpose) IsProduction() bool { return p == Production || p == Reinspection }

// ResultState says how an inspection ended.
type ResultState string

// The states of a result.
const (
	Completed ResultState = "completed"
	Aborted   ResultState = "aborted"
	Failed    ResultState = "failed"
)

// StateOf is the result's state that goes with an evaluation and its reason.
func StateOf(evaluation Evaluation, reason *Reason) ResultState {
	if evaluation != Undefined || reason == nil {
		return Completed
	}
	switch reason.Code {
	case ReasonUncalibrated, ReasonUnqualified:
		return Completed // there is a score
	case ReasonAborted, ReasonShutdown, ReasonRestarted:
		return Aborted
	}
	return Failed
}

// Recipe is the recipe that a part was inspected with.
type Recipe struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Digest  string `json:"digest"`
}

// Bundle is the model that a part was inspected with. Digest is the model's.
type Bundle struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Digest  string `json:"digest"`
}

// Method is how GLAD was computed.
type Method struct {
	Software     string  `json:"software"` // gladd and its version
	Backend      string  `json:"backend"`
	EngineDigest *string `json:"engine_digest"` // of TensorRT's engines
	Mode         string  `json:"mode"`
	Plan         string  `json:"plan"`
}

// Camera is what took the frame.
type Camera struct {
	Name   string  `json:"name"`
	Serial *string `json:"serial"`
}

// Image is the source picture.
type Image struct {
	SHA256 string `json:"sha256"` // of the decoded RGB bytes
	Width  int    `json:"width"`
	Height int    `json:"height"`
	Kept   bool   `json:"kept"` // stored beside the ledger, when the record was made
}

// Times of an inspection by the wall clock; null where it did not come so far.
// They are the trigger's time plus durations of the monotonic clock, so that
// a clock that is set meanwhile does not turn them around.
type Times struct {
	Triggered Time  `json:"triggered"`
	Captured  *Time `json:"captured"`
	Finished  Time  `json:"finished"`
}

// Clock says how far the wall clock can be trusted.
type Clock struct {
	Synchronized bool     `json:"synchronized"`
	OffsetMS     *float64 `json:"offset_ms"`
}

// Diagnostics are for whoever asks why.
type Diagnostics struct {
	SwitchTimestep int         `json:"switch_timestep"` // 0 without a switch
	SwitchReason   string      `json:"switch_reason"`
	Gate           []GateScore `json:"gate"`
	TimingsMS      TimingsMS   `json:"timings_ms"`
}

// GateScore is one comparison along the trajectory.
type GateScore struct {
	Timestep int     `json:"timestep"`
	Score    float64 `json:"score"`
}

// TimingsMS say where the time went, in milliseconds. Networks is the sum of
// the five calls.
type TimingsMS struct {
	Read         float64 `json:"read"` // taking the picture
	Prepare      float64 `json:"prepare"`
	Encode       float64 `json:"encode"`
	PredictNoise float64 `json:"predict_noise"`
	Compare      float64 `json:"compare"`
	Reconstruct  float64 `json:"reconstruct"`
	Score        float64 `json:"score"`
	Networks     float64 `json:"networks"`
	Total        float64 `json:"total"`
}

// Milliseconds of a duration, to the microsecond; more would be noise.
func Milliseconds(duration time.Duration) float64 {
	return math.Round(float64(duration)/float64(time.Microsecond)) / 1000
}

// Time is a time in RFC 3339, UTC, to the millisecond.
type Time struct{ time.Time }

const timeLayout = "2006-01-02T15:04:05.000Z"

// MarshalJSON implements [json.Marshaler].
func (t Time) MarshalJSON() ([]byte, error) {
	return []byte(`"` + t.String() + `"`), nil
}

// String is the time as in JSON.
func (t Time) String() string { return t.UTC().Format(timeLayout) }

// JSON is a value as compact JSON in one line. It is for data: nothing is
// escaped for HTML.
func JSON(value any) ([]byte, error) {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, fmt.Errorf("%T as JSON: %w", value, err)
	}
	return bytes.TrimSuffix(line.Bytes(), []byte("\n")), nil
}
