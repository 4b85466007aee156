package strictyaml

import "testing"

type sample struct {
	Name   string `yaml:"name"`
	Nested struct {
		Count int     `yaml:"count"`
		Ratio float64 `yaml:"ratio"`
		On    bool    `yaml:"on"`
	} `yaml:"nested"`
	List []struct {
		ID string `yaml:"id"`
	} `yaml:"list"`
}

// The exact words matter: they are all that a user has to find a mistake by.
func TestErrors(t *testing.T) {
	for name, test := range map[string]struct{ yaml, want string }{
		"unknown key":         {"name: a\nnested:\n  cuont: 1\n", "f.yaml:3: nested.cuont: unknown key"},
		"unknown key in list": {"list:\n  - id: a\n  - di: b\n", "f.yaml:3: list.1.di: unknown key"},
		"given twice":         {"name: a\nname: b\n", "f.yaml:2: name: given twice, first at line 1"},
		"not a number":        {"nested:\n  count: many\n", "f.yaml:2: nested.count: expected a whole number, found many"},
		"fraction":            {"nested: {count: 1.5}\n", "f.yaml:1: nested.count: expected a whole number, found 1.5"},
		"mapping for string":  {"name: {a: b}\n", "f.yaml:1: name: expected a string, found a mapping"},
		"scalar for mapping":  {"nested: 3\n", "f.yaml:1: nested: expected a mapping, found 3"},
		"word for bool":       {"nested: {on: maybe}\n", "f.yaml:1: nested.on: expected true or false, found maybe"},
		"scalar for list":     {"list: 3\n", "f.yaml:1: list: expected a list, found 3"},
		"two faults":          {"nested: {count: x}\nnme: a\n", "f.yaml:1: nested.count: expected a whole number, found x\nf.yaml:2: nme: unknown key"},
		"syntax":              {"name: [a\n", "f.yaml:1: did not find expected ',' or ']'"},
		"empty":               {"", "f.yaml: the file is empty; expected a YAML mapping"},
		"comment only":        {"# nothing\n", "f.yaml: the file is empty; expected a YAML mapping"},
		"a list":              {"- a\n", "f.yaml:1: expected a YAML mapping"},
		"two documents":       {"name: a\n---\nname: b\n", "f.yaml: expected one YAML document, found more"},
		"bytes":               {"name: a\nlist: [{id: !!binary 0ame}]\n", "f.yaml:2: list.0.id: expected text, found !!binary"},
		"several lines":       {"name: [\"a\n\n\tb\"]\nnested: {count: \"1\n\n2\"}\n", "f.yaml:1: name: expected a string, found a list\nf.yaml:4: nested.count: expected a whole number, found 1\\n2"},
		"not YAML":            {"\x00\x01", "f.yaml: control characters are not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			var out sample
			if _, err := Decode("f.yaml", []byte(test.yaml), &out); err == nil || err.Error() != test.want {
				t.Errorf("want %q, found %v", test.want, err)
			}
		})
	}
}

func TestDocument(t *testing.T) {
	var out sample
	document, err := Decode("f.yaml", []byte("name: a\nnested:\n  count: 1\n  ratio:\nlist:\n  - id: x\n"), &out)
	if err != nil {
		t.Fatal(err)
	}
	if err := document.Require("name", "nested.count", "list.0.id"); err != nil {
		t.Errorf("nothing is missing, found %v", err)
	}
	want := "f.yaml:4: nested.ratio: required, but missing\nf.yaml:3: nested.on: required, but missing\nf.yaml: other.key: required, but missing"
	if err := document.Require("nested.ratio", "nested.on", "other.key"); err == nil || err.Error() != want {
		t.Errorf("want %q, found %v", want, err)
	}
	if err := document.Errorf("list.0.id", "expected %s", "b"); err.Error() != "f.yaml:6: list.0.id: expected b" {
		t.Errorf("found %v", err)
	}
}

func TestPeek(t *testing.T) {
	for name, test := range map[string]struct {
		yaml, want string
		found      bool
	}{
		"there":     {"a: 1\nschema: x/v2\n", "x/v2", true},
		"not there": {"a: 1\n", "", false},
		"a mapping": {"schema: {a: b}\n", "", false},
		"not YAML":  {"[", "", false},
		"empty":     {"", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			if value, found := Peek([]byte(test.yaml), "schema"); value != test.want || found != test.found {
				t.Errorf("want %q, %t, found %q, %t", test.want, test.found, value, found)
			}
		})
	}
}
