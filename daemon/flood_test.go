package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"gladd/daemon/internal/mes/mestest"
)

// Messages of 10 MB and thousands of commands a second are no reason to lose a
// part, to inspect late, or to take ever more memory; and each is counted.
func TestFaultFlood(t *testing.T) {
	broker := mestest.StartMosquitto(t, "allow_anonymous true", "max_inflight_messages 0", "max_queued_messages 0")
	l := newLine(t, broker.URL(), 4)
	l.keep, l.deadline = "none", 2*time.Second
	mes := mestest.NewMES(t, broker.URL(), mestest.MESOptions{})
	p := start(t, l.write())
	p.loggedAfter("connected to the broker", time.Time{})
	panel := newPanel(p, nil)
	length := scale(time.Second, 10*time.Second)
	stop := panel.run(l.stations[1:], 50*time.Millisecond)
	defer stop()
	phase := func(number int64) {
		panel.phase.Store(number)
		time.Sleep(length) // inspections go on meanwhile
		panel.phase.Store(neither)
	}
	phase(0)
	before := footprintOf(p)
	p.forgetPeak()

	// The first station is flooded; the others inspect.
	var sent atomic.Int64
	ended := make(chan struct{})
	var flooders sync.WaitGroup
	for i, payload := range []string{
		strings.Repeat("x", 10<<20), `{"part_id":"` + strings.Repeat("x", 10<<20) + `"}`, // large
		`{"part_id":7}`, `{}`, "\xff\xfe{", // small: invalid, a trigger, no JSON
	} {
		client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(broker.URL()).SetClientID(fmt.Sprintf("flood-%d", i)))
		if token := client.Connect(); !token.WaitTimeout(mestest.Patience) || token.Error() != nil {
			t.Fatal(token.Error())
		}
		flooders.Go(func() {
			defer client.Disconnect(0)
			for {
				select {
				case <-ended:
					return
				default:
				}
				if token := client.Publish(command(l.stations[0]), 1, false, payload); !token.WaitTimeout(mestest.Patience) || token.Error() != nil {
					t.Errorf("flood: %v", token.Error())
					return
				}
				sent.Add(1)
			}
		})
	}
	phase(1)
	close(ended)
	flooders.Wait()
	// What the flood was answered with, all of it.
	refused := 0
	eventually(t, "every command accepted or refused", func() bool {
		_, metrics := panel.get("/metrics")
		of := `station="` + l.stations[0] + `"}`
		refused = 0
		for line := range strings.Lines(metrics) {
			if strings.HasPrefix(line, "gladd_refusals_total{") && strings.Contains(line, of) {
				refused += sum(line, "gladd_refusals_total{")
			}
		}
		return int64(refused+sum(metrics, "gladd_triggers_total{"+of)) == sent.Load()
	})
	phase(2)
	stop()
	peak := p.peak()
	byStation := map[string]int{}
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
	latencies := map[int][]float64{}
	for _, station := range l.stations {
		verdicts := mes.Verdicts(station)
		byStation[station] = distinct(verdicts)
		found := records(t, mes, station, byStation[station])
		for trigger := range panel.accepted[station] {
			if found[trigger] == nil {
				t.Errorf("no verdict on %s", trigger)
				continue
			}
			phase := int(found[trigger]["context"].(map[string]any)["phase"].(float64))
			latencies[phase] = append(latencies[phase], found[trigger]["latency_ms"].(float64))
		}
	}
	total, _ := panel.counts()
	t.Logf("%d messages sent, %d a second, %d refused; %d parts beside them, %v refused; %v before, %.1f MiB at most; latency %.1f ms before, %.1f ms meanwhile, %.1f ms after",
		sent.Load(), int(float64(sent.Load())/length.Seconds()), refused, total, panel.refused, before, peak,
		median(latencies[0]), median(latencies[1]), median(latencies[2]))
	if len(panel.refused) > 0 {
		t.Errorf("the flood of one station made others refuse: %v", panel.refused)
	}
	l.checkLedger(byStation)
}

// distinct counts verdicts with an id of their own.
func distinct(verdicts []mestest.Message) int {
	payloads := make([]string, 0, len(verdicts))
	for _, verdict := range verdicts {
		payloads = append(payloads, verdict.Payload)
	}
	slices.Sort(payloads)
	return len(slices.Compact(payloads))
}
