package mes_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"gladd/capture"
	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/mes"
	"gladd/daemon/internal/mes/mestest"
	"gladd/daemon/internal/station"
	"gladd/daemon/internal/verdict"
	"gladd/pipeline"
)

const topic = "insp/v1/p/l/st-01/"

type frames struct{}

func (frames) Grab(context.Context) (*capture.Frame, error) {
	return &capture.Frame{Picture: &capture.Picture{Width: 8, Height: 8, RGB: make([]byte, 192)}, Captured: time.Now()}, nil
}
func (frames) Close() error { return nil }

type allGood struct{}

func (allGood) Inspect(context.Context, inspection.Part) inspection.Outcome {
	outcome := inspection.Outcome{Evaluation: verdict.OK, Scored: true}
	outcome.Result.SwitchReason = pipeline.SwitchNone
	return outcome
}

// noGPU is what is known of the GPU.
var noGPU = map[string]any{"monitor": "none", "reason": "a test", "gpus": []any{}, "driver": nil}

// logged collects a log.
type logged struct {
	mutex sync.Mutex
	bytes.Buffer
}

func (l *logged) Write(text []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.Buffer.Write(text)
}

func (l *logged) text() string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.String()
}

// box is one station and its client.
type box struct {
	t       *testing.T
	ledger  *ledger.Ledger
	path    string // the ledger's
	station *station.Station
	client  *mes.Client
	log     logged
}

