package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gladd/daemon/internal/mes/mestest"
	"gladd/engines"
	"gladd/engines/enginetest"
)

const start01 = "insp/v1/p/l/st-01/cmd/start"

func TestRunOverMQTT(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	listener := mestest.Listen(t, broker.URL())
	p := start(t, newSite(t, broker.URL()).config(oneStation))
	listener.Wait("_box/box-1/status", mestest.Last(`"online"`))
	for i := range 6 {
		listener.Send(start01, fmt.Sprintf(`{"part_id":"P-%d"}`, i), false)
	}
	records := mestest.CheckOrder(t, listener.Wait("/verdict", mestest.Count(6)), 6)
	evaluations := map[any]int{}
	for _, record := range records {
		evaluations[record["evaluation"]]++
		if record["calibration_id"] != "cal-1" || record["image_threshold"] != 1.0 || record["is_simulated"] != true ||
			record["recipe"].(map[string]any)["name"] != "r" || record["bundle"].(map[string]any)["name"] != "tiny-a" {
			t.Errorf("found %v", record)
		}
	}
	if evaluations["OK"] != 2 || evaluations["NotOK"] != 4 {
		t.Errorf("want 2 OK and 4 NotOK, found %v", evaluations)
	}
	health := listener.Wait("st-01/health", mestest.Count(1))[0].JSON(t)
	for _, key := range []string{"camera", "engine", "gpu", "outbox", "queue", "clock", "disk", "reasons"} {
		if health[key] == nil {
			t.Errorf("health has no %s: %v", key, health)
		}
	}
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
	listener.Wait("_box/box-1/status", mestest.Last(`"offline"`))
	listener.Wait("st-01/state", mestest.Last(`"Halted"`))
}

// A box that is cut off is offline by its will.
func TestWill(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	listener := mestest.Listen(t, broker.URL())
	p := start(t, newSite(t, broker.URL()).config(oneStation))
	listener.Wait("_box/box-1/status", mestest.Last(`"online"`))
	if err := p.command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	listener.Wait("_box/box-1/status", mestest.Last(`"offline"`))
}

// SIGTERM with a full queue: every accepted trigger has its verdict before the
// end.
func TestSIGTERM(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	listener := mestest.Listen(t, broker.URL())
	p := start(t, newSite(t, broker.URL()).config(oneStation))
	listener.Wait("_box/box-1/status", mestest.Last(`"online"`))
	for i := range 12 {
		listener.Send(start01, fmt.Sprintf(`{"command_id":"c-%d"}`, i), false)
	}
	listener.Wait("cmd/start/reply", mestest.Count(12))
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
	shutdown := 0
	for _, record := range mestest.CheckOrder(t, listener.Wait("/verdict", mestest.Count(12)), 12) {
		if reason, is := record["reason"].(map[string]any); is && reason["code"] == "shutdown" {
			shutdown++
		}
	}
	if shutdown == 0 {
		t.Error("the queue was not full")
	}
	p.waitState("STOPPING=1")
}

// Told to end while the networks are loaded, it ends as told.
func TestSIGTERMWhileStarting(t *testing.T) {
	p := launch(t, []string{"run", "--config", newSite(t, "").config(oneStation)})
	// The ledger's file is there before the networks are.
	ledger := filepath.Join(filepath.Dir(p.command.Args[3]), "ledger.db-wal")
	for {
		if _, err := os.Stat(ledger); err == nil {
			break
		}
		select {
		case <-p.exited:
			t.Fatalf("it ended:\n%s", p.errors())
		case <-time.After(time.Millisecond):
		}
	}
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
}

// What cannot be ended, a recipe's file that hangs, is left to the end of the
// process, and what else there is is put away in order.
func TestSIGTERMWhilePreparing(t *testing.T) {
	for way, prepare := range map[string]func(p *process, l *mestest.Listener){
		"MQTT": func(_ *process, l *mestest.Listener) { l.Send(topic01+"cmd/prepare", `{"recipe":"s"}`, false) },
		"HTTP": func(p *process, _ *mestest.Listener) {
			go http.Post(p.logged("starting", "web")+"/api/v1/stations/st-01/prepare", "application/json", strings.NewReader(`{"recipe":"s"}`)) //nolint:errcheck // it is not answered
		},
	} {
		t.Run(way, func(t *testing.T) {
			broker := mestest.StartMosquitto(t)
			s := newSiteOfTwo(t, broker.URL())
			p := start(t, s.config(fmt.Sprintf(twoRecipes, "r")))
			calibrations := filepath.Join(s.dir, "second", engines.CalibrationsFile)
			if err := errors.Join(os.Remove(calibrations), syscall.Mkfifo(calibrations, 0o600)); err != nil {
				t.Fatal(err)
			}
			listener := mestest.Listen(t, broker.URL())
			listener.Wait("_box/box-1/status", mestest.Last(`"online"`))
			prepare(p, listener)
			writer, err := os.OpenFile(calibrations, os.O_WRONLY, 0) // when gladd has opened it, and waits for its content
			if err != nil {
				t.Fatal(err)
			}
			defer writer.Close()
			if code := p.end(); code != 0 {
				t.Errorf("exit code %d:\n%s", code, p.errors())
			}
			if log := p.errors(); !strings.Contains(log, "left to the end of the process") {
				t.Errorf("it is not told:\n%s", log)
			}
		})
	}
}

