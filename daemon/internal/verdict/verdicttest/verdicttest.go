// Package verdicttest checks verdicts in tests.
package verdicttest

import "gladd/docs/schemas/schematest"

// Validate checks a record against its published schema.
func Validate(record []byte) error { return schematest.Validate("verdict", record) }
