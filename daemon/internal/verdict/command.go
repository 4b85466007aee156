package verdict

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"
)

// Verb is what a command asks of a station, the last level of its topic. The
// verbs are those of OPC 40100-1, 8.2.
type Verb string

// The verbs.
const (
	VerbStart     Verb = "start"     // inspect a part, or begin to trigger continuously
	VerbPrepare   Verb = "prepare"   // load a recipe and inspect with it from now on
	VerbUnprepare Verb = "unprepare" // inspect with no recipe any more
	VerbStop      Verb = "stop"      // end what was started; parts under way are inspected
	VerbAbort     Verb = "abort"     // the same, but parts under way become Undefined
	VerbHalt      Verb = "halt"      // abort, and take no commands but reset
	VerbReset     Verb = "reset"     // abort, and begin anew as at the daemon's start
)

// Verbs are all that there are.
var Verbs = []Verb{VerbStart, VerbPrepare, VerbUnprepare, VerbStop, VerbAbort, VerbHalt, VerbReset}

// Command is a command to a station.
type Command struct {
	Verb      Verb
	CommandID *string
	ExpiresAt *time.Time
	Recipe    string // that prepare names
	Start     Start  // of verb start
}

// ParseCommand reads a command's payload: a JSON object of known keys. What
// could be read of its command id is returned with an error too.
func ParseCommand(verb Verb, payload []byte) (Command, error) {
	switch verb {
	case VerbStart:
		start, err := ParseStart(payload)
		return Command{Verb: verb, CommandID: start.CommandID, ExpiresAt: start.ExpiresAt, Start: start}, err
	case VerbPrepare:
		var prepare struct {
			head
			Recipe *string `json:"recipe"`
		}
		commandID, err := decode(payload, &prepare, `{"recipe": "screw"}`)
		if err != nil {
			return Command{Verb: verb, CommandID: commandID}, err
		}
		command, err := prepare.command(verb)
		switch {
		case err != nil:
		case prepare.Recipe == nil:
			err = errors.New("recipe: required, but missing")
		default:
			command.Recipe, err = *prepare.Recipe, checkText("recipe", *prepare.Recipe)
		}
		return command, err
	}
	if !slices.Contains(Verbs, verb) {
		return Command{Verb: verb, CommandID: CommandID(payload)}, fmt.Errorf("no command %q: expected start, prepare, unprepare, stop, abort, halt or reset", verb)
	}
	var plain head
	commandID, err := decode(payload, &plain, `{"command_id": "c-1"} or {}`)
	if err != nil {
		return Command{Verb: verb, CommandID: commandID}, err
	}
	return plain.command(verb)
}

// head is what every command may have.
type head struct {
	CommandID *string    `json:"command_id"`
	ExpiresAt *time.Time `json:"expires_at"`
}

func (h head) command(verb Verb) (Command, error) {
	if h.CommandID != nil {
		if err := checkText("command_id", *h.CommandID); err != nil {
			return Command{Verb: verb}, err // without the id, which cannot stand in the ledger
		}
	}
	return Command{Verb: verb, CommandID: h.CommandID, ExpiresAt: h.ExpiresAt}, nil
}

// rfc3339 is a time as the schemas have it.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$`)

// checkKeys refuses keys in other letters, which Go's JSON takes for those of a
// struct.
func checkKeys(payload []byte, into any) error {
	encoded, err := json.Marshal(into)
	if err != nil {
		return err
	}
	var known, given map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(encoded, &known), json.Unmarshal(payload, &given)); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if _, is := known[key]; !is {
			return fmt.Errorf("unknown field %q", key)
		}
	}
	return nil
}

// checkOnce refuses what of a command Go's JSON takes beyond the published schemas:
// keys that come twice, and times that only look like RFC 3339.
func checkOnce(payload []byte) error {
	if key, err := repeatedKey(payload); err != nil || key != "" {
		return errors.Join(err, fmt.Errorf("%s: expected once, found twice", key))
	}
	var expires struct {
		At *string `json:"expires_at"`
	}
	if err := json.Unmarshal(payload, &expires); err != nil {
		return err
	}
	if expires.At != nil && !rfc3339.MatchString(*expires.At) {
		return fmt.Errorf("expires_at: expected a time such as 2026-01-31T12:00:00Z, found %q", *expires.At)
	}
	return nil
}

// repeatedKey finds a key that an object has twice, of which Go's JSON takes the
// last; empty: there is none.
func repeatedKey(object []byte) (string, error) {
	decoder := json.NewDecoder(bytes.NewReader(object))
	if _, err := decoder.Token(); err != nil {
		return "", err
	}
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return "", err
		}
		key, _ := token.(string)
		if seen[key] {
			return key, nil
		}
		seen[key] = true
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return "", err
		}
	}
	return "", nil
}

// inWords says what is wrong with a value without Go's names for it.
func inWords(err error) error {
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		expected := map[reflect.Kind]string{reflect.String: "text", reflect.Bool: "true or false", reflect.Struct: "an object"}[wrong.Type.Kind()]
		if wrong.Field == "" {
			return fmt.Errorf("expected an object, found a JSON %s", wrong.Value)
		}
		return fmt.Errorf("%s: expected %s, found a JSON %s", wrong.Field, expected, wrong.Value)
	}
	if wrong := (*time.ParseError)(nil); errors.As(err, &wrong) {
		return fmt.Errorf("expires_at: expected a time such as 2026-01-31T12:00:00Z, found %s", wrong.Value)
	}
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("found nothing")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it ends in the middle")
	}
	return err
}

// Decode reads one JSON object of known keys, each in its own letters, and of a
// limited size. The example is for the error's words.
func Decode(payload []byte, into any, limit int, example string) error {
	if len(payload) > limit {
		return fmt.Errorf("expected at most %d bytes, found %d", limit, len(payload))
	}
	if !utf8.Valid(payload) {
		return errors.New("expected JSON in UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil && !bytes.HasPrefix(bytes.TrimSpace(payload), []byte("{")) {
		err = errors.New("not an object")
	}
	if err == nil {
		if _, more := decoder.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the object")
		}
	}
	if err == nil {
		err = checkKeys(payload, into)
	}
	return Unlike(example, err)
}

// Unlike says of what is wrong with a JSON object how one looks; nil: nothing is.
func Unlike(example string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("expected a JSON object such as %s: %w", example, inWords(err))
}

// decode reads a command. With an error it returns the command id, if that could
// be read.
func decode(payload []byte, into any, example string) (commandID *string, err error) {
	if err = Decode(payload, into, MaxCommandBytes, example); err == nil {
		err = Unlike(example, checkOnce(payload))
	}
	if err == nil {
		return nil, nil
	}
	return CommandID(payload), err
}

// CommandID is the id of a command that need not be right otherwise; nil: there is
// none that a reply could name.
func CommandID(payload []byte) *string {
	var only struct {
		CommandID *string `json:"command_id"`
	}
	if len(payload) > MaxCommandBytes || !utf8.Valid(payload) || json.Unmarshal(payload, &only) != nil ||
		only.CommandID == nil || checkText("command_id", *only.CommandID) != nil {
		return nil
	}
	return only.CommandID
}
