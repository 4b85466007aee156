package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gladd/internal/strictyaml"
)

// maxFileBytes is beyond any configuration that a person wrote.
const maxFileBytes = 1 << 20

// requiredKeys have no default.
var requiredKeys = []string{"site", "line", "stations", "recipes"}

// Load reads and checks a configuration file. Errors name the file, the line
// and the key. Relative paths in it are relative to its folder; in the
// returned configuration all are absolute.
func Load(path string) (*Config, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("expected a file")
	}
	if err == nil && info.Size() > maxFileBytes {
		err = fmt.Errorf("expected at most %d bytes, found %d", maxFileBytes, info.Size())
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		if pathError := (*fs.PathError)(nil); errors.As(err, &pathError) {
			err = pathError.Err
		}
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	return parse(path, filepath.Dir(absolute), data)
}

// parse decodes and checks a configuration; file is the name for errors.
func parse(file, folder string, data []byte) (*Config, error) {
	if schema, found := strictyaml.Peek(data, "schema"); found && schema != Schema {
		return nil, fmt.Errorf("%s: schema: expected %s, found %q; this file needs another version of gladd", file, Schema, schema)
	}
	config := defaults()
	document, err := strictyaml.Decode(file, data, config)
	if err != nil {
		return nil, err
	}
	if err := document.Require(requiredKeys...); err != nil {
		return nil, err
	}
	if err := config.complete(document); err != nil {
		return nil, err
	}
	config.resolve(folder)
	return config, config.check(document)
}

// defaults are the values of absent keys, but for those that depend on others.
func defaults() *Config {
	return &Config{
		Schema:  Schema,
		Engines: Engines{Backend: "auto", CacheDir: "/var/lib/gladd/engines"},
		Ledger: Ledger{
			Path:    "/var/lib/gladd/ledger.db",
			Keep:    Duration(90 * 24 * time.Hour),
			MinFree: 256 << 20,
			Images:  Images{Keep: KeepAll, MaxBytes: 10 << 30},
		},
		MQTT: MQTT{URL: "mqtt://127.0.0.1:1883", AckTimeout: Duration(10 * time.Second), Listen: "127.0.0.1:1883"},
		Web:  Web{Listen: "127.0.0.1:8080"},
		GPU:  GPU{Monitor: "auto", Interval: Duration(5 * time.Second)},
	}
}

// complete fills in what the keys that are there imply for those that are not.
func (c *Config) complete(document *strictyaml.Document) error {
	if !document.Has("box") {
		host, err := os.Hostname()
		if err != nil {
			return document.Errorf("box", "not given, and the host's name cannot be found: %v", err)
		}
		c.Box, _, _ = strings.Cut(host, ".")
	}
	for i := range c.Stations {
		station := &c.Stations[i]
		key := fmt.Sprintf("stations.%d.", i)
		if !document.Has(key + "deadline") {
			station.Deadline = Duration(2 * time.Second)
		}
		if !document.Has(key + "queue") {
			station.Queue = 16
		}
		if !document.Has(key + "trigger.kind") {
			station.Trigger.Kind = TriggerMQTT
		}
		if !document.Has(key + "trigger.every") {
			switch station.Trigger.Kind {
			case TriggerInterval:
				station.Trigger.Every = Duration(time.Second)
			case TriggerFolder:
				station.Trigger.Every = Duration(time.Second / 2)
			}
		}
	}
	for i := range c.Parts {
		if !document.Has(fmt.Sprintf("parts.%d.deadline", i)) {
			c.Parts[i].Deadline = Duration(10 * time.Second)
		}
	}
	for name, recipe := range c.Recipes {
		if !document.Has("recipes." + name + ".mode") {
			recipe.Mode = "adaptive"
		}
		if !document.Has("recipes." + name + ".version") {
			recipe.Version = "1"
		}
		c.Recipes[name] = recipe
	}
	return nil
}

// resolve makes paths absolute.
func (c *Config) resolve(folder string) {
	resolve := func(path *string) {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(folder, *path)
		}
	}
	for _, path := range []*string{
		&c.Engines.ONNXRuntimeLibrary, &c.Engines.TensorRTLibrary, &c.Engines.CacheDir,
		&c.Ledger.Path, &c.Ledger.Images.Dir,
		&c.MQTT.PasswordFile, &c.MQTT.CAFile, &c.MQTT.CertFile, &c.MQTT.KeyFile, &c.Web.TokenFile,
	} {
		resolve(path)
	}
	if c.Ledger.Images.Dir == "" {
		c.Ledger.Images.Dir = filepath.Join(filepath.Dir(c.Ledger.Path), "images")
	}
	for name, recipe := range c.Recipes {
		resolve(&recipe.Bundle)
		c.Recipes[name] = recipe
	}
	for i := range c.Stations {
		camera := &c.Stations[i].Camera
		kind, rest := cutSource(camera.Source)
		if (kind == "folder" || kind == "video") && rest != "" {
			path, query, hasQuery := strings.Cut(rest, "?")
			resolve(&path)
			camera.Source = kind + ":" + path
			if hasQuery {
				camera.Source += "?" + query
			}
		}
	}
}

// cutSource splits a camera's source into its kind and what it opens.
func cutSource(source string) (kind, rest string) {
	kind, rest, _ = strings.Cut(source, ":")
	return kind, rest
}
