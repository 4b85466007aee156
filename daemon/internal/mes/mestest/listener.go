package mestest

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Message is a message as the MES got it.
type Message struct {
	Topic    string
	Retained bool
	Payload  string
}

// JSON decodes the payload.
func (m Message) JSON(t testing.TB) map[string]any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(m.Payload), &object); err != nil {
		t.Fatalf("%s: not JSON: %q", m.Topic, m.Payload)
	}
	return object
}

// Listener plays the MES: it hears everything and sends commands. It comes
// back by itself when the broker was away. What gladd publishes against the
// contract fails the test.
type Listener struct {
	t      testing.TB
	client mqtt.Client

	mutex    sync.Mutex
	messages []Message
	came     chan struct{} // closed and replaced with every message
	contract contract
	ended    bool // the test is over; nothing may be told any more
}

// listeners counts them: the broker throws out a client whose id another takes.
var listeners atomic.Int64

// Patience is how long a test waits for what must come.
const Patience = 40 * time.Second

// Eventually asks until it is so.
func Eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	timeout := time.After(Patience)
	for !so() {
		select {
		case <-timeout:
			t.Fatalf("%s: it did not come so", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Listen connects to a broker and subscribes to everything.
func Listen(t testing.TB, url string) *Listener {
	t.Helper()
	l := &Listener{t: t, came: make(chan struct{})}
	options := mqtt.NewClientOptions().AddBroker(url).SetClientID(fmt.Sprintf("mes-%d", listeners.Add(1))).SetCleanSession(true).
		SetAutoReconnect(true).SetConnectRetry(true).SetMaxReconnectInterval(50 * time.Millisecond).SetConnectRetryInterval(50 * time.Millisecond)
	subscribed := make(chan struct{}, 100)
	options.SetOnConnectHandler(func(client mqtt.Client) {
		go func() {
			if client.Subscribe("#", 1, l.receive).WaitTimeout(Patience) {
				subscribed <- struct{}{}
			}
		}()
	})
	l.client = mqtt.NewClient(options)
	l.client.Connect()
	select {
	case <-subscribed:
	case <-time.After(Patience):
		t.Fatal("the listener cannot connect")
	}
	t.Cleanup(func() {
		l.client.Disconnect(0)
		l.mutex.Lock()
		defer l.mutex.Unlock()
		l.ended = true
	})
	return l
}

func (l *Listener) receive(_ mqtt.Client, message mqtt.Message) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.ended {
		return
	}
	heard := Message{Topic: message.Topic(), Retained: message.Retained(), Payload: string(message.Payload())}
	if err := l.contract.check(heard); err != nil {
		l.t.Errorf("%s: %s\nbreaks the contract: %v", heard.Topic, heard.Payload, err)
	}
	l.messages = append(l.messages, heard)
	close(l.came)
	l.came = make(chan struct{})
}

// Send publishes a message and waits until the broker has it.
func (l *Listener) Send(topic, payload string, retain bool) {
	l.t.Helper()
	token := l.client.Publish(topic, 1, retain, payload)
	if !token.WaitTimeout(Patience) || token.Error() != nil {
		l.t.Fatalf("publish %s: %v", topic, token.Error())
	}
}

// Post publishes a message and does not wait.
func (l *Listener) Post(topic, payload string) { l.client.Publish(topic, 1, false, payload) }

// Messages are all messages so far whose topic ends so.
func (l *Listener) Messages(ending string) []Message {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.ofTopic(ending)
}

func (l *Listener) ofTopic(ending string) (found []Message) {
	for _, message := range l.messages {
		if strings.HasSuffix(message.Topic, ending) {
			found = append(found, message)
		}
	}
	return found
}

// Wait waits until the messages whose topic ends so are as wanted, and returns
// them.
func (l *Listener) Wait(ending string, wanted func([]Message) bool) []Message {
	l.t.Helper()
	timeout := time.After(Patience)
	for {
		l.mutex.Lock()
		found, came := l.ofTopic(ending), l.came
		l.mutex.Unlock()
		if wanted(found) {
			return found
		}
		select {
		case <-came:
		case <-timeout:
			l.t.Fatalf("what was waited for on %s did not come; these did: %.3000v", ending, found)
		}
	}
}

// Count wants a number of messages at least.
func Count(count int) func([]Message) bool {
	return func(messages []Message) bool { return len(messages) >= count }
}

// Last wants a last message with a text in it.
func Last(text string) func([]Message) bool {
	return func(messages []Message) bool {
		return len(messages) > 0 && strings.Contains(messages[len(messages)-1].Payload, text)
	}
}

// Distinct wants a number of verdicts with an id of their own.
func Distinct(count int) func([]Message) bool {
	return func(messages []Message) bool {
		ids := map[string]bool{}
		for _, message := range messages {
			var event struct {
				ID string `json:"id"`
			}
			if json.Unmarshal([]byte(message.Payload), &event) == nil {
				ids[event.ID] = true
			}
		}
		return len(ids) >= count
	}
}
