package evaluate

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"gladd/capture"
	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/verdict"
)

// Options of an evaluation.
type Options struct {
	// Models are copies of one model; each is used by one goroutine at a time.
	Models  []*inspection.Model
	Classes []Class
	// Class of all parts, for a bundle of several; empty: each set's own name.
	Class string
	// Out takes results, metrics.json and report.html.
	Out string
	// Begin is called with the number of pictures still to inspect, Step after
	// each.
	Begin func(pictures int)
	Step  func()
	Log   *slog.Logger
}

// UsageError is an error before the first inspection, which the user can mend.
type UsageError struct{ error }

// Unwrap returns the cause.
func (e UsageError) Unwrap() error { return e.error }

// classRun is one class while it is evaluated.
type classRun struct {
	Class
	index   int // of the bundle's classes
	results []*Result
	masked  []bool // by picture: it has a mask that can be read
	notes   []string
}

// Run evaluates a labelled set. Pictures that cannot be inspected are left out
// of the figures, and said so. What is in the results' folder already is not
// inspected again.
func Run(ctx context.Context, options Options) (*Report, error) {
	model := options.Models[0]
	classes, err := begin(options)
	if err != nil {
		return nil, UsageError{err}
	}
	gates, locations := learned(model)
	results, err := openStore(options.Out, method{
		Schema: methodSchema, ModelDigest: model.Bundle.ModelDigest, Method: model.Method,
		Class: options.Class, Gates: gates, Locations: locations,
	})
	if err != nil {
		return nil, UsageError{err}
	}
	if err := checkMasks(ctx, classes, model.Parameters.Score.MapSize); err != nil {
		return nil, err
	}
	if err := inspectAll(ctx, options, classes, results); err != nil {
		return nil, err
	}
	report := newReport(model)
	for _, class := range classes {
		if err := report.add(class, results, model); err != nil {
			return nil, err
		}
	}
	report.finish()
	if err := report.drawWorst(ctx, model, classes); err != nil {
		return nil, err
	}
	return report, report.write(options.Out)
}

// learned tells what calibration learned that decides scores.
func learned(model *inspection.Model) (gates, locations string) {
	for class, calibration := range model.Calibrations {
		location := "none"
		if calibration != nil && calibration.Location != nil {
			location = calibration.Location.SHA256
		}
		gates += fmt.Sprintf("%v ", model.GateThreshold(class))
		locations += location + " "
	}
	return strings.TrimSpace(gates), strings.TrimSpace(locations)
}

func begin(options Options) ([]*classRun, error) {
	manifest := options.Models[0].Bundle.Manifest
	var classes []*classRun
	for _, class := range options.Classes {
		name := options.Class
		if name == "" && len(manifest.Classes) > 0 {
			name = class.Name
		}
		index, err := manifest.Class(name)
		if err != nil {
			return nil, err
		}
		classes = append(classes, &classRun{
			Class: class, index: index,
			results: make([]*Result, len(class.Pictures)), masked: make([]bool, len(class.Pictures)),
		})
	}
	return classes, nil
}

// checkMasks reads every mask once, so that what is wrong is known before
// hours of inspections.
func checkMasks(ctx context.Context, classes []*classRun, size int) error {
	for _, class := range classes {
		missing, empty := 0, 0
		var unreadable []string
		var noting sync.Mutex
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(runtime.GOMAXPROCS(0))
		for i, picture := range class.Pictures {
			if picture.Good() {
				continue
			}
			if picture.Mask == "" {
				missing++
				continue
			}
			group.Go(func() error {
				mask, err := readMask(picture.Mask, picture.MaskAbove, size)
				noting.Lock()
				defer noting.Unlock()
				switch {
				case err != nil:
					unreadable = append(unreadable, err.Error())
				case !slices.Contains(mask, true):
					empty++
					class.masked[i] = true
				default:
					class.masked[i] = true
				}
				return ctx.Err()
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		slices.Sort(unreadable)
		defective := 0
		for _, picture := range class.Pictures {
			if !picture.Good() {
				defective++
			}
		}
		switch {
		case defective == 0:
			class.note("no defective pictures: there are no figures but the scores")
		case missing == defective:
			class.note("no masks (expected ground_truth/<defect>/<name>_mask.png): there are no figures of pixels")
		case missing > 0:
			class.note("%d of %d defective pictures have no mask and are left out of the figures of pixels", missing, defective)
		}
		if defective == len(class.Pictures) {
			class.note("no good pictures (expected test/good): there are no figures of images")
		}
		if empty > 0 {
			class.note("masks that mark no pixel at the map's size: %d", empty)
		}
		for _, each := range unreadable {
			class.note("%s; the picture is left out of the figures of pixels", each)
		}
	}
	return nil
}

func (c *classRun) note(format string, arguments ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, arguments...))
}

// inspectAll inspects what has no result yet.
func inspectAll(ctx context.Context, options Options, classes []*classRun, results *store) error {
	type task struct {
		class   *classRun
		picture int
	}
	var tasks []task
	for _, class := range classes {
		for i, picture := range class.Pictures {
			result, err := results.find(class.Name, picture)
			if err != nil {
				return err
			}
			if class.results[i] = result; result == nil {
				tasks = append(tasks, task{class, i})
			}
		}
	}
	options.Begin(len(tasks))
	err := each(ctx, options.Models, len(tasks), func(model *inspection.Model, i int) error {
		class, picture := tasks[i].class, tasks[i].class.Pictures[tasks[i].picture]
		outcome := inspectFile(ctx, model, picture.Path, class.index)
		if ctx.Err() != nil {
			return ctx.Err() // what was cut short is no result
		}
		if !outcome.Scored {
			options.Log.Error("inspection failed", "picture", picture.Path, "reason", outcome.Reason.Code, "error", outcome.Reason.Detail)
		}
		result, err := results.add(class.Name, picture, outcome)
		class.results[tasks[i].picture] = result
		return err
	}, options.Step)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("stopped; the same command goes on from here: %w", ctx.Err())
	}
	return err
}

