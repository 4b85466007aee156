package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"gladd/configs"
	"gladd/daemon/internal/app"
	"gladd/daemon/internal/bench"
	"gladd/engines"
	"gladd/engines/tensorrt"
)

// enginesCommand is 'gladd engines'.
type enginesCommand struct {
	Build  buildCommand  `cmd:"" help:"Build the engines that are missing. It takes minutes; the daemon does it by itself before it is ready."`
	List   listCommand   `cmd:"" help:"List the engines that are there."`
	Verify verifyCommand `cmd:"" help:"Hold each engine against ONNX Runtime on the same inputs."`
	Prune  pruneCommand  `cmd:"" help:"Remove engines that none of these bundles uses here."`
}

// Help is shown below the commands.
func (enginesCommand) Help() string {
	return `Exit code: 0 done; 1 engines differ from ONNX Runtime, the work was cut short, or the machine failed (driver, GPU, TensorRT, engines' folder, disk); 2 wrong usage or bundle.`
}

// enginesFlags say which models and which TensorRT a command is about: those of a
// configuration, or those that are named.
type enginesFlags struct {
	Config string   `help:"The daemon's configuration: names models, library and folder of engines." placeholder:"FILE"`
	Bundle []string `help:"Folder of a model, instead of the configuration's." placeholder:"DIR"`

	TensorRT tensorRTFlags `embed:""`
}

// apply takes what the flags leave open from a configuration.
func (f *tensorRTFlags) apply(config *configs.Config) {
	if f.TensorrtLibrary == "" {
		f.TensorrtLibrary = config.Engines.TensorRTLibrary
	}
	if f.CacheDir == defaultCacheDir || f.CacheDir == "" {
		f.CacheDir = config.Engines.CacheDir
	}
}

// open loads the models and opens TensorRT; the function closes it.
func (f *enginesFlags) open(env *environment, precision string, mustExist bool) ([]*engines.Bundle, *tensorrt.Backend, func(), error) {
	dirs := f.Bundle
	if f.Config != "" {
		config, err := configs.Load(f.Config)
		if err != nil {
			return nil, nil, nil, err
		}
		f.TensorRT.apply(config)
		for _, name := range config.RecipeNames() {
			if dir := config.Recipes[name].Bundle; len(f.Bundle) == 0 && !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	if len(dirs) == 0 {
		return nil, nil, nil, errors.New("which models? Name them with --bundle, or the daemon's configuration with --config")
	}
	var bundles []*engines.Bundle
	for _, dir := range dirs {
		bundle, err := engines.Load(dir)
		if err != nil {
			return nil, nil, nil, err
		}
		bundles = append(bundles, bundle)
	}
	if mustExist {
		if err := folderExists(f.TensorRT.CacheDir); err != nil {
			return nil, nil, nil, err
		}
	}
	options := f.TensorRT.options(env)
	options.Precision = precision
	backend, err := app.OpenTensorRT(options, env.log)
	if err != nil {
		return nil, nil, nil, err
	}
	return bundles, backend, closing(env, backend), nil
}

// folderExists refuses a folder of engines that is not there: it may be a wrong word.
func folderExists(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("engine cache %s: no such folder; nothing was built there yet, or name another with --cache-dir or --config", dir)
	}
	return nil
}

// buildCommand is 'gladd engines build'.
type buildCommand struct {
	Anew      bool   `help:"Build those that are there, too."`
	Precision string `help:"What the engines compute in; fp32 is for comparisons." default:"fp16" enum:"fp16,fp32" placeholder:"NAME"`

	Engines enginesFlags `embed:""`
}

// Run builds.
func (c *buildCommand) Run(env *environment) error {
	bundles, backend, done, err := c.Engines.open(env, c.Precision, false)
	if err != nil {
		return err
	}
	defer done()
	before := 0
	for _, bundle := range bundles {
		built, err := backend.Build(env.ctx, bundle, c.Anew)
		env.progress.end()
		if err != nil && env.ctx.Err() != nil {
			return failure{fmt.Errorf("cut short: %d engines were built and are kept, the one under way is not", before+built)}
		}
		if err != nil {
			return err
		}
		before += built
		if _, err := fmt.Fprintf(env.stdout, "%s: %d engines built, %d were there: %s\n", bundle.Manifest.Name, built, len(engines.GraphNames)-built, backend); err != nil {
			return err
		}
	}
	return nil
}

// listCommand is 'gladd engines list'. It needs no GPU.
type listCommand struct {
	Config   string `help:"The daemon's configuration: names the folder." placeholder:"FILE"`
	CacheDir string `help:"Folder of built engines." default:"${cache_dir}" env:"GLADD_ENGINE_CACHE" placeholder:"DIR"`
}

// Run lists.
func (c *listCommand) Run(env *environment) error {
	place := tensorRTFlags{CacheDir: c.CacheDir}
	if c.Config != "" {
		config, err := configs.Load(c.Config)
		if err != nil {
			return err
		}
		place.apply(config)
	}
	if err := folderExists(place.CacheDir); err != nil {
		return err
	}
	entries, unreadable := tensorrt.NewCache(place.CacheDir).List()
	if unreadable != nil && len(entries) == 0 {
		return unreadable
	}
	for _, each := range each(unreadable) {
		env.log.Warn("an engine cannot be read", "error", each)
	}
	if len(entries) == 0 {
		_, err := fmt.Fprintf(env.stdout, "no engines in %s\n", place.CacheDir)
		return err
	}
	table := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "MODEL\tNETWORK\tPRECISION\tBATCHES\tMB\tBUILT\tSECONDS\tFOR")
	for _, each := range entries {
		fmt.Fprintf(table, "%s %s\t%s\t%s\t%s\t%.1f\t%s\t%.0f\t%s, %s (%d.%d)\n", each.For.Bundle, each.For.Version, each.For.Network, each.Key.Precision, each.Key.Batches,
			float64(each.Plan.Bytes)/1e6, each.At.Local().Format("2006-01-02 15:04"), each.Seconds, each.Key.TensorRT, each.Key.GPU, each.Key.ComputeMajor, each.Key.ComputeMinor)
	}
	return table.Flush()
}

