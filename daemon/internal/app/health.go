package app

import (
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"gladd/daemon/internal/gpumon"
	"gladd/daemon/internal/mes"
	"gladd/daemon/internal/station"
	"gladd/daemon/internal/verdict"
	"gladd/daemon/internal/web"
)

// isReady says whether the stations were started.
func (d *daemon) isReady() bool {
	select {
	case <-d.ready:
		return true
	default:
		return false
	}
}

// notReady says why the daemon cannot inspect; empty: it can.
func (d *daemon) notReady() []string {
	if !d.isReady() {
		return []string{"gladd is starting: " + *d.starting.Load()}
	}
	var reasons []string
	for _, each := range d.stations {
		if status := each.Status(); !inspects(status) {
			reasons = append(reasons, fmt.Sprintf("station %s: %s: %s", each.Name(), status.State, status.Reason))
		}
	}
	return reasons
}

// inspects says whether a station inspects parts.
func inspects(status station.Status) bool {
	switch status.State {
	case station.Ready, station.SingleExecution, station.ContinuousExecution:
		return true
	}
	return false
}

// health describes the daemon for /healthz.
func (d *daemon) health() any {
	if !d.isReady() {
		return struct {
			Alive    bool   `json:"alive"`
			Software string `json:"software"`
			Starting string `json:"starting"`
		}{true, d.options.Software, *d.starting.Load()}
	}
	return struct {
		Alive    bool           `json:"alive"`
		Software string         `json:"software"`
		MQTT     mes.Connection `json:"mqtt"`
		GPU      gpumon.Report  `json:"gpu"`
	}{Alive: true, Software: d.options.Software, MQTT: d.mes.Connection(), GPU: d.gpu.Report()}
}

func text(err error) *string {
	if err == nil {
		return nil
	}
	words := err.Error()
	return &words
}

func (d *daemon) station(name string) *station.Station {
	for _, each := range d.stations {
		if each.Name() == name {
			return each
		}
	}
	return nil
}

// snapshot describes a station for its retained messages.
func (d *daemon) snapshot(name string) mes.Snapshot {
	each := d.station(name)
	snapshot := mes.Snapshot{}
	for _, status := range each.Entered() {
		state := mes.State{State: string(status.State), Since: verdict.Time{Time: status.Since}}
		if status.Reason != "" {
			state.Reason = &status.Reason
		}
		snapshot.States = append(snapshot.States, state)
	}
	if model := each.Model(); model.Inspector != nil {
		snapshot.Recipe = mes.Recipe{
			Name: &model.Recipe.Name, Version: &model.Recipe.Version, Digest: &model.Recipe.Digest,
			Bundle: &model.Bundle, CalibrationID: model.CalibrationID,
		}
	}
	counters, err := d.ledger.Counters(each.Source())
	if err != nil {
		d.log.Error("counters cannot be read", "station", name, "error", err)
	}
	snapshot.Counters = mes.Counters{LedgerID: d.ledger.ID(), Counters: counters}
	return snapshot
}

// modelError says why a station has no model that works now.
func (d *daemon) modelError(each *station.Station) error {
	err := each.ModelError()
	switch each.Model().Method.Backend {
	case BackendTensorRT, BackendONNXRuntimeCUDA:
		if err == nil {
			err = d.engines.Fault()
		}
	}
	return err
}

func (d *daemon) stationHealth(name string) mes.Health {
	each := d.station(name)
	gpu := d.gpu.Report()
	health := mes.Health{
		Camera:  mes.Part{Name: each.Camera(), OK: each.CameraError() == nil, Detail: text(each.CameraError())},
		Engine:  mes.Part{Name: each.Model().Method.Backend, OK: d.modelError(each) == nil, Detail: text(d.modelError(each))},
		GPU:     gpu,
		Queue:   mes.Queue{Count: each.Outstanding(), Capacity: each.Capacity()},
		Clock:   station.SystemClock(),
		Reasons: []string{},
	}
	for _, err := range []error{each.CameraError(), d.modelError(each), each.LedgerError(), d.picturesError(each)} {
		if err != nil {
			health.Reasons = append(health.Reasons, err.Error())
		}
	}
	outbox, reasons := d.outboxHealth(each)
	health.Outbox, health.Reasons = outbox, append(health.Reasons, reasons...)
	health.Reasons = append(health.Reasons, d.connectionReasons()...)
	var disk unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(d.config.Ledger.Path), &disk); err == nil {
		health.Disk = &mes.Disk{FreeBytes: disk.Bavail * uint64(disk.Bsize), TotalBytes: disk.Blocks * uint64(disk.Bsize)}
	} else {
		health.Reasons = append(health.Reasons, "disk: "+err.Error())
	}
	return health
}

