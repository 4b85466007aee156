// Command gladd inspects parts on a production line: it reconstructs each as
// it would look without a defect and compares the two.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"gladd/daemon/internal/app"
)

// Exit codes, the same for every command.
const (
	exitDone   = 0 // done, whatever the evaluations
	exitFailed = 1 // a picture gave no finite score, the work was cut short, or the machine failed
	exitUsage  = 2 // wrong usage, bundle or configuration
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The second signal ends the program at once.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// cli is the command line.
type cli struct {
	LogLevel slog.Level `help:"Least severe log messages shown on stderr: debug, info, warn or error." default:"info" placeholder:"LEVEL"`

	Run       runCommand       `cmd:"" help:"Run the daemon: trigger in, verdict out over MQTT."`
	Inspect   inspectCommand   `cmd:"" help:"Inspect picture files: one JSON line each on stdout."`
	Replay    replayCommand    `cmd:"" help:"Inspect recorded parts again: what was found then, and now."`
	Ledger    ledgerCommand    `cmd:"" help:"List, show, export and verify what the daemon recorded."`
	Calibrate calibrateCommand `cmd:"" help:"Learn thresholds from pictures of good parts, with a promised rate of false rejects."`
	Eval      evalCommand      `cmd:"" help:"Measure a model on a labelled set: AUROC, AP, F1max, PRO, and what its threshold makes of them."`
	Bench     benchCommand     `cmd:"" help:"Measure what a model costs on this machine, and what its plans leave of the verdicts."`
	Engines   enginesCommand   `cmd:"" help:"Build TensorRT engines for this GPU, and look after those that are there."`
	Line      lineCommand      `cmd:"" help:"Write pictures of a virtual line's parts, good and defective, with masks."`
	Mes       mesCommand       `cmd:"" help:"Print what an MES must know: JSON Schemas and an AsyncAPI document."`
	Config    configCommand    `cmd:"" help:"Look after configuration files."`
	Version   versionCommand   `cmd:"" help:"Print versions and where the runtime libraries were found."`
}

// environment is what a command works with.
type environment struct {
	ctx      context.Context
	stdout   io.Writer
	log      *slog.Logger // to stderr
	progress *progress

	stderr   io.Writer
	logLevel slog.Level
}

// serviceLog is the log of the daemon: for people on a terminal, for machines
// elsewhere.
func (e *environment) serviceLog() *slog.Logger {
	if isTerminal(e.stderr) {
		return e.log
	}
	return slog.New(slog.NewJSONHandler(e.stderr, &slog.HandlerOptions{Level: e.logLevel}))
}

// failure is an error that ends the program with exitFailed, as one of the machine does;
// all others are the user's to mend and end it with exitUsage.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// run runs one command line and returns its exit code.
func run(ctx context.Context, arguments []string, stdout, stderr io.Writer) int {
	var commandLine cli
	ended := -1 // set by --help, which kong ends by itself
	parser, err := kong.New(&commandLine,
		kong.Name("gladd"),
		kong.Description("Finds defects in pictures of parts: reconstructs each part as it would look without a defect (GLAD, ECCV 2024) and compares the two."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { ended = code }),
		kong.Vars{"cache_dir": defaultCacheDir},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
	)
	if err != nil {
		fmt.Fprintln(stderr, "gladd:", err)
		return exitUsage
	}
	if len(arguments) == 0 {
		arguments = []string{"--help"}
	}
	parsed, err := parser.Parse(arguments)
	if ended >= 0 {
		return ended
	}
	if err != nil {
		fmt.Fprintf(stderr, "gladd: %v\nRun 'gladd --help' or 'gladd COMMAND --help' for the usage.\n", err)
		return exitUsage
	}

	bar := &progress{stderr: stderr}
	err = parsed.Run(&environment{
		ctx:      ctx,
		stdout:   bar.around(stdout),
		log:      slog.New(slog.NewTextHandler(bar.around(stderr), &slog.HandlerOptions{Level: commandLine.LogLevel})),
		progress: bar,
		stderr:   stderr,
		logLevel: commandLine.LogLevel,
	})
	if err == nil {
		return exitDone
	}
	fmt.Fprintln(stderr, "gladd:", err)
	if errors.As(err, &failure{}) || app.IsMachine(err) {
		return exitFailed
	}
	return exitUsage
}
