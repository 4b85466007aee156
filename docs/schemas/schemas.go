// Package schemas holds the JSON Schemas of all messages between gladd and the
// MES. The files are the only source: the program prints them, and the tests
// hold every message against them.
package schemas

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed *.v1.schema.json
var files embed.FS

// ending of a schema's file, with the version of the contract.
const ending = ".v1.schema.json"

// Names lists the schemas: event, state, command.start and so on.
func Names() []string {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic(err) // the files are part of the program
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = strings.TrimSuffix(entry.Name(), ending)
	}
	return names
}

// File is the name of a schema's file.
func File(name string) string { return name + ending }

// ID is a schema's $id.
func ID(name string) string { return "urn:gladd:schema:" + name + ":v1" }

// Get returns a schema.
func Get(name string) ([]byte, error) {
	schema, err := files.ReadFile(File(name))
	if err != nil {
		return nil, fmt.Errorf("no schema %q: expected one of %s", name, strings.Join(Names(), ", "))
	}
	return schema, nil
}
