// Package schematest holds messages against their schemas in tests.
package schematest

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"gladd/docs/schemas"
)

// all are the compiled schemas, by name.
var all = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	compiler.DefaultDraft(jsonschema.Draft2020)
	for _, name := range schemas.Names() {
		content, err := schemas.Get(name)
		if err != nil {
			return nil, err
		}
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", schemas.File(name), err)
		}
		if err := compiler.AddResource(schemas.ID(name), document); err != nil {
			return nil, fmt.Errorf("%s: %w", schemas.File(name), err)
		}
	}
	compiled := map[string]*jsonschema.Schema{}
	for _, name := range schemas.Names() {
		schema, err := compiler.Compile(schemas.ID(name))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", schemas.File(name), err)
		}
		compiled[name] = schema
	}
	return compiled, nil
})

// Validate holds a message against the schema of a name.
func Validate(name string, message []byte) error {
	compiled, err := all()
	if err != nil {
		return err
	}
	schema, known := compiled[name]
	if !known {
		return fmt.Errorf("no schema %q", name)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(message))
	if err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	return schema.Validate(value)
}
