package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"gladd/configs"
	"gladd/daemon/internal/app"
	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/replay"
	"gladd/daemon/internal/verdict"
)

// replayCommand is 'gladd replay'.
type replayCommand struct {
	ResultIDs []string    `arg:"" optional:"" name:"RESULT_ID" help:"Results to inspect again, as in verdicts."`
	Range     rangeFlags  `embed:""`
	Config    string      `help:"The daemon's configuration: names ledger, pictures, bundles and threads." placeholder:"FILE"`
	Ledger    string      `help:"A ledger without its configuration, such as a copy; needs --bundle." placeholder:"FILE"`
	Images    string      `help:"Folder of the ledger's pictures, if not 'images' beside it." placeholder:"DIR"`
	Bundle    string      `help:"Inspect with this model, instead of the one that each result was made with." placeholder:"DIR"`
	Class     string      `help:"Class of the parts, for a model of several classes." placeholder:"NAME"`
	Format    string      `help:"What goes to stdout for each part: json, or text for people." default:"text" enum:"json,text" placeholder:"NAME"`
	Engine    engineFlags `embed:""`
	Mode      string      `help:"With another model: how GLAD is computed, exact or adaptive. With its own, a part is inspected by the plan that its record names." default:"exact" enum:"exact,adaptive" placeholder:"NAME"`
}

// Help is shown below the flags.
func (replayCommand) Help() string {
	return `Inspects recorded parts again and shows what was found then and now. Under the same bundle and calibration, backend and number of threads, a score is the same to the last bit. Pictures must have been kept (ledger.images). It only reads: the daemon may run meanwhile.

Exit code: 0 done, whatever differs; 1 a part could not be replayed, or the machine failed (driver, GPU, TensorRT, engines' folder, disk); 2 wrong usage, configuration or bundle, or no such result.`
}

// Run replays.
func (c *replayCommand) Run(env *environment) error {
	query, err := c.query(time.Now())
	if err != nil {
		return err
	}
	var config *configs.Config
	if c.Config != "" {
		if config, err = configs.Load(c.Config); err != nil {
			return err
		}
	}
	if err := c.complete(config); err != nil {
		return err
	}
	results, err := c.read(env.ctx, query)
	if err != nil {
		return err
	}
	models, err := app.OpenReplay(env.ctx, app.ReplayOptions{
		Config: config, Bundle: c.Bundle, Class: c.Class, Mode: c.Mode, Engines: c.Engine.options(env), Log: env.log,
	})
	if err != nil {
		return err
	}
	defer closing(env, models)()
	env.progress.begin("inspecting", len(results))
	summary, err := replay.Run(env.ctx, replay.Options{
		Results:   results,
		ImagesDir: c.Images,
		Open: func(record *verdict.Record) (*inspection.Model, int, error) {
			return models.For(env.ctx, record)
		},
		Done: func(comparison replay.Comparison) error {
			defer env.progress.step()
			return c.print(env, comparison)
		},
	})
	env.progress.end()
	if err != nil {
		return failure{err}
	}
	env.log.Info("done", "parts", summary.Parts, "identical", summary.Identical, "evaluation_changed", summary.Changed, "not_replayed", summary.Problems)
	if summary.Problems > 0 {
		return failure{fmt.Errorf("%d of %d parts could not be replayed; their lines say why", summary.Problems, summary.Parts)}
	}
	return nil
}

// query says which results are wanted.
func (c *replayCommand) query(now time.Time) (ledger.Query, error) {
	query, err := c.Range.query(now)
	if err == nil && len(c.ResultIDs) == 0 && c.Range.Since == "" {
		err = errors.New("which parts? Name results, or a time with --since")
	}
	query.ResultIDs = c.ResultIDs
	return query, err
}

// complete finds ledger, pictures and engines where only the configuration
// names them.
func (c *replayCommand) complete(config *configs.Config) error {
	switch {
	case config == nil && (c.Ledger == "" || c.Bundle == ""):
		return errors.New("where are the parts? Name the daemon's configuration with --config, or a ledger with --ledger and a model with --bundle")
	case config != nil && c.Ledger == "":
		c.Ledger = config.Ledger.Path
		if c.Images == "" {
			c.Images = config.Ledger.Images.Dir
		}
	}
	if c.Images == "" {
		c.Images = filepath.Join(filepath.Dir(c.Ledger), "images")
	}
	if config == nil {
		return nil
	}
	if c.Engine.Backend == app.BackendAuto {
		c.Engine.Backend = config.Engines.Backend
	}
	if c.Engine.Threads == 0 {
		c.Engine.Threads = config.Engines.Threads
	}
	if c.Engine.OnnxruntimeLibrary == "" {
		c.Engine.OnnxruntimeLibrary = config.Engines.ONNXRuntimeLibrary
	}
	c.Engine.TensorRT.apply(config)
	return nil
}

// read reads the wanted results.
func (c *replayCommand) read(ctx context.Context, query ledger.Query) ([]ledger.Result, error) {
	reader, err := ledger.OpenReader(ctx, c.Ledger)
	if err != nil {
		return nil, err
	}
	defer reader.Close() //nolint:errcheck // it was only read
	results, err := reader.Results(ctx, query)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, result := range results {
		found[result.Record.ResultID] = true
	}
	// A part of several views has no picture; its views are inspected again.
	results = slices.DeleteFunc(results, func(result ledger.Result) bool {
		return result.Record.Kind == verdict.KindPart && len(query.ResultIDs) == 0
	})
	for _, id := range query.ResultIDs {
		if !found[id] {
			return nil, fmt.Errorf("ledger %s: no result %s (of that station and time); verdicts carry it as result_id, and those older than ledger.keep are gone", c.Ledger, id)
		}
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("ledger %s: no results of that station and time", c.Ledger)
	}
	return results, nil
}

// print writes one comparison.
func (c *replayCommand) print(env *environment, comparison replay.Comparison) error {
	if c.Format == "json" {
		line, err := verdict.JSON(comparison)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(env.stdout, "%s\n", line)
		return err
	}
	line := fmt.Sprintf("%s  %-10s %s  then %s", comparison.Finished, stationOf(comparison.Source), comparison.ResultID, findingText(&comparison.Recorded))
	switch {
	case comparison.Problem != nil:
		line += "  not replayed: " + *comparison.Problem
	case comparison.Identical:
		line += "  now the same"
	default:
		line += "  now " + findingText(comparison.Replayed)
		if comparison.Difference != nil {
			line += fmt.Sprintf("  difference %+.3g", *comparison.Difference)
		}
	}
	_, err := fmt.Fprintln(env.stdout, line)
	return err
}

// findingText is what was found in words of a fixed width.
func findingText(finding *replay.Finding) string {
	if finding.Score == nil {
		reason := ""
		if finding.Reason != nil {
			reason = string(finding.Reason.Code)
		}
		return fmt.Sprintf("%-12s %-29s", finding.Evaluation, reason)
	}
	return fmt.Sprintf("%-12s %7.4f switch %4d %-9s", finding.Evaluation, *finding.Score, *finding.SwitchTimestep, *finding.SwitchReason)
}
