package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"gladd/daemon/internal/mes/mestest"
)

// A wall clock that is set while gladd runs, forwards and backwards, harms neither
// the order nor the sequences, the durations, the deadlines, the acknowledgements,
// nor what is kept.
func TestFaultClock(t *testing.T) {
	clock, err := newWallClock(filepath.Join(t.TempDir(), "clock"))
	if err != nil {
		t.Fatal(err)
	}
	broker := mestest.StartMosquitto(t)
	l := newLine(t, broker.URL(), 3)
	l.keep, l.deadline, l.age = "none", 2*time.Second, time.Hour
	l.mqtt = ", require_ack: true, ack_timeout: 300ms"
	listener := mestest.Listen(t, broker.URL()) // it holds every message against the contract
	mes := mestest.NewMES(t, broker.URL(), mestest.MESOptions{Acknowledge: true, Forget: func() bool { return rand.IntN(5) == 0 }})
	run := func() *process {
		p := launch(t, []string{"run", "--config", l.write()}, wallClockFile+"="+clock.path)
		p.waitState("READY=1")
		return p
	}
	p := run()
	panel := newPanel(p, nil)
	stop := panel.run(l.stations, 30*time.Millisecond)
	const hour, day = 3600, 24 * 3600
	began := time.Now()
	jumps := []int64{hour, -2 * hour, 3652 * day, -day, 0}
	for i, ahead := range jumps {
		panel.phase.Store(neither)
		clock.set(ahead)
		panel.phase.Store(int64(i))
		length := scale(700*time.Millisecond, 3*time.Second)
		if long() && ahead > 365*day { // until old records were looked for
			length = 11 * time.Second
		}
		time.Sleep(length)
		mestest.Eventually(t, "nothing waits for an acknowledgement", func() bool {
			_, metrics := panel.get("/metrics")
			return sum(metrics, "gladd_outbox_length") < 10
		})
		soon := time.Now().Add(time.Duration(ahead)*time.Second + time.Minute)
		for expires, want := range map[time.Time]string{soon: "", soon.Add(-2 * time.Minute): "expired"} {
			answer := panel.start(l.stations[0], fmt.Sprintf(`{"expires_at":%q,"context":{"phase":%d}}`, expires.UTC().Format(time.RFC3339), i))
			if answer.code() != want {
				t.Errorf("the clock is %d s ahead, a command expires at %s: want %q, found %+v", ahead, expires, want, answer.Reason)
			}
		}
	}
	stop()
	// And between two runs, with parts under way.
	clock.set(-day)
	for _, station := range l.stations {
		for range 10 {
			panel.start(station, `{"context":{"phase":-1}}`)
		}
	}
	p.command.Process.Kill() //nolint:errcheck // it is waited for
	<-p.exited
	clock.set(-2 * day)
	p = run()
	panel.url = p.logged("ready", "web")
	for _, station := range l.stations {
		panel.start(station, `{"context":{"phase":-1}}`)
	}
	ids, restarted := map[string]bool{}, 0
	latencies := map[int][]float64{}
	for station, found := range panel.checkDelivered(mes) {
		for trigger, record := range found {
			phase := int(record["context"].(map[string]any)["phase"].(float64))
			latency := record["latency_ms"].(float64)
			latencies[phase] = append(latencies[phase], latency)
			reason, _ := record["reason"].(map[string]any)
			if reason["code"] == "restarted" {
				restarted++
			} else if record["result_state"] != "completed" || latency < 0 || latency > 2000 {
				t.Errorf("%s: want it inspected in time, found %v", station, record)
			}
			triggered := checkTimes(t, record, reason["code"] == "restarted")
			by := func(ahead int64) bool {
				return triggered.Sub(began.Add(time.Duration(ahead)*time.Second)).Abs() < 5*time.Minute
			}
			// The last one of a phase may have been on its way when the clock was set.
			if phase >= 0 && !by(jumps[phase]) && !by(jumps[min(phase+1, len(jumps)-1)]) {
				t.Errorf("clock %d s ahead: triggered at %v", jumps[phase], triggered)
			}
			for _, id := range []string{trigger, record["result_id"].(string)} {
				if _, err := ulid.ParseStrict(id); err != nil || ids[id] {
					t.Errorf("want a ULID of its own, found %s: %v", id, err)
				}
				ids[id] = true
			}
		}
	}
	total, accepted := panel.counts()
	_, forgotten := mes.Different()
	t.Logf("%d verdicts, %d ended by the restart, %d acknowledged when they were repeated; refused %v", total, restarted, forgotten, panel.refused)
	for i, ahead := range jumps {
		t.Logf("clock %d s ahead: %d verdicts, latency %.1f ms (median)", ahead, len(latencies[i]), median(latencies[i]))
	}
	if restarted == 0 || len(listener.Messages("/verdict")) < total {
		t.Error("nothing was under way, or the listener heard nothing")
	}
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
	l.checkLedger(accepted)
}

// checkTimes checks that a record's times are in their order, and returns the
// first. That of a restart is the clock's, for want of a better one.
func checkTimes(t *testing.T, record map[string]any, restarted bool) (triggered time.Time) {
	t.Helper()
	last := time.Time{}
	times := record["times"].(map[string]any)
	for _, key := range []string{"triggered", "captured", "finished"} {
		text, is := times[key].(string)
		if !is {
			continue
		}
		at, err := time.Parse(time.RFC3339, text)
		if err != nil || at.Before(last) && !restarted {
			t.Errorf("times are turned around, or none: %v, %v", times, err)
		}
		if last = at; key == "triggered" {
			triggered = at
		}
	}
	return triggered
}
