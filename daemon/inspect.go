package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"gladd/daemon/internal/app"
	"gladd/daemon/internal/batch"
	"gladd/daemon/internal/verdict"
	"gladd/engines"
)

// engineFlags are the flags of every command that runs networks.
type engineFlags struct {
	Backend            string `help:"What runs the networks: auto, onnxruntime, onnxruntime-cuda or tensorrt; auto takes tensorrt where it and a GPU are there, otherwise onnxruntime." default:"auto" enum:"auto,onnxruntime,onnxruntime-cuda,tensorrt" placeholder:"NAME"`
	Threads            int    `help:"Processor threads for each network call; 0: all that there are." default:"0" placeholder:"N"`
	OnnxruntimeLibrary string `name:"onnxruntime-library" help:"ONNX Runtime's shared library, if not the one beside gladd." env:"GLADD_ONNXRUNTIME_LIBRARY" placeholder:"FILE"`

	TensorRT tensorRTFlags `embed:""`
}

// defaultCacheDir is where built engines are kept, as in a configuration.
const defaultCacheDir = "/var/lib/gladd/engines"

// tensorRTFlags are the flags of every command that may use TensorRT.
type tensorRTFlags struct {
	TensorrtLibrary string `name:"tensorrt-library" help:"TensorRT's shared library, if not the one in the usual places." env:"GLADD_TENSORRT_LIBRARY" placeholder:"FILE"`
	CudaLibrary     string `name:"cuda-library" help:"The GPU driver's shared library, if not the system's." env:"GLADD_CUDA_LIBRARY" placeholder:"FILE"`
	CacheDir        string `help:"Folder of built engines." default:"${cache_dir}" env:"GLADD_ENGINE_CACHE" placeholder:"DIR"`
}

func (f tensorRTFlags) options(env *environment) app.TensorRTOptions {
	return app.TensorRTOptions{Library: f.TensorrtLibrary, CUDALibrary: f.CudaLibrary, CacheDir: f.CacheDir, Progress: env.progress.engines()}
}

func (f engineFlags) options(env *environment) app.EngineOptions {
	return app.EngineOptions{Backend: f.Backend, Threads: f.Threads, ONNXRuntimeLibrary: f.OnnxruntimeLibrary, TensorRT: f.TensorRT.options(env)}
}

// open opens the backend; the function closes it and all networks.
func (f engineFlags) open(env *environment) (*app.Engines, func(), error) {
	opened, err := app.OpenEngines(f.options(env), env.log)
	if err != nil {
		return nil, nil, err
	}
	return opened, closing(env, opened), nil
}

// closing returns a function that closes networks.
func closing(env *environment, networks io.Closer) func() {
	return func() {
		if err := networks.Close(); err != nil {
			env.log.Error("closing the networks", "error", err)
		}
	}
}

// modeFlags are the flags of every command that inspects.
type modeFlags struct {
	Mode  string   `help:"How GLAD is computed: exact, as its authors do, or adaptive, without what calibration found to change nothing; exact without it." default:"exact" enum:"exact,adaptive" placeholder:"NAME"`
	Plans []string `help:"Plans of mode adaptive, the best first: short-tail, latest-first, exact. Without it those that the bundle is calibrated for, the quickest first." placeholder:"LIST"`
}

// inspectCommand is 'gladd inspect'.
type inspectCommand struct {
	Bundle   string      `required:"" help:"Folder of the model." placeholder:"DIR"`
	Pictures []string    `arg:"" name:"IMAGE|DIR" help:"Picture files (PNG, JPEG, TIFF, BMP), and folders, searched with all folders below."`
	Engine   engineFlags `embed:""`
	Mode     modeFlags   `embed:""`
	Class    string      `help:"Class of the parts, for a model of several classes." placeholder:"NAME"`
	Format   string      `help:"What goes to stdout for each picture: json, or text for people." default:"json" enum:"json,text" placeholder:"NAME"`
	Trace    string      `help:"Write overlay, anomaly map, reconstruction and result of each picture below this folder." placeholder:"DIR"`

	Noise       string `help:"Take the noise from <stem>.npy files in this folder (float32 [C,h,w]) instead of generating it." placeholder:"DIR"`
	EncodeNoise string `help:"The same for the encoder's noise, for models that sample it." placeholder:"DIR"`
}

// Help is shown below the flags.
func (inspectCommand) Help() string {
	return `One JSON line per picture goes to stdout, in the order of the arguments and, within a folder, of the paths. Messages and progress go to stderr.

Exit code: 0 all pictures have a score, whatever the evaluations; 1 a picture has none (the others are done), the work was cut short, or the machine failed (driver, GPU, TensorRT, engines' folder, disk); 2 wrong usage, bundle or noise.`
}

// Run inspects.
func (c *inspectCommand) Run(env *environment) error {
	pictures, err := batch.New(batch.Options{
		Pictures:       c.Pictures,
		Class:          c.Class,
		TraceDir:       c.Trace,
		NoiseDir:       c.Noise,
		EncodeNoiseDir: c.EncodeNoise,
		Out:            env.stdout,
		Text:           c.Format == "text",
		Done:           func(batch.Summary) { env.progress.step() },
		Log:            env.log,
	})
	if err != nil {
		return err
	}
	bundle, err := engines.Load(c.Bundle)
	if err != nil {
		return err
	}
	if err := pictures.CheckAgainst(bundle); err != nil {
		return err
	}
	opened, done, err := c.Engine.open(env)
	if err != nil {
		return err
	}
	defer done()
	model, err := opened.OpenModel(env.ctx, bundle, c.Mode.Mode, c.Mode.Plans...)
	if errors.Is(err, context.Canceled) {
		return failure{fmt.Errorf("stopped before the first picture: %w", err)}
	}
	if err != nil {
		return err
	}

	env.progress.begin("inspecting", pictures.Len())
	summary, err := pictures.Run(env.ctx, model)
	env.progress.end()
	switch {
	case errors.As(err, &batch.UsageError{}):
		return err
	case err != nil:
		return failure{err}
	}
	env.log.Info("done", "pictures", summary.Pictures,
		"ok", summary.ByEvaluation[verdict.OK], "not_ok", summary.ByEvaluation[verdict.NotOK],
		"not_decidable", summary.ByEvaluation[verdict.NotDecidable], "undefined", summary.ByEvaluation[verdict.Undefined])
	if summary.Unscored > 0 {
		return failure{fmt.Errorf("%d of %d pictures gave no score; the messages above say why", summary.Unscored, summary.Pictures)}
	}
	return nil
}
