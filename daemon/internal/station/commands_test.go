package station

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gladd/capture"
	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/verdict"
)

// command executes a command and returns its reply.
func (b *bench) command(verb verdict.Verb, payload string) verdict.Reply {
	b.t.Helper()
	return b.Command(context.Background(), verb, []byte(payload), time.Now())
}

// obey expects a command to be accepted.
func (b *bench) obey(verb verdict.Verb, payload string) {
	b.t.Helper()
	if reply := b.command(verb, payload); !reply.Accepted {
		b.t.Fatalf("%s %s: refused: %+v", verb, payload, reply.Reason)
	}
}

// until waits for a state.
func (b *bench) until(state State) {
	b.t.Helper()
	timeout := time.After(20 * time.Second)
	for b.Status().State != state {
		select {
		case <-b.changes:
		case <-timeout:
			b.t.Fatalf("want %s, found %+v", state, b.Status())
		}
	}
}

// stages are a camera, engines and recipes that a test directs.
type stages struct {
	began, release chan struct{} // of an inspection
	camera         atomic.Bool   // fails
	released       atomic.Int64  // models
}

// staged is a station that can be brought into every state. Its recipes are
// screw, nut and broken.
func staged(t *testing.T, change func(*Options)) (*bench, *stages) {
	t.Helper()
	s := &stages{began: make(chan struct{}, 100), release: make(chan struct{})}
	b := newBench(t, func(o *Options) {
		o.Queue = 0
		o.Model.Inspector = fakeInspector(func(ctx context.Context) inspection.Outcome {
			s.began <- struct{}{}
			select {
			case <-s.release:
				return inspection.Outcome{Evaluation: verdict.OK}
			case <-ctx.Done():
				return inspection.Undefined(verdict.ReasonDeadline, ctx.Err().Error())
			}
		})
		inspector := o.Model.Inspector
		o.Model.Release = func() { s.released.Add(1) }
		o.Prepare = func(_ context.Context, recipe string) (Model, error) {
			switch recipe {
			case "screw", "nut":
				return Model{Inspector: inspector, Recipe: verdict.Recipe{Name: recipe}, Release: func() { s.released.Add(1) }}, nil
			case "broken":
				return Model{}, errors.New("bundle.yaml: damaged")
			}
			return Model{}, fmt.Errorf("%w %q: the configuration has screw, nut, broken", ErrUnknownRecipe, recipe)
		}
		if change != nil {
			change(o)
		}
	})
	b.camera.grab = func(context.Context, int) error {
		if s.camera.Load() {
			return errors.New("unplugged")
		}
		return nil
	}
	return b, s
}

// Every command in every state: executed, or refused with the state named. On the
// way no transition is made that there is not.
func TestCommandsByState(t *testing.T) {
	states := map[State]struct {
		change func(*Options)
		reach  func(*bench, *stages)
		may    string // the verbs that can be executed
		reset  State  // where a reset leads
	}{
		Preoperational: {reach: nil, may: "halt reset"}, // it does not run yet
		Halted:         {reach: func(b *bench, _ *stages) { b.obey(verdict.VerbHalt, `{}`) }, may: "reset", reset: Ready},
		Error:          {reach: func(b *bench, _ *stages) { b.status.fault("other", errors.New("something")) }, may: "halt reset", reset: Error},
		Initialized:    {reach: func(b *bench, _ *stages) { b.obey(verdict.VerbUnprepare, `{}`) }, may: "prepare halt reset", reset: Initialized},
		Ready:          {reach: func(*bench, *stages) {}, may: "start prepare unprepare abort halt reset", reset: Ready},
		SingleExecution: {reach: func(b *bench, s *stages) {
			b.start(verdict.Start{})
			<-s.began
		}, may: "prepare stop abort halt reset", reset: Ready},
		ContinuousExecution: {change: func(o *Options) { o.Continuous = true }, reach: func(*bench, *stages) {}, may: "prepare stop abort halt reset", reset: ContinuousExecution},
	}
	for _, state := range States {
		for _, verb := range verdict.Verbs {
			t.Run(string(state)+"/"+string(verb), func(t *testing.T) {
				test := states[state]
				b, s := staged(t, test.change)
				if test.reach != nil {
					b.Run()
					test.reach(b, s)
				}
				defer close(s.release)
				b.until(state)
				payload := `{}`
				if verb == verdict.VerbPrepare {
					payload = `{"recipe":"nut"}`
				}
				entered := b.Entered()
				reply := b.command(verb, payload)
				may := strings.Contains(" "+test.may+" ", " "+string(verb)+" ")
				switch {
				case reply.Accepted != may:
					t.Errorf("want accepted %t, found %+v", may, reply.Reason)
				case may || state == SingleExecution && verb == verdict.VerbStart && reply.Reason.Code == verdict.RefusedBusy:
				case reply.Reason.Code != verdict.RefusedNotReady || !strings.Contains(reply.Reason.Detail, "the station is "+string(state)):
					t.Errorf("found %+v", reply.Reason)
				}
				if verb == verdict.VerbReset && test.reset != "" {
					b.until(test.reset)
				}
				after := b.Entered()
				if verb == verdict.VerbHalt && may && (len(after) != 1 || after[0].State != Halted) {
					t.Errorf("want it Halted at once, found %v", after)
				}
				if verb == verdict.VerbReset && state != Preoperational && after[0].State != Preoperational {
					t.Errorf("want it Preoperational at once, found %v", after)
				}
				before := Preoperational
				for _, status := range slices.Concat(entered, after) {
					if status.State != before && !Allowed(before, status.State) {
						t.Errorf("from %s to %s", before, status.State)
					}
					before = status.State
				}
			})
		}
	}
}

