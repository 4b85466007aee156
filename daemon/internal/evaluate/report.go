package evaluate

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"

	"github.com/google/renameio/v2"

	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/verdict"
)

// MetricsSchema is the schema of metrics.json.
const MetricsSchema = "gladd.metrics/v1"

// The files of a report.
const (
	MetricsFile = "metrics.json"
	ReportFile  = "report.html"
)

// Report is the outcome of an evaluation, as in metrics.json.
type Report struct {
	Schema  string                  `json:"schema"`
	Mean    Figures                 `json:"mean"` // of each figure over the classes that have it
	Classes map[string]*ClassReport `json:"classes"`
	Bundle  verdict.Bundle          `json:"bundle"`
	Method  reportMethod            `json:"method"`

	model *inspection.Model
	order []*ClassReport // as the set has them
}

type reportMethod struct {
	Backend   string `json:"backend"`
	Precision string `json:"precision"`
	Mode      string `json:"mode"`
	Plan      string `json:"plan"`
}

// ClassReport is the outcome for one class.
type ClassReport struct {
	Figures
	// ImageAUROC95 is the 95 % interval of the image AUROC; null where there is none.
	ImageAUROC95  [2]Fraction `json:"image_auroc_95"`
	GateThreshold float64     `json:"gate_threshold"`
	CalibrationID *string     `json:"calibration_id"` // null without a calibration
	Pictures      int         `json:"pictures"`
	Good          int         `json:"good"`
	Defective     int         `json:"defective"`
	Masks         int         `json:"masks"`        // that can be read
	Unscored      int         `json:"unscored"`     // pictures without a score; in no figure
	AtThreshold   *Decisions  `json:"at_threshold"` // null without a calibration
	Notes         []string    `json:"notes"`        // what is missing, and why

	Name     string        `json:"-"`
	curve    []RatePoint   // of the images
	scores   [2][]float64  // good, defective
	switches [2]switchBins // good, defective
	Worst    []worstPart   `json:"-"`
}

// Decisions are what the calibrated threshold makes of the scores.
type Decisions struct {
	ImageThreshold float64         `json:"image_threshold"`
	GuardBand      float64         `json:"guard_band"`
	FalseRejects   Share           `json:"false_rejects"` // good parts that read NotOK
	Escapes        Share           `json:"escapes"`       // defective parts that read OK
	Kinds          []KindDecisions `json:"kinds"`         // good first
}

// Share is a count of some.
type Share struct {
	Count int      `json:"count"`
	Of    int      `json:"of"`
	Rate  Fraction `json:"rate"` // null of none
}

func (s *Share) finish() { s.Rate = Fraction(float64(s.Count) / float64(s.Of)) }

// KindDecisions are the evaluations of one kind's parts.
type KindDecisions struct {
	Kind         string `json:"kind"`
	Pictures     int    `json:"pictures"`
	OK           int    `json:"ok"`
	NotOK        int    `json:"not_ok"`
	NotDecidable int    `json:"not_decidable"`
	Undefined    int    `json:"undefined"` // without a score, or not fit for inspection
}

// switchBins count parts by where they switched.
type switchBins map[switchPoint]int

type switchPoint struct {
	Timestep int
	Reason   string
}

func newReport(model *inspection.Model) *Report {
	report := &Report{
		Schema:  MetricsSchema,
		Classes: map[string]*ClassReport{},
		Bundle: verdict.Bundle{
			Name: model.Bundle.Manifest.Name, Version: model.Bundle.Manifest.Version, Digest: model.Bundle.ModelDigest,
		},
		Method: reportMethod(model.Method),
		model:  model,
	}
	return report
}

// add computes what is reported of a class.
func (r *Report) add(class *classRun, results *store, model *inspection.Model) error {
	report := &ClassReport{
		Name: class.Name, Pictures: len(class.Pictures), GateThreshold: model.GateThreshold(class.index), switches: [2]switchBins{{}, {}},
	}
	for i, picture := range class.Pictures {
		kind := 0
		if picture.Good() {
			report.Good++
		} else {
			report.Defective++
			kind = 1
		}
		if class.masked[i] {
			report.Masks++
		}
		result := class.results[i]
		if result.Score == nil {
			report.Unscored++
			class.note("%s: %s", picture.Path, result.Reason.Detail)
			continue
		}
		report.scores[kind] = append(report.scores[kind], *result.Score)
		report.switches[kind][switchPoint{result.Details.SwitchTimestep, result.Details.SwitchReason}]++
	}
	var err error
	if report.Figures, report.curve, err = class.measure(results, model.Parameters.Score.MapSize); err != nil {
		return fmt.Errorf("figures of %s: %w", class.Name, err)
	}
	low, high := aurocInterval(report.scores[1], report.scores[0])
	report.ImageAUROC95 = [2]Fraction{Fraction(low), Fraction(high)}
	if calibration := model.Calibrations[class.index]; calibration != nil {
		report.CalibrationID = &calibration.ID
		report.AtThreshold = class.decide(inspection.Thresholds(calibration), inspection.HealthLimits(calibration))
	} else {
		class.note("the bundle has no calibration for this method: there are no verdicts, only scores; 'gladd calibrate' makes one")
	}
	report.Notes = append([]string{}, class.notes...)
	r.Classes[class.Name] = report
	r.order = append(r.order, report)
	return nil
}

// finish computes the mean over the classes.
func (r *Report) finish() {
	var figures []Figures
	for _, class := range r.order {
		figures = append(figures, class.Figures)
	}
	r.Mean = meanFigures(figures)
}

// Unscored is the number of pictures without a score.
func (r *Report) Unscored() int {
	count := 0
	for _, class := range r.order {
		count += class.Unscored
	}
	return count
}

// Each calls a function with every class in the order of the set.
func (r *Report) Each(visit func(*ClassReport)) {
	for _, class := range r.order {
		visit(class)
	}
}

// Named are a class's or the mean's figures with their names, in the order of
// the tables.
func (f Figures) Named() (names []string, values []Fraction) {
	for _, value := range f.all() {
		values = append(values, *value)
	}
	return figureNames, values
}

// String is the figure in percent, as in the tables.
func (f Fraction) String() string {
	if !f.Defined() {
		return "–"
	}
	return fmt.Sprintf("%.1f", 100*math.Round(float64(f)*1e4)/1e4)
}

// write writes metrics.json and report.html.
func (r *Report) write(dir string) error {
	encoded, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	if err := renameio.WriteFile(filepath.Join(dir, MetricsFile), append(encoded, '\n'), 0o644); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	page, err := r.page()
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := renameio.WriteFile(filepath.Join(dir, ReportFile), page, 0o644); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
