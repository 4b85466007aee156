package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"gladd/capture"
	"gladd/configs"
	"gladd/daemon/internal/gpumon"
	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/mes"
	"gladd/daemon/internal/station"
	"gladd/daemon/internal/verdict"
	"gladd/daemon/internal/web"
)

// Times of the end.
const (
	drainTimeout = 10 * time.Second // for the outbox
	endTimeout   = 5 * time.Second  // for everything else
)

// FaultError is an error of the machine, not of the user's files.
type FaultError struct{ error }

// Unwrap returns the cause.
func (e FaultError) Unwrap() error { return e.error }

// RunOptions of the daemon.
type RunOptions struct {
	Config   *configs.Config
	Software string // gladd and its version
	// CUDALibrary is the path of the GPU driver's library; empty: looked for.
	CUDALibrary string
	Log         *slog.Logger
	// Print gets a readable line for every verdict, and a summary at the end;
	// nil: nobody reads.
	Print io.Writer
	// TraceDir takes an overlay of every inspected part; empty: none.
	TraceDir string
	// UntilFinished ends the daemon when all cameras have given their last
	// picture.
	UntilFinished bool
}

// daemon is the running daemon.
type daemon struct {
	options  RunOptions
	config   *configs.Config
	log      *slog.Logger
	notify   *notifier
	ledger   *ledger.Ledger
	images   *ledger.Images
	engines  *Engines
	turns    *station.Turns
	stations []*station.Station
	gpu      *gpumon.Monitor
	metrics  *web.Metrics
	web      *web.Server
	broker   *mes.Embedded // nil unless embedded
	mes      *mes.Client
	report   *report
	triggers sync.WaitGroup
	ready    chan struct{} // closed once the stations take triggers
}

// Run is the daemon, from its start to the end of ctx.
func Run(ctx context.Context, options RunOptions) error {
	d := &daemon{
		options: options,
		config:  options.Config,
		log:     options.Log,
		notify:  newNotifier(options.Log),
		turns:   station.NewTurns(),
		report:  newReport(options),
		ready:   make(chan struct{}),
	}
	err := d.start(ctx)
	switch {
	case err == nil:
		err = d.work(ctx)
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		d.log.Info("told to end before it was ready")
		err = nil
	}
	d.notify.stopping()
	return errors.Join(err, d.stop()) //nolint:contextcheck // the end outlives ctx
}

// start brings the parts up, what others need first.
func (d *daemon) start(ctx context.Context) (err error) {
	began := time.Now()
	if d.ledger, err = ledger.Open(ctx, ledger.Options{Path: d.config.Ledger.Path}); err != nil {
		return FaultError{err}
	}
	d.images = ledger.NewImages(d.ledger, d.config.Ledger.Images.Dir, int64(d.config.Ledger.Images.MaxBytes))
	recovered, err := d.ledger.Recover(time.Now(), d.images)
	if err != nil {
		return FaultError{err}
	}
	if recovered > 0 {
		d.log.Warn("triggers of an earlier run had no record; they are Undefined now", "count", recovered)
	}
	d.gpu = gpumon.New(gpumon.Options{Monitor: d.config.GPU.Monitor, Interval: time.Duration(d.config.GPU.Interval), Log: d.log})
	d.gpu.Run(ctx)
	if err := d.openStations(ctx); err != nil {
		return err
	}
	d.metrics = web.NewMetrics(d.metricsSource())
	if err := d.openMES(); err != nil {
		return FaultError{err}
	}
	if err := d.openWeb(); err != nil {
		return FaultError{err}
	}
	for _, each := range d.stations {
		each.Run() //nolint:contextcheck // it ends by Stop, not with ctx
	}
	close(d.ready)
	d.mes.Run(context.WithoutCancel(ctx)) // it outlives ctx to send what is left
	d.log.Info("ready", "stations", len(d.stations), "seconds", time.Since(began).Round(time.Millisecond).Seconds(), "web", "http://"+d.web.Address())
	return nil
}