// Every state can be reached from every other, by transitions that there are.
func TestWays(t *testing.T) {
	for _, from := range States {
		for _, to := range States {
			at := from
			for _, next := range way(from, to) {
				if !Allowed(at, next) {
					t.Errorf("from %s to %s by %s to %s", from, to, at, next)
				}
				if next != to && (next == Error || next == Halted) {
					t.Errorf("from %s to %s through %s", from, to, next)
				}
				at = next
			}
			if at != to {
				t.Errorf("from %s to %s: ended in %s", from, to, at)
			}
		}
	}
}

// Parts keep the recipe that was prepared when they were accepted; the model goes
// when the last of them is done.
func TestPrepareBetweenParts(t *testing.T) {
	b, s := staged(t, func(o *Options) {
		o.Queue = 4
		o.Model.Recipe = verdict.Recipe{Name: "screw"}
	})
	b.Run()
	b.start(verdict.Start{})
	b.start(verdict.Start{Recipe: text("screw")})
	<-s.began
	if reply := b.Start(verdict.Start{Recipe: text("nut")}, time.Now(), ""); reply.Accepted || reply.Reason.Code != verdict.RefusedUnknownRecipe || reply.Reason.Detail != "recipe nut is not prepared; screw is" {
		t.Errorf("found %+v", reply.Reason)
	}
	b.obey(verdict.VerbPrepare, `{"recipe":"nut"}`)
	if b.Model().Recipe.Name != "nut" || s.released.Load() != 0 {
		t.Errorf("found %+v, %d released", b.Model().Recipe, s.released.Load())
	}
	b.start(verdict.Start{Recipe: text("nut")})
	close(s.release)
	var found []string
	for _, record := range b.wait(3) {
		found = append(found, record.Recipe.Name)
	}
	if fmt.Sprint(found) != "[screw screw nut]" {
		t.Errorf("found %v", found)
	}
	b.stop()
	if s.released.Load() != 2 {
		t.Errorf("%d models released", s.released.Load())
	}
}

// A recipe that cannot be prepared leaves the one in use in use.
func TestPrepareFails(t *testing.T) {
	b, s := staged(t, nil)
	close(s.release)
	b.Run()
	for payload, want := range map[string]struct {
		code   verdict.RefusalCode
		detail string
	}{
		`{"recipe":"broken"}`: {verdict.RefusedModel, "bundle.yaml: damaged"},
		`{"recipe":"gone"}`:   {verdict.RefusedUnknownRecipe, `unknown recipe "gone": the configuration has screw, nut, broken`},
		`{}`:                  {verdict.RefusedInvalid, "recipe: required, but missing"},
		`{"recipe":"nut","expires_at":"2020-01-01T00:00:00Z"}`: {verdict.RefusedExpired, "it expired at 2020-01-01T00:00:00.000Z"},
	} {
		if reply := b.command(verdict.VerbPrepare, payload); reply.Accepted || reply.Reason.Code != want.code || !strings.HasPrefix(reply.Reason.Detail, want.detail) {
			t.Errorf("%s: found %+v", payload, reply.Reason)
		}
	}
	b.start(verdict.Start{Recipe: text("screw")})
	if record := b.wait(1)[0]; record.Evaluation != verdict.OK {
		t.Errorf("found %+v", record.Reason)
	}
}

