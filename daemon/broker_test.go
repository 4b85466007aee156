package main

import (
	"math/rand/v2"
	"testing"
	"time"

	"gladd/daemon/internal/mes/mestest"
)

// A broker that is stopped or killed twenty times costs nothing: no verdict,
// no order, no memory.
func TestFaultBroker(t *testing.T) {
	broker := mestest.StartDurable(t)
	l := newLine(t, broker.URL(), 4)
	l.keep = "not-ok"
	mes := mestest.NewMES(t, broker.URL(), mestest.MESOptions{})
	broker.Save() // that the MES has a session
	p := start(t, l.write())
	panel := newPanel(p, nil)
	stop := panel.run(l.stations, 40*time.Millisecond)
	const connected = "connected to the broker"
	p.loggedAfter(connected, time.Time{})
	stops := scale(3, 20)
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
		started := time.Now()
		broker.Start()
		mes.WaitConnected()
		p.loggedAfter(connected, started)
	}
	stop()
	byStation := panel.checkDelivered(mes)
	late := footprintOf(p)
	total, accepted := panel.counts()
	t.Logf("%d stops; %d verdicts on %d stations; refused %v; %v after a third, %v at the end", stops, total, len(byStation), panel.refused, early, late)
	early.checkFlat(t, late)
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
	l.checkLedger(accepted)
}