// openStations opens the models and builds the stations. A station without a
// model is there and says so; without any model there is nothing to do.
func (d *daemon) openStations(ctx context.Context) error {
	opened, err := OpenEngines(EngineOptions{
		Backend:            d.config.Engines.Backend,
		Threads:            d.config.Engines.Threads,
		ONNXRuntimeLibrary: d.config.Engines.ONNXRuntimeLibrary,
		TensorRT: TensorRTOptions{
			Library:     d.config.Engines.TensorRTLibrary,
			CUDALibrary: d.options.CUDALibrary,
			CacheDir:    d.config.Engines.CacheDir,
			Progress:    d.notify.building(),
		},
	}, d.log)
	if err != nil {
		return machineFault(err)
	}
	d.engines = opened
	type result struct {
		model station.Model
		err   error
	}
	models := map[string]result{}
	working := 0
	var failures []error
	for _, each := range d.config.Stations {
		recipe, tried := models[each.Recipe]
		if !tried {
			recipe.model, recipe.err = openRecipe(ctx, opened, each.Recipe, d.config.Recipes[each.Recipe], d.options.Software)
			if errors.Is(recipe.err, context.Canceled) {
				return recipe.err
			}
			if recipe.err != nil {
				failures = append(failures, fmt.Errorf("recipe %s: %w", each.Recipe, recipe.err))
			}
			models[each.Recipe] = recipe
		}
		switch {
		case recipe.err == nil && recipe.model.CalibrationID == nil:
			working++
			d.log.Warn("station has no thresholds; every verdict will be Undefined", "station", each.Name, "recipe", each.Recipe,
				"advice", "gladd calibrate --bundle "+d.config.Recipes[each.Recipe].Bundle+" --good DIR")
		case recipe.err == nil:
			working++
		default:
			d.log.Error("station has no model and takes no triggers", "station", each.Name, "recipe", each.Recipe, "error", recipe.err)
		}
		d.stations = append(d.stations, station.New(d.stationOptions(each, recipe.model, recipe.err)))
	}
	if working == 0 {
		return machineFault(fmt.Errorf("no station has a model:\n%w", errors.Join(failures...)))
	}
	return nil
}

func (d *daemon) stationOptions(config configs.Station, model station.Model, modelError error) station.Options {
	keep := map[string]station.KeepImages{
		configs.KeepAll: station.KeepAll, configs.KeepNotOK: station.KeepNotOK, configs.KeepNone: station.KeepNone,
	}[d.config.Ledger.Images.Keep]
	source := config.Camera.Source
	if modelError != nil { // the record of what it refuses names the recipe all the same
		model.Recipe = verdict.Recipe{Name: config.Recipe, Version: d.config.Recipes[config.Recipe].Version}
	}
	return station.Options{
		Site:       d.config.Site,
		Line:       d.config.Line,
		Name:       config.Name,
		Model:      model,
		ModelError: modelError,
		Open:       d.opener(config),
		Camera:     verdict.Camera{Name: capture.SourceName(source)},
		Simulated:  !capture.IsLive(source),
		Turns:      d.turns,
		Ledger:     d.ledger,
		Images:     d.images,
		Keep:       keep,
		Deadline:   time.Duration(config.Deadline),
		Queue:      config.Queue,
		Finished:   d.finished,
		Changed:    d.changed,
		Log:        d.log,
	}
}

// opener opens a station's camera. A watched folder is none: its triggers
// bring their frames.
func (d *daemon) opener(config configs.Station) func() (capture.Source, error) {
	if config.Trigger.Kind == configs.TriggerFolder {
		return func() (capture.Source, error) { return capture.NoSource{}, nil }
	}
	return func() (capture.Source, error) { return capture.OpenSource(config.Camera.Source) }
}

func (d *daemon) openWeb() (err error) {
	token := ""
	if path := d.config.Web.TokenFile; path != "" {
		if token, err = mes.FirstLine(path); err != nil {
			return fmt.Errorf("web token: %w", err)
		}
	}
	options := web.Options{
		Listen:  d.config.Web.Listen,
		Token:   token,
		Ready:   d.notReady,
		Health:  d.health,
		Metrics: d.metrics,
		Log:     d.log,
	}
	for _, each := range d.stations {
		options.Stations = append(options.Stations, each)
	}
	d.web, err = web.Start(options)
	return err
}