// A repeated prepare waits for the first one and gets its reply; others are
// refused meanwhile.
func TestPrepareRepeated(t *testing.T) {
	loading, release := make(chan struct{}), make(chan struct{})
	loads := 0
	b, _ := staged(t, func(o *Options) {
		o.Prepare = func(context.Context, string) (Model, error) {
			loads++
			close(loading)
			<-release
			return Model{Inspector: fakeInspector(nil), Recipe: verdict.Recipe{Name: "nut"}}, nil
		}
	})
	b.Run()
	replies := make(chan verdict.Reply, 2)
	prepare := func() { replies <- b.command(verdict.VerbPrepare, `{"recipe":"nut","command_id":"p-1"}`) }
	go prepare()
	<-loading
	go prepare()
	if reply := b.command(verdict.VerbPrepare, `{"recipe":"screw"}`); reply.Accepted || reply.Reason.Code != verdict.RefusedBusy {
		t.Errorf("found %+v", reply.Reason)
	}
	if reply := b.start(verdict.Start{Recipe: text("screw")}); !reply.Accepted {
		t.Error("parts are inspected meanwhile")
	}
	close(release)
	for range 2 {
		if reply := <-replies; !reply.Accepted || *reply.CommandID != "p-1" {
			t.Errorf("found %+v", reply)
		}
	}
	b.obey(verdict.VerbPrepare, `{"recipe":"nut","command_id":"p-1"}`)
	if loads != 1 {
		t.Errorf("loaded %d times", loads)
	}
	b.obey(verdict.VerbAbort, `{}`)
	b.wait(1)
}

// abort: what is under way, taken or waiting, becomes Undefined; the next part is
// inspected.
func TestAbort(t *testing.T) {
	b, s := staged(t, func(o *Options) { o.Queue = 4 })
	b.Run()
	for range 3 {
		b.start(verdict.Start{})
	}
	<-s.began
	b.obey(verdict.VerbAbort, `{"command_id":"a-1"}`)
	for _, record := range b.wait(3) {
		if record.Evaluation != verdict.Undefined || record.ResultState != verdict.Aborted || *record.Reason != (verdict.Reason{Code: verdict.ReasonAborted, Detail: "ended by the command abort"}) {
			t.Errorf("found %s, %s, %+v", record.Evaluation, record.ResultState, record.Reason)
		}
	}
	close(s.release)
	b.start(verdict.Start{})
	b.obey(verdict.VerbAbort, `{"command_id":"a-1"}`) // the first reply, and nothing done
	if record := b.wait(1)[3]; record.Evaluation != verdict.OK {
		t.Errorf("found %+v", record.Reason)
	}
	if status := b.Status(); status.State != Ready {
		t.Errorf("found %+v", status)
	}
}

// reset looks again for what was not there: here the recipe's model.
func TestResetMendsTheModel(t *testing.T) {
	broken := true
	b, s := staged(t, func(o *Options) {
		prepare := o.Prepare
		o.Prepare = func(ctx context.Context, recipe string) (Model, error) {
			if broken {
				return Model{}, errors.New("unet.onnx: damaged")
			}
			return prepare(ctx, recipe)
		}
		o.ModelError = errors.New("unet.onnx: damaged")
		o.Model = Model{Recipe: verdict.Recipe{Name: "screw"}}
	})
	close(s.release)
	b.Run()
	b.obey(verdict.VerbReset, `{}`)
	b.until(Error)
	if reply := b.Start(verdict.Start{}, time.Now(), ""); reply.Accepted || !strings.Contains(reply.Reason.Detail, "the station is Error (model: unet.onnx: damaged)") {
		t.Errorf("found %+v", reply)
	}
	broken = false
	b.obey(verdict.VerbReset, `{}`)
	b.until(Ready)
	b.start(verdict.Start{Recipe: text("screw")})
	b.wait(1)
}