// connectionReasons say what is wrong with a connection that there is, or soon
// will be.
func (d *daemon) connectionReasons() []string {
	connection := d.mes.Connection()
	reasons := connection.Warnings
	if connection.Connected && connection.Reason != nil {
		reasons = append(reasons, *connection.Reason)
	}
	return reasons
}

// metricsSource answers /metrics.
func (d *daemon) metricsSource() web.MetricsSource {
	return web.MetricsSource{
		Software: d.options.Software,
		Stations: func() []web.Observed {
			var all []web.Observed
			for _, each := range d.stations {
				observed := web.Observed{
					Station:     each.Name(),
					Outstanding: each.Outstanding(),
					Ready:       inspects(each.Status()),
				}
				// What cannot be read is absent, never an old value.
				counters, err := d.ledger.Counters(each.Source())
				if err != nil {
					continue
				}
				waiting, err := d.ledger.Waiting(each.Source())
				if err != nil {
					continue
				}
				observed.Counters, observed.Outbox, observed.OutboxOldest = counters, waiting.Count, oldestSeconds(waiting)
				observed.Unacknowledged, observed.Rejected = waiting.Unacknowledged, waiting.Rejected
				all = append(all, observed)
			}
			for _, part := range d.config.Parts {
				if observed, err := d.observedPart(part.Name); err == nil {
					all = append(all, observed)
				}
			}
			return all
		},
		GPUs:        d.observedGPUs,
		AcksIgnored: func() map[string]int64 { return d.mes.AcksIgnored() },
		Connected:   func() bool { connected, _ := d.mes.Connected(); return connected },
	}
}

func (d *daemon) observedGPUs() []web.ObservedGPU {
	var all []web.ObservedGPU
	for _, gpu := range d.gpu.Report().GPUs {
		observed := web.ObservedGPU{Index: gpu.Index, Values: map[string]float64{}}
		for name, value := range map[string]*float64{
			"temperature_celsius": gpu.TemperatureC,
			"power_watts":         gpu.PowerW,
			"memory_used_bytes":   gpu.MemoryUsedBytes,
			"memory_total_bytes":  gpu.MemoryTotalBytes,
		} {
			if value != nil {
				observed.Values[name] = *value
			}
		}
		if gpu.UtilizationPercent != nil {
			observed.Values["utilization_ratio"] = *gpu.UtilizationPercent / 100
		}
		if gpu.Throttling != nil {
			observed.Values["throttled"] = 0
			if len(*gpu.Throttling) > 0 {
				observed.Values["throttled"] = 1
			}
		}
		all = append(all, observed)
	}
	return all
}

// stuckAfter is how long after a deadline work that does not end is stuck.
const stuckAfter = 30 * time.Second

// stuck says what does not go on any more; nil: everything does. The watchdog
// is fed by it.
func (d *daemon) stuck() error {
	longest := time.Duration(0)
	for _, each := range d.stations {
		longest = max(longest, each.Deadline())
		if since := each.BusySince(); !since.IsZero() && time.Since(since) > each.Deadline()+stuckAfter {
			return fmt.Errorf("station %s: an inspection began %s ago and does not end", each.Name(), time.Since(since).Round(time.Second))
		}
	}
	if d.engines != nil {
		// One that comes back within the watchdog's time does no harm.
		if err := d.engines.Fault(); err != nil {
			return fmt.Errorf("engines: %w", err)
		}
	}
	if since := d.turns.Since(); !since.IsZero() && time.Since(since) > longest+stuckAfter {
		return fmt.Errorf("engines: a call began %s ago and does not return", time.Since(since).Round(time.Second))
	}
	return nil
}

// statusText is the line that systemctl status shows.
func (d *daemon) statusText() string {
	accepted, notOK, outbox := int64(0), int64(0), int64(0)
	for _, each := range d.stations {
		if counters, err := d.ledger.Counters(each.Source()); err == nil {
			accepted += counters.Accepted
			notOK += counters.Evaluations[verdict.NotOK]
		}
		if waiting, err := d.ledger.Waiting(each.Source()); err == nil {
			outbox += waiting.Count
		}
	}
	for _, part := range d.config.Parts {
		if waiting, err := d.ledger.Waiting(d.source(part.Name)); err == nil {
			outbox += waiting.Count
		}
	}
	words := fmt.Sprintf("%d stations, %d triggers, %d NotOK, %d verdicts wait for the MES", len(d.stations), accepted, notOK, outbox)
	if reasons := d.notReady(); len(reasons) > 0 {
		words += "; " + reasons[0]
	}
	return words
}
