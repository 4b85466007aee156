package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

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

// buildCommand is 'gladd engines build'.
type buildCommand struct {
	Bundle    string `required:"" help:"Folder of the model." placeholder:"DIR"`
	Anew      bool   `help:"Build those that are there, too."`
	Precision string `help:"What the engines compute in; fp32 is for comparisons." default:"fp16" enum:"fp16,fp32" placeholder:"NAME"`

	TensorRT tensorRTFlags `embed:""`
}

// Run builds.
func (c *buildCommand) Run(env *environment) error {
	bundle, err := engines.Load(c.Bundle)
	if err != nil {
		return err
	}
	backend, done, err := c.TensorRT.open(env, c.Precision)
	if err != nil {
		return err
	}
	defer done()
	built, err := backend.Build(env.ctx, bundle, c.Anew)
	env.progress.end()
	if err != nil && env.ctx.Err() != nil {
		return failure{fmt.Errorf("cut short: %d engines were built and are kept, the one under way is not", built)}
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(env.stdout, "%d engines built, %d were there: %s\n", built, len(engines.GraphNames)-built, backend)
	return err
}

// open opens TensorRT; the function closes it.
func (f tensorRTFlags) open(env *environment, precision string) (*tensorrt.Backend, func(), error) {
	options := f.options(env)
	options.Precision = precision
	backend, err := app.OpenTensorRT(options, env.log)
	if err != nil {
		return nil, nil, err
	}
	return backend, closing(env, backend), nil
}

// listCommand is 'gladd engines list'. It needs no GPU.
type listCommand struct {
	CacheDir string `help:"Folder of built engines." default:"${cache_dir}" env:"GLADD_ENGINE_CACHE" placeholder:"DIR"`
}

// Run lists.
func (c *listCommand) Run(env *environment) error {
	entries, unreadable := tensorrt.NewCache(c.CacheDir).List()
	if unreadable != nil && len(entries) == 0 {
		return unreadable
	}
	if unreadable != nil {
		env.log.Warn("some engines cannot be read", "error", unreadable)
	}
	if len(entries) == 0 {
		_, err := fmt.Fprintf(env.stdout, "no engines in %s\n", c.CacheDir)
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

// pruneCommand is 'gladd engines prune'.
type pruneCommand struct {
	Bundle    []string `required:"" help:"Folders of the models that are in use." placeholder:"DIR"`
	Precision string   `help:"Of the engines in use." default:"fp16" enum:"fp16,fp32" placeholder:"NAME"`

	TensorRT tensorRTFlags `embed:""`
}

// Run removes what is not used.
func (c *pruneCommand) Run(env *environment) error {
	var bundles []*engines.Bundle
	for _, dir := range c.Bundle {
		bundle, err := engines.Load(dir)
		if err != nil {
			return err
		}
		bundles = append(bundles, bundle)
	}
	backend, done, err := c.TensorRT.open(env, c.Precision)
	if err != nil {
		return err
	}
	defer done()
	freed, err := backend.Prune(env.ctx, bundles...)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(env.stdout, "%.1f MB freed in %s\n", float64(freed)/1e6, backend.Cache().Dir())
	return err
}

// verifyCommand is 'gladd engines verify'.
type verifyCommand struct {
	Bundle    string  `required:"" help:"Folder of the model." placeholder:"DIR"`
	Tolerance float64 `help:"Largest difference that is allowed, as a share of the values' spread." default:"0.05" placeholder:"SHARE"`
	Precision string  `help:"Of the engines." default:"fp16" enum:"fp16,fp32" placeholder:"NAME"`

	OnnxruntimeLibrary string `name:"onnxruntime-library" help:"ONNX Runtime's shared library, if not the one beside gladd." env:"GLADD_ONNXRUNTIME_LIBRARY" placeholder:"FILE"`

	TensorRT tensorRTFlags `embed:""`
}

// Run compares.
func (c *verifyCommand) Run(env *environment) error {
	bundle, err := engines.Load(c.Bundle)
	if err != nil {
		return err
	}
	backend, done, err := c.TensorRT.open(env, c.Precision)
	if err != nil {
		return err
	}
	defer done()
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
	_, err = fmt.Fprintf(env.stdout, "within %.3g %%: %s\n", 100*c.Tolerance, backend)
	return err
}
