package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"text/tabwriter"

	"gladd/daemon/internal/app"
	"gladd/daemon/internal/evaluate"
	"gladd/engines"
)

// poolFlags are the flags of every command that inspects many pictures.
type poolFlags struct {
	Engine   engineFlags `embed:""`
	Parallel int         `help:"Pictures inspected side by side; 0: one for each processor where the networks are small, otherwise one." default:"0" placeholder:"N"`
	Mode     modeFlags   `embed:""`
}

// open opens copies of a model; the function closes them.
func (f poolFlags) open(env *environment, bundle *engines.Bundle) (*app.Pool, func(), error) {
	pool, err := app.OpenPool(env.ctx, app.PoolOptions{
		Engines:  f.Engine.options(env),
		Parallel: f.Parallel,
		Bundle:   bundle,
		Mode:     f.Mode.Mode,
		Plans:    f.Mode.Plans,
		Log:      env.log,
	})
	if errors.Is(err, context.Canceled) {
		return nil, nil, failure{fmt.Errorf("stopped before the first picture: %w", err)}
	}
	if err != nil {
		return nil, nil, err
	}
	return pool, closing(env, pool), nil
}

// evalCommand is 'gladd eval'.
type evalCommand struct {
	Bundle string    `required:"" help:"Folder of the model." placeholder:"DIR"`
	Data   string    `required:"" help:"Labelled set: a class folder (MVTec AD, MPDD, PCB-Bank), a folder of such, or VisA's." placeholder:"DIR"`
	Out    string    `required:"" help:"Folder for metrics.json, report.html and the results; one that was begun is gone on with." placeholder:"DIR"`
	Class  string    `help:"Class of all parts, for a model of several classes; without it each class folder's own name." placeholder:"NAME"`
	Pool   poolFlags `embed:""`
}

// Help is shown below the flags.
func (evalCommand) Help() string {
	return `Inspects all test pictures and prints the figures of the field's tables in percent, for each class and their mean. metrics.json has them as fractions, with what the calibrated threshold makes of the parts; report.html shows curves, histograms and the worst parts.

Exit code: 0 done; 1 a picture gave no score, the work was cut short, or the machine failed (driver, GPU, TensorRT, engines' folder, disk); 2 wrong usage, bundle or data.`
}

// Run evaluates.
func (c *evalCommand) Run(env *environment) error {
	classes, err := evaluate.FindClasses(c.Data)
	if err != nil {
		return err
	}
	bundle, err := engines.Load(c.Bundle)
	if err != nil {
		return err
	}
	pool, done, err := c.Pool.open(env, bundle)
	if err != nil {
		return err
	}
	defer done()
	report, err := evaluate.Run(env.ctx, evaluate.Options{
		Models:  pool.Models,
		Classes: classes,
		Class:   c.Class,
		Out:     c.Out,
		Begin:   func(pictures int) { env.progress.begin("inspecting", pictures) },
		Step:    env.progress.step,
		Log:     env.log,
	})
	env.progress.end()
	switch {
	case errors.As(err, &evaluate.UsageError{}):
		return err
	case err != nil:
		return failure{err}
	}
	if err := c.print(env, report); err != nil {
		return failure{err}
	}
	if unscored := report.Unscored(); unscored > 0 {
		return failure{fmt.Errorf("pictures that gave no score and are in no figure: %d; the messages above say why", unscored)}
	}
	return nil
}

// print writes the table.
func (c *evalCommand) print(env *environment, report *evaluate.Report) error {
	table := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, cells ...any) {
		fmt.Fprintf(table, "%s\t", name)
		for _, cell := range cells {
			fmt.Fprintf(table, "%v\t", cell)
		}
		fmt.Fprintln(table)
	}
	figures := func(name string, figures evaluate.Figures) {
		var cells []any
		_, values := figures.Named()
		for _, value := range values {
			cells = append(cells, value)
		}
		row(name, cells...)
	}
	names, _ := report.Mean.Named()
	var heads []any
	for _, name := range names {
		heads = append(heads, name)
	}
	row("in %", heads...)
	report.Each(func(class *evaluate.ClassReport) { figures(class.Name, class.Figures) })
	figures("mean", report.Mean)
	if err := table.Flush(); err != nil {
		return err
	}
	report.Each(func(class *evaluate.ClassReport) {
		if interval := class.ImageAUROC95; interval[0].Defined() {
			fmt.Fprintf(env.stdout, "\n%s: I-AUROC %v, 95 %% interval %v to %v (%d good parts, %d defective)\n",
				class.Name, class.ImageAUROC, interval[0], interval[1], class.Good, class.Defective)
		}
		if at := class.AtThreshold; at != nil {
			fmt.Fprintf(env.stdout, "\n%s at the image threshold %.4g: %d of %d good parts rejected, %d of %d defective parts escaped\n",
				class.Name, at.ImageThreshold, at.FalseRejects.Count, at.FalseRejects.Of, at.Escapes.Count, at.Escapes.Of)
		}
		for _, note := range class.Notes {
			env.log.Warn(note, "class", class.Name)
		}
	})
	_, err := fmt.Fprintf(env.stdout, "\n%s\n", filepath.Join(c.Out, evaluate.ReportFile))
	return err
}
