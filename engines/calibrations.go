package engines

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
	"gopkg.in/yaml.v3"

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
	Class           string         `yaml:"class,omitempty"` // of the parts; empty where the bundle has no classes
	Method          Method         `yaml:",inline"`
	GateThreshold   float64        `yaml:"gate_threshold"`
	ImageThreshold  float64        `yaml:"image_threshold"`
	GuardBand       float64        `yaml:"guard_band"`
	RegionThreshold *float64       `yaml:"region_threshold,omitempty"` // nil: regions are not reported
	Location        *DigestedFile  `yaml:"location,omitempty"`         // NumPy, float32 [2,S,S]: mean and standard deviation of good parts' maps; nil: maps stay as they are
	ImageHealth     *ImageHealth   `yaml:"image_health,omitempty"`     // nil: every picture is fit
	SelfTest        *SelfTest      `yaml:"self_test,omitempty"`        // nil: the self-test has nothing to compare with
	GateCurves      *GateCurves    `yaml:"gate_curves,omitempty"`
	PlanSettings    *PlanSettings  `yaml:"plan_settings,omitempty"` // nil for plan exact
	LearnedFrom     map[string]any `yaml:"learned_from,omitempty"`
	Promise         map[string]any `yaml:"promise,omitempty"`
}

// PlanSettings are what a plan of mode adaptive does: the terms are those of
// pipeline.Plan.
type PlanSettings struct {
	Probes    []int      `yaml:"probes,flow,omitempty"` // timesteps
	Margin    float64    `yaml:"margin"`                // of the gate score
	Tail      *int       `yaml:"tail,omitempty"`        // steps; nil: all
	Agreement *Agreement `yaml:"agreement,omitempty"`
}

// Agreement says how often a plan switches where comparisons in order do.
type Agreement struct {
	Parts         int     `yaml:"parts"`          // good parts that were compared at every step
	OtherSwitches int     `yaml:"other_switches"` // of them
	AtMost        float64 `yaml:"at_most"`        // the promised share of parts that switch elsewhere
	Confidence    float64 `yaml:"confidence"`
	Comparisons   float64 `yaml:"comparisons"` // of a part, in the mean
	// Known bad parts, and how many of them switch elsewhere; nothing is promised
	// of them.
	Bad                int `yaml:"bad,omitempty"`
	OtherSwitchesOfBad int `yaml:"other_switches_of_bad,omitempty"`
}

// ImageHealth limits what a fit picture is, at the networks' size. Brightness
// is the mean of the gray values, 0 to 255, contrast their standard deviation,
// sharpness the mean size of their second differences, clipped the share of
// pixels that are black or white.
type ImageHealth struct {
	Brightness Limits `yaml:"brightness,flow"`
	Contrast   Limits `yaml:"contrast,flow"`
	Sharpness  Limits `yaml:"sharpness,flow"`
	Clipped    Limits `yaml:"clipped,flow"`
}

// Limits are the lowest and the highest value that is allowed.
type Limits struct {
	Low  float64 `yaml:"low"`
	High float64 `yaml:"high"`
}

// SelfTest is what an inspection of the self-test's picture gave.
type SelfTest struct {
	Score          float64     `yaml:"score"`
	SwitchTimestep int         `yaml:"switch_timestep"`
	SwitchReason   string      `yaml:"switch_reason"`
	Gate           []GatePoint `yaml:"gate,flow"` // every comparison made
}

// GatePoint is the gate score at a timestep.
type GatePoint struct {
	Timestep int     `yaml:"timestep"`
	Score    float64 `yaml:"score"`
}

// GateCurves say how the gate scores of good parts run along the trajectory,
// compared at every step down to the switch.
type GateCurves struct {
	Parts     int       `yaml:"parts"`
	Timesteps []int     `yaml:"timesteps,flow"`
	Median    []float64 `yaml:"median,flow"` // by timestep
	Highest   []float64 `yaml:"highest,flow"`
	// Rising is the share of steps at which a curve does not fall.
	Rising float64 `yaml:"rising"`
	// LastHighest is the share of curves whose last score is their highest.
	LastHighest float64 `yaml:"last_highest"`
	// Overhang is by how much the highest score of a curve exceeds the last:
	// the largest and the 0.95 quantile over the curves.
	LargestOverhang float64 `yaml:"largest_overhang"`
	Overhang95      float64 `yaml:"overhang_95"`
}

