package docs_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"gladd/docs/schemas"
	"gladd/docs/schemas/schematest"
)

// codeBlocks are the indented parts of a page.
func codeBlocks(page string) (blocks []string) {
	var block strings.Builder
	for line := range strings.Lines(page + "\n") {
		if text, indented := strings.CutPrefix(line, "    "); indented || strings.TrimSpace(line) == "" && block.Len() > 0 {
			block.WriteString(text)
			continue
		}
		if block.Len() > 0 {
			blocks = append(blocks, block.String())
			block.Reset()
		}
	}
	return blocks
}

var (
	topic = regexp.MustCompile(`insp/v1/[^\s'"]+`)
	page  = regexp.MustCompile(`/api/v1/stations/[^/\s'"]+/(\w+)`)
	shell = regexp.MustCompile(`'\$\(soon\)'`)
)

// schemaAt says what a JSON example at a place of a code block is: by the topic
// before it, or by the page that a curl in its line posts it to.
func schemaAt(t *testing.T, block string, at int) string {
	t.Helper()
	begin := strings.LastIndexByte(block[:at], '\n') + 1
	line, _, _ := strings.Cut(block[begin:], "\n")
	if posted := page.FindStringSubmatch(line); posted != nil {
		return "command." + posted[1]
	}
	topics := topic.FindAllString(block[:at], -1)
	if topics == nil {
		return ""
	}
	channel, err := schematest.Find(topics[len(topics)-1])
	if err != nil {
		t.Fatal(err)
	}
	if channel == nil {
		return ""
	}
	return channel.Schema
}

// Every example of the page for integrators is right, and every message has one.
func TestExamples(t *testing.T) {
	content, err := os.ReadFile("mes.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, block := range codeBlocks(string(content)) {
		block = strings.ReplaceAll(block, "$STATION/", "insp/v1/plant-1/line-a/st-01/")
		block = shell.ReplaceAllString(block, "2026-11-27T21:48:43Z")
		for at := 0; at < len(block); {
			next := strings.Index(block[at:], "{\"")
			if multiline := strings.Index(block[at:], "{\n"); multiline >= 0 && (next < 0 || multiline < next) {
				next = multiline
			}
			if next < 0 {
				break
			}
			at += next
			decoder := json.NewDecoder(strings.NewReader(block[at:]))
			var example json.RawMessage
			if err := decoder.Decode(&example); err != nil {
				t.Errorf("not JSON: %.200s: %v", block[at:], err)
				break
			}
			schema := schemaAt(t, block, at)
			if schema == "" {
				t.Errorf("an example of what? Put its topic before it: %s", example)
			} else if err := schematest.Validate(schema, example); err != nil {
				t.Errorf("%s: %s: %v", schema, example, err)
			}
			seen[schema]++
			at += int(decoder.InputOffset())
		}
	}
	for _, name := range schemas.Names() {
		if seen[name] == 0 && name != "verdict" { // which is a part of event
			t.Errorf("mes.md has no example of %s", name)
		}
	}
	if seen["event"] != 2 || seen["reply"] < 10 {
		t.Errorf("found %v", seen)
	}
}
