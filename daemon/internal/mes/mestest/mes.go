package mestest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// MES plays an MES that trusts nobody: it notes every reply and every verdict,
// and has a durable subscription, so that a broker that is stopped or killed
// keeps what it took for it. Other than a Listener it is quick with tens of
// thousands of messages.
type MES struct {
	t       testing.TB
	options MESOptions
	client  mqtt.Client

	mutex     sync.Mutex
	sent      map[string]int       // how often each command was sent, by its id
	replies   map[string][]string  // to each command, by its id
	verdicts  map[string][]Message // by station, in the order in which they came
	different map[string]bool      // results that came
	forgotten map[string]bool      // results whose first acknowledgement was left out
	session   int64                // the last one that a box was online in
	came      chan struct{}        // closed and replaced with every message
}

// MESOptions of an MES.
type MESOptions struct {
	// Acknowledge has every verdict acknowledged.
	Acknowledge bool
	// Forget says whether to leave out the first acknowledgement of a verdict;
	// nil: never. It is called by one goroutine.
	Forget func() bool
}

// NewMES connects to a broker and subscribes to all replies, verdicts and boxes.
func NewMES(t testing.TB, url string, options MESOptions) *MES {
	t.Helper()
	m := &MES{
		t: t, options: options,
		sent: map[string]int{}, replies: map[string][]string{}, verdicts: map[string][]Message{},
		different: map[string]bool{}, forgotten: map[string]bool{}, came: make(chan struct{}),
	}
	subscribed := make(chan struct{}, 1)
	var once sync.Once
	client := mqtt.NewClientOptions().AddBroker(url).SetClientID(fmt.Sprintf("mes-%d", listeners.Add(1))).SetCleanSession(false).
		SetAutoReconnect(true).SetConnectRetry(true).SetMaxReconnectInterval(50 * time.Millisecond).SetConnectRetryInterval(50 * time.Millisecond).
		SetDefaultPublishHandler(m.receive). // what the broker kept comes before a subscription can
		SetOnConnectHandler(func(client mqtt.Client) {
			go func() {
				filters := map[string]byte{"insp/v1/+/+/+/verdict": 1, "insp/v1/+/+/+/cmd/+/reply": 1, "insp/v1/+/+/_box/+/status": 1}
				if client.SubscribeMultiple(filters, m.receive).WaitTimeout(Patience) {
					once.Do(func() { close(subscribed) })
				}
			}()
		})
	m.client = mqtt.NewClient(client)
	m.client.Connect()
	select {
	case <-subscribed:
	case <-time.After(Patience):
		t.Fatal("the MES cannot connect")
	}
	t.Cleanup(func() { m.client.Disconnect(0) })
	return m
}

func (m *MES) receive(_ mqtt.Client, message mqtt.Message) {
	levels := strings.Split(message.Topic(), "/") // insp/v1/SITE/LINE/STATION/verdict, …/cmd/VERB/reply or …/_box/BOX/status
	payload := string(message.Payload())
	m.mutex.Lock()
	defer m.mutex.Unlock()
	switch {
	case levels[5] == "verdict":
		var event struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(message.Payload(), &event); err != nil {
			m.t.Errorf("a verdict that is not JSON: %q", payload)
			return
		}
		m.verdicts[levels[4]] = append(m.verdicts[levels[4]], Message{Topic: message.Topic(), Retained: message.Retained(), Payload: payload})
		m.acknowledge(strings.TrimSuffix(message.Topic(), "verdict")+"ack", event.ID, !m.different[event.ID])
		m.different[event.ID] = true
	case levels[4] == "_box":
		var status struct {
			Status  string `json:"status"`
			Session int64  `json:"session"`
		}
		if err := json.Unmarshal(message.Payload(), &status); err != nil {
			m.t.Errorf("a status that is not JSON: %q", payload)
		}
		if status.Status == "online" {
			m.session = max(m.session, status.Session)
		}
	default:
		var reply struct {
			CommandID string `json:"command_id"`
		}
		if err := json.Unmarshal(message.Payload(), &reply); err != nil {
			m.t.Errorf("a reply that is not JSON: %q", payload)
			return
		}
		m.replies[reply.CommandID] = append(m.replies[reply.CommandID], payload)
	}
	close(m.came)
	m.came = make(chan struct{})
}