func TestSystemd(t *testing.T) {
	p := launch(t, []string{"run", "--config", newSite(t, "").config(oneStation)}, "WATCHDOG_USEC=300000")
	p.waitState("READY=1")
	p.waitState("WATCHDOG=1")
	if state := p.waitState("STATUS="); !strings.HasPrefix(state, "STATUS=1 stations, 0 triggers, 0 NotOK, ") {
		t.Errorf("found %s", state)
	}
	p.mutex.Lock()
	first := p.states[0]
	p.mutex.Unlock()
	if first != "READY=1" {
		t.Errorf("first of all it is ready: found %s", first)
	}
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	p.waitState("STOPPING=1")
}

func TestHTTP(t *testing.T) {
	p := start(t, newSite(t, "").config(oneStation))
	for name, test := range map[string]struct {
		method, path, body string
		status             int
		want               string
	}{
		"alive":           {"GET", "/healthz", "", 200, `"alive":true`},
		"ready":           {"GET", "/readyz", "", 200, `{"ready":true,"reasons":[]}`},
		"accepted":        {"POST", "/api/v1/stations/st-01/start", "", 202, `"accepted":true,"reason":null`},
		"the verdict":     {"POST", "/api/v1/stations/st-01/start?wait=true", `{"part_id":"P-7"}`, 200, `"subject":"P-7"`},
		"no such station": {"POST", "/api/v1/stations/st-02/start", "", 404, `{"error":"no such station: \"st-02\""}`},
		"malformed":       {"POST", "/api/v1/stations/st-01/start", "{", 400, `"code":"invalid"`},
		"oversized":       {"POST", "/api/v1/stations/st-01/start", `{"part_id":"` + strings.Repeat("x", 20000) + `"}`, 400, "expected at most 16384 bytes"},
		"stale":           {"POST", "/api/v1/stations/st-01/start", `{"expires_at":"2020-01-01T00:00:00Z"}`, 409, `"code":"expired"`},
		"wait for what":   {"POST", "/api/v1/stations/st-01/start?wait=yes", "", 400, `wait: expected true or false, found \"yes\"`},
		"wrong method":    {"GET", "/api/v1/stations/st-01/start", "", 404, "no such page"},
		"no such page":    {"GET", "/admin", "", 404, "no such page: GET /admin"},
	} {
		if status, content := p.get(test.method, test.path, test.body); status != test.status || !strings.Contains(content, test.want) {
			t.Errorf("%s: want %d with %s, found %d, %s", name, test.status, test.want, status, content)
		}
	}
	_, verdict := p.get("POST", "/api/v1/stations/st-01/start?wait=true", `{"command_id":"c-1"}`)
	_, again := p.get("POST", "/api/v1/stations/st-01/start?wait=true", `{"command_id":"c-1"}`)
	if verdict != again || !json.Valid([]byte(verdict)) {
		t.Errorf("a repeated command gets the same verdict:\n%s\n%s", verdict, again)
	}
	_, metrics := p.get("GET", "/metrics", "")
	for _, want := range []string{
		`gladd_triggers_total{purpose="production",station="st-01"} 3`, `gladd_refusals_total{reason="invalid",station="st-01"} 2`,
		`gladd_verdicts_total{evaluation="OK",purpose="production",station="st-01"}`, `gladd_verdict_reasons_total{reason="anomaly",station="st-01"}`,
		`gladd_outbox_length{station="st-01"}`, `gladd_queue_length{station="st-01"}`, `gladd_stage_seconds_count{stage="compare",station="st-01"}`,
		`gladd_mqtt_connected 1`, `gladd_station_ready{station="st-01"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics:\n%s", want, metrics)
		}
	}
	if strings.Contains(metrics, "gladd_gpu_") {
		t.Error("what cannot be read is absent")
	}
}

// While it starts it says what it is doing, and takes no commands.
func TestHTTPWhileStarting(t *testing.T) {
	s := newSite(t, "")
	calibrations := filepath.Join(s.dir, "bundle", engines.CalibrationsFile)
	content := enginetest.ReadFile(t, calibrations)
	if err := errors.Join(os.Remove(calibrations), syscall.Mkfifo(calibrations, 0o600)); err != nil {
		t.Fatal(err)
	}
	p := launch(t, []string{"run", "--config", s.config(oneStation)})
	writer, err := os.OpenFile(calibrations, os.O_WRONLY, 0) // when gladd has opened it, and waits for its content
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		method, path string
		status       int
		want         string
	}{
		"alive":     {"GET", "/healthz", 200, `"starting":"recipe r is opened and tried"`},
		"not ready": {"GET", "/readyz", 503, `{"ready":false,"reasons":["gladd is starting: recipe r is opened and tried"]}`},
		"a command": {"POST", "/api/v1/stations/st-01/start", 503, `{"error":"gladd is starting: recipe r is opened and tried"}`},
		"metrics":   {"GET", "/metrics", 503, "gladd is starting"},
	} {
		if status, content := p.get(test.method, test.path, ""); status != test.status || !strings.Contains(content, test.want) {
			t.Errorf("%s: want %d with %s, found %d, %s", name, test.status, test.want, status, content)
		}
	}
	if _, err := writer.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	p.waitState("READY=1")
	if status, content := p.get("POST", "/api/v1/stations/st-01/start?wait=true", ""); status != 200 {
		t.Errorf("found %d, %s", status, content)
	}
}

func TestToken(t *testing.T) {
	s := newSite(t, "")
	enginetest.WriteFile(t, filepath.Join(s.dir, "token"), []byte("sesame\n"))
	config := s.config(oneStation)
	text := strings.Replace(string(enginetest.ReadFile(t, config)), `listen: "127.0.0.1:0"}`, `listen: "127.0.0.1:0", token_file: token}`, 1)
	enginetest.WriteFile(t, config, []byte(text))
	p := start(t, config)
	if status, content := p.get("POST", "/api/v1/stations/st-01/start", ""); status != 401 || strings.Contains(content, "sesame") {
		t.Errorf("found %d, %s", status, content)
	}
	if status, _ := p.get("GET", "/healthz", ""); status != 200 {
		t.Errorf("whether it lives may be asked by everyone: found %d", status)
	}
}

// One dead camera, or one broken model, does not touch the other stations.
func TestOneStationIsDead(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	listener := mestest.Listen(t, broker.URL())
	s := newSite(t, broker.URL())
	other := enginetest.Copy(t, enginetest.TinyA(t))
	if err := os.Rename(other, filepath.Join(s.dir, "broken")); err != nil {
		t.Fatal(err)
	}
	enginetest.WriteFile(t, filepath.Join(s.dir, "broken", "unet.onnx"), []byte("damaged"))
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close() //nolint:errcheck // so that nobody listens there
	p := start(t, s.config(fmt.Sprintf(`
