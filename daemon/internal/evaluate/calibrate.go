package evaluate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"gladd/capture"
	"gladd/daemon/internal/inspection"
	"gladd/engines"
	"gladd/pipeline"
)

// The ways to come to a gate threshold.
const (
	// GateAuto learns it from parts of its own where there are enough, and
	// keeps the bundle's where not.
	GateAuto = "auto"
	// GateLearn learns it, or refuses.
	GateLearn = "learn"
	// GateKeep keeps the bundle's.
	GateKeep = "keep"
)

const (
	// learningParts is the least number of good parts to learn the gate threshold
	// or the statistics of maps from.
	learningParts = 30
	// gateQuantile of the highest gate scores of good parts is the gate
	// threshold: a few good parts may switch early, which does them no harm,
	// while each defective part that does is reconstructed from more noise.
	gateQuantile = 0.97
	// worthPromising is the highest share of false rejects that is worth a word.
	worthPromising = 0.2
)

// CalibrateOptions of a calibration.
type CalibrateOptions struct {
	// Models are copies of one model; each is used by one goroutine at a time.
	Models []*inspection.Model
	Good   []capture.File
	Bad    []capture.File // known bad parts, to be told what escapes; may be empty
	Class  string         // of the parts, for a bundle of several

	Promise   Promise
	Gate      string
	GuardBand float64
	// OtherSwitches is the promised share of parts that switch elsewhere under
	// mode adaptive than under exact, with the promise's confidence.
	OtherSwitches float64
	Software      string

	class int // its index

	Begin func(pictures int)
	Step  func()
	Log   *slog.Logger
}

// Calibrated is what a calibration learned for one plan.
type Calibrated struct {
	Entry engines.Calibration
	// GoodScores are those that the image threshold was learned from, BadScores
	// those of known bad parts.
	GoodScores, BadScores []float64
	Rank                  int  // of the image threshold among GoodScores, from the highest
	LearningParts         int  // other good parts, that the gate threshold and the statistics of maps were learned from
	LearnedGate           bool // the gate threshold was learned, not kept
	Copies                int  // pictures that show the same as another
	Unscored              int  // pictures without a score
	Rejected, Escaped     int  // good and bad parts above and below the threshold
	// Location holds the statistics of good parts' maps; nil where the bundle
	// asks for none.
	Location *pipeline.Location
}

// Calibrate learns thresholds. The image threshold and the region threshold are
// order statistics of the scores and of the maps' peaks of good parts, which
// must be independent of the networks' training. The gate threshold and, where
// the bundle asks for them, the statistics of good parts' maps decide how a part
// is scored, so they are learned from other good parts, drawn by the digest of
// their pictures (the gate threshold may be kept instead): then the scores are
// independent and the promise holds exactly.
//
// In mode exact there is one entry, in mode adaptive one for each plan that
// qualifies, the quickest first: each has thresholds of its own.
func Calibrate(ctx context.Context, options CalibrateOptions) ([]*Calibrated, error) {
	if err := options.Promise.check(); err != nil {
		return nil, UsageError{err}
	}
	if math.IsNaN(options.GuardBand) || math.IsInf(options.GuardBand, 0) || options.GuardBand < 0 {
		return nil, UsageError{fmt.Errorf("guard band: expected a number of at least 0, found %v", options.GuardBand)}
	}
	model := options.Models[0]
	class, err := model.Bundle.Manifest.Class(options.Class)
	if err != nil {
		return nil, UsageError{err}
	}
	options.class = class
	done := &Calibrated{}
	good, err := distinct(ctx, options, options.Good, nil)
	if err != nil {
		return nil, err
	}
	bad, err := distinct(ctx, options, options.Bad, good)
	if err != nil {
		return nil, err
	}
	done.Copies = len(options.Good) + len(options.Bad) - len(good) - len(bad)
	adaptive := model.Bundle.Manifest.Denoise.Threshold > 0
	standardise := model.Bundle.Manifest.Score.Standardise == engines.StandardiseLocation
	planned := model.Mode == engines.ModeAdaptive && adaptive
	agreed := Promise{FalseReject: options.OtherSwitches, Confidence: options.Promise.Confidence}
	if planned {
		if err := agreed.check(); err != nil {
			return nil, UsageError{fmt.Errorf("other switches: %w", err)}
		}
	}
	if done.LearningParts, done.LearnedGate, err = planLearning(options, len(good), adaptive, standardise, planned); err != nil {
		return nil, UsageError{err}
	}

	options.Begin(len(good) + len(bad))
	learning, judged := good[:done.LearningParts], good[done.LearningParts:]
	entry := &done.Entry
	entry.ModelDigest, entry.Class = model.Bundle.ModelDigest, options.Class
	entry.Method = engines.MethodOf(model.Runtime, engines.PlanExact)
	entry.GateThreshold = model.Bundle.Manifest.Denoise.Threshold

	learns := learner{options: options, adaptive: adaptive, location: &pipeline.Location{}}
	if learning, err = learns.inspect(ctx, learning, done); err != nil {
		return nil, err
	}
	if done.LearnedGate {
		entry.GateThreshold = gateThreshold(learning)
	}
	if err := learns.again(ctx, learning, entry.GateThreshold); err != nil {
		return nil, err
	}
	if standardise {
		if learns.location, err = learnLocation(learning); err != nil {
			return nil, err
		}
		done.Location = learns.location
	}
	if bad, err = learns.inspect(ctx, bad, done); err != nil {
		return nil, err
	}
	if judged, err = learns.inspect(ctx, judged, done); err != nil {
		return nil, err
	}
	if needed := options.Promise.PartsNeeded(); len(judged) < needed {
		return nil, fmt.Errorf("%d pictures gave no score, and without them %d good parts are left; %s needs %d", done.Unscored, len(judged), options.Promise, needed)
	}
	entry.GateCurves = gateCurves(slices.Concat(learning, judged))
	entry.LearnedFrom = map[string]any{
		"good": len(judged), "gate_good": 0, "bad": len(bad), "pictures_digest": digestOf(slices.Concat(learning, judged)),
		"at": time.Now().UTC().Format(time.RFC3339), "software": options.Software,
	}
	if done.LearnedGate {
		entry.LearnedFrom["gate_good"] = len(learning)
	}
	if standardise {
		entry.LearnedFrom["location_good"] = len(learning)
	}
	done.LearningParts = len(learning)
	settings := []*engines.PlanSettings{nil}
	if planned {
		if settings, err = learns.choosePlans(ctx, entry.GateThreshold, learning, judged, bad, agreed); err != nil {
			return nil, err
		}
	}
	var all []*Calibrated
	// The plan with the whole tail comes first: what does not switch under it keeps
	// the outcome that it has (see again).
	for _, each := range settings {
		next, err := learns.under(ctx, *done, each, judged, bad)
		if err != nil {
			return nil, err
		}
		all = append(all, next)
	}
	slices.Reverse(all)
	return all, nil
}

