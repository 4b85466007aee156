package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"

	"gladd/capture"
	"gladd/daemon/internal/evaluate"
	"gladd/engines"
)

// calibrateCommand is 'gladd calibrate'.
type calibrateCommand struct {
	Bundle        string    `required:"" help:"Folder of the model; its calibrations.yaml gets a new entry." placeholder:"DIR"`
	Good          []string  `required:"" help:"Pictures of good parts that the networks were not trained with: files and folders; no whole sets." placeholder:"DIR"`
	Bad           []string  `help:"Pictures of known bad parts, to be told how many would escape; no threshold is learned from them." placeholder:"DIR"`
	Class         string    `help:"Class of the parts, for a model of several classes: each is calibrated on its own." placeholder:"NAME"`
	FalseReject   float64   `help:"Promised share of good parts that are rejected, at most; ${default} without it." default:"0.01" placeholder:"SHARE"`
	Confidence    float64   `help:"Confidence of the promise; ${default} without it." default:"0.95" placeholder:"SHARE"`
	Gate          string    `help:"The gate threshold: learn it from parts of its own, keep the bundle's, or auto: learn it where there are enough parts." default:"auto" enum:"auto,learn,keep" placeholder:"HOW"`
	OtherSwitches float64   `help:"With --mode adaptive: promised share of parts whose reconstruction begins elsewhere than in mode exact, at most; ${default} without it." default:"0.05" placeholder:"SHARE"`
	GuardBand     float64   `help:"Scores so close to the image threshold are NotDecidable; 0: none are." default:"0" placeholder:"SCORE"`
	Plot          string    `help:"File for the histogram (SVG); without it calibration-ID.svg in the bundle." placeholder:"FILE"`
	DryRun        bool      `help:"Learn and show, but write nothing."`
	Pool          poolFlags `embed:""`
}

// Help is shown below the flags.
func (calibrateCommand) Help() string {
	return `Inspects the good parts and puts the image threshold where the promise holds: at most --false-reject of all good parts score above it, with --confidence. That takes 299 good parts for 1 % at 95 %, 59 for 5 %. The parts must be a fair sample of what the line makes, and none of them may have been used to train the networks.

Exit code: 0 done; 1 a picture gave no score (the threshold is written if enough others did), the work was cut short, or the machine failed (driver, GPU, TensorRT, engines' folder, disk); 2 wrong usage or bundle, or too few parts.`
}

// Run calibrates.
func (c *calibrateCommand) Run(env *environment) error {
	for _, dir := range c.Good {
		if set := evaluate.SetIn(dir); set != "" {
			return fmt.Errorf("--good %s: expected good parts alone, found a set with %s in it: defective parts and masks would count as good; name its folder of good parts, such as %s",
				dir, set, filepath.Join(dir, "train", "good"))
		}
	}
	good, err := capture.FindFiles(c.Good, "")
	if err != nil {
		return err
	}
	bad, err := capture.FindFiles(c.Bad, "")
	if err != nil {
		return err
	}
	if len(c.Pool.Mode.Plans) > 0 {
		return errors.New("--plans: calibration chooses them itself; leave it out")
	}
	bundle, err := engines.Load(c.Bundle)
	if err != nil {
		return err
	}
	if !c.DryRun {
		if err := checkWritable(bundle.Dir); err != nil {
			return err
		}
	}
	pool, done, err := c.Pool.open(env, bundle)
	if err != nil {
		return err
	}
	defer done()
	learned, err := evaluate.Calibrate(env.ctx, evaluate.CalibrateOptions{
		Models:    pool.Models,
		Good:      good,
		Bad:       bad,
		Class:     c.Class,
		Promise:   evaluate.Promise{FalseReject: c.FalseReject, Confidence: c.Confidence},
		Gate:      c.Gate,
		GuardBand: c.GuardBand,

		OtherSwitches: c.OtherSwitches,
		Software:      "gladd " + version,
		Begin:         func(pictures int) { env.progress.begin("inspecting", pictures) },
		Step:          env.progress.step,
		Log:           env.log,
	})
	env.progress.end()
	switch {
	case errors.As(err, &evaluate.UsageError{}):
		return err
	case err != nil:
		return failure{err}
	}
	for _, each := range learned {
		if err := c.print(env, each); err != nil {
			return failure{err}
		}
	}
	if err := c.write(env, bundle, learned); err != nil {
		return failure{err}
	}
	if unscored := learned[0].Unscored; unscored > 0 {
		return failure{fmt.Errorf("pictures that gave no score and were left out: %d; the messages above say why", unscored)}
	}
	return nil
}