stations:
  - {name: st-01, recipe: r, camera: {source: "folder:pictures?loop=true"}, deadline: 20s}
  - {name: no-camera, recipe: r, camera: {source: "rtsp://user:secret@%s/stream"}, deadline: 2s}
  - {name: no-model, recipe: broken, camera: {source: "folder:pictures"}}
recipes: {r: {bundle: bundle}, broken: {bundle: broken}}
`, nobody.Addr())))
	listener.Wait("_box/box-1/status", mestest.Last(`"online"`))
	for _, station := range []string{"st-01", "no-camera", "no-model"} {
		listener.Send("insp/v1/p/l/"+station+"/cmd/start", `{}`, false)
	}
	for station, want := range map[string]string{"st-01": `"accepted":true`, "no-camera": `"accepted":true`, "no-model": `"code":"not-ready"`} {
		listener.Wait(station+"/cmd/start/reply", mestest.Last(want))
	}
	for station, want := range map[string]string{"st-01": `"evaluation":"NotOK"`, "no-camera": `"code":"camera"`} {
		listener.Wait(station+"/verdict", mestest.Last(want))
	}
	for station, want := range map[string]string{"st-01": `"state":"Ready"`, "no-camera": `"state":"Error","reason":"camera: `, "no-model": `"state":"Error","reason":"model: `} {
		listener.Wait(station+"/state", mestest.Last(want))
	}
	status, content := p.get("GET", "/readyz", "")
	if status != 503 || !strings.Contains(content, "station no-camera: Error") || !strings.Contains(content, "station no-model: Error") || strings.Contains(content, "st-01") {
		t.Errorf("found %d, %s", status, content)
	}
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
	for _, message := range listener.Messages("") {
		if strings.Contains(message.Payload, "secret") {
			t.Errorf("a secret goes out: %s %s", message.Topic, message.Payload)
		}
	}
	if strings.Contains(p.errors(), "secret") {
		t.Errorf("a secret is logged:\n%s", p.errors())
	}
}

func TestUntilFinished(t *testing.T) {
	s := newSite(t, "")
	trace := filepath.Join(s.dir, "trace")
	p := launch(t, []string{"--log-level", "warn", "run", "--until-finished", "--print", "--trace", trace, "--config", s.config(`