// under learns the thresholds of one plan; nil: comparisons in order.
func (l *learner) under(ctx context.Context, done Calibrated, settings *engines.PlanSettings, judged, bad []*sample) (*Calibrated, error) {
	entry, model := &done.Entry, l.options.Models[0]
	entry.ID, entry.PlanSettings = ulid.Make().String(), settings
	if settings != nil {
		entry.Method = engines.MethodOf(model.Runtime, engines.PlanLatestFirst)
		if settings.Tail != nil {
			entry.Method.Plan = engines.PlanShortTail
		}
	}
	l.plan = inspection.Plan(entry)
	if err := l.again(ctx, slices.Concat(judged, bad), entry.GateThreshold); err != nil {
		return nil, err
	}
	done.learn(l.options, judged, bad)
	return &done, done.referenceSelfTest(ctx, model, l.options.class)
}

// planLearning says how many good parts learn what decides a score, the gate
// threshold and the statistics of maps, and whether the former is learned. It
// refuses when too few are left to keep the promise.
func planLearning(options CalibrateOptions, good int, adaptive, standardise, planned bool) (learning int, gate bool, err error) {
	needed := options.Promise.PartsNeeded()
	spare := good - needed
	gate = adaptive && (options.Gate == GateLearn || options.Gate == GateAuto && spare >= learningParts)
	share := 4
	what := "to learn the gate threshold"
	if planned {
		what = "to choose the plan of comparisons (--mode adaptive)"
	}
	if standardise {
		// Each place of the map has its own figures to learn.
		share = 2
		what = "to learn how the maps of good parts run (score.standardise: location)"
	}
	if gate || standardise || planned {
		learning = max(learningParts, spare/share)
	}
	if good-learning >= needed {
		return learning, gate, nil
	}
	total := needed
	err = fmt.Errorf("%s needs %d distinct good parts that the networks were not trained with", options.Promise, needed)
	if learning > 0 {
		total = needed + learningParts
		err = fmt.Errorf("%w, and %d more %s", err, learningParts, what)
	}
	err = fmt.Errorf("%w; found %d: %d are missing", err, good, total-good)
	// What these parts could promise: the rate whose need they just meet.
	if left := good - learning; left > 0 {
		possible := -math.Expm1(math.Log1p(-options.Promise.Confidence) / float64(left))
		if possible <= worthPromising {
			err = fmt.Errorf("%w. With these, --false-reject %.3g is possible", err, math.Ceil(possible*1000)/1000)
		}
	}
	if gate && options.Gate == GateLearn && !standardise && !planned && good >= needed {
		err = fmt.Errorf("%w. With --gate keep they are enough", err)
	}
	return 0, false, err
}

