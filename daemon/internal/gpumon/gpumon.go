// Package gpumon watches the GPU: its temperature, power, load, memory and
// what slows it down. What cannot be read is null, never an old value.
package gpumon

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// The monitors.
const (
	MonitorAuto = "auto" // NVML where there is a driver, else none
	MonitorNVML = "nvml"
	MonitorNone = "none"
)

// Report is what a monitor knows now.
type Report struct {
	Monitor string  `json:"monitor"` // nvml | none
	Reason  *string `json:"reason"`  // why there is no reading; null: there is
	GPUs    []GPU   `json:"gpus"`    // empty without a reading
	Driver  *string `json:"driver"`  // its version
}

// GPU is the reading of one GPU; a field that cannot be read is null.
type GPU struct {
	Index              int      `json:"index"`
	Name               *string  `json:"name"`
	UUID               *string  `json:"uuid"`
	TemperatureC       *float64 `json:"temperature_c"`
	PowerW             *float64 `json:"power_w"`
	UtilizationPercent *float64 `json:"utilization_percent"`
	MemoryUsedBytes    *float64 `json:"memory_used_bytes"`
	MemoryTotalBytes   *float64 `json:"memory_total_bytes"`
	// Throttling names what slows the GPU down; empty: nothing.
	Throttling *[]string `json:"throttling"`
}

// reader reads GPUs.
type reader interface {
	read() (Report, error)
	close()
}

// Options of a monitor.
type Options struct {
	Monitor  string // auto | nvml | none
	Interval time.Duration
	Log      *slog.Logger
}

// Monitor reads the GPUs at an interval.
type Monitor struct {
	options Options
	open    func() (reader, error)

	mutex  sync.Mutex
	latest Report

	cancel context.CancelFunc
	done   chan struct{}
}

// New makes a monitor.
func New(options Options) *Monitor {
	return &Monitor{options: options, open: openNVML, latest: none("not read yet"), done: make(chan struct{})}
}

func none(reason string) Report {
	return Report{Monitor: MonitorNone, Reason: &reason, GPUs: []GPU{}}
}

// Run reads once, and then at the interval until Close.
func (m *Monitor) Run(ctx context.Context) {
	ctx, m.cancel = context.WithCancel(ctx)
	if m.options.Monitor == MonitorNone {
		m.set(none("switched off in the configuration"))
		close(m.done)
		return
	}
	go func() {
		defer close(m.done)
		m.watch(ctx)
	}()
}

// watch reads until ctx ends. A driver that is not there may come: it is
// looked for again, but told of once.
func (m *Monitor) watch(ctx context.Context) {
	var open reader
	defer func() {
		if open != nil {
			open.close()
		}
	}()
	ticker := time.NewTicker(m.options.Interval)
	defer ticker.Stop()
	told := ""
	for {
		report, err := m.readOnce(&open)
		text := ""
		if err != nil {
			text = err.Error()
			report = none(text)
		}
		m.set(report)
		if text != told {
			switch {
			case text == "":
				m.options.Log.Info("GPU is watched", "monitor", report.Monitor, "gpus", len(report.GPUs))
			case m.options.Monitor == MonitorAuto && told == "":
				m.options.Log.Info("no GPU is watched", "reason", text)
			default:
				m.options.Log.Warn("GPU cannot be read", "error", text)
			}
			told = text
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (m *Monitor) readOnce(open *reader) (report Report, err error) {
	defer func() {
		if caught := recover(); caught != nil {
			err = fmt.Errorf("panic: %v", caught)
		}
	}()
	if *open == nil {
		if *open, err = m.open(); err != nil {
			*open = nil
			return Report{}, err
		}
	}
	report, err = (*open).read()
	if err != nil {
		(*open).close()
		*open = nil
	}
	return report, err
}

func (m *Monitor) set(report Report) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.latest = report
}

// Report is the latest reading.
func (m *Monitor) Report() Report {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return m.latest
}

// Close ends the readings. It may be called twice.
func (m *Monitor) Close() {
	if m.cancel == nil {
		return
	}
	m.cancel()
	<-m.done
}