// prepare mends a station whose own recipe has no model, too.
func TestPrepareMendsTheModel(t *testing.T) {
	b, s := staged(t, func(o *Options) {
		o.ModelError = errors.New("unet.onnx: damaged")
		o.Model = Model{Recipe: verdict.Recipe{Name: "broken"}}
	})
	close(s.release)
	b.Run()
	b.until(Error)
	b.obey(verdict.VerbPrepare, `{"recipe":"nut"}`)
	b.until(Ready)
	b.start(verdict.Start{})
	b.wait(1)
}

// A station that triggers by itself does so until it is told to stop, and takes
// single triggers then.
func TestContinuous(t *testing.T) {
	b, s := staged(t, func(o *Options) { o.Continuous = true })
	close(s.release)
	b.Run()
	b.until(ContinuousExecution)
	b.Trigger(time.Now())
	b.wait(1)
	b.obey(verdict.VerbStop, `{}`)
	b.until(Ready)
	b.Trigger(time.Now()) // the clock goes on ticking
	b.start(verdict.Start{})
	if records := b.wait(1); len(records) != 2 {
		t.Errorf("%d records", len(records))
	}
	b.until(Ready)
	b.obey(verdict.VerbStart, `{"continuous":true}`)
	b.until(ContinuousExecution)
	b.Trigger(time.Now())
	b.wait(1)

	single, _ := staged(t, nil)
	single.Run()
	if reply := single.command(verdict.VerbStart, `{"continuous":true}`); reply.Accepted || reply.Reason.Code != verdict.RefusedInvalid {
		t.Errorf("found %+v", reply)
	}
}

// A camera that was away is opened anew after a reset.
func TestResetOpensTheCamera(t *testing.T) {
	b, s := staged(t, nil)
	close(s.release)
	b.Run()
	s.camera.Store(true)
	b.start(verdict.Start{})
	b.wait(1)
	b.until(Error)
	s.camera.Store(false)
	b.obey(verdict.VerbReset, `{}`)
	b.until(Ready)
	b.start(verdict.Start{})
	if records := b.wait(1); records[1].Evaluation != verdict.OK || !b.camera.closed {
		t.Errorf("found %+v, camera closed: %t", records[1].Reason, b.camera.closed)
	}
}

func TestAcquired(t *testing.T) {
	taken := make(chan Acquired, 1)
	b, s := staged(t, func(o *Options) { o.Acquired = func(one Acquired) { taken <- one } })
	b.Run()
	reply := b.start(verdict.Start{PartID: text("P-1"), CommandID: text("c-1")})
	one := <-taken // while the inspection has not ended
	if one.TriggerID != *reply.TriggerID || *one.PartID != "P-1" || *one.CommandID != "c-1" || one.View != nil || time.Since(one.Captured) > time.Minute {
		t.Errorf("found %+v", one)
	}
	close(s.release)
	b.wait(1)
}

// A continuous start names its recipe like any other.
func TestContinuousRecipe(t *testing.T) {
	b, s := staged(t, func(o *Options) { o.Continuous = true })
	close(s.release)
	b.Run()
	b.obey(verdict.VerbStop, `{}`)
	if reply := b.command(verdict.VerbStart, `{"continuous":true,"recipe":"nut"}`); reply.Accepted || reply.Reason.Code != verdict.RefusedUnknownRecipe {
		t.Errorf("found %+v", reply)
	}
	b.obey(verdict.VerbStart, `{"continuous":true,"recipe":"screw"}`)
}

// After an abort was accepted no result comes, even if the inspection was done and
// only its picture was not written yet.
func TestAbortBeforeTheRecord(t *testing.T) {
	b, s := staged(t, nil)
	close(s.release)
	b.Run()
	b.keeping.Lock() // a slow disk
	b.start(verdict.Start{})
	<-s.began
	b.obey(verdict.VerbAbort, `{}`)
	b.keeping.Unlock()
	if record := b.wait(1)[0]; record.Evaluation != verdict.Undefined || record.Reason.Code != verdict.ReasonAborted {
		t.Errorf("found %s, %+v", record.Evaluation, record.Reason)
	}
}