func (d *daemon) openMES() (err error) {
	config := d.config.MQTT
	broker := mes.Broker{
		URL: config.URL, Username: config.Username, PasswordFile: config.PasswordFile,
		CAFile: config.CAFile, CertFile: config.CertFile, KeyFile: config.KeyFile,
	}
	if config.Embedded {
		if d.broker, err = mes.StartEmbedded(config.Listen); err != nil {
			return err
		}
		broker = mes.Broker{URL: d.broker.URL()}
		d.log.Info("embedded broker started; it is for trying gladd out", "url", broker.URL)
	}
	options := mes.Options{
		Broker: broker,
		Site:   d.config.Site, Line: d.config.Line, Box: d.config.Box,
		Snapshot: d.snapshot,
		Ledger:   d.ledger,
		Log:      d.log,
	}
	for _, each := range d.stations {
		options.Stations = append(options.Stations, each)
	}
	d.mes = mes.New(options)
	return nil
}

// finished hears of every terminal record.
func (d *daemon) finished(finished station.Finished) {
	name := finished.Source[strings.LastIndexByte(finished.Source, '/')+1:]
	d.metrics.Observe(name, finished.Record)
	d.report.verdict(name, finished)
	d.changed()
}

// changed has the stations' state published.
func (d *daemon) changed() {
	if d.mes != nil {
		d.mes.Changed()
	}
}

// work triggers and waits for the end.
func (d *daemon) work(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.startTriggers(ctx)
	defer d.triggers.Wait()
	defer cancel()
	d.triggers.Go(func() { d.prune(ctx) })
	d.notify.ready()
	d.triggers.Go(func() { d.notify.watch(ctx, d.stuck, d.statusText) })
	if !d.options.UntilFinished {
		<-ctx.Done()
		return nil
	}
	return d.waitUntilFinished(ctx)
}

// waitUntilFinished waits until every camera's pictures are used up and have
// their verdicts.
func (d *daemon) waitUntilFinished(ctx context.Context) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		left := 0
		for _, each := range d.stations {
			if each.Outstanding() > 0 || !each.CameraFinished() && each.ModelError() == nil {
				left++
			}
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// stop ends the parts, those first that others need.
func (d *daemon) stop() error {
	var errs []error
	longest := time.Duration(0)
	for _, each := range d.stations {
		longest = max(longest, each.Deadline())
	}
	ctx, cancel := context.WithTimeout(context.Background(), longest+endTimeout)
	defer cancel()
	errs = append(errs, d.stopStations(ctx))
	if d.mes != nil {
		drain, cancel := context.WithTimeout(context.Background(), drainTimeout)
		defer cancel()
		if left, err := d.mes.Drain(drain); err != nil || left > 0 {
			d.log.Warn("verdicts stay in the outbox; they are sent after the next start", "count", left)
		}
		d.mes.Close()
	}
	if d.web != nil {
		closing, cancel := context.WithTimeout(context.Background(), endTimeout)
		defer cancel()
		errs = append(errs, d.web.Close(closing))
	}
	if d.broker != nil {
		errs = append(errs, d.broker.Close())
	}
	if d.gpu != nil {
		d.gpu.Close()
	}
	errs = append(errs, d.closeEngines())
	if d.isReady() {
		d.report.summary()
	}
	if d.ledger != nil {
		errs = append(errs, d.ledger.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return FaultError{err}
	}
	return nil
}

func (d *daemon) stopStations(ctx context.Context) error {
	errs := make([]error, len(d.stations))
	var stopping sync.WaitGroup
	for i, each := range d.stations {
		stopping.Go(func() { errs[i] = each.Stop(ctx) })
	}
	stopping.Wait()
	return errors.Join(errs...)
}

// closeEngines frees the engines, unless a call hangs in them: the end of the
// process will.
func (d *daemon) closeEngines() error {
	if d.engines == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	if err := d.turns.Take(ctx); err != nil {
		d.log.Error("a call hangs in the engines; they are left to the end of the process")
		return nil
	}
	defer d.turns.Give()
	return d.engines.Close()
}
