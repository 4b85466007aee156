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
// part or to take ever more memory, and each is counted.
func TestFaultFlood(t *testing.T) {
	broker := mestest.StartMosquitto(t, "allow_anonymous true", "max_inflight_messages 0", "max_queued_messages 0")
	l := newLine(t, broker.URL(), 4)
	l.keep, l.deadline = "none", 2*time.Second
	mes := mestest.NewMES(t, broker.URL(), mestest.MESOptions{})
	p := start(t, l.write())
	mes.WaitOnline(0)
	panel := newPanel(p, nil)
	// The first station is flooded; the others inspect.
	flooded := l.stations[0]
	stop := panel.run(l.stations[1:], 50*time.Millisecond)
	phase := func(number int64) {
		panel.phase.Store(number)
		time.Sleep(scale(time.Second, 10*time.Second)) // inspections go on meanwhile
		panel.phase.Store(neither)
	}
	phase(0)
	before := footprintOf(p)
	p.forgetPeak()
	const large = 10 << 20
	floods := [][]string{
		{strings.Repeat("x", large), `{"part_id":"` + strings.Repeat("x", large) + `"}`},
		{`{"part_id":7}`, `{}`, "\xff\xfe{"}, // invalid, a trigger, no JSON
	}
	sent, refused := int64(0), 0
	for i, payloads := range floods {
		flood := startFlood(t, broker.URL(), command(flooded), payloads)
		began := time.Now()
		phase(int64(i + 1))
		count := flood()
		took := time.Since(began).Seconds()
		sent += count
		accepted := 0
		mestest.Eventually(t, "every command accepted or refused", func() bool {
			_, metrics := panel.get("/metrics")
			of := `station="` + flooded + `"`
			refused, accepted = sum(metrics, "gladd_refusals_total{", of), sum(metrics, "gladd_triggers_total{", of)
			return int64(refused+accepted) == sent
		})
		t.Logf("%d commands of %d bytes, %.0f a second; refused by now: %d, accepted: %d; memory %.1f MiB before, at most %.1f MiB",
			count, len(payloads[0]), float64(count)/took, refused, accepted, before.resident, p.peak())
	}
	phase(int64(len(floods) + 1))
	stop()
	// Not one of 10 MB for each command that may wait.
	if peak := p.peak(); long() && peak > before.resident+64 {
		t.Errorf("want at most 64 MiB for a flood, found %.1f MiB before and at most %.1f MiB", before.resident, peak)
	}
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
	latencies, byStation := map[int][]float64{}, map[string]int{}
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
	t.Logf("%d parts at the other stations, %v refused; medians of their latencies, in ms: before %.1f, large %.1f, many %.1f, after %.1f",
		total, panel.refused, median(latencies[0]), median(latencies[1]), median(latencies[2]), median(latencies[3]))
	if len(panel.refused) > 0 {
		t.Errorf("the flood of one station made others refuse: %v", panel.refused)
	}
	l.checkLedger(byStation)
}

// startFlood publishes, as fast as the broker takes it, each payload with a
// client of its own, until it is stopped; that returns how many messages the
// broker took.
func startFlood(t *testing.T, url, topic string, payloads []string) (stop func() int64) {
	t.Helper()
	var sent atomic.Int64
	ended := make(chan struct{})
	var flooding sync.WaitGroup
	for i, payload := range payloads {
		client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).SetClientID(fmt.Sprintf("flood-%d", i)))
		if token := client.Connect(); !token.WaitTimeout(mestest.Patience) || token.Error() != nil {
			t.Fatal(token.Error())
		}
		flooding.Go(func() {
			defer client.Disconnect(0)
			for {
				select {
				case <-ended:
					return
				default:
				}
				tokens := make([]mqtt.Token, 1+1000/(1+len(payload))) // small ones many at a time
				for i := range tokens {
					tokens[i] = client.Publish(topic, 1, false, payload)
				}
				for _, token := range tokens {
					if !token.WaitTimeout(mestest.Patience) || token.Error() != nil {
						t.Errorf("flood: %v", token.Error())
						return
					}
					sent.Add(1)
				}
			}
		})
	}
	return func() int64 {
		close(ended)
		flooding.Wait()
		return sent.Load()
	}
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

// A command that comes at a bad moment, in a flood, has one answer all the same:
// an MES that heard busy may start another inspection of the part, so that this
// one must not be accepted, neither before nor after.
func TestFaultFloodOfRepetitions(t *testing.T) {
	broker := mestest.StartMosquitto(t, "allow_anonymous true", "max_inflight_messages 0", "max_queued_messages 0", "set_tcp_nodelay true")
	l := newLine(t, broker.URL(), 1)
	l.keep = "none"
	mes := mestest.NewMES(t, broker.URL(), mestest.MESOptions{})
	p := start(t, l.write())
	mes.WaitOnline(0)
	topic := command(l.stations[0])
	var senders sync.WaitGroup
	for sender := range 4 {
		senders.Go(func() {
			for i := range scale(200, 2000) {
				id := fmt.Sprintf("c-%d-%d", sender, i)
				mes.SendNow(topic, id, fmt.Sprintf(`{"command_id":%q}`, id))
				mes.SendNow(topic, id, fmt.Sprintf(`{"command_id":%q}`, id))
			}
		})
	}
	senders.Wait()
	mestest.Eventually(t, "the flood is over", func() bool {
		before := len(mes.Replies())
		mes.Send(topic, "last", `{"command_id":"last"}`)
		time.Sleep(100 * time.Millisecond) // the limit is one of commands a second
		return mes.Answered("last") > 0 && len(mes.Replies()) == before
	})
	contradicted, accepted := 0, 0
	for id, replies := range mes.Replies() {
		for _, each := range replies {
			if each != replies[0] {
				if contradicted++; contradicted < 4 {
					t.Errorf("two replies to command %q:\n%s\n%s", id, replies[0], each)
				}
				break
			}
		}
		if strings.Contains(replies[0], `"accepted":true`) {
			accepted++
		}
	}
	t.Logf("%d commands sent, %d answered, %d accepted, %d contradicted", len(mes.Sent()), len(mes.Replies()), accepted, contradicted)
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
}
