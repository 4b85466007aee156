package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

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
	options   RunOptions
	config    *configs.Config
	log       *slog.Logger
	notify    *notifier
	ledger    *ledger.Ledger
	images    *ledger.Images
	retention *ledger.Retention
	engines   *Engines
	recipes   *recipes
	turns     *station.Turns
	stations  []*station.Station
	parts     *station.Parts
	gpu       *gpumon.Monitor
	metrics   *web.Metrics
	web       *web.Server
	broker    *mes.Embedded // nil unless embedded
	mes       *mes.Client
	report    *report
	triggers  sync.WaitGroup
	ready     chan struct{}          // closed once the stations take triggers
	starting  atomic.Pointer[string] // what is being done before that
	lost      chan error             // has what ended a GPU's use for this process
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
		lost:    make(chan error, 1),
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
	if d.ledger, err = d.openLedger(ctx); err != nil {
		return FaultError{err}
	}
	d.starting.Store(new("what an earlier run left is looked after"))
	if err := d.openWeb(); err != nil {
		return FaultError{err}
	}
	d.images = ledger.NewImages(d.ledger, d.config.Ledger.Images.Dir, int64(d.config.Ledger.Images.MaxBytes))
	d.images.KeepFree(int64(d.config.Ledger.MinFree))
	if err := d.images.Prune(ctx); err != nil { // what follows needs room
		d.log.Error("pictures beyond their limits cannot be removed", "error", err)
	}
	if d.retention, err = ledger.NewRetention(d.images, time.Duration(d.config.Ledger.Keep)); err != nil {
		return FaultError{err}
	}
	recovered, err := d.ledger.Recover(time.Now(), d.images)
	if err != nil {
		return FaultError{err}
	}
	if recovered > 0 {
		d.log.Warn("triggers of an earlier run had no record; they are Undefined now", "count", recovered)
	}
	d.parts = station.NewParts(d.ledger, d.finished, d.log)
	d.gpu = gpumon.New(gpumon.Options{Monitor: d.config.GPU.Monitor, Interval: time.Duration(d.config.GPU.Interval), Log: d.log})
	d.gpu.Run(ctx)
	if err := d.openStations(ctx); err != nil {
		return err
	}
	d.metrics = web.NewMetrics(d.metricsSource())
	if err := d.openMES(); err != nil {
		return FaultError{err}
	}
	d.parts.Run()
	for _, each := range d.stations {
		each.Run() //nolint:contextcheck // it ends by Stop, not with ctx
	}
	stations := make([]web.Station, len(d.stations))
	for i, each := range d.stations {
		stations[i] = each
	}
	d.web.Open(stations, d.metrics)
	close(d.ready)
	d.mes.Run(context.WithoutCancel(ctx)) // it outlives ctx to send what is left
	d.log.Info("ready", "stations", len(d.stations), "seconds", time.Since(began).Round(time.Millisecond).Seconds(), "web", "http://"+d.web.Address())
	return nil
}

func (d *daemon) openWeb() (err error) {
	token := ""
	if path := d.config.Web.TokenFile; path != "" {
		if token, err = mes.FirstLine(path); err != nil {
			return fmt.Errorf("web token: %w", err)
		}
	}
	d.web, err = web.Start(web.Options{Listen: d.config.Web.Listen, Token: token, Ready: d.notReady, Health: d.health, Log: d.log})
	if err == nil {
		d.log.Info("starting", "web", "http://"+d.web.Address())
	}
	return err
}

func brokerOf(config configs.MQTT) mes.Broker {
	return mes.Broker{
		URL: config.URL, Username: config.Username, PasswordFile: config.PasswordFile,
		CAFile: config.CAFile, CertFile: config.CertFile, KeyFile: config.KeyFile,
	}
}

// CheckMQTT says what is wrong with the files that the connection to the broker
// needs.
func CheckMQTT(config configs.MQTT) error {
	if config.Embedded {
		return nil
	}
	return brokerOf(config).Check()
}

func (d *daemon) openMES() (err error) {
	config := d.config.MQTT
	broker := brokerOf(config)
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
		Snapshot:   d.snapshot,
		Health:     d.stationHealth,
		Ledger:     d.ledger,
		RequireAck: config.RequireAck,
		AckTimeout: time.Duration(config.AckTimeout),
		Log:        d.log,
	}
	for _, each := range d.stations {
		options.Stations = append(options.Stations, each)
	}
	for _, part := range d.config.Parts {
		options.Acks = append(options.Acks, part.Name)
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

// acquired has published that a part may move on.
func (d *daemon) acquired(name string, taken station.Acquired) {
	d.mes.Acquired(name, mes.Acquired{
		TriggerID: taken.TriggerID, CommandID: taken.CommandID, PartID: taken.PartID, View: taken.View, Captured: verdict.Time{Time: taken.Captured},
	})
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
	d.triggers.Go(func() { d.keepRoom(ctx) })
	d.triggers.Go(func() { d.retain(ctx) })
	d.triggers.Go(func() { d.watchLedger(ctx) })
	d.notify.ready()
	d.triggers.Go(func() { d.notify.watch(ctx, d.stuck, d.statusText) })
	return d.wait(ctx)
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
	if d.parts != nil {
		d.parts.Close()
	}
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
	closed := make(chan error, 1)
	go func() { closed <- d.engines.Close() }()
	select {
	case err := <-closed:
		return err
	case <-ctx.Done():
		d.log.Error("a recipe is still being loaded; the engines are left to the end of the process")
		return nil
	}
}