// each calls work for every number below count, one goroutine a model. Step is
// called after each, never twice at a time.
func each(ctx context.Context, models []*inspection.Model, count int, work func(*inspection.Model, int) error, step func()) error {
	group, ctx := errgroup.WithContext(ctx)
	numbers := make(chan int)
	group.Go(func() error {
		defer close(numbers)
		for i := range count {
			select {
			case numbers <- i:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	var stepping sync.Mutex
	for _, model := range models {
		group.Go(func() error {
			for i := range numbers {
				if err := work(model, i); err != nil {
					return err
				}
				stepping.Lock()
				step()
				stepping.Unlock()
			}
			return nil
		})
	}
	return group.Wait()
}

// inspectFile inspects a picture file.
func inspectFile(ctx context.Context, model *inspection.Model, path string, class int) inspection.Outcome {
	picture, err := capture.ReadPicture(path, 0)
	if err != nil {
		return inspection.Undefined(verdict.ReasonCamera, err.Error())
	}
	// The figures are those of all pictures; the limits of image health are
	// applied with the thresholds.
	return model.Inspector.Inspect(ctx, inspection.Part{Picture: picture, Class: class, AnyHealth: true})
}

// measure computes the figures of a class.
func (c *classRun) measure(results *store, size int) (Figures, []RatePoint, error) {
	var pictures []scoredMap
	for i, picture := range c.Pictures {
		result := c.results[i]
		if result.Score == nil {
			continue
		}
		scored := scoredMap{
			defective: !picture.Good(),
			score:     *result.Score,
			read:      func() ([]float32, error) { return results.anomalyMap(c.Name, picture, size) },
		}
		if c.masked[i] {
			scored.mask = func() ([]bool, error) { return readMask(picture.Mask, picture.MaskAbove, size) }
		}
		pictures = append(pictures, scored)
	}
	return measure(pictures, size)
}

// decide applies thresholds to the results; pictures beyond the limits of image
// health are Undefined.
func (c *classRun) decide(thresholds verdict.Thresholds, health *capture.HealthLimits) *Decisions {
	decisions := &Decisions{ImageThreshold: thresholds.Image, GuardBand: thresholds.GuardBand}
	kinds := map[string]*KindDecisions{}
	highest := math.Inf(-1)
	for i, picture := range c.Pictures {
		kind := kinds[picture.Kind]
		if kind == nil {
			kind = &KindDecisions{Kind: picture.Kind}
			kinds[picture.Kind] = kind
		}
		kind.Pictures++
		evaluation := verdict.Undefined
		if score := c.results[i].Score; score != nil {
			highest = max(highest, *score)
			if health == nil || health.Check(c.results[i].Health) == nil {
				evaluation, _ = verdict.Evaluate(*score, thresholds)
			}
		}
		switch evaluation {
		case verdict.OK:
			kind.OK++
		case verdict.NotOK:
			kind.NotOK++
		case verdict.NotDecidable:
			kind.NotDecidable++
		default:
			kind.Undefined++
		}
		if evaluation == verdict.Undefined {
			continue
		}
		share, counted := &decisions.Escapes, evaluation == verdict.OK
		if picture.Good() {
			share, counted = &decisions.FalseRejects, evaluation == verdict.NotOK
		}
		share.Of++
		if counted {
			share.Count++
		}
	}
	for _, kind := range kinds {
		decisions.Kinds = append(decisions.Kinds, *kind)
	}
	slices.SortFunc(decisions.Kinds, func(a, b KindDecisions) int {
		if (a.Kind == GoodKind) != (b.Kind == GoodKind) {
			if a.Kind == GoodKind {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Kind, b.Kind)
	})
	decisions.FalseRejects.finish()
	decisions.Escapes.finish()
	if highest < thresholds.Image {
		c.note("the image threshold, %.4g, is above all scores, the highest of which is %.4g: every part reads OK", thresholds.Image, highest)
	}
	return decisions
}