// each takes joined errors apart: in one line of a log they would not be read.
func each(err error) []error {
	if joined, is := err.(interface{ Unwrap() []error }); is {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// pruneCommand is 'gladd engines prune'.
type pruneCommand struct {
	OtherVersions bool   `help:"Remove those of other versions of TensorRT, too: they are of use if that version comes back."`
	Precision     string `help:"Of the engines in use." default:"fp16" enum:"fp16,fp32" placeholder:"NAME"`

	Engines enginesFlags `embed:""`
}

// Run removes what is not used.
func (c *pruneCommand) Run(env *environment) error {
	bundles, backend, done, err := c.Engines.open(env, c.Precision, true)
	if err != nil {
		return err
	}
	defer done()
	pruned, failed := backend.Prune(env.ctx, c.OtherVersions, bundles...)
	var text strings.Builder
	for _, each := range pruned.Removed {
		fmt.Fprintf(&text, "removed %s: %s, %.1f MB\n", each.Name, each.What, float64(each.Bytes)/1e6)
	}
	fmt.Fprintf(&text, "%d removed, %.1f MB freed in %s\n", len(pruned.Removed), float64(pruned.Bytes())/1e6, backend.Cache().Dir())
	if pruned.Others > 0 {
		fmt.Fprintf(&text, "%s of other versions of TensorRT kept; --other-versions removes them\n", plural(pruned.Others, "engine"))
	}
	_, err = io.WriteString(env.stdout, text.String())
	return errors.Join(failed, err)
}

// verifyCommand is 'gladd engines verify'.
type verifyCommand struct {
	Tolerance float64 `help:"Largest difference that is allowed, as a share of the values' spread." default:"0.05" placeholder:"SHARE"`
	Precision string  `help:"Of the engines." default:"fp16" enum:"fp16,fp32" placeholder:"NAME"`

	OnnxruntimeLibrary string `name:"onnxruntime-library" help:"ONNX Runtime's shared library, if not the one beside gladd." env:"GLADD_ONNXRUNTIME_LIBRARY" placeholder:"FILE"`

	Engines enginesFlags `embed:""`
}

// Run compares.
func (c *verifyCommand) Run(env *environment) error {
	bundles, backend, done, err := c.Engines.open(env, c.Precision, false)
	if err != nil {
		return err
	}
	defer done()
	for _, bundle := range bundles {
		if err := c.verify(env, backend, bundle); err != nil {
			return err
		}
	}
	return nil
}

// verify compares one model.
func (c *verifyCommand) verify(env *environment, backend *tensorrt.Backend, bundle *engines.Bundle) error {
	tested, err := backend.Open(env.ctx, bundle)
	env.progress.end()
	if err != nil {
		return err
	}
	defer closing(env, tested)()
	processors, err := app.OpenEngines(app.EngineOptions{Backend: app.BackendONNXRuntime, ONNXRuntimeLibrary: c.OnnxruntimeLibrary}, env.log)
	if err != nil {
		return err
	}
	defer closing(env, processors)()
	reference, err := processors.OpenNetworks(env.ctx, bundle)
	if err != nil {
		return err
	}
	differences, err := bench.Differences(env.ctx, bundle.Manifest, reference, tested)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "CALL\tBATCH\tLARGEST DIFFERENCE\tMEAN\tSPREAD OF VALUES\tLARGEST, OF THE SPREAD")
	var beyond []string
	for _, each := range differences {
		fmt.Fprintf(table, "%s\t%d\t%.2g\t%.2g\t%.2g\t%.2f %%\n", each.Call, each.Batch, each.Largest, each.Mean, each.Spread, 100*each.Share())
		if !(each.Share() <= c.Tolerance) { // NaN is beyond, too
			beyond = append(beyond, fmt.Sprintf("%s (batch %d)", each.Call, each.Batch))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(beyond) > 0 {
		return failure{errors.New("engines differ from ONNX Runtime by more than " + fmt.Sprintf("%.3g %% of", 100*c.Tolerance) + " the values' spread: " + strings.Join(beyond, ", "))}
	}
	_, err = fmt.Fprintf(env.stdout, "%s: within %.3g %%: %s\n", bundle.Manifest.Name, 100*c.Tolerance, backend)
	return err
}
