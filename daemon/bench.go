package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/renameio/v2"

	"gladd/daemon/internal/bench"
	"gladd/daemon/internal/evaluate"
	"gladd/daemon/internal/verdict"
	"gladd/engines"
)

// benchCommand is 'gladd bench'.
type benchCommand struct {
	Bundle string      `required:"" help:"Folder of the model." placeholder:"DIR"`
	Data   string      `required:"" help:"Labelled set of one class, as for gladd eval." placeholder:"DIR"`
	Class  string      `help:"Class of the parts, for a model of several classes." placeholder:"NAME"`
	Count  int         `help:"Parts to inspect by every plan, good and defective ones as the set has them; 0: all." default:"0" placeholder:"N"`
	Parts  int         `help:"Parts that come at each load and number of stations; 0: these are left out." default:"40" placeholder:"N"`
	Plans  []string    `help:"Plans to hold against exact; without it those that the bundle is calibrated for." placeholder:"LIST"`
	Chunk  int         `help:"Hold exact with so many comparisons in a call against it, too; 0: do not." default:"0" placeholder:"N"`
	JSON   string      `name:"json" help:"Write all figures there." placeholder:"FILE"`
	SVG    string      `name:"svg" help:"Write a plot of the costs there." placeholder:"FILE"`
	Engine engineFlags `embed:""`
}

// Help is shown below the flags.
func (benchCommand) Help() string {
	return `Inspects each part by every plan, in turn forwards and backwards, and prints what a part costs by stage and what a plan changes: switches, scores, verdicts, AUROC. Then: calls for several parts at once, waiting times of parts that come at random at 50, 80 and 95 % of the capacity, and stations that share the networks. Nothing else should run on the machine.

Exit code: 0 done; 1 a picture gave no score, the work was cut short, or the machine failed (driver, GPU, TensorRT, engines' folder, disk); 2 wrong usage, bundle or data.`
}

// Run measures.
func (c *benchCommand) Run(env *environment) error {
	classes, err := evaluate.FindClasses(c.Data)
	if err != nil {
		return err
	}
	if len(classes) != 1 {
		return fmt.Errorf("%s: expected the set of one class, found %d: name the folder of one of them", c.Data, len(classes))
	}
	if c.Parts < 0 || c.Count < 0 {
		return errors.New("--parts and --count: expected at least 0")
	}
	classes[0].Pictures = spread(classes[0].Pictures, c.Count)
	bundle, err := engines.Load(c.Bundle)
	if err != nil {
		return err
	}
	index, err := bundle.Manifest.Class(c.Class)
	if err != nil {
		return err
	}
	if _, err := engines.PlansOf(engines.ModeAdaptive, c.Plans); err != nil {
		return err
	}
	opened, done, err := c.Engine.open(env)
	if err != nil {
		return err
	}
	defer done()
	options := bench.Options{
		Class: classes[0], Index: index, Parts: c.Parts, Software: "gladd " + version,
		Begin: func(what string, count int) { env.progress.end(); env.progress.begin(what, count) },
		Step:  env.progress.step,
	}
	open := func(plan string) (bench.Plan, error) {
		mode := engines.ModeAdaptive
		if plan == engines.PlanExact {
			mode = engines.ModeExact
		}
		model, err := opened.OpenModel(env.ctx, bundle, mode, plan)
		return bench.Plan{Name: plan, Model: model}, err
	}
	options.Again = func(plan bench.Plan) (bench.Plan, error) {
		another, err := open(plan.Model.Method.Plan)
		if err == nil && plan.Chunk > 0 {
			another.Model.Inspector.CompareInChunks(plan.Chunk)
		}
		return another, err
	}
	plans := slices.DeleteFunc(c.Plans, func(plan string) bool { return plan == engines.PlanExact })
	if len(c.Plans) == 0 {
		plans = []string{engines.PlanLatestFirst, engines.PlanShortTail}
	}
	for _, name := range append([]string{engines.PlanExact}, plans...) {
		plan, err := open(name)
		if err != nil {
			return err
		}
		if plan.Model.Method.Plan != name {
			if slices.Contains(c.Plans, name) {
				return fmt.Errorf("bundle %s has no calibration for plan %s; learn one: gladd calibrate --mode adaptive", bundle.Manifest.Name, name)
			}
			continue
		}
		if err := plan.Model.CheckSelf(env.ctx, index); err != nil {
			return fmt.Errorf("self-test, plan %s: %w", name, err)
		}
		options.Networks = opened.Networks(bundle)
		options.Plans = append(options.Plans, plan)
	}
	if c.Chunk > 1 {
		plan, err := open(engines.PlanExact)
		if err != nil {
			return err
		}
		if err := plan.Model.CheckSelf(env.ctx, index); err != nil {
			return err
		}
		plan.Name, plan.Chunk = fmt.Sprintf("exact, %d a call", c.Chunk), c.Chunk
		options.Plans[0].Chunk = 1
		options.Plans = append(options.Plans, plan)
		for _, each := range []bench.Plan{options.Plans[0], plan} {
			each.Model.Inspector.CompareInChunks(each.Chunk)
		}
	}
	report, err := bench.Run(env.ctx, options)
	env.progress.end()
	if err != nil {
		return failure{err}
	}
	return c.write(env, report)
}

func (c *benchCommand) write(env *environment, report *bench.Report) error {
	if err := report.Write(env.stdout); err != nil {
		return failure{err}
	}
	if c.JSON != "" {
		content, err := verdict.JSON(report)
		if err != nil {
			return failure{err}
		}
		if err := renameio.WriteFile(c.JSON, append(content, '\n'), 0o644); err != nil {
			return failure{err}
		}
	}
	if c.SVG != "" {
		if err := renameio.WriteFile(c.SVG, report.Plot(), 0o644); err != nil {
			return failure{err}
		}
	}
	return nil
}

// spread picks count of the pictures evenly; 0 or more than there are: all.
func spread(pictures []evaluate.Picture, count int) []evaluate.Picture {
	if count == 0 || count >= len(pictures) {
		return pictures
	}
	some := make([]evaluate.Picture, count)
	for i := range some {
		some[i] = pictures[i*len(pictures)/count]
	}
	return some
}
