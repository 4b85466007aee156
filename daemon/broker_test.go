package main

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gladd/daemon/internal/mes/mestest"
)

// A broker that is stopped or killed twenty times costs nothing: no verdict,
// no order, no memory.
func TestFaultBroker(t *testing.T) {
	// The broker keeps what it took, as far as one that is killed can.
	t.Run("durable", func(t *testing.T) {
		broker := mestest.StartDurable(t)
		l := newLine(t, broker.URL(), 4)
		mes := mestest.NewMES(t, broker.URL(), mestest.MESOptions{})
		broker.Save() // that the MES has a session
		stopBroker(t, broker, l, mes, scale(2, 10), false)
	})
	// The broker forgets everything: sessions, subscriptions, what it took.
	t.Run("acknowledged", func(t *testing.T) {
		broker := &mestest.Durable{Mosquitto: mestest.StartMosquitto(t)}
		l := newLine(t, broker.URL(), 4)
		l.mqtt = ", require_ack: true, ack_timeout: 1s"
		mes := mestest.NewMES(t, broker.URL(), mestest.MESOptions{Acknowledge: true, Forget: func() bool { return rand.IntN(10) == 0 }})
		stopBroker(t, broker, l, mes, scale(2, 20), true)
	})
}

func stopBroker(t *testing.T, broker *mestest.Durable, l *line, mes *mestest.MES, stops int, forgets bool) {
	l.keep = "not-ok"
	p := start(t, l.write())
	panel := newPanel(p, nil)
	stop := panel.run(l.stations, 40*time.Millisecond)
	session := mes.WaitOnline(0)
	early := footprint{}
	for i := range stops {
		if i == stops/3 {
			early = footprintOf(p)
		}
		// Moments, not events: they are what the test varies. After a connection of
		// less than two seconds the box waits longer before the next one.
		up := 2100 + rand.IntN(400)
		if i%5 == 4 {
			up = rand.IntN(400)
		}
		time.Sleep(time.Duration(up) * time.Millisecond)
		if i%2 == 0 {
			broker.Stop()
		} else {
			broker.Kill()
		}
		time.Sleep(time.Duration(rand.IntN(1000)) * time.Millisecond)
		broker.Start()
		mes.WaitConnected()
		session = mes.WaitOnline(session)
	}
	stop()
	total, accepted := panel.counts()
	mes.WaitDelivered(total)
	late := footprintOf(p)
	repeated, turned := 0, 0
	for station, ids := range panel.accepted {
		verdicts := mes.Verdicts(station)
		repeated += len(verdicts) - len(ids)
		if forgets {
			// One that the broker took while the MES was away comes again behind
			// those that came meanwhile.
			turned += behind(t, verdicts)
			sorted := slices.Clone(verdicts)
			slices.SortStableFunc(sorted, func(a, b mestest.Message) int { return cmp.Compare(sequence(t, a), sequence(t, b)) })
			verdicts = sorted
		}
		for trigger := range mestest.CheckOrder(t, verdicts, len(ids)) {
			if !ids[trigger] {
				t.Errorf("%s: a verdict on a trigger that nobody accepted: %s", station, trigger)
			}
		}
	}
	t.Logf("%d stops; %d verdicts, %d more times, %d first behind a later one; refused %v; %v after a third, %v at the end",
		stops, total, repeated, turned, panel.refused, early, late)
	early.checkFlat(t, late)
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
	l.checkLedger(accepted)
}

// behind counts the verdicts that came for the first time when a later one was
// there.
func behind(t *testing.T, verdicts []mestest.Message) (count int) {
	last, came := 0.0, map[float64]bool{}
	for _, each := range verdicts {
		number := sequence(t, each)
		if number < last && !came[number] {
			count++
		}
		came[number], last = true, max(last, number)
	}
	return count
}

func sequence(t *testing.T, verdict mestest.Message) float64 {
	return verdict.JSON(t)["data"].(map[string]any)["sequence"].(float64)
}
