package schematest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"gopkg.in/yaml.v3"

	"gladd/docs"
	"gladd/docs/schemas"
)

// Channel is a channel of docs/asyncapi.yaml.
type Channel struct {
	Name, Address string
	Schema        string // of its message
	Sent          bool   // by gladd; otherwise by the MES
	Retained      bool
	Examples      []json.RawMessage
}

// document is what is looked at of docs/asyncapi.yaml.
type document struct {
	Channels map[string]struct {
		Address    string
		Parameters map[string]reference
		Messages   map[string]reference
	}
	Operations map[string]struct {
		Action   string
		Channel  reference
		Bindings reference
		Reply    *struct {
			Channel  reference
			Messages []reference
		}
	}
	Components struct {
		Parameters        map[string]any
		OperationBindings map[string]struct {
			MQTT struct {
				QoS    int
				Retain bool
			}
		} `yaml:"operationBindings"`
		Messages map[string]struct {
			Payload  reference
			Examples []struct {
				Payload any
			}
		}
	}
}

type reference struct {
	Ref string `yaml:"$ref"`
}

// name is the last part of a reference into a place of the document.
func (r reference) name(place string) (string, error) {
	name, found := strings.CutPrefix(r.Ref, "#/"+place+"/")
	if !found {
		return "", fmt.Errorf("$ref %q: expected one into #/%s", r.Ref, place)
	}
	return name, nil
}

// Channels are those of docs/asyncapi.yaml, by name.
var Channels = sync.OnceValues(func() (map[string]Channel, error) {
	var read document
	if err := yaml.Unmarshal(docs.AsyncAPI, &read); err != nil {
		return nil, err
	}
	channels := map[string]Channel{}
	for name, described := range read.Channels {
		channel := Channel{Name: name, Address: described.Address}
		for _, message := range described.Messages {
			if err := read.describe(&channel, message); err != nil {
				return nil, fmt.Errorf("channel %s: %w", name, err)
			}
		}
		for _, parameter := range described.Parameters {
			known, err := parameter.name("components/parameters")
			if err == nil && read.Components.Parameters[known] == nil {
				err = fmt.Errorf("no parameter %q", known)
			}
			if err != nil {
				return nil, fmt.Errorf("channel %s: %w", name, err)
			}
		}
		channels[name] = channel
	}
	return channels, read.operate(channels)
})

// describe completes a channel by its message.
func (d *document) describe(channel *Channel, reference reference) error {
	name, err := reference.name("components/messages")
	if err != nil {
		return err
	}
	message, known := d.Components.Messages[name]
	if !known {
		return fmt.Errorf("no message %q", name)
	}
	file := strings.TrimPrefix(message.Payload.Ref, "./schemas/")
	for _, schema := range schemas.Names() {
		if file == schemas.File(schema) {
			channel.Schema = schema
		}
	}
	if channel.Schema == "" || file == message.Payload.Ref {
		return fmt.Errorf("message %s: expected the $ref of a schema's file, found %q", name, message.Payload.Ref)
	}
	for _, example := range message.Examples {
		encoded, err := json.Marshal(example.Payload)
		if err != nil {
			return fmt.Errorf("message %s: %w", name, err)
		}
		channel.Examples = append(channel.Examples, encoded)
	}
	return nil
}

// operate says of each channel who sends on it, and how.
func (d *document) operate(channels map[string]Channel) error {
	operated := map[string]bool{}
	operate := func(reference reference, sent, retained bool) error {
		name, err := reference.name("channels")
		if err != nil {
			return err
		}
		channel, known := channels[name]
		if !known || operated[name] {
			return fmt.Errorf("channel %q: expected one of the document with one operation", name)
		}
		operated[name] = true
		channel.Sent, channel.Retained = sent, retained
		channels[name] = channel
		return nil
	}
	for name, operation := range d.Operations {
		binding, err := operation.Bindings.name("components/operationBindings")
		if err != nil {
			return fmt.Errorf("operation %s: %w", name, err)
		}
		mqtt := d.Components.OperationBindings[binding].MQTT
		if mqtt.QoS != 1 {
			return fmt.Errorf("operation %s: expected bindings of QoS 1, found %q", name, binding)
		}
		if operation.Action != "send" && operation.Action != "receive" {
			return fmt.Errorf("operation %s: expected send or receive, found %q", name, operation.Action)
		}
		if err := operate(operation.Channel, operation.Action == "send", mqtt.Retain); err != nil {
			return fmt.Errorf("operation %s: %w", name, err)
		}
		if operation.Reply == nil {
			continue
		}
		if err := operate(operation.Reply.Channel, operation.Action == "receive", false); err != nil {
			return fmt.Errorf("operation %s: %w", name, err)
		}
	}
	for name := range channels {
		if !operated[name] {
			return fmt.Errorf("channel %s: nobody sends on it", name)
		}
	}
	return nil
}

var parameter = regexp.MustCompile(`\\\{\w+\\\}`)

// addresses are the channels' addresses as expressions, by name.
var addresses = sync.OnceValues(func() (map[string]*regexp.Regexp, error) {
	channels, err := Channels()
	if err != nil {
		return nil, err
	}
	expressions := map[string]*regexp.Regexp{}
	for name, channel := range channels {
		// Names of the configuration: no level of them begins with _.
		expressions[name] = regexp.MustCompile("^" + parameter.ReplaceAllString(regexp.QuoteMeta(channel.Address), "[A-Za-z0-9][A-Za-z0-9_-]*") + "$")
	}
	return expressions, nil
})

// Find returns the channel of a topic; nil: there is none.
func Find(topic string) (*Channel, error) {
	expressions, err := addresses()
	if err != nil {
		return nil, err
	}
	channels, err := Channels()
	if err != nil {
		return nil, err
	}
	for name, expression := range expressions {
		if expression.MatchString(topic) {
			channel := channels[name]
			return &channel, nil
		}
	}
	return nil, nil
}
