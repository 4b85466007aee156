package web

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
)

func TestMetrics(t *testing.T) {
	metrics := NewMetrics(MetricsSource{
		Software: "gladd 1",
		Stations: func() []Observed {
			return []Observed{{
				Station: "st-01", Outbox: 3, OutboxOldest: 12.5, Unacknowledged: 2, Rejected: 1, Outstanding: 2, Ready: true,
				Counters: ledger.Counters{
					Accepted:    7,
					Evaluations: map[verdict.Evaluation]int64{verdict.OK: 5},
					Reasons:     map[verdict.ReasonCode]int64{verdict.ReasonCamera: 2},
					Refusals:    map[verdict.RefusalCode]int64{verdict.RefusedBusy: 4},
					Purposes: map[verdict.Purpose]ledger.PurposeCounters{
						verdict.Challenge: {Accepted: 3, Evaluations: map[verdict.Evaluation]int64{verdict.NotOK: 2}},
					},
				},
			}, {Station: "housing", IsPart: true, Outbox: 1, Counters: ledger.Counters{Accepted: 6}}}
		},
		GPUs: func() []ObservedGPU {
			return []ObservedGPU{{Index: 1, Values: map[string]float64{"temperature_celsius": 61, "throttled": 0}}}
		},
		AcksIgnored: func() map[string]int64 { return map[string]int64{"invalid": 6} },
		Connected:   func() bool { return false },
	})
	score := 0.5
	metrics.Observe("st-01", &verdict.Record{LatencyMS: 250, AnomalyScore: &score, Diagnostics: &verdict.Diagnostics{TimingsMS: verdict.TimingsMS{Compare: 100}}})
	server, err := Start(Options{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close(t.Context()) //nolint:errcheck // the test is over
	server.Open(nil, metrics)
	response, err := http.Get("http://" + server.Address() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // it is only read
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`gladd_build_info{version="gladd 1"} 1`, `gladd_triggers_total{purpose="production",station="st-01"} 7`,
		`gladd_verdicts_total{evaluation="OK",purpose="production",station="st-01"} 5`,
		`gladd_triggers_total{purpose="challenge",station="st-01"} 3`, `gladd_verdicts_total{evaluation="NotOK",purpose="challenge",station="st-01"} 2`,
		`gladd_triggers_total{purpose="production",station="housing"} 6`, `gladd_outbox_length{station="housing"} 1`,
		`gladd_verdict_reasons_total{reason="camera",station="st-01"} 2`, `gladd_refusals_total{reason="busy",station="st-01"} 4`,
		`gladd_outbox_length{station="st-01"} 3`, `gladd_queue_length{station="st-01"} 2`, `gladd_station_ready{station="st-01"} 1`,
		`gladd_outbox_oldest_seconds{station="st-01"} 12.5`, `gladd_outbox_parked{reason="unacknowledged",station="st-01"} 2`,
		`gladd_outbox_parked{reason="rejected",station="st-01"} 1`, `gladd_acks_ignored_total{kind="invalid"} 6`,
		`gladd_mqtt_connected 0`, `gladd_gpu_temperature_celsius{gpu="1"} 61`, `gladd_gpu_throttled{gpu="1"} 0`,
		`gladd_stage_seconds_sum{stage="total",station="st-01"} 0.25`, `gladd_stage_seconds_sum{stage="compare",station="st-01"} 0.1`,
	} {
		if !strings.Contains(string(content), want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	for _, not := range []string{"gladd_gpu_power_watts{", `gladd_queue_length{station="housing"}`, `gladd_station_ready{station="housing"}`} {
		if strings.Contains(string(content), not) {
			t.Errorf("what is not there is absent: found %s", not)
		}
	}
}
