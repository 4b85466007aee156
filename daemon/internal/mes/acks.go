package mes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
)

// Limits of acknowledgements.
const (
	maxAckBytes    = 16 << 10
	maxIDBytes     = 256
	maxReasonBytes = 2 << 10 // what is kept of a reason
	acksWaiting    = 1024    // for the ledger; one that is dropped comes again when its verdict does
	acksAtOnce     = 256     // share a commit
)

// Ack is the MES's acknowledgement of a verdict.
type Ack struct {
	ResultID string  `json:"result_id"`
	Status   string  `json:"status"` // accepted | rejected
	Reason   *string `json:"reason"`
}

// The statuses of acknowledgements.
const (
	accepted = "accepted"
	rejected = "rejected"
)

// ParseAck reads an acknowledgement: a JSON object of known keys.
func ParseAck(payload []byte) (ack Ack, err error) {
	const example = `{"result_id": "01M8…", "status": "accepted"}`
	if err := verdict.Decode(payload, &ack, maxAckBytes, example); err != nil {
		return Ack{}, err
	}
	switch {
	case ack.ResultID == "":
		err = errors.New("result_id: required, but missing")
	case len(ack.ResultID) > maxIDBytes:
		err = fmt.Errorf("result_id: expected at most %d bytes, found %d", maxIDBytes, len(ack.ResultID))
	case ack.Status != accepted && ack.Status != rejected:
		err = fmt.Errorf("status: expected %s or %s, found %q", accepted, rejected, ack.Status)
	}
	if err != nil {
		return Ack{}, verdict.Unlike(example, err)
	}
	return ack, nil
}

// subscribeAcks subscribes to the acknowledgements of all sources: stations,
// parts, and what is left in the outbox of those that are configured no more.
func (n *connection) subscribeAcks(ctx context.Context) error {
	c := n.client
	if !c.options.RequireAck {
		return nil
	}
	filters, own := map[string]byte{}, map[string]bool{}
	names := append([]string{}, c.options.Acks...)
	for _, station := range c.options.Stations {
		names = append(names, station.Name())
	}
	for _, name := range names {
		filter := c.topics.station(name, "ack")
		filters[filter], own[filter] = qos, true
	}
	sources, err := c.options.Ledger.Sources()
	if err != nil {
		return err
	}
	for _, source := range sources {
		filters[ackOf(source)] = qos
	}
	if len(filters) == 0 {
		return nil
	}
	refused, err := n.subscribe(ctx, filters, n.receiveAck)
	if err != nil {
		return fmt.Errorf("subscribe to acknowledgements: %w", err)
	}
	for _, filter := range refused {
		if own[filter] {
			return fmt.Errorf("subscribe to %s: the broker refuses it; allow it in the broker's access list, or set mqtt.require_ack: false", filter)
		}
		c.options.Log.Warn("verdicts of a source that is configured no more cannot be acknowledged: the broker refuses the subscription; allow it in the broker's access list",
			"topic", filter)
	}
	return nil
}

// receiveAck takes a message from the MQTT library, which must not be held up.
func (n *connection) receiveAck(message mqtt.Message) {
	c := n.client
	if message.Retained() {
		c.badAcks.tell(c.options.Log, "retained", message.Topic(), errors.New("publish acknowledgements without the retain flag"))
		return
	}
	ack, err := ParseAck(message.Payload())
	if err != nil {
		c.badAcks.tell(c.options.Log, "invalid", message.Topic(), err)
		return
	}
	select {
	case n.acks <- ledger.Acknowledgement{
		Source: sourceOf(message.Topic()), ResultID: ack.ResultID, Accepted: ack.Status == accepted, Reason: kept(ack.Reason),
	}:
	default:
		c.badAcks.tell(c.options.Log, "flood", message.Topic(), fmt.Errorf("%d wait for the ledger already", acksWaiting))
	}
}

// kept is what is kept of a reason.
func kept(reason *string) string {
	if reason == nil {
		return ""
	}
	if len(*reason) <= maxReasonBytes {
		return *reason
	}
	return strings.ToValidUTF8((*reason)[:maxReasonBytes], "")
}

// takeAcks records acknowledgements until ctx ends, as many at a time as there
// are.
func (n *connection) takeAcks(ctx context.Context) {
	for {
		var acks []ledger.Acknowledgement
		select {
		case <-ctx.Done():
			// Those that came still count, if the ledger takes them at once.
			for acks = n.moreAcks(nil); len(acks) > 0; acks = n.moreAcks(nil) {
				n.acknowledge(ctx, acks)
			}
			return
		case first := <-n.acks:
			acks = n.moreAcks([]ledger.Acknowledgement{first})
		}
		n.acknowledge(ctx, acks)
	}
}

// moreAcks adds those that wait.
func (n *connection) moreAcks(acks []ledger.Acknowledgement) []ledger.Acknowledgement {
	for len(acks) < acksAtOnce {
		select {
		case next := <-n.acks:
			acks = append(acks, next)
		default:
			return acks
		}
	}
	return acks
}

func (n *connection) acknowledge(ctx context.Context, acks []ledger.Acknowledgement) {
	c := n.client
	var effects []ledger.Effect
	if !n.insist(ctx, func() (err error) { effects, err = c.options.Ledger.Acknowledge(acks); return err }) {
		return
	}
	for i, ack := range acks {
		switch effects[i] {
		case ledger.AckRejected:
			c.options.Log.Warn("the MES rejected a verdict", "source", ack.Source, "result_id", ack.ResultID, "reason", ack.Reason)
		case ledger.AckElsewhere:
			c.badAcks.tell(c.options.Log, "elsewhere", ackOf(ack.Source), fmt.Errorf("result %s is another station's; acknowledge it on that one's topic", ack.ResultID))
			continue
		case ledger.AckedBefore:
			c.options.Log.Debug("acknowledgement of a verdict that is not in the outbox", "source", ack.Source, "result_id", ack.ResultID)
		}
		if publisher := n.publisherOf(ack.Source); publisher != nil {
			publisher.hear(ack.ResultID)
		}
	}
}

// badAcks counts acknowledgements that cannot be used. The first of a kind is
// told.
type badAcks struct {
	mutex sync.Mutex
	count map[string]int64
}

func (b *badAcks) tell(log *slog.Logger, kind, topic string, err error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.count == nil {
		b.count = map[string]int64{}
	}
	b.count[kind]++
	say := log.Debug
	if b.count[kind] == 1 {
		say = log.Warn
	}
	say("acknowledgement ignored", "kind", kind, "topic", topic, "error", err, "count", b.count[kind])
}

// AcksIgnored counts, by their kind, acknowledgements that could not be used.
func (c *Client) AcksIgnored() map[string]int64 {
	c.badAcks.mutex.Lock()
	defer c.badAcks.mutex.Unlock()
	return maps.Clone(c.badAcks.count)
}