stations:
  - {name: st-01, recipe: r, camera: {source: "folder:pictures"}, trigger: {kind: interval, every: 50ms}, deadline: 20s}
recipes: {r: {bundle: bundle}}
`)})
	if code := p.wait(); code != 0 || p.errors() != "" {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
	if output := p.output(); strings.Count(output, "st-01") != 6 || !strings.HasSuffix(output, "\n6 verdicts: 2 OK, 4 NotOK, 0 NotDecidable, 0 Undefined\n") {
		t.Errorf("found\n%s", output)
	}
	overlays, err := filepath.Glob(filepath.Join(trace, "st-01", "*.overlay.png"))
	if err != nil || len(overlays) != 6 {
		t.Errorf("want 6 overlays, found %v", overlays)
	}
}

// A picture that comes into a watched folder is inspected once, over restarts
// too.
func TestFolderTrigger(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	listener := mestest.Listen(t, broker.URL())
	s := newSite(t, broker.URL())
	inbox := filepath.Join(s.dir, "inbox")
	drop := func(name, picture string) {
		copyFile(t, filepath.Join(enginetest.TinyA(t), "images", picture), filepath.Join(inbox, ".part"))
		if err := os.Rename(filepath.Join(inbox, ".part"), filepath.Join(inbox, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(inbox, 0o755); err != nil {
		t.Fatal(err)
	}
	config := s.config(`
stations:
  - {name: st-01, recipe: r, camera: {source: "folder:inbox"}, trigger: {kind: folder, every: 20ms}, deadline: 20s, queue: 1}