// What commands made of a station outlives it: a part of a crash must not be that a
// station inspects that a person halted.
func TestMemory(t *testing.T) {
	recall := func(b *bench, configured string) Memory {
		t.Helper()
		memory, err := Recall(b.ledger, b.source, configured)
		if err != nil {
			t.Fatal(err)
		}
		return memory
	}
	b, s := staged(t, func(o *Options) { o.Continuous, o.Memory = true, Memory{Configured: "screw", Recipe: "screw"} })
	close(s.release)
	b.Run()
	if found := recall(b, "screw"); found != (Memory{Configured: "screw", Recipe: "screw"}) {
		t.Errorf("found %+v", found)
	}
	b.obey(verdict.VerbStop, `{}`)
	b.obey(verdict.VerbPrepare, `{"recipe":"nut"}`)
	b.obey(verdict.VerbHalt, `{"command_id":"h-1"}`)
	want := Memory{Configured: "screw", Recipe: "nut", Halted: true, Stopped: true}
	if found := recall(b, "screw"); found != want {
		t.Errorf("found %+v", found)
	}
	// The process is killed; the next one begins with that.
	options := b.options
	options.Memory = want
	next := New(options)
	next.Run()
	defer next.Stop(context.Background()) //nolint:errcheck // the test is over
	send := func(verb verdict.Verb, payload string) verdict.Reply {
		return next.Command(context.Background(), verb, []byte(payload), time.Now())
	}
	if reply := send(verdict.VerbHalt, `{"command_id":"h-1"}`); !reply.Accepted || next.Status().State != Halted {
		t.Errorf("found %+v, %+v", reply, next.Status())
	}
	if reply := send(verdict.VerbStart, `{}`); reply.Accepted {
		t.Error("a halted station inspects nothing")
	}
	send(verdict.VerbReset, `{}`)
	if found := recall(b, "screw"); found != (Memory{Configured: "screw", Recipe: "nut"}) {
		t.Errorf("found %+v", found)
	}
	// Another configuration goes before what was prepared, and does not forget it
	// only for a time.
	if found := recall(b, "washer"); found != (Memory{Configured: "washer", Recipe: "washer"}) {
		t.Errorf("found %+v", found)
	}
	if found := recall(b, "screw"); found != (Memory{Configured: "screw", Recipe: "screw"}) {
		t.Errorf("found %+v", found)
	}
}

// Without a camera a recipe can be prepared, and what triggers by itself stopped.
func TestCommandsWithoutCamera(t *testing.T) {
	b, s := staged(t, func(o *Options) {
		o.Model = Model{}
		o.Continuous = true
		o.Open = func() (capture.Source, error) { return nil, errors.New("unplugged") }
	})
	close(s.release)
	b.Run()
	b.until(Error)
	b.obey(verdict.VerbPrepare, `{"recipe":"nut"}`)
	b.obey(verdict.VerbStop, `{}`)
	if status := b.Status(); status.State != Error || status.Reason != "camera: unplugged" {
		t.Errorf("found %+v", status)
	}
}

// A recipe whose loading panics is refused.
func TestPreparePanics(t *testing.T) {
	b, _ := staged(t, func(o *Options) { o.Prepare = func(context.Context, string) (Model, error) { panic("graph") } })
	b.Run()
	if reply := b.command(verdict.VerbPrepare, `{"recipe":"nut"}`); reply.Accepted || reply.Reason.Code != verdict.RefusedModel || reply.Reason.Detail != "panic: graph" {
		t.Errorf("found %+v", reply.Reason)
	}
}

// An id is for one command: with another verb it is not the first one repeated, and
// must not be told that it was done.
func TestIDOfAnotherCommand(t *testing.T) {
	b, s := staged(t, nil)
	close(s.release)
	b.Run()
	b.obey(verdict.VerbAbort, `{"command_id":"7"}`)
	reply := b.command(verdict.VerbHalt, `{"command_id":"7"}`)
	if reply.Accepted || reply.Reason.Code != verdict.RefusedInvalid || reply.Reason.Detail != `command_id: expected an id of its own, found "7", which a command abort had before` {
		t.Errorf("found %+v", reply.Reason)
	}
	if status := b.Status(); status.State != Ready {
		t.Errorf("found %+v", status)
	}
	b.obey(verdict.VerbHalt, `{}`)
	b.obey(verdict.VerbReset, `{"command_id":"8"}`)
	b.until(Ready)
	if reply := b.Start(verdict.Start{CommandID: text("8")}, time.Now(), ""); reply.Accepted || reply.TriggerID != nil {
		t.Errorf("found %+v", reply)
	}
}

