package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gladd/daemon/internal/mes/mestest"
	"gladd/engines/enginetest"
)

// partLine is a box whose two stations see the front and the back of a
// housing. The front is always good, every second back is not.
func partLine(t *testing.T, broker string) (config func(deadline string) string) {
	t.Helper()
	s := newSite(t, broker)
	for folder, pictures := range map[string][]string{"front": {"good_0.png"}, "back": {"good_1.png", "blob_dark.png"}} {
		if err := os.Mkdir(filepath.Join(s.dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
		for i, picture := range pictures {
			copyFile(t, filepath.Join(enginetest.TinyA(t), "images", picture), filepath.Join(s.dir, folder, fmt.Sprint(i, ".png")))
		}
	}
	return func(deadline string) string {
		return s.config(fmt.Sprintf(`
stations:
  - {name: st-front, recipe: r, camera: {source: "folder:front?loop=true"}, deadline: 30s}
  - {name: st-back, recipe: r, camera: {source: "folder:back?loop=true"}, deadline: 30s}
parts: [{name: housing, views: {front: st-front, back: st-back}, deadline: %s, attempts: 2}]
recipes: {r: {bundle: bundle}}
`, deadline))
	}
}

// Two stations, one part: its verdict beside those of its views, over restarts
// too.
func TestPartOverMQTT(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	listener := mestest.Listen(t, broker.URL())
	config := partLine(t, broker.URL())
	sent := 0
	send := func(station, command string) (reply map[string]any) {
		t.Helper()
		listener.Send("insp/v1/p/l/"+station+"/cmd/start", command, false)
		sent++
		replies := listener.Wait("/cmd/start/reply", mestest.Count(sent))
		return replies[len(replies)-1].JSON(t)
	}
	count := 0
	inspect := func(part string) {
		t.Helper()
		for _, station := range []string{"st-front", "st-back"} {
			if reply := send(station, part); reply["accepted"] != true {
				t.Fatalf("found %v", reply)
			}
		}
		count++
		listener.Wait("housing/verdict", mestest.Count(count))
	}

	p := launch(t, []string{"run", "--print", "--config", config("2m")})
	p.waitState("READY=1")
	listener.Wait("_box/box-1/status", mestest.Last(`"session":1`))
	inspect(`{"part_id":"P-1","order_id":"O-7"}`)
	inspect(`{"part_id":"P-2"}`) // its back is bad
	inspect(`{"part_id":"P-2"}`)
	inspect(`{"part_id":"P-3","purpose":"challenge"}`) // bad again
	for command, want := range map[string]string{
		`{"part_id":"P-2"}`:                  "attempts",
		`{"view":"front"}`:                   "invalid",
		`{"part_id":"P-9","view":"back"}`:    "invalid",
		`{"part_id":"P-9","position":"\n"}`:  "invalid",
		`{"part_id":"P-9","positions":"A1"}`: "invalid",
	} {
		reply := send("st-front", command)
		if reason, _ := reply["reason"].(map[string]any); reply["accepted"] != false || reason["code"] != want {
			t.Errorf("%s: want it refused, %s, found %v", command, want, reply)
		}
	}
	if status, content := p.get("POST", "/api/v1/stations/st-back/start", `{"part_id":"P-2"}`); status != 409 || !strings.Contains(content, `"code":"attempts"`) {
		t.Errorf("found %d, %s", status, content)
	}
	listener.Wait("st-back/counters", mestest.Last(`"evaluations":{"NotDecidable":0,"NotOK":1,"OK":2,"Undefined":0},"reasons":{"anomaly":1},"refusals":{"attempts":1},"purposes":{"challenge":{"accepted":1,"evaluations":{"NotDecidable":0,"NotOK":1,`))
	_, metrics := p.get("GET", "/metrics", "")
	for _, want := range []string{
		`gladd_verdicts_total{evaluation="NotOK",purpose="challenge",station="housing"} 1`, `gladd_verdicts_total{evaluation="OK",purpose="production",station="housing"} 2`,
		`gladd_triggers_total{purpose="production",station="housing"} 3`, `gladd_triggers_total{purpose="challenge",station="st-back"} 1`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	send("st-front", `{"part_id":"P-4"}`) // its back comes after the restart
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
	for _, want := range []string{
		"3 verdicts on parts of several views: 2 OK, 1 NotOK, 0 NotDecidable, 0 Undefined\n",
		"2 verdicts, purpose challenge: 1 OK, 1 NotOK, 0 NotDecidable, 0 Undefined\n",
		"1 verdicts on parts of several views, purpose challenge: 0 OK, 1 NotOK, 0 NotDecidable, 0 Undefined\n",
	} {
		if !strings.Contains(p.output(), want) {
			t.Errorf("no %s in\n%s", want, p.output())
		}
	}

	p = start(t, config("2m"))
	listener.Wait("_box/box-1/status", mestest.Last(`"session":2`))
	send("st-back", `{"part_id":"P-4"}`)
	count++
	listener.Wait("housing/verdict", mestest.Count(count))
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}

	// One that is killed with a part open, whose deadline passes meanwhile or soon.
	p = start(t, config("300ms"))
	listener.Wait("_box/box-1/status", mestest.Last(`"session":3`))
	send("st-back", `{"part_id":"P-5"}`)
	count++
	listener.Wait("housing/verdict", mestest.Count(count))
	send("st-back", `{"part_id":"P-6"}`)
	if err := p.command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.exited
	p = start(t, config("300ms"))
	count++
	found := listener.Wait("housing/verdict", mestest.Distinct(count))
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}

	byPart := map[string]string{}
	ids := map[string]string{} // of P-2, by attempt
	for _, record := range mestest.CheckOrder(t, found, count) {
		id := record["part"].(map[string]any)["id"].(string)
		attempt := fmt.Sprint(record["attempt"])
		byPart[id+" "+attempt] = fmt.Sprint(record["evaluation"], " ", record["is_partial"], " ", record["purpose"])
		if id == "P-2" {
			ids[attempt] = record["result_id"].(string)
			if attempt == "2" {
				ids["before"] = fmt.Sprint(record["previous_result_id"])
			}
		}
		if id == "P-1" && record["part"].(map[string]any)["order_id"] != "O-7" {
			t.Errorf("found %v", record["part"])
		}
		if reason, is := record["reason"].(map[string]any); is && id == "P-2" && !strings.HasPrefix(reason["detail"].(string), "back: score ") {
			t.Errorf("found %v", reason)
		}
	}
	want := "map[P-1 1:OK false production P-2 1:NotOK false production P-2 2:OK false production P-3 1:NotOK false challenge " +
		"P-4 1:OK false production P-5 1:Undefined true production P-6 1:Undefined true production]"
	if fmt.Sprint(byPart) != want {
		t.Errorf("want  %s\nfound %v", want, byPart)
	}
	if ids["before"] != ids["1"] || ids["1"] == "" {
		t.Errorf("found %v", ids)
	}
	views := mestest.CheckOrder(t, listener.Messages("st-front/verdict"), 5)
	for _, record := range views {
		if record["view"] != "front" || record["views_expected"] != 2.0 || record["is_partial"] != false || record["kind"] != "view" {
			t.Errorf("found %v", record)
		}
	}
}
