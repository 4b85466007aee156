package verdict

import (
	"encoding/json"
	"fmt"
)

// The attributes of a verdict's CloudEvent that never change. DataSchema is the
// $id of docs/schemas/verdict.v1.schema.json.
const (
	EventType   = "io.gladd.verdict.v1"
	DataSchema  = "urn:gladd:schema:verdict:v1"
	ContentType = "application/cloudevents+json"
)

// event is CloudEvents 1.0 in structured JSON
// (github.com/cloudevents/spec, cloudevents/formats/json-format.md).
type event struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject,omitempty"` // absent, not empty: CloudEvents wants text in it
	Time            string          `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	DataSchema      string          `json:"dataschema"`
	Data            json.RawMessage `json:"data"`
}

// Event wraps a record, as JSON, in its CloudEvent. The same record gives the
// same bytes at any time. Source is /<site>/<line>/<station>.
func Event(source string, record []byte) ([]byte, error) {
	var head struct {
		ResultID string `json:"result_id"`
		Part     Part   `json:"part"`
		Times    struct {
			Finished string `json:"finished"`
		} `json:"times"`
	}
	if err := json.Unmarshal(record, &head); err != nil {
		return nil, fmt.Errorf("verdict's record: %w", err)
	}
	wrapped := event{
		SpecVersion:     "1.0",
		ID:              head.ResultID,
		Source:          source,
		Type:            EventType,
		Time:            head.Times.Finished,
		DataContentType: "application/json",
		DataSchema:      DataSchema,
		Data:            record,
	}
	if head.Part.ID != nil {
		wrapped.Subject = *head.Part.ID
	}
	return JSON(wrapped)
}
