// Package strictyaml decodes YAML without mercy: an unknown key, a key given
// twice, a wrong type or a missing key is an error that names the file, the
// line and the key.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"
)

// Error lists everything found wrong in a file, in the order of its lines.
type Error struct {
	File     string
	Problems []Problem
}

// Problem is one fault. Line is 0 where a fault has no place, such as a
// missing key of the top level.
type Problem struct {
	Line int
	Key  string // dotted path from the file's root; empty where unknown
	Text string
}

func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, problem := range e.Problems {
		lines[i] = e.File
		if problem.Line > 0 {
			lines[i] += ":" + strconv.Itoa(problem.Line)
		}
		if problem.Key != "" {
			lines[i] += ": " + oneLine(problem.Key)
		}
		lines[i] += ": " + oneLine(problem.Text)
	}
	return strings.Join(lines, "\n")
}

// oneLine writes what a file may hold in the one line that a problem has.
func oneLine(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return text
	}
	quoted := strconv.Quote(text)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// Document is a decoded file that still knows its lines.
type Document struct {
	file string
	root *yaml.Node
}

// Decode decodes the one document in data to out, a pointer to a struct with
// yaml tags. File is the name that errors carry.
func Decode(file string, data []byte, out any) (*Document, error) {
	document := &Document{file: file}
	var node yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	switch err := decoder.Decode(&node); {
	case errors.Is(err, io.EOF):
		return nil, &Error{File: file, Problems: []Problem{{Text: "the file is empty; expected a YAML mapping"}}}
	case err != nil:
		return nil, document.translate(err)
	}
	document.root = node.Content[0]
	if document.root.Kind != yaml.MappingNode {
		return nil, &Error{File: file, Problems: []Problem{{Line: document.root.Line, Text: "expected a YAML mapping"}}}
	}
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, &Error{File: file, Problems: []Problem{{Text: "expected one YAML document, found more"}}}
	}

	decoder = yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(out); err != nil {
		return nil, document.translate(err)
	}
	if problems := append(document.binaries(), document.fractions(document.root, reflect.TypeOf(out), "")...); problems != nil {
		return nil, &Error{File: file, Problems: problems}
	}
	return document, nil
}

// binaries finds bytes in base64, which yaml would take for text.
func (d *Document) binaries() (problems []Problem) {
	d.walk(func(path string, _, value *yaml.Node) {
		if value.ShortTag() == "!!binary" {
			problems = append(problems, Problem{Line: value.Line, Key: path, Text: "expected text, found !!binary"})
		}
	})
	return problems
}

// Peek returns the scalar under a key of the top level, so that a file of
// another schema can be told apart before it is decoded.
func Peek(data []byte, key string) (value string, found bool) {
	var node yaml.Node
	if err := yaml.Unmarshal(data, &node); err != nil || len(node.Content) == 0 {
		return "", false
	}
	scalar := child(node.Content[0], key)
	if scalar == nil || scalar.Kind != yaml.ScalarNode {
		return "", false
	}
	return scalar.Value, true
}

// Require reports the keys among the given ones, dotted paths, that are absent
// or null.
func (d *Document) Require(keys ...string) error {
	var problems []Problem
	for _, key := range keys {
		if !d.Has(key) {
			_, line := d.find(key)
			problems = append(problems, Problem{Line: line, Key: key, Text: "required, but missing"})
		}
	}
	if problems == nil {
		return nil
	}
	return &Error{File: d.file, Problems: problems}
}

// Errorf reports a fault in the value of a key, a dotted path; items of lists
// are numbered from 0.
func (d *Document) Errorf(key, format string, arguments ...any) error {
	_, line := d.find(key)
	return &Error{File: d.file, Problems: []Problem{{Line: line, Key: key, Text: fmt.Sprintf(format, arguments...)}}}
}

// Has says whether a key, a dotted path, has a value.
func (d *Document) Has(key string) bool {
	node, _ := d.find(key)
	return node != nil && node.Tag != "!!null"
}

// find returns the node at a path, nil if there is none, and the line of the
// innermost node on the way, 0 if there is none.
func (d *Document) find(key string) (node *yaml.Node, line int) {
	node = d.root
	for _, name := range strings.Split(key, ".") {
		if node = child(node, name); node == nil {
			return nil, line
		}
		line = node.Line
	}
	return node, line
}

func child(node *yaml.Node, name string) *yaml.Node {
	switch node.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == name {
				return node.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(node.Content) {
			return node.Content[i]
		}
	}
	return nil
}

var (
	atLine       = regexp.MustCompile(`(?s)^(?:yaml: )?line (\d+): (.*)$`)
	unknownField = regexp.MustCompile(`(?s)^field (.+) not found in type .+$`)
	wrongType    = regexp.MustCompile("(?s)^cannot unmarshal (!!\\w+)(?: (`.*`))? into (.+)$")
	wrongScalar  = regexp.MustCompile(`(?s)^expected .+, found (.*)$`) // of a type's own UnmarshalYAML
	givenTwice   = regexp.MustCompile(`(?s)^mapping key "(.+)" already defined at line (\d+)$`)
)