// checkWritable makes sure that a file can be written to a folder, before the
// work that shall end there.
func checkWritable(dir string) error {
	file, err := os.CreateTemp(dir, ".gladd-")
	if err != nil {
		return fmt.Errorf("calibrations cannot be written beside the bundle: %w; --dry-run shows them without", err)
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

func (c *calibrateCommand) print(env *environment, learned *evaluate.Calibrated) error {
	out, entry := env.stdout, learned.Entry
	fmt.Fprintf(out, "%s\n", learned.Text())
	fmt.Fprintf(out, "image threshold   %.6g   rank %d of %d good parts, from the highest; %d of them above it\n", entry.ImageThreshold, learned.Rank, len(learned.GoodScores), learned.Rejected)
	fmt.Fprintf(out, "region threshold  %.6g\n", *entry.RegionThreshold)
	gate := "as in bundle.yaml"
	if learned.LearnedGate {
		gate = fmt.Sprintf("learned from %d other good parts", learned.LearningParts)
	}
	fmt.Fprintf(out, "gate threshold    %.6g   %s\n", entry.GateThreshold, gate)
	if learned.Location != nil {
		fmt.Fprintf(out, "maps              standardised per location, by %d other good parts\n", learned.LearningParts)
	}
	if settings := entry.PlanSettings; settings != nil {
		tail := "all steps"
		if settings.Tail != nil {
			tail = fmt.Sprintf("%d steps", *settings.Tail)
		}
		fmt.Fprintf(out, "plan              %s: %.2f comparisons a part, %d probes, %s after a switch at min_step\n", entry.Method.Plan, settings.Agreement.Comparisons, len(settings.Probes), tail)
		fmt.Fprintf(out, "agreement         %d of %d good parts switch elsewhere; at most %.4g %% at %.4g %% confidence\n",
			settings.Agreement.OtherSwitches, settings.Agreement.Parts, 100*settings.Agreement.AtMost, 100*settings.Agreement.Confidence)
		if settings.Agreement.Bad > 0 {
			fmt.Fprintf(out, "                  %d of %d known bad parts do; nothing is promised of them\n", settings.Agreement.OtherSwitchesOfBad, settings.Agreement.Bad)
		}
	}
	promise := evaluate.Promise{FalseReject: c.FalseReject, Confidence: c.Confidence}
	fmt.Fprintf(out, "promise           %s, for parts like these\n", promise)
	if learned.Copies > 0 {
		fmt.Fprintf(out, "left out          pictures that show the same as another: %d\n", learned.Copies)
	}
	if len(learned.BadScores) > 0 {
		fmt.Fprintf(out, "known bad parts   %d of %d would escape\n", learned.Escaped, len(learned.BadScores))
	}
	_, err := fmt.Fprintln(out)
	return err
}

// write writes the entries and their histograms. A bundle whose newest entries
// are those of one run has the best plan last.
func (c *calibrateCommand) write(env *environment, bundle *engines.Bundle, learned []*evaluate.Calibrated) error {
	if c.DryRun {
		_, err := fmt.Fprintln(env.stdout, "nothing was written (--dry-run)")
		return err
	}
	for i, each := range slices.Backward(learned) {
		plot := c.Plot
		if plot == "" || i > 0 {
			plot = filepath.Join(bundle.Dir, "calibration-"+each.Entry.ID+".svg")
		}
		if err := writeCalibration(env, bundle, each, plot); err != nil {
			return err
		}
	}
	adaptive := func(each engines.Calibration) bool {
		return each.ModelDigest == bundle.ModelDigest && each.Method.Mode == engines.ModeAdaptive
	}
	if c.Pool.Mode.Mode == engines.ModeExact && slices.ContainsFunc(bundle.Calibrations, adaptive) {
		fmt.Fprintln(env.stdout, "The calibrations of mode adaptive are older than this one and left out from now on: learn new ones with --mode adaptive.")
	}
	_, err := fmt.Fprintln(env.stdout, "A running gladd takes the new thresholds at its next start.")
	return err
}

func writeCalibration(env *environment, bundle *engines.Bundle, learned *evaluate.Calibrated, plot string) error {
	if location := learned.Location; location != nil {
		mean, std := location.Statistics()
		file, err := engines.WriteLocation(bundle.Dir, learned.Entry.ID, bundle.Manifest.Score.MapSize, mean, std)
		if err != nil {
			return err
		}
		learned.Entry.Location = &file
	}
	if err := engines.AppendCalibration(bundle.Dir, learned.Entry); err != nil {
		return err
	}
	fmt.Fprintf(env.stdout, "calibration %s is in %s\n", learned.Entry.ID, filepath.Join(bundle.Dir, engines.CalibrationsFile))
	if err := renameio.WriteFile(plot, learned.Plot(), 0o644); err != nil {
		return fmt.Errorf("histogram: %w", err)
	}
	_, err := fmt.Fprintf(env.stdout, "histogram: %s\n", plot)
	return err
}
