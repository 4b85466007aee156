package verdict

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Limits of a start command.
const (
	MaxCommandBytes = 16 << 10
	MaxContextBytes = 2 << 10
	maxTextBytes    = 256
	// maxContextDepth is far from what SQLite's JSON functions read, 1000 (sqlite.org/json1.html).
	maxContextDepth = 100
)

// Start is the command that starts an inspection.
type Start struct {
	PartID        *string         `json:"part_id"`
	CommandID     *string         `json:"command_id"`
	ExpiresAt     *time.Time      `json:"expires_at"`
	MeasurementID *string         `json:"measurement_id"`
	Recipe        *string         `json:"recipe"`
	Purpose       *Purpose        `json:"purpose"`
	View          *string         `json:"view"`
	ParentID      *string         `json:"parent_id"`
	Position      *string         `json:"position"`
	ProductID     *string         `json:"product_id"`
	OrderID       *string         `json:"order_id"`
	CarrierID     *string         `json:"carrier_id"`
	Context       json.RawMessage `json:"context"`
	// Continuous starts what triggers by itself, a clock or a folder, instead of
	// one inspection.
	Continuous *bool `json:"continuous"`
}

// ParseStart reads a start command: a JSON object of known keys. Where the
// command is refused, what could be read of its command id is still returned,
// so that the reply can name it.
func ParseStart(payload []byte) (start Start, err error) {
	if commandID, err := decode(payload, &start, `{"part_id": "P-0001"}`); err != nil {
		return Start{CommandID: commandID}, err
	}
	return start, start.check()
}

func (s *Start) check() error {
	texts := []struct {
		key  string
		text *string
	}{
		{"part_id", s.PartID}, {"measurement_id", s.MeasurementID}, {"recipe", s.Recipe}, {"view", s.View},
		{"parent_id", s.ParentID}, {"position", s.Position}, {"product_id", s.ProductID}, {"order_id", s.OrderID}, {"carrier_id", s.CarrierID},
	}
	if s.CommandID != nil {
		if err := checkText("command_id", *s.CommandID); err != nil {
			s.CommandID = nil // it cannot stand in the ledger
			return err
		}
	}
	for _, each := range texts {
		if each.text == nil {
			continue
		}
		if err := checkText(each.key, *each.text); err != nil {
			return err
		}
	}
	if bytes.Equal(s.Context, []byte("null")) {
		s.Context = nil
	}
	if s.IsContinuous() {
		const wrong = "%s: belongs to one inspection, not to continuous ones"
		for _, each := range texts {
			if each.text != nil && each.key != "recipe" {
				return fmt.Errorf(wrong, each.key)
			}
		}
		if s.Purpose != nil {
			return fmt.Errorf(wrong, "purpose")
		}
		if s.Context != nil {
			return fmt.Errorf(wrong, "context")
		}
	}
	if s.Purpose != nil && !slices.Contains(Purposes, *s.Purpose) {
		return fmt.Errorf("purpose: expected one of %v, found %q", Purposes, *s.Purpose)
	}
	if s.Context == nil {
		return nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, s.Context); err != nil {
		return fmt.Errorf("context: %w", err)
	}
	s.Context = compact.Bytes()
	if s.Context[0] != '{' {
		return errors.New("context: expected an object")
	}
	if len(s.Context) > MaxContextBytes {
		return fmt.Errorf("context: expected at most %d bytes, found %d", MaxContextBytes, len(s.Context))
	}
	if depth := depthOf(s.Context); depth > maxContextDepth {
		return fmt.Errorf("context: expected objects and lists at most %d deep, found %d", maxContextDepth, depth)
	}
	return nil
}

// depthOf is how deep objects and lists stand in each other in valid JSON.
func depthOf(text []byte) (deepest int) {
	decoder, depth := json.NewDecoder(bytes.NewReader(text)), 0
	decoder.UseNumber()
	for {
		token, err := decoder.Token()
		if err != nil {
			return deepest
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
			deepest = max(deepest, depth)
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
}

// IsContinuous says that not one inspection is to be started.
func (s *Start) IsContinuous() bool { return s.Continuous != nil && *s.Continuous }

func checkText(key, text string) error {
	switch {
	case text == "":
		return fmt.Errorf("%s: expected text, found nothing; leave the key out where there is none", key)
	case len(text) > maxTextBytes:
		return fmt.Errorf("%s: expected at most %d bytes, found %d", key, maxTextBytes, len(text))
	case strings.ContainsFunc(text, forbidden):
		return fmt.Errorf("%s: expected text without control characters", key)
	}
	return nil
}

// forbidden says that a text with this character cannot stand in a CloudEvent:
// control characters and Unicode's noncharacters (CloudEvents 1.0.2, 3, type
// String).
func forbidden(r rune) bool {
	return unicode.IsControl(r) || r&0xfffe == 0xfffe || 0xfdd0 <= r && r <= 0xfdef
}

// RefusalCode says why a command was refused.
type RefusalCode string

// The reasons of refusals. A refused command leaves no record but its count.
const (
	RefusedBusy          RefusalCode = "busy"           // no room in the station's queue
	RefusedNotReady      RefusalCode = "not-ready"      // the station's state forbids it
	RefusedLedger        RefusalCode = "ledger"         // the trigger cannot be recorded
	RefusedExpired       RefusalCode = "expired"        // the command came too late
	RefusedUnknownRecipe RefusalCode = "unknown-recipe" // not configured, or not the prepared one
	RefusedInvalid       RefusalCode = "invalid"        // the command cannot be understood
	RefusedModel         RefusalCode = "model"          // the recipe's model cannot be loaded
	RefusedAttempts      RefusalCode = "attempts"       // the part was inspected as often as it may be
)

// Refusal is why a command was refused, for machines and for people.
type Refusal struct {
	Code   RefusalCode `json:"code"`
	Detail string      `json:"detail"`
}

// Reply answers a command.
type Reply struct {
	// Verb is the command's; the topic has it.
	Verb Verb `json:"-"`

	CommandID *string  `json:"command_id"`
	TriggerID *string  `json:"trigger_id"` // of an accepted trigger; null otherwise
	Accepted  bool     `json:"accepted"`
	Reason    *Refusal `json:"reason"` // null for an accepted command
}
