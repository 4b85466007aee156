package configs

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

const minimal = `site: p
line: l
stations:
  - {name: st-01, recipe: r, camera: {source: "folder:pictures"}}
recipes:
  r: {bundle: model}
`

// workplace is a folder with what the configurations of these tests name.
func workplace(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, folder := range []string{"pictures", "model", "bundles/screw"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"model/bundle.yaml", "bundles/screw/bundle.yaml", "secret", "film.avi"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDefaults(t *testing.T) {
	dir := workplace(t)
	config, err := parse("f.yaml", dir, []byte(minimal+"box: b\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Schema: Schema, Site: "p", Line: "l", Box: "b",
		Stations: []Station{{
			Name: "st-01", Recipe: "r", Camera: Camera{"folder:" + dir + "/pictures"},
			Trigger: Trigger{Kind: TriggerMQTT}, Deadline: Duration(2 * time.Second), Queue: 16,
		}},
		Recipes: map[string]Recipe{"r": {Version: "1", Bundle: dir + "/model", Mode: "adaptive"}},
		Engines: Engines{Backend: "auto", CacheDir: "/var/lib/gladd/engines"},
		Ledger: Ledger{
			Path: "/var/lib/gladd/ledger.db", Keep: Duration(2160 * time.Hour), MinFree: 256 << 20,
			Images: Images{Dir: "/var/lib/gladd/images", Keep: KeepAll, MaxBytes: 10 << 30},
		},
		MQTT: MQTT{URL: "mqtt://127.0.0.1:1883", AckTimeout: Duration(10 * time.Second), Listen: "127.0.0.1:1883"},
		Web:  Web{Listen: "127.0.0.1:8080"},
		GPU:  GPU{Monitor: "auto", Interval: Duration(5 * time.Second)},
	}
	if !reflect.DeepEqual(config, want) {
		t.Errorf("want %+v\nfound %+v", want, config)
	}
}

// The exact words matter: they are all that a user has to find a mistake by.
func TestErrors(t *testing.T) {
	dir := workplace(t)
	replace := func(old, replacement string) string {
		if strings.Count(minimal, old) != 1 {
			t.Fatalf("%q is not once in the minimal configuration", old)
		}
		return strings.Replace(minimal, old, replacement, 1)
	}
	for name, test := range map[string]struct{ yaml, want string }{
		"other schema":        {minimal + "schema: gladd.config/v2\n", `f.yaml: schema: expected gladd.config/v1, found "gladd.config/v2"; this file needs another version of gladd`},
		"empty":               {"", "f.yaml: the file is empty; expected a YAML mapping"},
		"nothing required":    {"box: b\n", "f.yaml: site: required, but missing\nf.yaml: line: required, but missing\nf.yaml: stations: required, but missing\nf.yaml: recipes: required, but missing"},
		"unknown key":         {minimal + "mqqt: {url: x}\n", "f.yaml:7: mqqt: unknown key"},
		"misspelt key":        {replace("{source:", "{sauce:"), "f.yaml:4: stations.0.camera.sauce: unknown key"},
		"key in a recipe":     {replace("{bundle: model}", "{bundle: model, moed: exact}"), "f.yaml:6: recipes.r.moed: unknown key"},
		"wrong type":          {replace("recipe: r,", "recipe: r, queue: many,"), "f.yaml:4: stations.0.queue: expected a whole number, found many"},
		"fraction":            {replace("recipe: r,", "recipe: r, queue: 1.5,"), "f.yaml:4: stations.0.queue: expected a whole number, found 1.5"},
		"duration of no unit": {replace("recipe: r,", "recipe: r, deadline: 2,"), "f.yaml:4: stations.0.deadline: expected a duration such as 2s or 1m30s, found 2"},
		"duration as list":    {replace("recipe: r,", "recipe: r, deadline: [2s],"), "f.yaml:4: stations.0.deadline: expected a duration such as 2s or 1m30s, found a list"},
		"size of no unit":     {minimal + "ledger: {images: {max_bytes: 10GB}}\n", "f.yaml:7: ledger.images.max_bytes: expected a size such as 500MiB or 10GiB, found 10GB"},
		"size too large":      {minimal + "ledger: {images: {max_bytes: 9999999999TiB}}\n", "f.yaml:7: ledger.images.max_bytes: expected a size such as 500MiB or 10GiB, found 9999999999TiB"},
		"two of one name": {replace("recipes:", `  - {name: st-01, recipe: r, camera: {source: "folder:pictures"}}`+"\nrecipes:"),
			`f.yaml:5: stations.1.name: expected a name of its own, found "st-01", which is also stations.0`},
		"name with a slash":     {replace("site: p", "site: p/1"), `f.yaml:1: site: expected a name of 1 to 64 letters, digits, - and _ that begins with a letter or digit, found "p/1"`},
		"station with a slash":  {replace("st-01", "st/01"), `f.yaml:4: stations.0.name: expected a name of 1 to 64 letters, digits, - and _ that begins with a letter or digit, found "st/01"`},
		"name with a wildcard":  {replace("line: l", `line: "#"`), `f.yaml:2: line: expected a name of 1 to 64 letters, digits, - and _ that begins with a letter or digit, found "#"`},
		"no such recipe":        {replace("recipe: r", "recipe: q"), `f.yaml:4: stations.0.recipe: expected the name of a recipe (r), found "q"`},
		"no such plan":          {replace("{bundle: model}", "{bundle: model, mode: adaptive, plans: [quick]}"), "f.yaml:6: recipes.r.plans[0]: expected exact, latest-first or short-tail, found \"quick\""},
		"plans of mode exact":   {replace("{bundle: model}", "{bundle: model, mode: exact, plans: [short-tail]}"), "f.yaml:6: recipes.r.plans: belongs to mode adaptive; this recipe has mode exact"},
		"no such bundle":        {replace("model", "modell"), "f.yaml:6: recipes.r.bundle: expected a folder that holds bundle.yaml, found " + dir + "/modell"},
		"no such folder":        {replace("folder:pictures", "folder:picturse"), "f.yaml:4: stations.0.camera.source: no such folder: " + dir + "/picturse"},
		"no such video":         {replace("folder:pictures", "video:film.mp4"), "f.yaml:4: stations.0.camera.source: no such file: " + dir + "/film.mp4"},
		"camera of no kind":     {replace("folder:pictures", "/dev/video0"), `f.yaml:4: stations.0.camera.source: expected v4l2:DEVICE, rtsp://ADDRESS, gstreamer:PIPELINE, video:FILE, folder:DIR or virtual:KIND, found "/dev/video0"`},
		"camera's option":       {replace("folder:pictures", "folder:pictures?lop=true"), `f.yaml:4: stations.0.camera.source: expected ?loop=true or nothing after the path, found "?lop=true"`},
		"virtual part":          {replace("folder:pictures", "virtual:wheel"), `f.yaml:4: stations.0.camera.source: virtual line: part "wheel": expected plate, board, cap or surface`},
		"virtual option":        {replace("folder:pictures", "virtual:plate?sead=1"), `f.yaml:4: stations.0.camera.source: virtual line: expected seed, size, defective, count, found "sead=1"`},
		"virtual number":        {replace("folder:pictures", "virtual:plate?defective=101"), `f.yaml:4: stations.0.camera.source: virtual line: defective: expected one whole number from 0 to 100, found "101"`},
		"trigger of no kind":    {replace("recipe: r,", "recipe: r, trigger: {kind: button},"), `f.yaml:4: stations.0.trigger.kind: expected mqtt, http, interval or folder, found "button"`},
		"gpio":                  {replace("recipe: r,", "recipe: r, trigger: {kind: gpio},"), "f.yaml:4: stations.0.trigger.kind: this version of gladd does not have gpio; use mqtt, http, interval or folder"},
		"interval of nothing":   {replace("recipe: r,", "recipe: r, trigger: {kind: interval, every: 0s},"), "f.yaml:4: stations.0.trigger.every: expected at least 10ms, found 0s"},
		"every without need":    {replace("recipe: r,", "recipe: r, trigger: {kind: mqtt, every: 1s},"), "f.yaml:4: stations.0.trigger.every: belongs to triggers of kind interval or folder; this one is mqtt"},
		"folder trigger":        {replace(`recipe: r, camera: {source: "folder:pictures"}`, `recipe: r, trigger: {kind: folder}, camera: {source: "v4l2:/dev/video0"}`), `f.yaml:4: stations.0.trigger.kind: a folder trigger needs a folder:DIR camera, found "v4l2:/dev/video0"`},
		"attempts below none":   {replace("recipe: r,", "recipe: r, attempts: -1,"), "f.yaml:4: stations.0.attempts: expected 0 (without limit) to 1000, found -1"},
		"deadline of nothing":   {replace("recipe: r,", "recipe: r, deadline: 0s,"), "f.yaml:4: stations.0.deadline: expected 10ms to 10m0s, found 0s"},
		"tensorrt":              {minimal + "engines: {backend: tensorrt, tensorrt_library: none.so}\n", "f.yaml:7: engines.tensorrt_library: no such file: " + dir + "/none.so"},
		"library":               {minimal + "engines: {onnxruntime_library: none.so}\n", "f.yaml:7: engines.onnxruntime_library: no such file: " + dir + "/none.so"},
		"broker of no scheme":   {minimal + "mqtt: {url: \"broker:1883\"}\n", `f.yaml:7: mqtt.url: expected mqtt://HOST:PORT or mqtts://HOST:PORT, found "broker:1883"`},
		"password in the url":   {minimal + "mqtt: {url: \"mqtt://user:secret@broker\"}\n", "f.yaml:7: mqtt.url: a user or a password has no place in the address; use mqtt.username and mqtt.password_file"},
		"password, bad url":     {minimal + "mqtt: {url: \"http://user:secret@broker\"}\n", `f.yaml:7: mqtt.url: expected mqtt://HOST:PORT or mqtts://HOST:PORT, found "…@broker"`},
		"plain text":            {minimal + "mqtt: {url: \"mqtt://broker\"}\n", "f.yaml:7: mqtt.url: nothing would be encrypted on the way to broker, passwords neither; use mqtts://, or write mqtt.allow_plaintext: true where everybody on the network may read and send commands"},
		"plain text, address":   {minimal + "mqtt: {url: \"mqtt://[fe80::1]:1883\"}\n", "f.yaml:7: mqtt.url: nothing would be encrypted on the way to fe80::1, passwords neither; use mqtts://, or write mqtt.allow_plaintext: true where everybody on the network may read and send commands"},
		"plain text of nobody":  {minimal + "mqtt: {embedded: true, allow_plaintext: true}\n", "f.yaml:7: mqtt.allow_plaintext: the embedded broker takes no allow_plaintext; leave it or mqtt.embedded out"},
		"no such password file": {minimal + "mqtt: {username: u, password_file: scret}\n", "f.yaml:7: mqtt.password_file: no such file: " + dir + "/scret"},
		"password of nobody":    {minimal + "mqtt: {password_file: secret}\n", "f.yaml:7: mqtt.password_file: a password without mqtt.username"},
		"ca without tls":        {minimal + "mqtt: {ca_file: secret}\n", "f.yaml:7: mqtt.ca_file: belongs to mqtts://; mqtt.url is not encrypted"},
		"half a certificate":    {minimal + "mqtt: {url: \"mqtts://b\", cert_file: secret}\n", "f.yaml:7: mqtt.cert_file: cert_file and key_file belong together; one of them is missing"},
		"embedded for all":      {minimal + "mqtt: {embedded: true, listen: \"0.0.0.0:1883\"}\n", `f.yaml:7: mqtt.listen: expected a loopback address such as 127.0.0.1:1883 (the embedded broker is for trying it out), found "0.0.0.0:1883"`},
		"embedded and url":      {minimal + "mqtt: {embedded: true, url: \"mqtt://b\"}\n", "f.yaml:7: mqtt.url: the embedded broker takes no url; leave it or mqtt.embedded out"},
		"ack_timeout of zero":   {minimal + "mqtt: {ack_timeout: 0s}\n", "f.yaml:7: mqtt.ack_timeout: expected 100ms to 10m0s, found 0s"},
		"ack_timeout of hours":  {minimal + "mqtt: {ack_timeout: 1h}\n", "f.yaml:7: mqtt.ack_timeout: expected 100ms to 10m0s, found 1h0m0s"},
		"min_free":              {minimal + "ledger: {min_free: 1KiB}\n", "f.yaml:7: ledger.min_free: expected at least 1MiB, found 1024B"},
		"web for all":           {minimal + "web: {listen: \"0.0.0.0:8080\"}\n", "f.yaml:7: web.listen: 0.0.0.0:8080 can be reached from other machines, which needs web.token_file; or use 127.0.0.1"},
		"web of no port":        {minimal + "web: {listen: \"127.0.0.1\"}\n", `f.yaml:7: web.listen: expected an address and a port such as 127.0.0.1:8080, found "127.0.0.1"`},
		"several at once": {replace("st-01", "st/01") + "gpu: {monitor: some}\n",
			`f.yaml:4: stations.0.name: expected a name of 1 to 64 letters, digits, - and _ that begins with a letter or digit, found "st/01"` + "\n" +
				`f.yaml:7: gpu.monitor: expected auto, nvml, tegra or none, found "some"`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parse("f.yaml", dir, []byte(test.yaml)); err == nil || err.Error() != test.want {
				t.Errorf("want  %s\nfound %v", test.want, err)
			}
		})
	}
}

// Plain text goes to this machine, and elsewhere only when it is asked for.
func TestPlaintext(t *testing.T) {
	dir := workplace(t)
	for _, mqtt := range []string{
		`{url: "mqtt://localhost"}`, `{url: "mqtt://127.3.2.1:1883"}`, `{url: "mqtt://[::1]:1883"}`, `{url: "mqtts://broker"}`,
		`{url: "mqtt://broker", allow_plaintext: true}`, `{url: "mqtt://10.1.2.3:1883", allow_plaintext: true}`,
	} {
		if _, err := parse("f.yaml", dir, []byte(minimal+"mqtt: "+mqtt+"\n")); err != nil {
			t.Errorf("%s: %v", mqtt, err)
		}
	}
}

func TestLoadFile(t *testing.T) {
	dir := workplace(t)
	path := filepath.Join(dir, "gladd.yaml")
	if _, err := Load(path); err == nil || err.Error() != "configuration "+path+": no such file or directory" {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := Load(dir); err == nil || err.Error() != "configuration "+dir+": expected a file" {
		t.Errorf("a folder: %v", err)
	}
	if err := os.WriteFile(path, []byte(minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Dir(dir))
	config, err := Load(filepath.Join(filepath.Base(dir), "gladd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "model"); config.Recipes["r"].Bundle != want {
		t.Errorf("paths belong to the file's folder: want %s, found %s", want, config.Recipes["r"].Bundle)
	}
}

var (
	commented = regexp.MustCompile(`(?m)^( *)#((?:- )?[a-z_0-9]+:)`)
	// shownParts are an example: there are none by default.
	shownParts = regexp.MustCompile(`(?ms)^parts:.*?\n\n`)
)

// The shipped file is right as it is, shows every key, and shows the defaults.
func TestShipped(t *testing.T) {
	dir := workplace(t)
	shipped, err := os.ReadFile("gladd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	asShipped, err := parse("gladd.yaml", dir, shipped)
	if err != nil {
		t.Fatal(err)
	}
	text := commented.ReplaceAllString(string(shipped), "$1$2")
	for _, key := range keys(reflect.TypeFor[Config]()) {
		if !regexp.MustCompile(`(?m)^[ -]*` + key + `:`).MatchString(text) {
			t.Errorf("%s is not shown", key)
		}
	}
	example := shownParts.FindString(text)
	if _, err := parse("parts", dir, []byte(minimal+`box: b
`+example)); err == nil || !strings.Contains(err.Error(), `expected the name of a station (st-01), found "st-02"`) {
		t.Errorf("the parts shown are read, and lack a station here: found %v", err)
	}
	withBoth := strings.Replace(minimal, "recipes:", `  - {name: st-02, recipe: r, camera: {source: "folder:pictures"}}`+"\nrecipes:", 1)
	withParts, err := parse("parts", dir, []byte(withBoth+example))
	if err != nil {
		t.Fatal(err)
	}
	if want := []Part{{Name: "housing", Views: map[string]string{"front": "st-01", "back": "st-02"}, Deadline: Duration(10 * time.Second)}}; !reflect.DeepEqual(withParts.Parts, want) {
		t.Errorf("want %+v, found %+v", want, withParts.Parts)
	}
	text = strings.Replace(text, example, "", 1)
	// With every key given, those that only go with others are taken out again.
	text = strings.NewReplacer(
		`every: 1s`, `# every`, `plans: [short-tail, latest-first, exact]`, `# plans`, `dir: ""`, `# dir`, `box: box-01`, "box: "+asShipped.Box,
		`embedded: false`, `embedded: false #`, `listen: "127.0.0.1:1883"`, `# listen`,
	).Replace(text)
	uncommented, err := parse("gladd.yaml", dir, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(asShipped, uncommented) {
		t.Errorf("the defaults shown are not those that hold:\n%+v\n%+v", uncommented, asShipped)
	}
}

func TestParts(t *testing.T) {
	dir := workplace(t)
	stations := `site: p
line: l
stations:
  - {name: st-01, recipe: r, camera: {source: "folder:pictures"}, attempts: 3}
  - {name: st-02, recipe: r, camera: {source: "folder:pictures"}}
  - {name: by-clock, recipe: r, camera: {source: "folder:pictures"}, trigger: {kind: interval}}
  - {name: by-folder, recipe: r, camera: {source: "folder:pictures"}, trigger: {kind: folder}}
recipes: {r: {bundle: model}}
`
	config, err := parse("f.yaml", dir, []byte(stations+"parts: [{name: housing, views: {right: st-02, left: st-02, front: st-01}, attempts: 2}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	part := config.PartOf("st-02")
	if part == nil || part.Deadline != Duration(10*time.Second) || part.Attempts != 2 || config.Stations[0].Attempts != 3 {
		t.Fatalf("found %+v", part)
	}
	if all, here := strings.Join(part.ViewNames(""), " "), strings.Join(part.ViewNames("st-02"), " "); all != "front left right" || here != "left right" {
		t.Errorf("found %s, %s", all, here)
	}
	if config.PartOf("by-clock") != nil {
		t.Error("it has no part")
	}
	for name, test := range map[string]struct{ parts, want string }{
		"no name":           {"{views: {a: st-01}}", `parts.0.name: expected a name of 1 to 64 letters, digits, - and _ that begins with a letter or digit, found ""`},
		"name of a station": {"{name: st-02, views: {a: st-01}}", `parts.0.name: expected a name of its own, found "st-02", which is also a station`},
		"name of two":       {"{name: x, views: {a: st-01}}, {name: x, views: {a: st-02}}", `parts.1.name: expected a name of its own, found "x", which is also parts.0`},
		"no views":          {"{name: x}", "parts.0.views: expected the part's views and their stations, such as {front: st-01, back: st-02}, found none"},
		"view of no form":   {"{name: x, views: {a b: st-01}}", `parts.0.views.a b: expected a name of 1 to 64 letters, digits, - and _ that begins with a letter or digit, found "a b"`},
		"no such station":   {"{name: x, views: {a: st-03}}", `parts.0.views.a: expected the name of a station (by-clock, by-folder, st-01, st-02), found "st-03"`},
		"station of two":    {"{name: x, views: {a: st-01}}, {name: y, views: {a: st-01}}", "parts.1.views.a: station st-01 sees views of part x already; a station belongs to one part"},
		"by the clock":      {"{name: x, views: {a: by-clock}}", "parts.0.views.a: station by-clock is triggered by interval, which gives no part id; a part of several views needs mqtt or http"},
		"by a folder":       {"{name: x, views: {a: by-folder}}", "parts.0.views.a: station by-folder is triggered by folder, which gives no part id; a part of several views needs mqtt or http"},
		"deadline":          {"{name: x, views: {a: st-01}, deadline: 11m}", "parts.0.deadline: expected 10ms to 10m0s, found 11m0s"},
		"attempts":          {"{name: x, views: {a: st-01}, attempts: -1}", "parts.0.attempts: expected 0 (without limit) to 1000, found -1"},
		"unknown key":       {"{name: x, view: {a: st-01}}", "parts.0.view: unknown key"},
	} {
		if _, err := parse("f.yaml", dir, []byte(stations+"parts: ["+test.parts+"]\n")); err == nil || err.Error() != "f.yaml:9: "+test.want {
			t.Errorf("%s: want  f.yaml:9: %s\nfound %v", name, test.want, err)
		}
	}
}

// keys are the names of all keys of a type.
func keys(of reflect.Type) (names []string) {
	for of.Kind() == reflect.Slice || of.Kind() == reflect.Map {
		of = of.Elem()
	}
	if of.Kind() != reflect.Struct {
		return nil
	}
	for _, field := range reflect.VisibleFields(of) {
		names = append(append(names, field.Tag.Get("yaml")), keys(field.Type)...)
	}
	return names
}