// gateThreshold is the quantile of the highest gate scores.
func gateThreshold(samples []*sample) float64 {
	var highest []float64
	for _, each := range samples {
		highest = append(highest, each.highestGate())
	}
	slices.Sort(highest)
	return highest[min(int(math.Ceil(gateQuantile*float64(len(highest)+1))), len(highest))-1]
}

// learn fills the thresholds and limits.
func (c *Calibrated) learn(options CalibrateOptions, judged, bad []*sample) {
	var peaks []float64
	var health []capture.Health
	for _, each := range judged {
		c.GoodScores = append(c.GoodScores, each.outcome.Result.Score)
		peaks = append(peaks, each.peak)
		health = append(health, each.health)
	}
	entry := &c.Entry
	entry.ImageThreshold, c.Rank = options.Promise.threshold(c.GoodScores)
	region, _ := options.Promise.threshold(peaks)
	entry.RegionThreshold = &region
	entry.GuardBand = options.GuardBand
	limits := capture.LearnHealthLimits(health)
	entry.ImageHealth = &engines.ImageHealth{
		Brightness: engines.Limits(limits.Brightness), Contrast: engines.Limits(limits.Contrast),
		Sharpness: engines.Limits(limits.Sharpness), Clipped: engines.Limits(limits.Clipped),
	}
	for _, each := range bad {
		c.BadScores = append(c.BadScores, each.outcome.Result.Score)
		if each.outcome.Result.Score <= entry.ImageThreshold {
			c.Escaped++
		}
	}
	for _, score := range c.GoodScores {
		if score > entry.ImageThreshold {
			c.Rejected++
		}
	}
	entry.Promise = map[string]any{
		"false_reject": options.Promise.FalseReject, "confidence": options.Promise.Confidence,
		"method": "order-statistic", "parts": len(judged), "rank": c.Rank,
	}
	if len(bad) > 0 {
		entry.Promise["escapes_seen"] = fmt.Sprintf("%d of %d", c.Escaped, len(bad))
	}
}

// gateCurves describes how gate scores run; nil: nothing was compared.
func gateCurves(samples []*sample) *engines.GateCurves {
	if len(samples) == 0 || len(samples[0].curve) == 0 {
		return nil
	}
	curves := &engines.GateCurves{Parts: len(samples)}
	byStep := make([][]float64, len(samples[0].curve))
	var overhangs []float64
	steps, rising, lastHighest := 0, 0, 0
	for _, each := range samples {
		gate := each.curve
		for i, point := range gate {
			byStep[i] = append(byStep[i], point.Score)
			if i > 0 {
				steps++
				if point.Score >= gate[i-1].Score {
					rising++
				}
			}
		}
		overhang := each.highestGate() - gate[len(gate)-1].Score
		overhangs = append(overhangs, overhang)
		if overhang == 0 {
			lastHighest++
		}
	}
	for i, scores := range byStep {
		slices.Sort(scores)
		curves.Timesteps = append(curves.Timesteps, samples[0].curve[i].Timestep)
		curves.Median = append(curves.Median, scores[len(scores)/2])
		curves.Highest = append(curves.Highest, scores[len(scores)-1])
	}
	slices.Sort(overhangs)
	if curves.Rising = 1; steps > 0 {
		curves.Rising = float64(rising) / float64(steps)
	}
	curves.LastHighest = float64(lastHighest) / float64(len(samples))
	curves.LargestOverhang = overhangs[len(overhangs)-1]
	curves.Overhang95 = overhangs[int(math.Ceil(0.95*float64(len(overhangs))))-1]
	return curves
}

// referenceSelfTest notes what the self-test gives under the new gate
// threshold.
func (c *Calibrated) referenceSelfTest(ctx context.Context, model *inspection.Model, class int) error {
	plan := inspection.Plan(&c.Entry)
	outcome := model.SelfTest(ctx, class, &c.Entry.GateThreshold, c.Location, &plan)
	if !outcome.Scored {
		return errors.New("self-test: " + outcome.Reason.Detail)
	}
	result := outcome.Result
	c.Entry.SelfTest = &engines.SelfTest{Score: result.Score, SwitchTimestep: result.SwitchTimestep, SwitchReason: result.SwitchReason}
	for _, gate := range result.Gate {
		c.Entry.SelfTest.Gate = append(c.Entry.SelfTest.Gate, engines.GatePoint(gate))
	}
	return nil
}
