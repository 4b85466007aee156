package mes

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"gladd/daemon/internal/ledger"
)

func TestWaitAfter(t *testing.T) {
	for ackTimeout, want := range map[time.Duration]string{
		10 * time.Second: "[10s 20s 40s 1m20s 2m40s 5m20s 10m0s 10m0s 10m0s]",
		8 * time.Minute:  "[8m0s 10m0s 10m0s 10m0s 10m0s 10m0s 10m0s 10m0s 10m0s]",
	} {
		p := newPublisher(&connection{client: New(Options{AckTimeout: ackTimeout})}, "/p/l/st-01")
		var found []time.Duration
		for tries := range int64(8) {
			found = append(found, p.waitAfter(tries+1))
		}
		found = append(found, p.waitAfter(1_000_000))
		if fmt.Sprint(found) != want {
			t.Errorf("want  %s\nfound %v", want, found)
		}
	}
}

// message is one as the MQTT library hands it over.
type message struct {
	mqtt.Message
	topic, payload string
}

func (message) Retained() bool    { return false }
func (m message) Topic() string   { return m.topic }
func (m message) Payload() []byte { return []byte(m.payload) }

// Whoever floods the box with acknowledgements does not hold up the MQTT library,
// nor fill the memory.
func TestFloodOfAcks(t *testing.T) {
	client := New(Options{Log: slog.New(slog.DiscardHandler)})
	n := &connection{client: client, acks: make(chan ledger.Acknowledgement, acksWaiting)}
	for range acksWaiting + 5 { // and nobody takes them
		n.receiveAck(message{topic: "insp/v1/p/l/st-01/ack", payload: `{"result_id":"01","status":"rejected","reason":"` + strings.Repeat("x", 10_000) + `"}`})
	}
	if ignored := client.AcksIgnored()["flood"]; len(n.acks) != acksWaiting || ignored != 5 {
		t.Errorf("want %d waiting and 5 ignored, found %d and %d", acksWaiting, len(n.acks), ignored)
	}
	if first := <-n.acks; first.Source != "/p/l/st-01" || len(first.Reason) != maxReasonBytes {
		t.Errorf("found %s with a reason of %d bytes", first.Source, len(first.Reason))
	}
}
