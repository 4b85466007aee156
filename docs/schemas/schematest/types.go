package schematest

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"gladd/docs/schemas"
)

// Types holds a Go type against the schema of its message: the same keys at every
// level, of the same kind, and null where Go has a pointer. Where Go has any, its
// type is given by the key. Published messages have every key always, but for
// those that Go leaves out when they are empty.
type Types struct {
	Schema    string
	Published bool
	Any       map[string]reflect.Type
}

// Compare returns what differs.
func (t Types) Compare(message reflect.Type) (differences []string) {
	content, err := schemas.Get(t.Schema)
	if err != nil {
		return []string{err.Error()}
	}
	c := comparison{Types: t}
	if err := json.Unmarshal(content, &c.root); err != nil {
		return []string{err.Error()}
	}
	c.compare(t.Schema, message, c.root)
	return c.differences
}

type comparison struct {
	Types
	root        map[string]any
	differences []string
}

func (c *comparison) differ(at, format string, values ...any) {
	c.differences = append(c.differences, at+": "+fmt.Sprintf(format, values...))
}

// field is a key of a Go type.
type field struct {
	of       reflect.Type
	optional bool
}

// fields are the keys of a struct, those of embedded ones among them.
func (c *comparison) fields(at string, of reflect.Type) map[string]field {
	found := map[string]field{}
	for i := range of.NumField() {
		each := of.Field(i)
		tag, tagged := each.Tag.Lookup("json")
		if each.Anonymous && !tagged && each.Type.Kind() == reflect.Struct {
			for key, inner := range c.fields(at, each.Type) {
				if _, twice := found[key]; twice {
					c.differ(at, "Go has %s twice; one hides the other", key)
				}
				found[key] = inner
			}
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		if !tagged || name == "-" {
			continue
		}
		if _, twice := found[name]; twice {
			c.differ(at, "Go has %s twice; one hides the other", name)
		}
		found[name] = field{each.Type, strings.Contains(options, "omitempty")}
	}
	return found
}

// resolve follows references and leaves null out. It says whether null is allowed.
func (c *comparison) resolve(node map[string]any) (resolved map[string]any, null bool) {
	if reference, is := node["$ref"].(string); is {
		name, _ := strings.CutPrefix(reference, "#/$defs/")
		defs, _ := c.root["$defs"].(map[string]any)
		definition, _ := defs[name].(map[string]any)
		return c.resolve(definition)
	}
	if choices, is := node["oneOf"].([]any); is {
		for _, choice := range choices {
			inner, _ := choice.(map[string]any)
			if inner["type"] == "null" {
				null = true
				continue
			}
			resolved, _ = c.resolve(inner)
		}
		return resolved, null
	}
	return node, slices.Contains(kinds(node), "null")
}

// kinds are the JSON types that a schema allows.
func kinds(node map[string]any) (kinds []string) {
	switch of := node["type"].(type) {
	case string:
		return []string{of}
	case []any:
		for _, kind := range of {
			kinds = append(kinds, fmt.Sprint(kind))
		}
		return kinds
	}
	values, _ := node["enum"].([]any)
	if value, is := node["const"]; is {
		values = []any{value}
	}
	for _, value := range values {
		switch value.(type) {
		case string:
			kinds = append(kinds, "string")
		case nil:
			kinds = append(kinds, "null")
		}
	}
	return kinds
}

func (c *comparison) compare(at string, of reflect.Type, node map[string]any) {
	node, null := c.resolve(node)
	if of.Kind() == reflect.Pointer {
		if !null {
			c.differ(at, "null in Go, but not in the schema")
		}
		of = of.Elem()
	}
	if of.Kind() == reflect.Interface {
		if of = c.Any[at]; of == nil {
			c.differ(at, "any: say which type it has")
			return
		}
	}
	keys := map[string]field{}
	if of.Kind() == reflect.Struct {
		keys = c.fields(at, of)
	}
	if want := kindOf(of, len(keys) > 0); !slices.Contains(kinds(node), want) {
		c.differ(at, "%s in Go is %s in JSON, the schema has %v", of, want, kinds(node))
		return
	}
	items, _ := node["items"].(map[string]any)
	switch {
	case of.Kind() == reflect.Slice && items != nil:
		c.compare(at+"[]", of.Elem(), items)
	case len(keys) > 0:
		c.compareKeys(at, keys, node)
	}
}

// kindOf is the JSON type of a Go type. A struct without keys is a time.
func kindOf(of reflect.Type, keys bool) string {
	switch of.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Map:
		return "object"
	case reflect.Slice:
		if of == reflect.TypeFor[json.RawMessage]() {
			return "object"
		}
		return "array"
	case reflect.Struct:
		if keys {
			return "object"
		}
		return "string"
	}
	return "integer"
}

func (c *comparison) compareKeys(at string, keys map[string]field, node map[string]any) {
	properties, _ := node["properties"].(map[string]any)
	required := map[string]bool{}
	list, _ := node["required"].([]any)
	for _, key := range list {
		required[fmt.Sprint(key)] = true
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		property, is := properties[key].(map[string]any)
		if !is {
			c.differ(at, "the schema has no %s", key)
			continue
		}
		if c.Published && required[key] == keys[key].optional {
			c.differ(at, "%s: always there in Go %t, in the schema %t", key, !keys[key].optional, required[key])
		}
		c.compare(at+"."+key, keys[key].of, property)
	}
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		if _, is := keys[key]; !is {
			c.differ(at, "Go has no %s", key)
		}
	}
}
