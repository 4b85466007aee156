package web

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
)

// Observed is what the metrics ask of a station when they are read.
type Observed struct {
	Station string
	// IsPart says that it is a part of several views, which has no queue.
	IsPart         bool
	Counters       ledger.Counters
	Outbox         int64
	OutboxOldest   float64 // seconds
	Unacknowledged int64   // of Outbox
	Rejected       int64
	Outstanding    int // accepted triggers without a record
	Ready          bool
}

// ObservedGPU is a GPU's reading; what could not be read is absent.
type ObservedGPU struct {
	Index  int
	Values map[string]float64 // by the metric's name after gladd_gpu_
}

// MetricsSource is where the metrics come from.
type MetricsSource struct {
	Software string
	Stations func() []Observed
	GPUs     func() []ObservedGPU
	// AcksIgnored counts, by their kind, the MES's acknowledgements that could not
	// be used.
	AcksIgnored func() map[string]int64
	// Connected says whether there is a connection to the broker.
	Connected func() bool
}

// Metrics are those of /metrics; their names begin with gladd_. Counters are
// the ledger's: they survive a restart.
type Metrics struct {
	registry *prometheus.Registry
	latency  *prometheus.HistogramVec
}

// NewMetrics registers the metrics.
func NewMetrics(source MetricsSource) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "gladd_stage_seconds",
			Help:    "Time of an inspection by stage; total is from the trigger to the durable record.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"station", "stage"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "gladd_build_info", Help: "Always 1; the label holds the version.", ConstLabels: prometheus.Labels{"version": source.Software},
	})
	build.Set(1)
	m.registry.MustRegister(m.latency, build, collector{source},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Observe notes where the time of an inspection went.
func (m *Metrics) Observe(station string, record *verdict.Record) {
	observe := func(stage string, milliseconds float64) {
		m.latency.WithLabelValues(station, stage).Observe(milliseconds / 1000)
	}
	observe("total", record.LatencyMS)
	if record.Diagnostics == nil || record.AnomalyScore == nil {
		return
	}
	timings := record.Diagnostics.TimingsMS
	observe("capture", timings.Read)
	observe("prepare", timings.Prepare)
	observe("encode", timings.Encode)
	observe("predict_noise", timings.PredictNoise)
	observe("compare", timings.Compare)
	observe("reconstruct", timings.Reconstruct)
	observe("score", timings.Score)
}

var (
	triggersDesc  = prometheus.NewDesc("gladd_triggers_total", "Accepted triggers; purpose production has those of reinspection, too.", []string{"station", "purpose"}, nil)
	verdictsDesc  = prometheus.NewDesc("gladd_verdicts_total", "Terminal records by evaluation; purpose production has those of reinspection, too.", []string{"station", "purpose", "evaluation"}, nil)
	reasonsDesc   = prometheus.NewDesc("gladd_verdict_reasons_total", "Terminal records of production and reinspection that are not OK, by reason.", []string{"station", "reason"}, nil)
	refusalsDesc  = prometheus.NewDesc("gladd_refusals_total", "Refused triggers by reason.", []string{"station", "reason"}, nil)
	outboxDesc    = prometheus.NewDesc("gladd_outbox_length", "Verdicts that the MES does not have yet.", []string{"station"}, nil)
	oldestDesc    = prometheus.NewDesc("gladd_outbox_oldest_seconds", "Age of the oldest verdict that the MES does not have; 0 without one.", []string{"station"}, nil)
	parkedDesc    = prometheus.NewDesc("gladd_outbox_parked", "Verdicts that the MES did not acknowledge (they are sent again) or rejected.", []string{"station", "reason"}, nil)
	acksDesc      = prometheus.NewDesc("gladd_acks_ignored_total", "Acknowledgements by the MES that could not be used.", []string{"kind"}, nil)
	queueDesc     = prometheus.NewDesc("gladd_queue_length", "Accepted triggers that have no record yet.", []string{"station"}, nil)
	readyDesc     = prometheus.NewDesc("gladd_station_ready", "1 where the station can inspect.", []string{"station"}, nil)
	connectedDesc = prometheus.NewDesc("gladd_mqtt_connected", "1 with a connection to the broker.", nil, nil)
)

// gpuDescs are the metrics of a GPU.
var gpuDescs = func() map[string]*prometheus.Desc {
	descs := map[string]*prometheus.Desc{}
	for name, help := range map[string]string{
		"temperature_celsius": "Temperature of the GPU.",
		"power_watts":         "Power that the GPU draws.",
		"utilization_ratio":   "Share of the time in which the GPU worked, 0 to 1.",
		"memory_used_bytes":   "Memory of the GPU in use.",
		"memory_total_bytes":  "Memory of the GPU.",
		"throttled":           "1 where heat or power slows the GPU down.",
	} {
		descs[name] = prometheus.NewDesc("gladd_gpu_"+name, help, []string{"gpu"}, nil)
	}
	return descs
}()

// collector asks when the metrics are read.
type collector struct{ source MetricsSource }

// Describe implements [prometheus.Collector].
func (c collector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{triggersDesc, verdictsDesc, reasonsDesc, refusalsDesc, outboxDesc, oldestDesc, parkedDesc, acksDesc, queueDesc, readyDesc, connectedDesc} {
		descs <- desc
	}
	for _, desc := range gpuDescs {
		descs <- desc
	}
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(metrics chan<- prometheus.Metric) {
	send := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, kind, value, labels...)
	}
	for _, station := range c.source.Stations() {
		name := station.Station
		counted := func(purpose verdict.Purpose, accepted int64, evaluations map[verdict.Evaluation]int64) {
			send(triggersDesc, prometheus.CounterValue, float64(accepted), name, string(purpose))
			for evaluation, count := range evaluations {
				send(verdictsDesc, prometheus.CounterValue, float64(count), name, string(purpose), string(evaluation))
			}
		}
		counted(verdict.Production, station.Counters.Accepted, station.Counters.Evaluations)
		for purpose, counters := range station.Counters.Purposes {
			counted(purpose, counters.Accepted, counters.Evaluations)
		}
		for reason, count := range station.Counters.Reasons {
			send(reasonsDesc, prometheus.CounterValue, float64(count), name, string(reason))
		}
		for reason, count := range station.Counters.Refusals {
			send(refusalsDesc, prometheus.CounterValue, float64(count), name, string(reason))
		}
		send(outboxDesc, prometheus.GaugeValue, float64(station.Outbox), name)
		send(oldestDesc, prometheus.GaugeValue, station.OutboxOldest, name)
		send(parkedDesc, prometheus.GaugeValue, float64(station.Unacknowledged), name, "unacknowledged")
		send(parkedDesc, prometheus.GaugeValue, float64(station.Rejected), name, "rejected")
		if station.IsPart {
			continue
		}
		send(queueDesc, prometheus.GaugeValue, float64(station.Outstanding), name)
		send(readyDesc, prometheus.GaugeValue, flag(station.Ready), name)
	}
	for kind, count := range c.source.AcksIgnored() {
		send(acksDesc, prometheus.CounterValue, float64(count), kind)
	}
	send(connectedDesc, prometheus.GaugeValue, flag(c.source.Connected()))
	for _, gpu := range c.source.GPUs() {
		for name, value := range gpu.Values {
			if desc, known := gpuDescs[name]; known {
				send(desc, prometheus.GaugeValue, value, strconv.Itoa(gpu.Index))
			}
		}
	}
}

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
