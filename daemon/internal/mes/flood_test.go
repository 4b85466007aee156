package mes_test

import (
	"fmt"
	"strings"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"gladd/daemon/internal/mes"
	"gladd/daemon/internal/mes/mestest"
)

// Every command of a flood is answered or counted, and few that are refused get
// a reply.
func TestFlood(t *testing.T) {
	broker := mestest.StartMosquitto(t, "allow_anonymous true", "max_inflight_messages 0", "max_queued_messages 0")
	b := newBox(t, mes.Broker{URL: broker.URL()})
	waitConnected(t, b.client)
	listener := mestest.Listen(t, broker.URL())
	sender := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(broker.URL()).SetClientID("flood"))
	if token := sender.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	defer sender.Disconnect(0)
	const short, long = 5000, 20
	tokens := make([]mqtt.Token, 0, short+long)
	for i := range short {
		tokens = append(tokens, sender.Publish(topic+"cmd/start", 1, false, fmt.Sprintf(`{"command_id":"c-%d"}`, i)))
	}
	for range long {
		tokens = append(tokens, sender.Publish(topic+"cmd/start", 1, false, make([]byte, 10<<20)))
	}
	for _, token := range tokens {
		if token.Wait(); token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	mestest.Eventually(t, "an end of every command", func() bool {
		counters, err := b.ledger.Counters(b.station.Source())
		all := counters.Accepted
		for _, count := range counters.Refusals {
			all += count
		}
		if all > short+long {
			t.Fatalf("%d commands became %d", short+long, all)
		}
		return err == nil && all == short+long && counters.Refusals["invalid"] == long && counters.Refusals["busy"] > 0
	})
	counters, err := b.ledger.Counters(b.station.Source())
	if err != nil {
		t.Fatal(err)
	}
	mestest.CheckOrder(t, listener.Wait("/verdict", mestest.Distinct(int(counters.Accepted))), int(counters.Accepted))
	replies := listener.Wait("cmd/start/reply", mestest.Count(int(counters.Accepted)))
	t.Logf("%d accepted, %v refused, %d replies", counters.Accepted, counters.Refusals, len(replies))
	refused := 0
	for _, reply := range replies {
		if strings.Contains(reply.Payload, "more than 200 starts a second") || strings.Contains(reply.Payload, "expected at most 16384 bytes, found more") {
			refused++
		}
	}
	if refused == 0 || refused > 200 {
		t.Errorf("want a few replies to what was refused at once, found %d", refused)
	}
}

// A command that was accepted is never told to be refused, in whatever flood of
// itself it is repeated.
func TestRepeatInAFlood(t *testing.T) {
	broker := mestest.StartMosquitto(t, "allow_anonymous true", "max_inflight_messages 0", "max_queued_messages 0")
	b := newBox(t, mes.Broker{URL: broker.URL()})
	waitConnected(t, b.client)
	listener := mestest.Listen(t, broker.URL())
	const again = `{"command_id":"c-1","part_id":"P-1"}`
	listener.Send(topic+"cmd/start", again, false)
	listener.Wait("cmd/start/reply", mestest.Count(1))
	for range 1000 {
		listener.Post(topic+"cmd/start", again)
	}
	// Behind the flood, by a verb that it does not keep out.
	listener.Send(topic+"cmd/stop", `{"command_id":"c-2"}`, false)
	listener.Wait("cmd/stop/reply", mestest.Count(1))
	mestest.Eventually(t, "replies to the flood", func() bool { return len(listener.Messages("cmd/start/reply")) > 50 })
	for _, message := range listener.Messages("cmd/start/reply") {
		if reply := message.JSON(t); reply["command_id"] == "c-1" && reply["accepted"] != true {
			t.Fatalf("found %s", message.Payload)
		}
	}
}
