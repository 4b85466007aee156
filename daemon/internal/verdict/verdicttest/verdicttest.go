// Package verdicttest checks verdicts in tests.
package verdicttest

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"gladd/daemon/internal/verdict"
)

var schema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(verdict.Schema))
	if err != nil {
		return nil, fmt.Errorf("schema of verdicts: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(verdict.DataSchema, document); err != nil {
		return nil, fmt.Errorf("schema of verdicts: %w", err)
	}
	return compiler.Compile(verdict.DataSchema)
})

// Validate checks a record against its published schema.
func Validate(record []byte) error {
	compiled, err := schema()
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(record))
	if err != nil {
		return err
	}
	return compiled.Validate(value)
}
