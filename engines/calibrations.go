package engines

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"

	"gladd/internal/strictyaml"
)

// CalibrationsFile is the name of the file beside the manifest that holds what
// calibration learned.
const CalibrationsFile = "calibrations.yaml"

// CalibrationsSchema is the schema of that file that this version reads.
const CalibrationsSchema = "gladd.calibrations/v1"

// Calibration holds thresholds and says for which method they were learned.
type Calibration struct {
	ID              string         `yaml:"id"`
	ModelDigest     string         `yaml:"model_digest"`
	Method          Method         `yaml:",inline"`
	GateThreshold   float64        `yaml:"gate_threshold"`
	ImageThreshold  float64        `yaml:"image_threshold"`
	GuardBand       float64        `yaml:"guard_band"`
	RegionThreshold *float64       `yaml:"region_threshold"` // nil: regions are not reported
	LearnedFrom     map[string]any `yaml:"learned_from"`
	Promise         map[string]any `yaml:"promise"`
}

// Method is how scores come about. Scores of different methods are not
// comparable.
type Method struct {
	Backend   string `yaml:"backend"`
	Precision string `yaml:"precision"`
	Mode      string `yaml:"mode"`
	Plan      string `yaml:"plan"`
}

// loadCalibrations reads a calibrations file; without one there are none.
func loadCalibrations(path string) ([]Calibration, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("calibrations: %w", err)
	}
	if schema, found := strictyaml.Peek(data, "schema"); found && schema != CalibrationsSchema {
		return nil, fmt.Errorf("%s: schema: expected %s, found %q; this file needs another version of gladd", path, CalibrationsSchema, schema)
	}
	var content struct {
		Schema       string        `yaml:"schema"`
		Calibrations []Calibration `yaml:"calibrations"`
	}
	document, err := strictyaml.Decode(path, data, &content)
	if err != nil {
		return nil, err
	}
	if err := document.Require("schema"); err != nil {
		return nil, err
	}
	ids := map[string]int{}
	for i, calibration := range content.Calibrations {
		prefix := fmt.Sprintf("calibrations.%d.", i)
		var required []string
		for _, key := range []string{"id", "model_digest", "backend", "precision", "mode", "plan", "gate_threshold", "image_threshold"} {
			required = append(required, prefix+key)
		}
		if err := document.Require(required...); err != nil {
			return nil, err
		}
		if first, taken := ids[calibration.ID]; taken {
			return nil, document.Errorf(prefix+"id", "expected an id of its own, found %q, which is also that of calibrations.%d", calibration.ID, first)
		}
		ids[calibration.ID] = i
		if !hexSHA256.MatchString(calibration.ModelDigest) {
			return nil, document.Errorf(prefix+"model_digest", "expected 64 lower-case hex digits, found %q", calibration.ModelDigest)
		}
		for _, number := range []struct {
			key   string
			value float64
		}{
			{"gate_threshold", calibration.GateThreshold},
			{"guard_band", calibration.GuardBand},
		} {
			if !finiteAndNotNegative(number.value) {
				return nil, document.Errorf(prefix+number.key, "expected a number of at least 0, found %v", number.value)
			}
		}
		if !finite(calibration.ImageThreshold) {
			return nil, document.Errorf(prefix+"image_threshold", "expected a number, found %v", calibration.ImageThreshold)
		}
		if threshold := calibration.RegionThreshold; threshold != nil && !finite(*threshold) {
			return nil, document.Errorf(prefix+"region_threshold", "expected a number, found %v", *threshold)
		}
	}
	return content.Calibrations, nil
}

func finite(value float64) bool {
	return !math.IsNaN(value) && !math.IsInf(value, 0)
}

// CalibrationState says how a bundle's calibrations fit a method.
type CalibrationState int

const (
	// Uncalibrated means that nothing was learned for this model.
	Uncalibrated CalibrationState = iota
	// Unqualified means that something was learned, but for another method.
	Unqualified
	// Calibrated means that there is a calibration for this model and method.
	Calibrated
)

// Calibration returns the calibration for a method, the newest if there are
// several. It is nil unless the state is [Calibrated].
func (b *Bundle) Calibration(method Method) (*Calibration, CalibrationState) {
	state := Uncalibrated
	for i := len(b.Calibrations) - 1; i >= 0; i-- {
		calibration := &b.Calibrations[i]
		if calibration.ModelDigest != b.ModelDigest {
			continue
		}
		if calibration.Method == method {
			return calibration, Calibrated
		}
		state = Unqualified
	}
	return nil, state
}