// Modes say how GLAD is computed.
const (
	// ModeExact computes it as its authors do.
	ModeExact = "exact"
	// ModeAdaptive leaves out what calibration found to change nothing.
	ModeAdaptive = "adaptive"
)

// Plans say which comparisons are made, in which order, and what follows.
const (
	// PlanExact compares in order. It is the only plan of ModeExact, and one of
	// ModeAdaptive.
	PlanExact = "exact"
	// PlanLatestFirst compares at the last step first.
	PlanLatestFirst = "latest-first"
	// PlanShortTail does, and takes fewer steps after a switch at the minimal step.
	PlanShortTail = "short-tail"
)

// Method is how scores come about. Scores of different methods are not
// comparable.
type Method struct {
	Backend   string `yaml:"backend"`
	Precision string `yaml:"precision"`
	Mode      string `yaml:"mode"`
	Plan      string `yaml:"plan"`
}

// MethodOf is the method of a plan. Comparisons in order are those of [ModeExact]
// whoever asks for them.
func MethodOf(runtime Runtime, plan string) Method {
	mode := ModeAdaptive
	if plan == PlanExact {
		mode = ModeExact
	}
	return Method{Backend: runtime.Backend, Precision: runtime.Precision, Mode: mode, Plan: plan}
}

// PlansOf checks the plans that a mode shall use, the best first. Where none are
// named they are all of the mode, the quickest first.
func PlansOf(mode string, plans []string) ([]string, error) {
	var known []string
	switch mode {
	case ModeExact:
		known = []string{PlanExact}
	case ModeAdaptive:
		known = []string{PlanShortTail, PlanLatestFirst, PlanExact}
	default:
		return nil, fmt.Errorf("mode: expected %s or %s, found %q", ModeExact, ModeAdaptive, mode)
	}
	if len(plans) == 0 {
		return known, nil
	}
	for i, plan := range plans {
		if !slices.Contains(known, plan) {
			return nil, fmt.Errorf("plans of mode %s: expected some of %s, found %q", mode, strings.Join(known, ", "), plan)
		}
		if slices.Contains(plans[:i], plan) {
			return nil, fmt.Errorf("plans: %s is there twice", plan)
		}
	}
	return plans, nil
}

// AppendCalibration writes a calibration behind those that stand in a bundle's
// folder, which stay as they are. The file is replaced whole: whoever reads it
// meanwhile finds the old or the new one.
func AppendCalibration(dir string, calibration Calibration) error {
	path := filepath.Join(dir, CalibrationsFile)
	if err := appendCalibration(dir, path, calibration); err != nil {
		return fmt.Errorf("calibrations %s: %w", path, err)
	}
	return nil
}

func appendCalibration(dir, path string, calibration Calibration) error {
	// One at a time; the lock ends with the process.
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock the folder: %w", err)
	}
	before, err := loadCalibrations(path) // whatever is wrong with them is not made worse
	if err != nil {
		return err
	}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		content = []byte("schema: " + CalibrationsSchema + "\ncalibrations: []\n")
	} else if err != nil {
		return err
	}
	// As nodes, which keep comments and the way that numbers are written.
	var document, entry yaml.Node
	if err := yaml.Unmarshal(content, &document); err != nil {
		return err
	}
	if err := entry.Encode(calibration); err != nil {
		return err
	}
	root := document.Content[0]
	var list *yaml.Node
	for i := 0; i < len(root.Content); i += 2 {
		if root.Content[i].Value == "calibrations" {
			list = root.Content[i+1]
		}
	}
	if list == nil {
		list = &yaml.Node{}
		root.Content = append(root.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "calibrations"}, list)
	}
	if list.Kind != yaml.SequenceNode { // null
		list.Kind, list.Tag, list.Value = yaml.SequenceNode, "", ""
	}
	list.Style = 0
	list.Content = append(list.Content, &entry)
	var encoded bytes.Buffer
	encoder := yaml.NewEncoder(&encoded)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(&document), encoder.Close()); err != nil {
		return err
	}
	after, err := parseCalibrations(path, encoded.Bytes())
	if err != nil {
		return err
	}
	// Not DeepEqual of the slices: no entries may be nil or an empty slice.
	if len(after) != len(before)+1 || !slices.EqualFunc(after[:len(before)], before, func(a, b Calibration) bool { return reflect.DeepEqual(a, b) }) {
		return errors.New("the entries that stand there would not stay as they are; add this one by hand, or move the file away")
	}
	return renameio.WriteFile(path, encoded.Bytes(), 0o644)
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
	return parseCalibrations(path, data)
}