func newBox(t *testing.T, broker mes.Broker) *box {
	t.Helper()
	b := &box{t: t}
	log := slog.New(slog.NewTextHandler(&b.log, nil))
	threshold := 0.5
	var err error
	b.path = filepath.Join(t.TempDir(), "ledger.db")
	if b.ledger, err = ledger.Open(t.Context(), ledger.Options{Path: b.path}); err != nil {
		t.Fatal(err)
	}
	b.station = station.New(station.Options{
		Site: "p", Line: "l", Name: "st-01",
		Model: station.Model{
			Inspector: allGood{}, ImageThreshold: &threshold, Recipe: verdict.Recipe{Name: "screw", Version: "1"},
			Bundle: verdict.Bundle{Name: "screw", Version: "1"}, Method: verdict.Method{Mode: "exact", Plan: "exact"},
		},
		Camera: verdict.Camera{Name: "frames"},
		Open:   func() (capture.Source, error) { return frames{}, nil },
		Turns:  station.NewTurns(),
		Ledger: b.ledger, Keep: station.KeepNone,
		Deadline: 10 * time.Second, Queue: 100,
		Changed: func() {
			if b.client != nil {
				b.client.Changed()
			}
		},
		Log: log,
	})
	b.client = mes.New(mes.Options{
		Broker: broker, Site: "p", Line: "l", Box: "box-1",
		Stations: []mes.Station{b.station},
		Snapshot: func(string) mes.Snapshot {
			counters, err := b.ledger.Counters(b.station.Source())
			if err != nil {
				t.Error(err)
			}
			recipe := b.station.Model().Recipe
			var states []mes.State
			for _, status := range b.station.Entered() {
				states = append(states, mes.State{State: string(status.State), Since: verdict.Time{Time: status.Since}})
			}
			return mes.Snapshot{
				States:   states,
				Recipe:   mes.Recipe{Name: &recipe.Name, Version: &recipe.Version, Digest: &recipe.Digest, Bundle: &verdict.Bundle{Name: "screw"}},
				Counters: mes.Counters{LedgerID: b.ledger.ID(), Counters: counters},
			}
		},
		Health: func(string) mes.Health {
			return mes.Health{GPU: noGPU, Queue: mes.Queue{Capacity: b.station.Capacity()}, Reasons: []string{}}
		},
		Ledger: b.ledger,
		Log:    log,
	})
	b.station.Run()
	b.client.Run(context.Background())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := b.station.Stop(ctx); err != nil {
			t.Error(err)
		}
		b.client.Close()
		if err := b.ledger.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// trigger triggers at the station itself, as a sensor would.
func (b *box) trigger(count int) {
	b.t.Helper()
	for range count {
		if reply := b.station.Start(verdict.Start{}, time.Now(), ""); !reply.Accepted {
			b.t.Fatalf("refused: %+v", reply.Reason)
		}
	}
}

func TestTriggerToVerdict(t *testing.T) {
	embedded, err := mes.StartEmbedded("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer embedded.Close() //nolint:errcheck // the test is over
	for name, url := range map[string]string{"mosquitto": mestest.StartMosquitto(t).URL(), "embedded": embedded.URL()} {
		t.Run(name, func(t *testing.T) {
			listener := mestest.Listen(t, url)
			b := newBox(t, mes.Broker{URL: url})
			listener.Wait("_box/box-1/status", mestest.Last(`"online"`))
			for i := range 20 {
				listener.Send(topic+"cmd/start", fmt.Sprintf(`{"part_id":"P-%04d","command_id":"c-%d"}`, i, i), false)
			}
			replies := listener.Wait("cmd/start/reply", mestest.Count(20))
			verdicts := listener.Wait("/verdict", mestest.Count(20))
			mestest.CheckOrder(t, verdicts, 20)
			for i := range 20 {
				reply, event := replies[i].JSON(t), verdicts[i].JSON(t)
				data := event["data"].(map[string]any)
				if reply["accepted"] != true || reply["command_id"] != fmt.Sprintf("c-%d", i) || reply["trigger_id"] != data["trigger_id"] {
					t.Errorf("found reply %v to trigger %v", reply, data["trigger_id"])
				}
				if event["specversion"] != "1.0" || event["type"] != "io.gladd.verdict.v1" || event["source"] != "/p/l/st-01" ||
					event["subject"] != fmt.Sprintf("P-%04d", i) || event["id"] != data["result_id"] {
					t.Errorf("found event %v", verdicts[i].Payload)
				}
			}
			listener.Wait("st-01/counters", mestest.Last(`"accepted":20,"evaluations":{"NotDecidable":0,"NotOK":0,"OK":20,"Undefined":0}`))

			// Who comes later finds the retained messages, of this session.
			later := mestest.Listen(t, url)
			for _, leaf := range []string{"_box/box-1/status", "st-01/state", "st-01/recipe", "st-01/health", "st-01/counters"} {
				message := later.Wait(leaf, mestest.Count(1))[0]
				if !message.Retained || message.JSON(t)["session"] != 1.0 {
					t.Errorf("%s: want it retained and of session 1, found %+v", leaf, message)
				}
			}
			if state := later.Messages("st-01/state")[0].JSON(t); state["state"] != "Ready" || state["reason"] != nil {
				t.Errorf("found %v", state)
			}
			if found := later.Messages("/verdict"); len(found) > 0 {
				t.Errorf("a verdict was retained: %v", found)
			}

			// The truth is told before the connection ends.
			b.client.Close()
			offline := listener.Wait("_box/box-1/status", mestest.Last(`"offline"`))
			if last := offline[len(offline)-1].JSON(t); last["session"] != 1.0 {
				t.Errorf("found %v", last)
			}
			// And the broker has nothing to add.
			listener.Send("marker", "{}", false)
			listener.Wait("marker", mestest.Count(1))
			if all := listener.Messages("_box/box-1/status"); len(all) != 2 {
				t.Errorf("want online and offline, found %v", all)
			}
		})
	}
}

func TestCommands(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	listener := mestest.Listen(t, broker.URL())
	// A command that was left behind before the box came.
	listener.Send(topic+"cmd/start", `{"part_id":"of yesterday","command_id":"retained"}`, true)
	b := newBox(t, mes.Broker{URL: broker.URL()})
	listener.Wait("_box/box-1/status", mestest.Last(`"online"`))

	send := func(payload string) map[string]any {
		before := len(listener.Messages("cmd/start/reply"))
		listener.Send(topic+"cmd/start", payload, false)
		return listener.Wait("cmd/start/reply", mestest.Count(before+1))[before].JSON(t)
	}
	for name, test := range map[string]struct{ payload, code, id, detail string }{
		"stale":            {`{"command_id":"c-stale","expires_at":"2020-01-01T00:00:00Z"}`, "expired", "c-stale", "it expired at 2020-01-01T00:00:00.000Z"},
		"malformed":        {`{"part_id":`, "invalid", "", "it ends in the middle"},
		"empty":            {``, "invalid", "", "found nothing"},
		"not an object":    {`["a"]`, "invalid", "", "expected a JSON object"},
		"unknown key":      {`{"command_id":"c-key","expire_at":"2020-01-01T00:00:00Z"}`, "invalid", "c-key", `unknown field "expire_at"`},
		"wrong type":       {`{"command_id":"c-type","part_id":7}`, "invalid", "c-type", "number"},
		"oversized":        {`{"part_id":"` + strings.Repeat("x", 2_000_000) + `"}`, "invalid", "", "expected at most 16384 bytes, found more"},
		"large context":    {`{"command_id":"c-context","context":{"a":"` + strings.Repeat("x", 3000) + `"}}`, "invalid", "c-context", "context: expected at most 2048 bytes"},
		"long part id":     {`{"command_id":"c-long","part_id":"` + strings.Repeat("x", 300) + `"}`, "invalid", "c-long", "part_id: expected at most 256 bytes, found 300"},
		"unknown purpose":  {`{"command_id":"c-purpose","purpose":"fun"}`, "invalid", "c-purpose", "purpose: expected one of"},
		"unknown recipe":   {`{"command_id":"c-recipe","recipe":"nut"}`, "unknown-recipe", "c-recipe", "recipe nut is not prepared; screw is"},
		"long command id":  {`{"command_id":"` + strings.Repeat("x", 300) + `"}`, "invalid", "", "command_id: expected at most 256 bytes"},
		"empty part id":    {`{"command_id":"c-empty","part_id":""}`, "invalid", "c-empty", "leave the key out"},
		"two objects":      {`{} {}`, "invalid", "", "something follows"},
		"control in an id": {`{"part_id":"a\nb"}`, "invalid", "", "control characters"},
	} {
		reply := send(test.payload)
		reason, _ := reply["reason"].(map[string]any)
		if reply["accepted"] != false || reason["code"] != test.code || !strings.Contains(fmt.Sprint(reason["detail"]), test.detail) {
			t.Errorf("%s: want %s, %q, found %v", name, test.code, test.detail, reply)
		}
		if found, _ := reply["command_id"].(string); found != test.id {
			t.Errorf("%s: want command id %q, found %v", name, test.id, reply["command_id"])
		}
	}
	first := send(`{"command_id":"c-1","part_id":"P-1"}`)
	again := send(`{"command_id":"c-1","part_id":"P-1"}`)
	if first["accepted"] != true || fmt.Sprint(first) != fmt.Sprint(again) {
		t.Errorf("a repeated command gets the first reply: %v, %v", first, again)
	}
	listener.Send(topic+"cmd/dance", `{"command_id":"c-dance"}`, false)
	if reply := listener.Wait("cmd/dance/reply", mestest.Count(1))[0].JSON(t); !strings.Contains(fmt.Sprint(reply["reason"]), "expected start, prepare, unprepare, stop, abort, halt or reset") {
		t.Errorf("found %v", reply)
	}
	// Only the one good command did anything.
	listener.Wait("/verdict", mestest.Count(1))
	if reply := send(`{"command_id":"c-2"}`); reply["accepted"] != true {
		t.Errorf("found %v", reply)
	}
	verdicts := listener.Wait("/verdict", mestest.Count(2))
	mestest.CheckOrder(t, verdicts, 2)
	if event := verdicts[1].JSON(t); event["subject"] != nil {
		t.Errorf("no part id, no subject: found %v", event["subject"])
	}
	if log := b.log.text(); !strings.Contains(log, "retained command ignored") {
		t.Errorf("found %s", log)
	}
}

func TestBrokerComesAndGoes(t *testing.T) {
	broker := mestest.NewMosquitto(t)
	b := newBox(t, mes.Broker{URL: broker.URL()})
	b.trigger(10) // nobody listens yet
	broker.Start()
	listener := mestest.Listen(t, broker.URL())
	listener.Wait("/verdict", mestest.Distinct(10))
	for round := range 3 {
		broker.Kill()
		b.trigger(10)
		broker.Start()
		b.trigger(10)
		verdicts := listener.Wait("/verdict", mestest.Distinct(10+20*(round+1)))
		mestest.CheckOrder(t, verdicts, 10+20*(round+1))
	}
	if waiting, err := b.ledger.Waiting(""); err != nil || waiting.Count > 1 {
		t.Errorf("the outbox empties: found %+v, %v", waiting, err)
	}
	// A fault that repeats is told once for each absence, not for each attempt.
	if count := strings.Count(b.log.text(), "no connection to the broker"); count > 20 {
		t.Errorf("want a few words on it, found %d:\n%s", count, b.log.text())
	}
}

// A broker that is there but does not answer is found out, and gets what it
// did not acknowledge once more.
func TestBrokerHangs(t *testing.T) {
	t.Parallel() // it waits for timeouts
	broker := mestest.StartMosquitto(t)
	b := newBox(t, mes.Broker{URL: broker.URL()})
	waitConnected(t, b.client)
	broker.Pause()
	b.trigger(3)
	waitProblem(t, b.client, "connection lost")
	broker.Resume()
	listener := mestest.Listen(t, broker.URL())
	b.trigger(2)
	waitEmpty(t, b.ledger)
	// What came before the listener did is known to the broker alone; the rest
	// is in order.
	verdicts := listener.Wait("/verdict", mestest.Last(`"sequence":5,`))
	last := 0.0
	for _, message := range verdicts {
		sequence := message.JSON(t)["data"].(map[string]any)["sequence"].(float64)
		if sequence < last {
			t.Errorf("sequence %v after %v", sequence, last)
		}
		last = sequence
	}
}

// What a station left that is configured no more is sent all the same.
func TestLeftoversOfAnotherStation(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	listener := mestest.Listen(t, broker.URL())
	path := filepath.Join(t.TempDir(), "ledger.db")
	old, err := ledger.Open(t.Context(), ledger.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close() //nolint:errcheck // the test is over
	score := 0.5
	now := verdict.Time{Time: time.Now()}
	record := &verdict.Record{
		TriggerID: ulid.Make().String(), Kind: "view", Attempt: 1, Purpose: verdict.Production, Evaluation: verdict.OK, ResultState: verdict.Completed,
		AnomalyScore: &score, ImageThreshold: &score, Recipe: verdict.Recipe{Name: "screw"}, Bundle: verdict.Bundle{Name: "screw"},
		Method: verdict.Method{Mode: "exact"}, Camera: verdict.Camera{Name: "frames"}, Context: []byte("{}"), Times: verdict.Times{Triggered: now, Finished: now},
	}
	if _, _, err := old.Begin("/p/l/removed", record); err != nil {
		t.Fatal(err)
	}
	if err := old.Finish("/p/l/removed", record, time.Time{}, nil); err != nil {
		t.Fatal(err)
	}
	client := mes.New(mes.Options{
		Broker: mes.Broker{URL: broker.URL()}, Site: "p", Line: "l", Box: "box-1", Ledger: old, Log: slog.New(slog.DiscardHandler),
	})
	client.Run(t.Context())
	defer client.Close()
	message := listener.Wait("/verdict", mestest.Count(1))[0]
	if message.Topic != "insp/v1/p/l/removed/verdict" || message.JSON(t)["source"] != "/p/l/removed" {
		t.Errorf("found %+v", message)
	}
}

func TestForbiddenTopics(t *testing.T) {
	access := filepath.Join(t.TempDir(), "access")
	write(t, access, "topic write #\n")
	broker := mestest.StartMosquitto(t, "allow_anonymous true", "acl_file "+access)
	b := newBox(t, mes.Broker{URL: broker.URL()})
	// Whatever the broker does with what may not be read, verdicts go out.
	b.trigger(1)
	waitEmpty(t, b.ledger)
	// But whether they reach anybody cannot be told, and that is said.
	mestest.Eventually(t, "a warning", func() bool {
		warnings := b.client.Connection().Warnings
		return len(warnings) == 1 && strings.Contains(warnings[0], "the box's own status does not come back")
	})
	mestest.Eventually(t, "a warning in the log", func() bool { return strings.Contains(b.log.text(), "own status does not come back") })
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func waitConnected(t *testing.T, client *mes.Client) {
	t.Helper()
	mestest.Eventually(t, "connected", func() bool { connected, _ := client.Connected(); return connected })
}

func waitProblem(t *testing.T, client *mes.Client, text string) {
	t.Helper()
	problem := ""
	mestest.Eventually(t, "problem "+text, func() bool {
		if _, err := client.Connected(); err != nil {
			problem = err.Error()
		}
		return strings.Contains(problem, text) && problem != "not connected yet"
	})
}

func waitEmpty(t *testing.T, l *ledger.Ledger) {
	t.Helper()
	mestest.Eventually(t, "empty outbox", func() bool {
		waiting, err := l.Waiting("")
		return err == nil && waiting.Count == 0
	})
}

// A record that is damaged keeps neither those behind it back nor the connection
// from lasting.
func TestDamagedRecord(t *testing.T) {
	broker := mestest.NewMosquitto(t)
	b := newBox(t, mes.Broker{URL: broker.URL()})
	b.trigger(5)
	waits := func(count int64) func() bool {
		return func() bool {
			waiting, err := b.ledger.Waiting("")
			return err == nil && waiting.Count == count
		}
	}
	mestest.Eventually(t, "five verdicts wait", waits(5))
	database, err := sql.Open("sqlite3", "file:"+b.path)
	if err != nil {
		t.Fatal(err)
	}
	defer database.Close() //nolint:errcheck // the test is over
	if _, err := database.Exec(`UPDATE results SET record = substr(record, 2) WHERE sequence = 2`); err != nil {
		t.Fatal(err)
	}
	broker.Start()
	mestest.Eventually(t, "the others are delivered", waits(1))
	if connected := strings.Count(b.log.text(), "connected to the broker"); connected != 1 {
		t.Errorf("want one connection, found %d:\n%s", connected, b.log.text())
	}
	if left, err := b.client.Drain(t.Context()); left != 1 || err != nil { // it does not wait for the damaged one
		t.Errorf("found %d, %v", left, err)
	}
	if told := strings.Count(b.log.text(), "its record is damaged"); told != 1 {
		t.Errorf("want it told once, found %d", told)
	}
}

// Health shows that a box lives, also where nothing changes.
func TestHealthComesUnchanged(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	listener := mestest.Listen(t, broker.URL())
	b := newBox(t, mes.Broker{URL: broker.URL()})
	if all := listener.Wait("st-01/health", mestest.Count(4)); all[0].Payload != all[3].Payload {
		t.Errorf("found %s and %s", all[0].Payload, all[3].Payload)
	}
	if warnings := b.client.Connection().Warnings; len(warnings) > 0 {
		t.Errorf("what the box says comes back, and yet: %q", warnings)
	}
}