// acknowledge sends the acknowledgement of a verdict; it does not wait: the
// MQTT library delivers nothing more while this runs.
func (m *MES) acknowledge(topic, resultID string, first bool) {
	if !m.options.Acknowledge {
		return
	}
	if first && m.options.Forget != nil && m.options.Forget() {
		m.forgotten[resultID] = true
		return
	}
	m.client.Publish(topic, 1, false, fmt.Sprintf(`{"result_id":%q,"status":"accepted"}`, resultID))
}

// WaitConnected waits until it has a connection again.
func (m *MES) WaitConnected() {
	m.t.Helper()
	for timeout := time.After(Patience); !m.client.IsConnectionOpen(); {
		select {
		case <-timeout:
			m.t.Fatal("the MES cannot connect again")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// WaitOnline waits until the box is online in a later session, and returns that.
func (m *MES) WaitOnline(after int64) (session int64) {
	m.t.Helper()
	m.WaitFor("the box to be online", func() bool {
		m.mutex.Lock()
		defer m.mutex.Unlock()
		session = m.session
		return session > after
	})
	return session
}

// Send sends a command with an id and waits until the broker has it.
func (m *MES) Send(topic, commandID, payload string) {
	m.t.Helper()
	m.mutex.Lock()
	m.sent[commandID]++
	m.mutex.Unlock()
	if token := m.client.Publish(topic, 1, false, payload); !token.WaitTimeout(Patience) || token.Error() != nil {
		m.t.Errorf("publish %s: %v", topic, token.Error())
	}
}

// SendNow sends a command with an id and waits for nothing.
func (m *MES) SendNow(topic, commandID, payload string) {
	m.mutex.Lock()
	m.sent[commandID]++
	m.mutex.Unlock()
	m.client.Publish(topic, 1, false, payload)
}

// Sent is how often each command was sent.
func (m *MES) Sent() map[string]int {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return maps.Clone(m.sent)
}

// Replies are the replies to each command.
func (m *MES) Replies() map[string][]string {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	all := map[string][]string{}
	for id, replies := range m.replies {
		all[id] = slices.Clone(replies)
	}
	return all
}

// Answered is how many replies a command got.
func (m *MES) Answered(commandID string) int {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return len(m.replies[commandID])
}

// Verdicts are a station's verdicts in the order in which they came, repeated
// ones among them.
func (m *MES) Verdicts(station string) []Message {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return slices.Clone(m.verdicts[station])
}

// Different is how many different verdicts came, and Forgotten for how many of
// them the first acknowledgement was left out.
func (m *MES) Different() (different, forgotten int) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return len(m.different), len(m.forgotten)
}

// WaitFor waits until something is so; it is asked with every message that
// comes. It gives up when no message has come for long.
func (m *MES) WaitFor(what string, so func() bool) {
	m.t.Helper()
	for {
		m.mutex.Lock()
		came := m.came
		m.mutex.Unlock()
		if so() {
			return
		}
		select {
		case <-came:
		case <-time.After(Patience):
			m.t.Fatalf("waited for %s; nothing came any more", what)
		}
	}
}

// WaitDelivered waits until a number of different verdicts came.
func (m *MES) WaitDelivered(count int) {
	m.t.Helper()
	m.WaitFor(fmt.Sprintf("%d verdicts", count), func() bool { different, _ := m.Different(); return different >= count })
	if different, _ := m.Different(); different != count {
		m.t.Errorf("want %d different verdicts, found %d", count, different)
	}
}
