// Package export writes results of the ledger for other programs: as CSV for
// spreadsheets, and as JSON lines.
package export

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"

	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
)

// Columns are those of the CSV, in order. They are only added to, at the end:
// others read them by their place.
var Columns = []string{
	"ledger_id", "source", "sequence", "result_id", "trigger_id", "kind", "view", "part_id", "measurement_id", "attempt", "purpose",
	"evaluation", "reason_code", "reason_detail", "anomaly_score", "image_threshold", "recipe", "bundle_digest", "calibration_id",
	"triggered", "finished", "latency_ms", "clock_synchronized", "image_sha256",
}

// CSV writes results as RFC 4180 has it.
type CSV struct{ rows *csv.Writer }

// NewCSV writes the header.
func NewCSV(out io.Writer) (*CSV, error) {
	rows := csv.NewWriter(out)
	rows.UseCRLF = true
	return &CSV{rows}, rows.Write(Columns)
}

// Write writes a result.
func (c *CSV) Write(source string, record *verdict.Record) error {
	var code, detail, image string
	if record.Reason != nil {
		code, detail = string(record.Reason.Code), record.Reason.Detail
	}
	if record.Image != nil {
		image = record.Image.SHA256
	}
	return c.rows.Write([]string{
		text(record.LedgerID), text(source), strconv.FormatInt(record.Sequence, 10), text(record.ResultID), text(record.TriggerID),
		text(record.Kind), optional(record.View), optional(record.Part.ID), optional(record.MeasurementID), strconv.Itoa(record.Attempt),
		text(string(record.Purpose)), text(string(record.Evaluation)), text(code), text(detail), number(record.AnomalyScore), number(record.ImageThreshold),
		text(record.Recipe.Name), text(record.Bundle.Digest), optional(record.CalibrationID),
		record.Times.Triggered.String(), record.Times.Finished.String(), number(&record.LatencyMS), strconv.FormatBool(record.Clock.Synchronized), text(image),
	})
}

// Flush writes what is left.
func (c *CSV) Flush() error {
	c.rows.Flush()
	return c.rows.Error()
}

// text keeps a spreadsheet from computing what a cell says: part ids come from
// elsewhere. The apostrophe makes it text, as does typing one
// (owasp.org/www-community/attacks/CSV_Injection).
func text(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r\n", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

func optional(cell *string) string {
	if cell == nil {
		return ""
	}
	return text(*cell)
}

// number has all digits that the record has.
func number(value *float64) string {
	if value == nil {
		return ""
	}
	return strconv.FormatFloat(*value, 'g', -1, 64)
}

// Line writes a result as a line of JSON; the record in it has the bytes that the
// ledger has.
func Line(out io.Writer, stored *ledger.Stored) error {
	source, err := verdict.JSON(stored.Source)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "{\"source\":%s,\"record\":%s}\n", source, stored.JSON)
	return err
}