recipes: {r: {bundle: bundle}}
`)
	drop("a.png", "good_0.png")
	p := start(t, config)
	for i := range 5 {
		drop(fmt.Sprintf("b%d.png", i), "blob_dark.png")
	}
	listener.Wait("/verdict", mestest.Count(6))
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
	drop("c.png", "good_1.png")
	p = start(t, config)
	records := mestest.CheckOrder(t, listener.Wait("/verdict", mestest.Count(7)), 7)
	files := map[any]any{}
	for _, record := range records {
		files[record["context"].(map[string]any)["file"]] = record["evaluation"]
	}
	if fmt.Sprint(files) != "map[a.png:OK b0.png:NotOK b1.png:NotOK b2.png:NotOK b3.png:NotOK b4.png:NotOK c.png:OK]" {
		t.Errorf("found %v", files)
	}
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if found := listener.Messages("/verdict"); len(found) != 7 {
		t.Errorf("want 7 verdicts, found %d", len(found))
	}
}

func TestRunRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close() //nolint:errcheck // the test is over
	for name, test := range map[string]struct {
		change func(s *site, config string) (arguments []string)
		code   int
		want   string
	}{
		"no configuration": {func(*site, string) []string { return []string{"run", "--config", "/nowhere.yaml"} }, 2, "configuration /nowhere.yaml: no such file or directory"},
		"unknown key": {func(s *site, config string) []string {
			enginetest.WriteFile(s.t, config, append(enginetest.ReadFile(s.t, config), "sped: 1\n"...))
			return []string{"run", "--config", config}
		}, 2, ": sped: unknown key"},
		"damaged bundle": {func(s *site, config string) []string {
			enginetest.WriteFile(s.t, filepath.Join(s.dir, "bundle", "unet.onnx"), []byte("x"))
			return []string{"run", "--config", config}
		}, 2, "unet.onnx"},
		"damaged bundle, checked": {func(s *site, config string) []string {
			enginetest.WriteFile(s.t, filepath.Join(s.dir, "bundle", "unet.onnx"), []byte("x"))
			return []string{"config", "check", config}
		}, 2, "recipes.r: "},
		"no driver": {func(s *site, config string) []string {
			enginetest.WriteFile(s.t, config, append(enginetest.ReadFile(s.t, config), "engines: {backend: tensorrt}\n"...))
			return []string{"run", "--config", config, "--cuda-library", "/nowhere/libcuda.so.1"}
		}, 1, "or use backend onnxruntime"},
		"no GPU build of ONNX Runtime": {func(s *site, config string) []string {
			enginetest.WriteFile(s.t, config, append(enginetest.ReadFile(s.t, config), "engines: {backend: onnxruntime-cuda}\n"...))
			return []string{"run", "--config", config}
		}, 1, "no libonnxruntime_providers_cuda.so beside the library"},
		"ledger is a picture": {func(s *site, config string) []string {
			copyFile(s.t, filepath.Join(s.dir, "pictures", "good_0.png"), filepath.Join(s.dir, "ledger.db"))
			return []string{"run", "--config", config}
		}, 1, "ledger.db: file is not a database"},
		"port is taken": {func(s *site, config string) []string {
			text := strings.Replace(string(enginetest.ReadFile(s.t, config)), "127.0.0.1:0", taken.Addr().String(), 1)
			enginetest.WriteFile(s.t, config, []byte(text))
			return []string{"run", "--config", config}
		}, 1, "web listener: listen tcp"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "")
			code, _, stderr := gladd(t, test.change(s, s.config(oneStation))...)
			if code != test.code || !strings.Contains(stderr, test.want) {
				t.Errorf("want %d with %q, found %d:\n%s", test.code, test.want, code, stderr)
			}
		})
	}
}

func TestConfigCheck(t *testing.T) {
	s := newSite(t, "mqtts://broker:8883")
	config := s.config(oneStation)
	code, stdout, stderr := gladd(t, "config", "check", config)
	if want := config + " is right: 1 station, 1 recipe; verdicts go to mqtts://broker:8883\n"; code != 0 || stdout != want {
		t.Errorf("want %s, found %d, %s, %s", want, code, stdout, stderr)
	}
	// Files that the connection could not use.
	enginetest.WriteFile(t, filepath.Join(s.dir, "secret"), nil)
	s.broker = "mqtts://broker:8883\", username: gladd, password_file: \"secret"
	code, _, stderr = gladd(t, "config", "check", s.config(oneStation))
	if code != 2 || !strings.Contains(stderr, "mqtt.password_file: ") || !strings.Contains(stderr, "secret: expected a secret in the first line, found nothing") {
		t.Errorf("found %d, %s", code, stderr)
	}
	s.broker = "mqtts://broker:8883"
	config = s.config(oneStation)
	for backend, want := range map[string]string{
		"onnxruntime": "", "auto": "",
		"tensorrt": `"bundle without a calibration for backend tensorrt, found those for onnxruntime; every verdict will be Undefined" recipe=r advice="gladd calibrate --backend tensorrt --bundle `,
	} {
		named := filepath.Join(s.dir, backend+".yaml")
		enginetest.WriteFile(t, named, append(enginetest.ReadFile(t, config), "engines: {backend: "+backend+"}\n"...))
		code, _, stderr := gladd(t, "config", "check", named)
		if code != 0 || !strings.Contains(stderr, want) || strings.Contains(stderr, "Undefined") != (want != "") {
			t.Errorf("%s: want %q, found %d, %s", backend, want, code, stderr)
		}
	}
	if err := os.Remove(filepath.Join(s.dir, "bundle", engines.CalibrationsFile)); err != nil {
		t.Fatal(err)
	}
	code, _, stderr = gladd(t, "config", "check", config)
	if code != 0 || !strings.Contains(stderr, "bundle without a calibration; every verdict will be Undefined") {
		t.Errorf("found %d, %s", code, stderr)
	}
}

// Several stations share the engines; all get their verdicts.
func TestSeveralStations(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	listener := mestest.Listen(t, broker.URL())
	config := "\nrecipes: {r: {bundle: bundle}}\nstations:\n"
	for i := range 4 {
		config += fmt.Sprintf("  - {name: st-%02d, recipe: r, camera: {source: \"folder:pictures?loop=true\"}, deadline: 30s}\n", i)
	}
	p := start(t, newSite(t, broker.URL()).config(config))
	listener.Wait("_box/box-1/status", mestest.Last(`"online"`))
	var senders sync.WaitGroup
	for i := range 4 {
		senders.Go(func() {
			for range 10 {
				listener.Send(fmt.Sprintf("insp/v1/p/l/st-%02d/cmd/start", i), `{}`, false)
			}
		})
	}
	senders.Wait()
	for i := range 4 {
		mestest.CheckOrder(t, listener.Wait(fmt.Sprintf("st-%02d/verdict", i), mestest.Count(10)), 10)
	}
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
}
