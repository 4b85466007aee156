package main

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"

	"gladd/configs"
	"gladd/daemon/internal/app"
	"gladd/engines"
)

// runCommand is 'gladd run'.
type runCommand struct {
	Config             string `required:"" help:"The configuration file." placeholder:"FILE"`
	Print              bool   `help:"Print a readable line for each verdict on stdout, and a summary at the end."`
	Trace              string `help:"Write an overlay of each inspected part below this folder." placeholder:"DIR"`
	OnnxruntimeLibrary string `name:"onnxruntime-library" help:"ONNX Runtime's shared library, where the configuration names none." env:"GLADD_ONNXRUNTIME_LIBRARY" placeholder:"FILE"`
	TensorrtLibrary    string `name:"tensorrt-library" help:"TensorRT's shared library, where the configuration names none." env:"GLADD_TENSORRT_LIBRARY" placeholder:"FILE"`
	CudaLibrary        string `name:"cuda-library" help:"The GPU driver's shared library, if not the system's." env:"GLADD_CUDA_LIBRARY" placeholder:"FILE"`
	UntilFinished      bool   `help:"End when every camera has given its last picture (folder: and video: cameras)."`
}

// Help is shown below the flags.
func (runCommand) Help() string {
	return `Takes triggers, inspects parts, and publishes a verdict for every trigger over MQTT, until it is told to end (SIGTERM or Ctrl-C): then no new triggers are taken, waiting parts become Undefined, and what the broker does not have yet is sent.

Exit code: 0 ended as told; 1 the machine failed (ledger, ports, driver, GPU, TensorRT, engines' folder, disk), and systemd starts it again; 2 wrong usage, configuration or bundle.`
}

// Run is the daemon.
func (c *runCommand) Run(env *environment) error {
	// A crash shall end by a signal. Go's own way is exit code 2, which would say
	// that the configuration is wrong, and systemd would not start it again.
	debug.SetTraceback("crash")
	config, err := configs.Load(c.Config)
	if err != nil {
		return err
	}
	if config.Engines.ONNXRuntimeLibrary == "" {
		config.Engines.ONNXRuntimeLibrary = c.OnnxruntimeLibrary
	}
	if config.Engines.TensorRTLibrary == "" {
		config.Engines.TensorRTLibrary = c.TensorrtLibrary
	}
	var lines io.Writer
	if c.Print {
		lines = env.stdout
	}
	err = app.Run(env.ctx, app.RunOptions{
		Config:        config,
		Software:      "gladd " + version,
		CUDALibrary:   c.CudaLibrary,
		Log:           env.serviceLog(),
		Print:         lines,
		TraceDir:      c.Trace,
		UntilFinished: c.UntilFinished,
	})
	if errors.As(err, &app.FaultError{}) {
		return failure{err}
	}
	return err
}

func plural(count int, word string) string {
	if count != 1 {
		word += "s"
	}
	return fmt.Sprintf("%d %s", count, word)
}

// configCommand is 'gladd config'.
type configCommand struct {
	Check configCheckCommand `cmd:"" help:"Check a configuration file and the bundles that it names."`
}

// configCheckCommand is 'gladd config check'.
type configCheckCommand struct {
	File string `arg:"" help:"The configuration file."`
}

// Run checks.
func (c *configCheckCommand) Run(env *environment) error {
	config, err := configs.Load(c.File)
	if err != nil {
		return err
	}
	var found []error
	type warning struct{ recipe, text, advice string }
	var warnings []warning
	for _, name := range config.RecipeNames() {
		recipe := config.Recipes[name]
		bundle, err := engines.Load(recipe.Bundle)
		if err == nil {
			_, err = bundle.Manifest.Class(recipe.Class)
			if text, backend := unlearned(bundle, recipe.Class, config.Engines.Backend); text != "" {
				warnings = append(warnings, warning{name, text, "gladd calibrate" + backend + " --bundle " + recipe.Bundle + " --good DIR"})
			}
		}
		if err != nil {
			found = append(found, fmt.Errorf("%s: recipes.%s: %w", c.File, name, err))
		}
	}
	if err := app.CheckMQTT(config.MQTT); err != nil {
		found = append(found, fmt.Errorf("%s: %w", c.File, err))
	}
	if found != nil {
		return errors.Join(found...)
	}
	for _, each := range warnings {
		env.log.Warn(each.text+"; every verdict will be Undefined", "recipe", each.recipe, "advice", each.advice)
	}
	_, err = fmt.Fprintf(env.stdout, "%s is right: %s, %s; verdicts go to %s\n",
		c.File, plural(len(config.Stations), "station"), plural(len(config.Recipes), "recipe"), config.MQTT.Address())
	return err
}

// unlearned says why no calibration of a bundle serves a recipe, and with which flag one
// is learned that does; empty: one does, as far as can be seen without its backend.
func unlearned(bundle *engines.Bundle, class, backend string) (text, flag string) {
	if backend != app.BackendAuto {
		flag = " --backend " + backend
	}
	if len(bundle.Calibrations) == 0 {
		return "bundle without a calibration", flag
	}
	var others []string
	for _, each := range bundle.Calibrations {
		if each.ModelDigest != bundle.ModelDigest || each.Class != class {
			continue
		}
		if backend == app.BackendAuto || each.Method.Backend == backend {
			return "", ""
		}
		if !slices.Contains(others, each.Method.Backend) {
			others = append(others, each.Method.Backend)
		}
	}
	if len(others) == 0 {
		return "bundle without a calibration of these networks and this class", flag
	}
	return fmt.Sprintf("bundle without a calibration for backend %s, found those for %s", backend, strings.Join(others, ", ")), flag
}