func parseCalibrations(path string, data []byte) ([]Calibration, error) {
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
		if health := calibration.ImageHealth; health != nil {
			for _, limits := range []struct {
				key string
				Limits
			}{{"brightness", health.Brightness}, {"contrast", health.Contrast}, {"sharpness", health.Sharpness}, {"clipped", health.Clipped}} {
				key := prefix + "image_health." + limits.key
				if err := document.Require(key+".low", key+".high"); err != nil {
					return nil, err
				}
				if !finite(limits.Low) || !finite(limits.High) || limits.Low > limits.High {
					return nil, document.Errorf(key, "expected a low number and a high one, found %v and %v", limits.Low, limits.High)
				}
			}
		}
		if location := calibration.Location; location != nil {
			if !plainName(location.File) {
				return nil, document.Errorf(prefix+"location.file", "expected the plain name of a file in the bundle's folder, found %q", location.File)
			}
			if !hexSHA256.MatchString(location.SHA256) {
				return nil, document.Errorf(prefix+"location.sha256", "expected 64 lower-case hex digits, found %q", location.SHA256)
			}
		}
		if err := checkPlan(document, prefix, calibration); err != nil {
			return nil, err
		}
		if threshold := calibration.RegionThreshold; threshold != nil && !finite(*threshold) {
			return nil, document.Errorf(prefix+"region_threshold", "expected a number, found %v", *threshold)
		}
	}
	return content.Calibrations, nil
}

// checkPlan makes sure that a plan and its settings belong together. Whether the
// probes are steps of the bundle is seen when the plan is used.
func checkPlan(document *strictyaml.Document, prefix string, calibration Calibration) error {
	settings := calibration.PlanSettings
	if (settings != nil) != (calibration.Method.Mode == ModeAdaptive && calibration.Method.Plan != PlanExact) {
		return document.Errorf(prefix+"plan", "expected plan_settings with a plan of mode adaptive, and only with one; found mode %s, plan %s", calibration.Method.Mode, calibration.Method.Plan)
	}
	switch {
	case settings == nil:
	case !finiteAndNotNegative(settings.Margin):
		return document.Errorf(prefix+"plan_settings.margin", "expected a number of at least 0, found %v", settings.Margin)
	case settings.Tail != nil && *settings.Tail < 0:
		return document.Errorf(prefix+"plan_settings.tail", "expected at least 0 steps, found %d", *settings.Tail)
	case (settings.Tail != nil) != (calibration.Method.Plan == PlanShortTail):
		return document.Errorf(prefix+"plan_settings.tail", "expected with plan %s, and only with it; found plan %s", PlanShortTail, calibration.Method.Plan)
	}
	return nil
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

// Calibration returns the calibration for a method and a class, empty where the
// bundle has none; the newest if there are several. It is nil unless the state
// is [Calibrated].
func (b *Bundle) Calibration(method Method, class string) (*Calibration, CalibrationState) {
	if method.Plan == PlanExact {
		method.Mode = ModeExact // comparisons in order are the same in every mode
	}
	state := Uncalibrated
	for i := len(b.Calibrations) - 1; i >= 0; i-- {
		calibration := &b.Calibrations[i]
		if calibration.ModelDigest != b.ModelDigest || calibration.Class != class {
			continue
		}
		// One for maps that are standardised does not serve maps that are not.
		if calibration.Method == method && (calibration.Location != nil) == (b.Manifest.Score.Standardise == StandardiseLocation) {
			return calibration, Calibrated
		}
		state = Unqualified
	}
	return nil, state
}