// translate turns yaml's errors, which speak of Go types, into words about the
// file.
func (d *Document) translate(err error) error {
	var texts []string
	if typeError := (*yaml.TypeError)(nil); errors.As(err, &typeError) {
		texts = typeError.Errors
	} else {
		texts = []string{err.Error()}
	}
	translated := &Error{File: d.file}
	for _, text := range texts {
		problem := Problem{Text: strings.TrimPrefix(text, "yaml: ")}
		if match := atLine.FindStringSubmatch(text); match != nil {
			problem.Line, _ = strconv.Atoi(match[1])
			problem.Text = match[2]
		}
		if match := unknownField.FindStringSubmatch(problem.Text); match != nil {
			problem.Key = d.keyNamed(match[1], problem.Line)
			problem.Text = "unknown key"
		} else if match := givenTwice.FindStringSubmatch(problem.Text); match != nil {
			problem.Key = d.keyNamed(match[1], problem.Line)
			problem.Text = "given twice, first at line " + match[2]
		} else if match := wrongType.FindStringSubmatch(problem.Text); match != nil {
			found := strings.Trim(match[2], "`")
			problem.Key = d.keyOf(match[1], found, problem.Line)
			if found == "" {
				found = typeWord(match[1])
			}
			problem.Text = fmt.Sprintf("expected %s, found %s", goTypeWord(match[3]), found)
		} else if match := wrongScalar.FindStringSubmatch(problem.Text); match != nil {
			problem.Key = d.keyOf("", match[1], problem.Line)
			switch match[1] { // these have no text of their own
			case typeWord("!!seq"):
				problem.Key = d.keyOf("!!seq", "", problem.Line)
			case typeWord("!!map"):
				problem.Key = d.keyOf("!!map", "", problem.Line)
			}
		}
		if !slices.Contains(translated.Problems, problem) {
			translated.Problems = append(translated.Problems, problem)
		}
	}
	return translated
}

// keyNamed returns the path of the key of a name on a line.
func (d *Document) keyNamed(name string, line int) string {
	found := name
	d.walk(func(path string, key, _ *yaml.Node) {
		if key != nil && key.Line == line && key.Value == name {
			found = path
		}
	})
	return found
}

// keyOf returns the path of the value of a type (empty: any) and text on a
// line. The text may be cut short.
func (d *Document) keyOf(tag, text string, line int) string {
	found := ""
	text = strings.TrimSuffix(text, "...")
	d.walk(func(path string, _, value *yaml.Node) {
		if value.Line == line && (tag == "" || value.ShortTag() == tag) && strings.HasPrefix(value.Value, text) {
			found = path
		}
	})
	return found
}

// walk visits every value with its path and, in mappings, its key.
func (d *Document) walk(visit func(path string, key, value *yaml.Node)) {
	var descend func(node *yaml.Node, prefix string)
	descend = func(node *yaml.Node, prefix string) {
		switch node.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(node.Content); i += 2 {
				key, value := node.Content[i], node.Content[i+1]
				visit(prefix+key.Value, key, value)
				descend(value, prefix+key.Value+".")
			}
		case yaml.SequenceNode:
			for i, item := range node.Content {
				visit(prefix+strconv.Itoa(i), nil, item)
				descend(item, prefix+strconv.Itoa(i)+".")
			}
		}
	}
	if d.root != nil {
		descend(d.root, "")
	}
}

// fractions finds numbers with a fraction where the target is a whole number:
// yaml drops the fraction without a word.
func (d *Document) fractions(node *yaml.Node, target reflect.Type, path string) (problems []Problem) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	for target.Kind() == reflect.Pointer {
		target = target.Elem()
	}
	switch target.Kind() {
	case reflect.Struct:
		if node.Kind != yaml.MappingNode {
			return nil
		}
		for _, field := range reflect.VisibleFields(target) {
			name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			if options == "inline" {
				problems = append(problems, d.fractions(node, field.Type, path)...)
			} else if value := child(node, name); value != nil && len(field.Index) == 1 {
				problems = append(problems, d.fractions(value, field.Type, path+name+".")...)
			}
		}
	case reflect.Slice:
		if node.Kind != yaml.SequenceNode {
			return nil
		}
		for i, item := range node.Content {
			problems = append(problems, d.fractions(item, target.Elem(), path+strconv.Itoa(i)+".")...)
		}
	case reflect.Map:
		if node.Kind != yaml.MappingNode {
			return nil
		}
		for i := 0; i+1 < len(node.Content); i += 2 {
			problems = append(problems, d.fractions(node.Content[i+1], target.Elem(), path+node.Content[i].Value+".")...)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if node.ShortTag() == "!!float" {
			problems = append(problems, Problem{Line: node.Line, Key: strings.TrimSuffix(path, "."), Text: "expected a whole number, found " + node.Value})
		}
	}
	return problems
}

func typeWord(tag string) string {
	switch tag {
	case "!!map":
		return "a mapping"
	case "!!seq":
		return "a list"
	}
	return strings.TrimPrefix(tag, "!!")
}

func goTypeWord(goType string) string {
	switch {
	case goType == "string":
		return "a string"
	case goType == "bool":
		return "true or false"
	case strings.HasPrefix(goType, "int"), strings.HasPrefix(goType, "uint"):
		return "a whole number"
	case strings.HasPrefix(goType, "float"):
		return "a number"
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	}
	return "a mapping"
}
