package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gladd/docs"
	"gladd/docs/schemas"
)

func TestSchemaCommand(t *testing.T) {
	code, stdout, stderr := gladd(t, "mes", "schema")
	if code != 0 || strings.Count(stdout, "\n") != len(schemas.Names()) || !strings.Contains(stdout, "command.start      Command: inspect a part\n") {
		t.Errorf("found %d, %s, %s", code, stdout, stderr)
	}
	want, err := schemas.Get("state")
	if err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr = gladd(t, "mes", "schema", "state"); code != 0 || stdout != string(want) {
		t.Errorf("found %d, %s, %s", code, stdout, stderr)
	}
	for name, test := range map[string]struct {
		arguments []string
		want      string
	}{
		"unknown": {[]string{"sttae"}, `gladd: no schema "sttae": expected one of ack, acquired, command.abort, `},
		"both":    {[]string{"state", "--all", t.TempDir()}, "expected a name or --all, found both"},
		"a file":  {[]string{"--all", filepath.Join(os.Args[0], "below")}, "not a directory"},
	} {
		if code, stdout, stderr := gladd(t, append([]string{"mes", "schema"}, test.arguments...)...); code != 2 || stdout != "" || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: want exit code 2 and %q, found %d: %s%s", name, test.want, code, stdout, stderr)
		}
	}
}

// What the program writes is what its AsyncAPI document refers to.
func TestAllSchemas(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "schemas")
	if code, stdout, stderr := gladd(t, "mes", "schema", "--all", dir); code != 0 || stdout != "17 schemas written to "+dir+"\n" {
		t.Fatalf("found %d, %s, %s", code, stdout, stderr)
	}
	code, document, stderr := gladd(t, "mes", "asyncapi")
	if code != 0 || document != string(docs.AsyncAPI) {
		t.Fatalf("found %d, %s", code, stderr)
	}
	references := 0
	for line := range strings.Lines(document) {
		if _, file, is := strings.Cut(strings.TrimSpace(line), "$ref: ./schemas/"); is {
			references++
			if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
				t.Error(err)
			}
		}
	}
	if references < 15 {
		t.Errorf("found %d references to schemas", references)
	}
}
