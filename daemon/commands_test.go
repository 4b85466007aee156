package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gladd/daemon/internal/mes/mestest"
	"gladd/engines/enginetest"
)

const topic01 = "insp/v1/p/l/st-01/"

// newSiteOfTwo is a box with a second recipe s, whose bundle is a copy, and a
// third that cannot be loaded.
func newSiteOfTwo(t *testing.T, broker string) *site {
	t.Helper()
	s := newSite(t, broker)
	for _, name := range []string{"second", "broken"} {
		if err := os.Rename(enginetest.Copy(t, enginetest.TinyA(t)), filepath.Join(s.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	calibrate(t, filepath.Join(s.dir, "second"))
	enginetest.WriteFile(t, filepath.Join(s.dir, "broken", "unet.onnx"), []byte("damaged"))
	return s
}

const twoRecipes = `
stations:
  - {name: st-01, recipe: %s, camera: {source: "folder:pictures?loop=true"}, deadline: 20s}
recipes: {r: {bundle: bundle}, s: {bundle: second, version: "2"}, t: {bundle: second, version: "3"}, broken: {bundle: broken}}
`

// commander sends commands over MQTT and returns their replies.
type commander struct {
	t        *testing.T
	listener *mestest.Listener
}

func (c commander) send(verb, payload string) map[string]any {
	c.t.Helper()
	ending := "cmd/" + verb + "/reply"
	before := len(c.listener.Messages(ending))
	c.listener.Send(topic01+"cmd/"+verb, payload, false)
	return c.listener.Wait(ending, mestest.Count(before+1))[before].JSON(c.t)
}

// obey expects a command to be accepted.
func (c commander) obey(verb, payload string) {
	c.t.Helper()
	if reply := c.send(verb, payload); reply["accepted"] != true {
		c.t.Errorf("%s %s: found %v", verb, payload, reply)
	}
}

// refuse expects a command to be refused with a code and a detail.
func (c commander) refuse(verb, payload, code, detail string) {
	c.t.Helper()
	reply := c.send(verb, payload)
	reason, _ := reply["reason"].(map[string]any)
	if reply["accepted"] != false || reason["code"] != code || !strings.Contains(fmt.Sprint(reason["detail"]), detail) {
		c.t.Errorf("%s %s: want %s, %q, found %v", verb, payload, code, detail, reply)
	}
}

// A recipe is prepared by a command, between two parts; what is prepared outlives
// the daemon, but not another configuration.
func TestPrepareOverMQTT(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	listener := mestest.Listen(t, broker.URL())
	mes := commander{t, listener}
	s := newSiteOfTwo(t, broker.URL())
	p := start(t, s.config(fmt.Sprintf(twoRecipes, "r")))
	listener.Wait("_box/box-1/status", mestest.Last(`"online"`))
	listener.Wait(topic01+"recipe", mestest.Last(`"name":"r"`))

	mes.obey("start", `{"recipe":"r","part_id":"P-1"}`)
	mes.refuse("prepare", `{"recipe":"broken"}`, "model", "unet.onnx: wrong content: graphs.unet.sha256 in bundle.yaml expects ")
	mes.refuse("prepare", `{"recipe":"nut"}`, "unknown-recipe", `unknown recipe "nut": the configuration has broken, r, s, t`)
	mes.obey("prepare", `{"recipe":"s","command_id":"p-1"}`)
	listener.Wait(topic01+"recipe", mestest.Last(`"name":"s","version":"2"`))
	mes.refuse("start", `{"recipe":"r"}`, "unknown-recipe", "recipe r is not prepared; s is")
	mes.obey("start", `{"recipe":"s","part_id":"P-2"}`)
	records := mestest.CheckOrder(t, listener.Wait("/verdict", mestest.Count(2)), 2)
	for _, record := range records {
		part, recipe := record["part"].(map[string]any)["id"], record["recipe"].(map[string]any)["name"]
		if want := map[any]string{"P-1": "r", "P-2": "s"}[part]; recipe != want {
			t.Errorf("part %v was inspected with %v", part, recipe)
		}
	}
	// The news that a part may move on comes before its verdict.
	for i, message := range listener.Wait("/acquired", mestest.Count(2)) {
		if acquired := message.JSON(t); acquired["part_id"] != fmt.Sprintf("P-%d", i+1) || message.Retained || records[fmt.Sprint(acquired["trigger_id"])] == nil {
			t.Errorf("found %v", acquired)
		}
	}

	// The same over HTTP.
	if status, content := p.get("POST", "/api/v1/stations/st-01/unprepare", ""); status != 200 || !strings.Contains(content, `"accepted":true`) {
		t.Errorf("found %d, %s", status, content)
	}
	listener.Wait(topic01+"state", mestest.Last(`"state":"Initialized","reason":"no recipe is prepared"`))
	listener.Wait(topic01+"recipe", mestest.Last(`"name":null`))
	mes.refuse("start", `{}`, "not-ready", "the station is Initialized (no recipe is prepared); start needs Ready")
	if status, content := p.get("GET", "/readyz", ""); status != 503 || !strings.Contains(content, "station st-01: Initialized: no recipe is prepared") {
		t.Errorf("found %d, %s", status, content)
	}
	if status, content := p.get("POST", "/api/v1/stations/st-01/prepare", `{"recipe":"broken"}`); status != 409 || !strings.Contains(content, `"code":"model"`) {
		t.Errorf("found %d, %s", status, content)
	}
	if status, content := p.get("POST", "/api/v1/stations/st-01/dance", `{}`); status != 404 {
		t.Errorf("found %d, %s", status, content)
	}
	if status, content := p.get("POST", "/api/v1/stations/st-01/stop?wait=true", `{}`); status != 400 || !strings.Contains(content, "wait: belongs to start") {
		t.Errorf("found %d, %s", status, content)
	}

	// Without a recipe, and then with s, over a kill.
	again := func(recipe string) {
		t.Helper()
		if err := p.command.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-p.exited
		listener.Wait("_box/box-1/status", mestest.Last(`"offline"`))
		p = start(t, s.config(fmt.Sprintf(twoRecipes, recipe)))
		listener.Wait("_box/box-1/status", mestest.Last(`"online"`))
	}
	again("r")
	listener.Wait(topic01+"state", mestest.Last(`"Initialized"`))
	mes.obey("prepare", `{"recipe":"s"}`)
	again("r")
	listener.Wait(topic01+"recipe", mestest.Last(`"name":"s"`))
	mes.obey("start", `{"recipe":"s"}`)
	// The first reply, from before the kills: nothing is prepared by it.
	mes.obey("prepare", `{"recipe":"r","command_id":"p-1"}`)
	again("t") // the configuration has another recipe now
	listener.Wait(topic01+"recipe", mestest.Last(`"name":"t"`))
	mes.obey("start", `{"recipe":"t"}`)
	listener.Wait("/verdict", mestest.Distinct(4))
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
}

// halt, reset, abort and stop over MQTT, as the state says.
func TestStatesOverMQTT(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	listener := mestest.Listen(t, broker.URL())
	mes := commander{t, listener}
	p := start(t, newSite(t, broker.URL()).config(oneStation))
	listener.Wait("_box/box-1/status", mestest.Last(`"online"`))
	for i := range 5 {
		listener.Send(start01, fmt.Sprintf(`{"part_id":"P-%d"}`, i), false)
	}
	mes.obey("halt", `{"command_id":"h-1"}`)
	listener.Wait(topic01+"state", mestest.Last(`"state":"Halted","reason":"halted by a command; reset ends it"`))
	mes.refuse("start", `{}`, "not-ready", "the station is Halted")
	mes.refuse("abort", `{}`, "not-ready", "the station is Halted (halted by a command; reset ends it); abort needs Ready, SingleExecution or ContinuousExecution")
	mes.refuse("prepare", `{"recipe":"r"}`, "not-ready", "the station is Halted")
	mes.obey("reset", `{}`)
	listener.Wait(topic01+"state", mestest.Last(`"Ready"`))
	mes.obey("halt", `{"command_id":"h-1"}`) // the first reply; nothing is done twice
	mes.refuse("stop", `{}`, "not-ready", "the station is Ready; stop needs SingleExecution or ContinuousExecution")
	mes.obey("start", `{"part_id":"P-5"}`)
	ended := 0
	for _, record := range mestest.CheckOrder(t, listener.Wait("/verdict", mestest.Distinct(6)), 6) {
		if reason, _ := record["reason"].(map[string]any); reason["code"] == "aborted" {
			ended++
		}
	}
	if ended == 0 {
		t.Error("halt aborts what is under way")
	}
	var states []string
	for _, message := range listener.Messages(topic01 + "state") {
		var state struct{ State string }
		if err := json.Unmarshal([]byte(message.Payload), &state); err != nil {
			t.Fatal(err)
		}
		states = append(states, state.State)
	}
	if found := strings.Join(states, " "); !strings.HasSuffix(found, "Ready Halted Preoperational Initialized Ready") {
		t.Errorf("found %s", found)
	}
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
}
