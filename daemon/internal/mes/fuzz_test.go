package mes_test

import (
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"

	"gladd/daemon/internal/mes"
	"gladd/daemon/internal/verdict"
	"gladd/docs/schemas/schematest"
)

// FuzzParseAck holds what is accepted against the schema of acknowledgements.
func FuzzParseAck(f *testing.F) {
	for _, payload := range []string{
		`{"result_id":"01M86EGTH21DJCNX2R261KQR66","status":"accepted"}`, `{"result_id":"a","status":"rejected","reason":"no such order"}`,
		`{"result_id":"a","status":"rejected","reason":null}`, `{"result_id":"","status":"accepted"}`, `{"result_id":"a","status":"Accepted"}`,
		`{"Result_ID":"01M86EGTH21DJCNX2R261KQR66","STATUS":"accepted"}`, `{"result_id":"a","status":"accepted","more":1}`, `{"result_id":7}`, `[]`, `null`, `{} {}`, "\xff",
	} {
		f.Add([]byte(payload))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		ack, err := mes.ParseAck(payload)
		if err != nil {
			if ack != (mes.Ack{}) {
				t.Errorf("%s: refused, and %+v", payload, ack)
			}
			return
		}
		// What is no id of gladd's is understood, and then it is nothing's.
		if _, err := ulid.ParseStrict(ack.ResultID); err == nil && strings.ToUpper(ack.ResultID) == ack.ResultID {
			if err := schematest.Validate("ack", payload); err != nil {
				t.Errorf("%s: accepted against its schema: %v", payload, err)
			}
		}
		written, err := verdict.JSON(ack)
		if err != nil {
			t.Fatal(err)
		}
		again, err := mes.ParseAck(written)
		if err != nil || again.ResultID != ack.ResultID || again.Status != ack.Status || (again.Reason == nil) != (ack.Reason == nil) || ack.Reason != nil && *again.Reason != *ack.Reason {
			t.Errorf("%s: understood as %+v, and then as %+v, %v", payload, ack, again, err)
		}
	})
}