// A reset ends a preparation, too: no recipe comes that was ordered before.
func TestResetEndsPrepare(t *testing.T) {
	loading, release := make(chan struct{}), make(chan struct{})
	var released atomic.Bool
	b, _ := staged(t, func(o *Options) {
		o.Model.Recipe.Name = "screw"
		o.Prepare = func(context.Context, string) (Model, error) {
			close(loading)
			<-release
			return Model{Inspector: fakeInspector(nil), Recipe: verdict.Recipe{Name: "nut"}, Release: func() { released.Store(true) }}, nil
		}
	})
	b.Run()
	replies := make(chan verdict.Reply)
	go func() { replies <- b.command(verdict.VerbPrepare, `{"recipe":"nut"}`) }()
	<-loading
	b.obey(verdict.VerbReset, `{}`)
	b.until(Ready)
	close(release)
	if reply := <-replies; reply.Accepted || reply.Reason.Detail != "the station was reset meanwhile" || !released.Load() {
		t.Errorf("found %+v, released %t", reply, released.Load())
	}
	if name := b.Model().Recipe.Name; name != "screw" {
		t.Errorf("found %s", name)
	}
}

// While another program has the ledger, a station that is told to halt does, and
// remembers it as soon as it can be kept; a trigger is refused, and may be repeated.
func TestCommandsWithoutALedger(t *testing.T) {
	b, s := staged(t, func(o *Options) { o.Memory = Memory{Configured: "screw", Recipe: "screw"} })
	close(s.release)
	b.Run()
	database, err := sql.Open("sqlite3", "file:"+filepath.Join(filepath.Dir(b.imageDir), "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer database.Close() //nolint:errcheck // the test is over
	database.SetMaxOpenConns(1)
	do := func(statement string) {
		t.Helper()
		if _, err := database.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	do(`BEGIN IMMEDIATE`)
	id := "c-1"
	start := verdict.Start{CommandID: &id}
	if reply := b.Start(start, time.Now(), ""); reply.Accepted || reply.Reason.Code != verdict.RefusedLedger {
		t.Errorf("found %+v", reply)
	}
	b.obey(verdict.VerbHalt, `{"command_id":"c-2"}`)
	do(`ROLLBACK`)
	if reply := b.command(verdict.VerbHalt, `{"command_id":"c-2"}`); !reply.Accepted {
		t.Errorf("repeated, the first reply: found %+v", reply.Reason)
	}
	b.LedgerProblem(nil)
	if memory, err := Recall(b.ledger, b.source, "screw"); err != nil || !memory.Halted {
		t.Errorf("found %+v, %v", memory, err)
	}
	b.obey(verdict.VerbReset, `{}`)
	b.until(Ready)
	if reply := b.Start(start, time.Now(), ""); !reply.Accepted {
		t.Errorf("found %+v", reply.Reason)
	}
	b.wait(1)
}

// Where parts come as files, a start without one would be a part without a picture.
func TestStartWithoutAFile(t *testing.T) {
	b, s := staged(t, func(o *Options) { o.Continuous, o.ByFile = true, true })
	close(s.release)
	b.Run()
	b.obey(verdict.VerbStop, `{}`)
	b.until(Ready)
	if reply := b.command(verdict.VerbStart, `{"part_id":"P-1"}`); reply.Accepted || reply.Reason.Code != verdict.RefusedInvalid {
		t.Errorf("found %+v", reply)
	}
	b.obey(verdict.VerbStart, `{"continuous":true}`)
}

// Only what triggers by itself stays stopped.
func TestStoppedStaysStopped(t *testing.T) {
	for _, continuous := range []bool{true, false} {
		b, s := staged(t, func(o *Options) { o.Continuous, o.Memory = continuous, Memory{Configured: "screw", Recipe: "screw"} })
		close(s.release)
		b.Run()
		b.obey(verdict.VerbAbort, `{}`)
		if memory, err := Recall(b.ledger, b.source, "screw"); err != nil || memory.Stopped != continuous {
			t.Errorf("found %+v, %v", memory, err)
		}
	}
}
