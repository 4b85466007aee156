package strictyaml

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// FuzzDecode checks that a file is either told what is wrong with it and where,
// or means the same when it is written down and read again.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{
		"name: a\nnested: {count: 1}\n", "list: [{id: a}, {id: }]\n", "&a [*a, {? b : c}]", "nested: {count: 1.5}", "nested: {count: 1e3, ratio: .inf, on: yes}",
		"name: \"a\\nb\"\nnested: &n {count: 0x10}\nlist: [&i {id: x}, *i]\n", "nested: {<<: {count: 2}}", "name: a\n---\nname: b\n", "name: !!binary aGk=\n",
		"nested:\n  count: \"a\\n\\nb\"\n", "? name\n: |\n  long\n  text\n", "name: ~\nnested: ~\n", "{name: a, name: b}", "nested: [1]\nlist: {a: b}\n", "name: a\n...\n", "? name\n: |\n\n  l",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var out sample
		document, err := Decode("f.yaml", []byte(text), &out)
		if err != nil {
			checkError(t, err, lines(text))
			return
		}
		for _, key := range []string{"name", "list.0.id", "nested", "nested.count"} {
			if err := document.Require(key); (err == nil) != document.Has(key) {
				t.Errorf("%s: there: %t, but %v", key, document.Has(key), err)
			}
		}
		written := write(out)
		var again sample
		if _, err := Decode("f.yaml", []byte(written), &again); err != nil || !same(again, out) {
			t.Errorf("read as %+v, written as\n%s\nand read as %+v, %v", out, written, again, err)
		}
	})
}

// write writes a sample down; Go's escapes are YAML's, too.
func write(out sample) string {
	ratio := strings.NewReplacer("NaN", ".nan", "+Inf", ".inf", "-Inf", "-.inf").Replace(strconv.FormatFloat(out.Nested.Ratio, 'g', -1, 64))
	text := fmt.Sprintf("name: %s\nnested: {count: %d, ratio: %s, on: %t}\nlist:\n", strconv.QuoteToASCII(out.Name), out.Nested.Count, ratio, out.Nested.On)
	for _, each := range out.List {
		text += "  - {id: " + strconv.QuoteToASCII(each.ID) + "}\n"
	}
	return text
}

// same says whether two are equal; a number that is none equals itself here, and
// an empty list is as good as none.
func same(a, b sample) bool {
	if math.IsNaN(a.Nested.Ratio) && math.IsNaN(b.Nested.Ratio) {
		a.Nested.Ratio, b.Nested.Ratio = 0, 0
	}
	if len(a.List) == 0 && len(b.List) == 0 {
		a.List, b.List = nil, nil
	}
	return reflect.DeepEqual(a, b)
}

// lines counts a text's lines as YAML does (1.1, 4.2, line break characters).
func lines(text string) (count int) {
	return 1 + len(regexp.MustCompile(`\r\n|[\r\n\x{85}\x{2028}\x{2029}]`).FindAllString(text, -1))
}

func checkError(t *testing.T, err error, lines int) {
	t.Helper()
	found := (*Error)(nil)
	if !errors.As(err, &found) || len(found.Problems) == 0 {
		t.Fatalf("not of this package: %#v", err)
	}
	for _, problem := range found.Problems {
		if problem.Line < 0 || problem.Line > lines+1 || problem.Text == "" {
			t.Errorf("of %d lines: %+v", lines, problem)
		}
	}
	for line := range strings.Lines(err.Error()) {
		if !strings.HasPrefix(line, "f.yaml:") {
			t.Errorf("a line without the file: %q in\n%v", line, err)
		}
	}
}
