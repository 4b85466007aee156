package engines_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"gladd/engines"
	"gladd/engines/enginetest"
)

func TestLoad(t *testing.T) {
	var golden struct {
		ModelDigest string `json:"model_digest"`
	}
	if err := json.Unmarshal(enginetest.ReadFile(t, filepath.Join(enginetest.Micro(t), "golden.json")), &golden); err != nil {
		t.Fatal(err)
	}
	bundle := enginetest.Load(t, enginetest.Micro(t))
	if bundle.ModelDigest != golden.ModelDigest {
		t.Errorf("model digest: want the reference's %s, found %s", golden.ModelDigest, bundle.ModelDigest)
	}
	if bundle.Manifest.Name != "micro" || *bundle.Manifest.Denoise.NoiseStep != 600 {
		t.Errorf("want micro with noise_step as step, found %+v", bundle.Manifest)
	}
	enginetest.Load(t, enginetest.TinyA(t)) // block style, without classes
}

// What decides no score is no part of the model digest, what does is.
func TestModelDigest(t *testing.T) {
	digest := func(old, replacement string) string {
		dir := enginetest.Copy(t, enginetest.Micro(t))
		if old != "" {
			enginetest.Edit(t, dir, old, replacement)
		}
		return enginetest.Load(t, dir).ModelDigest
	}
	unchanged := digest("", "")
	for old, replacement := range map[string]string{
		`"name": "micro"`:    `"name": "other"`,
		`"threshold": 0.05`:  `"threshold": 0.06`,
		`"top_k": 60`:        `"top_k": 61`,
		`"version": "1.0.0"`: `"version": "1.0.1"`,
	} {
		if digest(old, replacement) != unchanged {
			t.Errorf("%s changed the model digest", replacement)
		}
	}
	for old, replacement := range map[string]string{
		`"encode": "sample"`:    `"encode": "mean"`,
		`"beta_end": 0.012`:     `"beta_end": 0.0121`,
		`"steps_offset": 1`:     `"steps_offset": 0`,
		`to_one": false`:        `to_one": true`,
		`"train_timesteps": 10`: `"train_timesteps": 11`,
	} {
		if digest(old, replacement) == unchanged {
			t.Errorf("%s did not change the model digest", replacement)
		}
	}
}

