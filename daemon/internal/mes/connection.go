package mes

import (
	"context"
	"fmt"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
)

// How often retained messages are looked at.
const (
	lookEvery   = time.Second
	healthEvery = 5 * time.Second
)

// connection is one connection to the broker, from CONNECT to its end.
type connection struct {
	client  *Client
	mqtt    mqtt.Client
	session int64
	lost    chan error
	online  bool // it was said, or tried
	echo    echo

	sent     map[string]string // the retained messages of this connection, by topic
	healthAt time.Time

	acks chan ledger.Acknowledgement // on their way to the ledger

	mutex      sync.Mutex
	publishers map[string]*publisher // by source
}

// lose ends the connection; the first reason counts.
func (n *connection) lose(err error) {
	select {
	case n.lost <- err:
	default:
	}
}

// begin subscribes, publishes the stations' state, and then says online.
func (n *connection) begin(ctx context.Context) error {
	c := n.client
	filters := map[string]byte{}
	for _, station := range c.options.Stations {
		filters[c.topics.commands(station.Name())] = qos
	}
	if len(filters) > 0 {
		refused, err := n.subscribe(ctx, filters, c.receive)
		if err != nil {
			return fmt.Errorf("subscribe to commands: %w", err)
		}
		if len(refused) > 0 {
			return &Problem{Class: ClassAccessRefused, Text: fmt.Sprintf("the broker does not let this box subscribe to %s: allow it in the broker's access list", refused[0])}
		}
	}
	if err := n.subscribeAcks(ctx); err != nil {
		return err
	}
	if err := n.listenToStatus(ctx); err != nil {
		return err
	}
	if err := n.publishSnapshots(ctx, true); err != nil {
		return err
	}
	n.online = true
	return n.publishRetained(ctx, c.topics.status(), c.status(statusOnline, n.session))
}

// subscribe subscribes to topics, and returns those that the broker refuses: it
// grants a QoS, or answers with 0x80 (MQTT 3.1.1, 3.9.3).
func (n *connection) subscribe(ctx context.Context, filters map[string]byte, receive func(mqtt.Message)) (refused []string, err error) {
	token := n.mqtt.SubscribeMultiple(filters, func(_ mqtt.Client, message mqtt.Message) { receive(message) })
	if err := wait(ctx, token, ackTimeout); err != nil {
		return nil, err
	}
	for filter, code := range token.(*mqtt.SubscribeToken).Result() {
		if code > 2 {
			refused = append(refused, filter)
		}
	}
	return refused, nil
}

// listenToStatus subscribes to what is said of this box, by whomever. A broker
// may forbid it; one that ends the connection over it is not asked again.
func (n *connection) listenToStatus(ctx context.Context) error {
	c := n.client
	if c.deaf {
		return nil
	}
	c.deaf = true
	refused, err := n.subscribe(ctx, map[string]byte{c.topics.status(): qos}, func(message mqtt.Message) {
		n.echo.hear(message.Payload(), c.options.Ledger.ID(), n.session)
		c.hearStatus(message)
	})
	if err != nil {
		return fmt.Errorf("subscribe to the box's status: %w", err)
	}
	if len(refused) == 0 {
		n.echo.expect()
	}
	c.deaf = false
	return nil
}

// work publishes until the connection is lost or ctx ends.
func (n *connection) work(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var working sync.WaitGroup
	defer working.Wait()
	defer cancel()
	working.Go(func() { n.takeAcks(ctx) })
	start := func(source string) {
		n.mutex.Lock()
		defer n.mutex.Unlock()
		if running := n.publishers[source]; running != nil {
			running.look()
			return
		}
		if ctx.Err() != nil {
			return
		}
		started := newPublisher(n, source)
		n.publishers[source] = started
		working.Go(func() {
			if err := started.publish(ctx); err != nil {
				n.lose(err)
			}
		})
	}
	// First watch, then look: nothing falls between.
	defer n.client.options.Ledger.Watch(start)()
	sources, err := n.client.options.Ledger.Sources()
	if err != nil {
		return &Problem{Class: ClassLedger, Text: "the ledger's outbox cannot be read", Cause: err}
	}
	for _, source := range sources {
		start(source)
	}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for told := false; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-n.lost:
			return err
		case <-n.client.renewal.renewed:
			return errRenewed
		case <-n.client.changed:
		case <-ticker.C:
			if missing := n.echo.missing(); missing && !told {
				told = true
				n.client.options.Log.Warn(unheard)
			}
		}
		if err := n.publishSnapshots(ctx, false); err != nil && ctx.Err() == nil {
			n.lose(err)
		}
	}
}

func (n *connection) publisherOf(source string) *publisher {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	return n.publishers[source]
}

// publishSnapshots publishes the stations' retained messages that changed;
// health now and then.
func (n *connection) publishSnapshots(ctx context.Context, all bool) error {
	c := n.client
	health := all || time.Since(n.healthAt) >= healthEvery
	if health {
		n.healthAt = time.Now()
	}
	for _, station := range c.options.Stations {
		snapshot := c.options.Snapshot(station.Name()).with(n.session)
		states := snapshot.States
		if all { // what was before this connection is nobody's business
			states = states[max(0, len(states)-1):]
		}
		for _, state := range states {
			if err := n.publishRetained(ctx, c.topics.station(station.Name(), "state"), state); err != nil {
				return err
			}
		}
		messages := map[string]any{"recipe": snapshot.Recipe, "counters": snapshot.Counters}
		if health {
			described := c.options.Health(station.Name())
			described.Session = n.session
			delete(n.sent, c.topics.station(station.Name(), "health")) // also where nothing changed: it shows that the box lives
			messages["health"] = described
		}
		for leaf, message := range messages {
			if err := n.publishRetained(ctx, c.topics.station(station.Name(), leaf), message); err != nil {
				return err
			}
		}
	}
	return nil
}

// publishRetained publishes a retained message, if it is another than before.
func (n *connection) publishRetained(ctx context.Context, topic string, message any) error {
	payload, err := verdict.JSON(message)
	if err != nil {
		return err
	}
	if n.sent[topic] == string(payload) {
		return nil
	}
	if err := wait(ctx, n.mqtt.Publish(topic, qos, true, payload), ackTimeout); err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	n.sent[topic] = string(payload)
	return nil
}

// end ends the connection; with the truth on the status topic, where the
// broker still takes it, for after a clean DISCONNECT there is no will.
func (n *connection) end() {
	if n.online && n.mqtt.IsConnectionOpen() {
		if err := n.sayOffline(); err != nil {
			n.client.options.Log.Warn("the box could not say that it is offline", "error", err)
			n.mqtt.Disconnect(0) // rudely: the broker sends the will
			return
		}
	}
	// Time for the DISCONNECT to go out: without it the broker sends the will.
	n.mqtt.Disconnect(500)
}

func (n *connection) sayOffline() error {
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	if err := n.publishSnapshots(ctx, true); err != nil {
		return err
	}
	return n.publishRetained(ctx, n.client.topics.status(), n.client.status(statusOffline, n.session))
}
