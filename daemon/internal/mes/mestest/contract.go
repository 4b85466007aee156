package mestest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"gladd/daemon/internal/station"
	"gladd/docs/schemas/schematest"
)

// contract holds messages of gladd against what is promised of them.
type contract struct {
	states map[string]stateMessage // the last one, by topic
}

// stateMessage is what is looked at of a state.
type stateMessage struct {
	State   station.State `json:"state"`
	Session int64         `json:"session"`
}

// check returns how a message breaks the contract. Commands and
// acknowledgements are the test's own, and may be wrong.
func (c *contract) check(message Message) error {
	if !strings.HasPrefix(message.Topic, "insp/") {
		return nil // a mark of the test's
	}
	channel, err := schematest.Find(message.Topic)
	var schema string
	switch {
	case err != nil:
		return err
	case channel != nil && !channel.Sent:
		return nil
	case channel != nil:
		schema = channel.Schema
	case !strings.Contains(message.Topic, "/cmd/"):
		return errors.New("no channel of docs/asyncapi.yaml has this topic")
	case strings.HasSuffix(message.Topic, "/reply"):
		schema = "reply" // to a verb that there is not
	default:
		return nil
	}
	if message.Retained && (channel == nil || !channel.Retained) {
		return errors.New("it is never retained")
	}
	if err := schematest.Validate(schema, []byte(message.Payload)); err != nil {
		return err
	}
	switch schema {
	case "event":
		return checkEvent(message)
	case "state":
		return c.checkState(message)
	}
	return nil
}

// checkEvent looks at what an event says twice.
func checkEvent(message Message) error {
	var event struct {
		ID      string  `json:"id"`
		Source  string  `json:"source"`
		Subject *string `json:"subject"`
		Time    string  `json:"time"`
		Data    struct {
			ResultID string `json:"result_id"`
			Part     struct {
				ID *string `json:"id"`
			} `json:"part"`
			Times struct {
				Finished string `json:"finished"`
			} `json:"times"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(message.Payload), &event); err != nil {
		return err
	}
	text := func(words *string) string {
		if words == nil {
			return ""
		}
		return *words
	}
	for what, pair := range map[string][2]string{
		"id, data.result_id":        {event.ID, event.Data.ResultID},
		"subject, data.part.id":     {text(event.Subject), text(event.Data.Part.ID)},
		"time, data.times.finished": {event.Time, event.Data.Times.Finished},
		"topic, source":             {message.Topic, "insp/v1" + event.Source + "/verdict"},
	} {
		if pair[0] != pair[1] {
			return fmt.Errorf("%s: want the same, found %q and %q", what, pair[0], pair[1])
		}
	}
	return nil
}

// checkState looks at the way from the state before. What was retained tells of
// a moment only: others may have been missed.
func (c *contract) checkState(message Message) error {
	var now stateMessage
	if err := json.Unmarshal([]byte(message.Payload), &now); err != nil {
		return err
	}
	before, known := c.states[message.Topic]
	if c.states == nil {
		c.states = map[string]stateMessage{}
	}
	c.states[message.Topic] = now
	if message.Retained || !known || before.Session != now.Session || before.State == now.State || station.Allowed(before.State, now.State) {
		return nil
	}
	return fmt.Errorf("a station may not go from %s to %s", before.State, now.State)
}