// Every mistake in a manifest is refused with the file, the line, the field and
// what was expected.
func TestLoadRefusesManifests(t *testing.T) {
	for name, test := range map[string]struct{ old, replacement, want string }{
		"unknown schema":        {"gladd.bundle/v1", "gladd.bundle/v2", `bundle.yaml: schema: expected gladd.bundle/v1, found "gladd.bundle/v2"; this bundle needs another version of gladd`},
		"no schema":             {`"schema": "gladd.bundle/v1",`, "", "bundle.yaml: schema: required, but missing"},
		"unknown key":           {`"step": 600`, `"stpe": 600`, "bundle.yaml:24: denoise.stpe: unknown key"},
		"missing key":           {`"step": 600,`, "", "bundle.yaml:23: denoise.step: required, but missing"},
		"key without a value":   {`"step": 600`, `"step": null`, "denoise.step: required, but missing"},
		"key twice":             {`"step": 600`, `"step": 600, "step": 601`, "denoise.step: given twice"},
		"word for a number":     {`"step": 600`, `"step": "all"`, "bundle.yaml:24: denoise.step: expected a whole number, found all"},
		"fraction":              {`"step": 600`, `"step": 600.5`, "bundle.yaml:24: denoise.step: expected a whole number, found 600.5"},
		"no name":               {`"name": "micro"`, `"name": ""`, "name: expected a name"},
		"no version":            {`"version": "1.0.0"`, `"version": ""`, "version: expected a version"},
		"no width":              {`"width": 160`, `"width": 0`, "image.width: expected a whole number from 1 to 8192, found 0"},
		"enormous height":       {`"height": 96`, `"height": 100000`, "image.height: expected a whole number from 1 to 8192, found 100000"},
		"too many pixels":       {"\"width\": 160,\n    \"height\": 96", "\"width\": 8192,\n    \"height\": 8192", "image.width: expected at most 16777216 pixels (width times height), found 67108864"},
		"latent beyond picture": {`"width": 20`, `"width": 161`, "latent.width: expected a whole number from 1 to 160, found 161"},
		"no channels":           {`"channels": 3`, `"channels": 0`, "latent.channels: expected a whole number from 1 to 1024, found 0"},
		"unknown encode":        {`"encode": "sample"`, `"encode": "mode"`, `latent.encode: expected mean or sample, found "mode"`},
		"no timesteps":          {`"train_timesteps": 1000`, `"train_timesteps": 0`, "schedule.train_timesteps: expected a whole number from 1 to 100000, found 0"},
		"unknown beta schedule": {"scaled_linear", "linear", `schedule.beta_schedule: expected scaled_linear, found "linear"`},
		"beta below 0":          {`"beta_start": 0.00085`, `"beta_start": -0.1`, "schedule.beta_start: expected a number above 0 and below 1, found -0.1"},
		"beta NaN":              {`"beta_start": 0.00085`, `"beta_start": .nan`, "schedule.beta_start: expected a number above 0 and below 1, found NaN"},
		"betas reversed":        {`"beta_end": 0.012`, `"beta_end": 0.0001`, "schedule.beta_end: expected a number from beta_start (0.00085) to below 1, found 0.0001"},
		"offset below 0":        {`"steps_offset": 1`, `"steps_offset": -1`, "schedule.steps_offset: expected a whole number from 0 to 999, found -1"},
		"T of zero":             {`"step": 600`, `"step": 0`, "denoise.step: expected a whole number from 1 to 1000, found 0"},
		"T beyond the schedule": {`"step": 600`, `"step": 1001`, "denoise.step: expected a whole number from 1 to 1000, found 1001"},
		"T at the schedule's":   {`"step": 600`, `"step": 1000`, "denoise.noise_step: expected 0 to 999, the schedule's last timestep, found 1000 (without the key it is denoise.step)"},
		"first timestep beyond": {`"step": 600`, `"step": 1000, "noise_step": 999`, ""},
		"zero steps":            {`"inference_steps": 7`, `"inference_steps": 0`, "denoise.inference_steps: expected a whole number from 1 to 600, found 0"},
		"more steps than T":     {`"inference_steps": 7`, `"inference_steps": 601`, "denoise.inference_steps: expected a whole number from 1 to 600, found 601"},
		"noise step beyond":     {`"step": 600`, `"step": 600, "noise_step": 1000`, "denoise.noise_step: expected 0 to 999"},
		"min step below 0":      {`"min_step": 200`, `"min_step": -1`, "denoise.min_step: expected a whole number from 0 to 1000, found -1"},
		"threshold below 0":     {`"threshold": 0.05`, `"threshold": -0.05`, "denoise.threshold: expected a number of at least 0, found -0.05"},
		"threshold infinite":    {`"threshold": 0.05`, `"threshold": .inf`, "denoise.threshold: expected a number of at least 0, found +Inf"},
		"gate top-k of zero":    {`"gate_top_k": 5`, `"gate_top_k": 0`, "denoise.gate_top_k: expected a whole number from 1 to 240, found 0"},
		"gate top-k beyond":     {`"gate_top_k": 5`, `"gate_top_k": 241`, "denoise.gate_top_k: expected a whole number from 1 to 240, found 241"},
		"top-k beyond the map":  {`"top_k": 60`, `"top_k": 1601`, "score.top_k: expected a whole number from 1 to 1600, found 1601"},
		"no map":                {`"map_size": 40`, `"map_size": 0`, "score.map_size: expected a whole number from 1 to 8192, found 0"},
		"unknown object mask":   {`"object_mask": "none"`, `"object_mask": "otsu"`, `score.object_mask: expected none or otsu_dark or otsu_bright, found "otsu"`},
		"class without a name":  {`"left"`, `""`, "classes.0: expected a name, found nothing"},
		"class twice":           {`"right"`, `"left"`, `classes.1: expected a name of its own, found "left", which is also classes.0`},
		"graph missing":         {`"unet": {`, `"unett": {`, "graphs.unett: unknown key"},
		"file above the folder": {`"file": "unet.onnx"`, `"file": "../unet.onnx"`, `graphs.unet.file: expected the plain name of a file in the bundle's folder, found "../unet.onnx"`},
		"file of another place": {`"file": "unet.onnx"`, `"file": "/etc/passwd"`, `graphs.unet.file: expected the plain name of a file in the bundle's folder, found "/etc/passwd"`},
		"folder for a file":     {`"file": "unet.onnx"`, `"file": ".."`, "graphs.unet.file: expected the plain name"},
		"file without a name":   {`"file": "unet.onnx"`, `"file": ""`, "graphs.unet.file: expected the plain name"},
		"backslash in file":     {`"file": "unet.onnx"`, `"file": "..\\unet.onnx"`, "graphs.unet.file: expected the plain name"},
		"digest that is none":   {`"file": "unet.onnx",`, `"file": "unet.onnx", "external_data": [{"file": "a", "sha256": "xyz"}],`, `graphs.unet.external_data.0.sha256: expected 64 lower-case hex digits, found "xyz"`},
		"external above folder": {`"file": "unet.onnx",`, `"file": "unet.onnx", "external_data": [{"file": "../a", "sha256": "xyz"}],`, "graphs.unet.external_data.0.file: expected the plain name"},
		"graph file not there":  {`"file": "unet.onnx"`, `"file": "unet2.onnx"`, "unet2.onnx: named by graphs.unet in bundle.yaml: no such file or directory"},
		"free provenance":       {`"classes"`, `"provenance": {"seeds": [1, 2]}, "classes"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := enginetest.Copy(t, enginetest.Micro(t))
			enginetest.Edit(t, dir, test.old, test.replacement)
			_, err := engines.Load(dir)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("want no error, found %v", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), dir)):
				t.Errorf("want an error with the file and %q, found %v", test.want, err)
			}
		})
	}
}

func TestLoadRefusesFolders(t *testing.T) {
	if _, err := engines.Load(filepath.Join(t.TempDir(), "absent")); err == nil || !strings.Contains(err.Error(), "no such folder") {
		t.Errorf("absent folder: found %v", err)
	}
	if _, err := engines.Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "no bundle.yaml in it; expected a folder with bundle.yaml and ONNX graphs") {
		t.Errorf("empty folder: found %v", err)
	}
	if _, err := engines.Load(filepath.Join(enginetest.Micro(t), "bundle.yaml")); err == nil {
		t.Error("a file for a folder: want an error, found none")
	}
}

func TestLoadRefusesDamagedGraphs(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"truncated": func(onnx []byte) []byte { return onnx[:len(onnx)/2] },
		"one bit":   func(onnx []byte) []byte { onnx[len(onnx)/2] ^= 1; return onnx },
		"empty":     func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := enginetest.Copy(t, enginetest.Micro(t))
			path := filepath.Join(dir, "dino_gate.onnx")
			enginetest.WriteFile(t, path, damage(enginetest.ReadFile(t, path)))
			_, err := engines.Load(dir)
			if err == nil || !strings.HasPrefix(err.Error(), path+": wrong content: graphs.dino_gate.sha256 in bundle.yaml expects ") {
				t.Errorf("want an error that names the file and the field, found %v", err)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		dir := enginetest.Copy(t, enginetest.Micro(t))
		path := filepath.Join(dir, "dino_gate.onnx")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := engines.Load(dir); err == nil || err.Error() != path+": named by graphs.dino_gate in bundle.yaml: no such file or directory" {
			t.Errorf("found %v", err)
		}
	})
	t.Run("a pipe, which would wait for a writer", func(t *testing.T) {
		dir := enginetest.Copy(t, enginetest.Micro(t))
		path := filepath.Join(dir, "dino_gate.onnx")
		if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := engines.Load(dir); err == nil || !strings.HasPrefix(err.Error(), path+": named by graphs.dino_gate in bundle.yaml: expected a file") {
			t.Errorf("found %v", err)
		}
	})
	t.Run("graphs nested without end", func(t *testing.T) {
		// model.graph, and in it node.attribute.g again and again.
		graph := []byte{}
		for range 1000 {
			attribute := protowire.AppendBytes(protowire.AppendTag(nil, 6, protowire.BytesType), graph)
			node := protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), attribute)
			graph = protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), node)
		}
		dir := enginetest.Copy(t, enginetest.Micro(t))
		enginetest.ReplaceGraph(t, dir, engines.DINOGate, protowire.AppendBytes(protowire.AppendTag(nil, 7, protowire.BytesType), graph))
		if _, err := engines.Load(dir); err == nil || !strings.Contains(err.Error(), "dino_gate.onnx: not an ONNX file: expected graphs nested at most 100 deep, found more") {
			t.Errorf("found %v", err)
		}
	})
	for name, content := range map[string]string{"text, rightly digested": "no ONNX", "empty, rightly digested": ""} {
		t.Run(name, func(t *testing.T) {
			dir := enginetest.Copy(t, enginetest.Micro(t))
			enginetest.ReplaceGraph(t, dir, engines.DINOGate, []byte(content))
			if _, err := engines.Load(dir); err == nil || !strings.Contains(err.Error(), "dino_gate.onnx: not an ONNX file") {
				t.Errorf("found %v", err)
			}
		})
	}
}

// A graph that takes weights from a file without a digest would make its own
// digest worthless.
func TestLoadChecksExternalData(t *testing.T) {
	dir := enginetest.Copy(t, enginetest.Micro(t))
	weights := enginetest.ReadFile(t, enginetest.Path(t, "engines/testdata/graphs/external.weights"))
	enginetest.ReplaceGraph(t, dir, engines.VAEDecoder, enginetest.ReadFile(t, enginetest.Path(t, "engines/testdata/graphs/external.onnx")))
	enginetest.WriteFile(t, filepath.Join(dir, "external.weights"), weights)
	_, err := engines.Load(dir)
	if want := `vae_decoder.onnx: takes weights from "external.weights", which graphs.vae_decoder.external_data in bundle.yaml does not list`; err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("want %q, found %v", want, err)
	}

	enginetest.Edit(t, dir, `"file": "vae_decoder.onnx",`,
		`"file": "vae_decoder.onnx", "external_data": [{"file": "external.weights", "sha256": "`+enginetest.Digest(weights)+`"}],`)
	listed := enginetest.Load(t, dir)
	if plain := enginetest.Load(t, enginetest.Micro(t)); listed.ModelDigest == plain.ModelDigest {
		t.Error("the external file is no part of the model digest")
	}

	weights[3] ^= 1
	enginetest.WriteFile(t, filepath.Join(dir, "external.weights"), weights)
	if _, err := engines.Load(dir); err == nil || !strings.Contains(err.Error(), "external.weights: wrong content: graphs.vae_decoder.external_data.0.sha256") {
		t.Errorf("damaged weights: found %v", err)
	}
}

func TestClass(t *testing.T) {
	several := enginetest.Load(t, enginetest.Micro(t)).Manifest
	none := enginetest.Load(t, enginetest.TinyA(t)).Manifest
	for name, test := range map[string]struct {
		manifest engines.Manifest
		class    string
		index    int
		want     string
	}{
		"second of several": {several, "right", 1, ""},
		"none of none":      {none, "", 0, ""},
		"none of several":   {several, "", 0, "class: bundle micro has several; name one of left, right"},
		"unknown":           {several, "middle", 0, `class "middle": bundle micro has none of this name; name one of left, right`},
		"one of none":       {none, "left", 0, `class "left": bundle tiny-a has no classes`},
	} {
		t.Run(name, func(t *testing.T) {
			index, err := test.manifest.Class(test.class)
			if index != test.index || (err == nil) != (test.want == "") || (err != nil && err.Error() != test.want) {
				t.Errorf("want %d, %q, found %d, %v", test.index, test.want, index, err)
			}
		})
	}
}
