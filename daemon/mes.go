package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"

	"gladd/docs"
	"gladd/docs/schemas"
)

// mesCommand is 'gladd mes'.
type mesCommand struct {
	Schema   schemaCommand   `cmd:"" help:"Print the JSON Schema of a message, or list them all."`
	Asyncapi asyncapiCommand `cmd:"" help:"Print the AsyncAPI document: topics, messages, who sends what."`
}

// schemaCommand is 'gladd mes schema'.
type schemaCommand struct {
	Name string `arg:"" optional:"" help:"The message, such as event, state or command.start; without it they are listed."`
	All  string `help:"Write all schemas into this folder." placeholder:"DIR"`
}

// Run prints a schema, lists them or writes them all.
func (c *schemaCommand) Run(env *environment) error {
	switch {
	case c.All != "" && c.Name != "":
		return errors.New("expected a name or --all, found both")
	case c.All != "":
		return c.writeAll(env)
	case c.Name == "":
		return c.list(env)
	}
	schema, err := schemas.Get(c.Name)
	if err != nil {
		return err
	}
	_, err = env.stdout.Write(schema)
	return err
}

func (c *schemaCommand) list(env *environment) error {
	table := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
	for _, name := range schemas.Names() {
		schema, err := schemas.Get(name)
		if err != nil {
			return err
		}
		var head struct {
			Title string `json:"title"`
		}
		if err := json.Unmarshal(schema, &head); err != nil {
			return fmt.Errorf("schema %s: %w", name, err)
		}
		fmt.Fprintf(table, "%s\t%s\n", name, head.Title)
	}
	return table.Flush()
}

// writeAll writes the files that the AsyncAPI document refers to.
func (c *schemaCommand) writeAll(env *environment) error {
	if err := os.MkdirAll(c.All, 0o755); err != nil {
		return err
	}
	for _, name := range schemas.Names() {
		schema, err := schemas.Get(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(c.All, schemas.File(name)), schema, 0o644); err != nil {
			return failure{err}
		}
	}
	_, err := fmt.Fprintf(env.stdout, "%s written to %s\n", plural(len(schemas.Names()), "schema"), c.All)
	return err
}

// asyncapiCommand is 'gladd mes asyncapi'.
type asyncapiCommand struct{}

// Help is shown below the flags.
func (asyncapiCommand) Help() string {
	return `The document refers to the messages' schemas in the folder schemas beside it: write them there with 'gladd mes schema --all schemas'.`
}

// Run prints the document.
func (c *asyncapiCommand) Run(env *environment) error {
	_, err := env.stdout.Write(docs.AsyncAPI)
	return err
}
