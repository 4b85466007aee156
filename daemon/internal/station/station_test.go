package station

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gladd/capture"
	"gladd/daemon/internal/inspection"
	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
	"gladd/engines"
)

// camera is a source of frames; grab says what happens, nil: a frame comes.
type fakeCamera struct {
	grab   func(ctx context.Context, n int) error
	grabs  int
	closed bool
}

func (c *fakeCamera) Grab(ctx context.Context) (*capture.Frame, error) {
	c.grabs++
	if c.grab != nil {
		if err := c.grab(ctx, c.grabs); err != nil {
			return nil, err
		}
	}
	return &capture.Frame{Picture: &capture.Picture{Width: 8, Height: 8, RGB: bytes.Repeat([]byte{byte(c.grabs)}, 192)}, Captured: time.Now()}, nil
}

func (c *fakeCamera) Close() error { c.closed = true; return nil }

// inspector inspects as a function says; nil: every part is OK.
type fakeInspector func(ctx context.Context) inspection.Outcome

func (f fakeInspector) Inspect(ctx context.Context, _ inspection.Part) inspection.Outcome {
	if f != nil {
		return f(ctx)
	}
	outcome := inspection.Outcome{Evaluation: verdict.OK, Scored: true}
	outcome.Result.Score = 0.25
	return outcome
}

// bench is a station on a real ledger.
type bench struct {
	*Station
	t        *testing.T
	ledger   *ledger.Ledger
	imageDir string
	camera   *fakeCamera

	mutex    sync.Mutex
	records  []*verdict.Record
	recorded chan struct{}
	changes  chan struct{} // holds a token after the status changed
}

func newBench(t *testing.T, change func(*Options)) *bench {
	t.Helper()
	dir := t.TempDir()
	opened, err := ledger.Open(t.Context(), ledger.Options{Path: filepath.Join(dir, "ledger.db")})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, ledger: opened, imageDir: filepath.Join(dir, "images"), camera: &fakeCamera{}, recorded: make(chan struct{}, 1000), changes: make(chan struct{}, 1)}
	options := Options{
		Site: "p", Line: "l", Name: "st-01",
		Model:    Model{Inspector: fakeInspector(nil), Recipe: verdict.Recipe{Name: "screw"}},
		Open:     func() (capture.Source, error) { return b.camera, nil },
		Camera:   verdict.Camera{Name: "fake"},
		Turns:    NewTurns(),
		Ledger:   opened,
		Images:   ledger.NewImages(opened, b.imageDir, 1<<30),
		Deadline: 5 * time.Second,
		Queue:    4,
		Log:      slog.New(slog.DiscardHandler),
		Finished: func(finished Finished) {
			b.mutex.Lock()
			defer b.mutex.Unlock()
			b.records = append(b.records, finished.Record)
			b.recorded <- struct{}{}
		},
	}
	options.Changed = func() {
		select {
		case b.changes <- struct{}{}:
		default:
		}
	}
	if change != nil {
		change(&options)
	}
	b.Station = New(options)
	t.Cleanup(func() {
		b.stop()
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) stop() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := b.Stop(ctx); err != nil {
		b.t.Error(err)
	}
}

// start triggers and expects to be accepted.
func (b *bench) start(start verdict.Start) verdict.Reply {
	b.t.Helper()
	reply := b.Start(start, time.Now(), "")
	if !reply.Accepted {
		b.t.Fatalf("refused: %+v", reply.Reason)
	}
	return reply
}

// wait waits for a number of records and returns all.
func (b *bench) wait(count int) []*verdict.Record {
	b.t.Helper()
	for range count {
		select {
		case <-b.recorded:
		case <-time.After(20 * time.Second):
			b.t.Fatal("no record came")
		}
	}
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.records
}

func text(words string) *string { return &words }

func TestRecordIsWhole(t *testing.T) {
	b := newBench(t, func(o *Options) {
		threshold, calibration := 0.5, "cal-1"
		o.Model.ImageThreshold, o.Model.CalibrationID = &threshold, &calibration
		o.Simulated = true
	})
	b.Run()
	purpose := verdict.Challenge
	reply := b.start(verdict.Start{
		PartID: text("P-1"), CommandID: text("c-1"), MeasurementID: text("m-1"), Recipe: text("screw"), View: text("top"),
		Purpose: &purpose, Context: json.RawMessage(`{"x":1}`),
	})
	record := b.wait(1)[0]
	content, err := b.ledger.Record(*reply.TriggerID)
	if err != nil {
		t.Fatal(err)
	}
	told, err := verdict.JSON(record)
	if err != nil || !bytes.Equal(told, content) {
		t.Errorf("what is told is what is recorded:\n%s\n%s", told, content)
	}
	var found map[string]any
	if err := json.Unmarshal(content, &found); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"trigger_id": *reply.TriggerID, "command_id": "c-1", "ledger_id": b.ledger.ID(), "sequence": 1.0, "kind": "view", "view": "top",
		"measurement_id": "m-1", "attempt": 1.0, "purpose": "challenge", "is_simulated": true, "is_partial": false,
		"evaluation": "OK", "result_state": "completed", "reason": nil, "anomaly_score": 0.25, "image_threshold": 0.5, "calibration_id": "cal-1",
		"views_expected": nil, "source_result_ids": nil, "previous_result_id": nil, "regions": nil,
	} {
		if value, there := found[key]; !there || value != want {
			t.Errorf("%s: want %v, found %v", key, want, value)
		}
	}
	if record.Image == nil || record.Image.Width != 8 || len(record.Image.SHA256) != 64 || !record.Image.Kept {
		t.Fatalf("found image %+v", record.Image)
	}
	pictures, err := filepath.Glob(filepath.Join(b.imageDir, "st-01", "*", record.TriggerID+".png"))
	if err != nil || len(pictures) != 1 {
		t.Fatalf("want one picture, found %v, %v", pictures, err)
	}
	file, err := os.Open(pictures[0])
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	picture, err := png.Decode(file)
	if err != nil || picture.Bounds().Dx() != 8 {
		t.Errorf("the picture is a PNG of the frame: %v", err)
	}
	if r, g, _, _ := picture.At(3, 3).RGBA(); r>>8 != 1 || g>>8 != 1 {
		t.Errorf("its pixels are the frame's: found %d, %d", r>>8, g>>8)
	}
}

// Every fault on the way is Undefined with its reason, never OK, and every
// trigger has its record.
func TestFaults(t *testing.T) {
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	for name, test := range map[string]struct {
		grab    func(ctx context.Context, n int) error
		inspect fakeInspector
		change  func(*Options)
		want    verdict.ReasonCode
		detail  string
	}{
		"the camera fails":       {grab: func(context.Context, int) error { return errors.New("unplugged") }, want: verdict.ReasonCamera, detail: "unplugged"},
		"the camera has ended":   {grab: func(context.Context, int) error { return io.EOF }, want: verdict.ReasonCamera, detail: "all its pictures were given"},
		"the camera panics":      {grab: func(context.Context, int) error { panic("driver") }, want: verdict.ReasonInternal, detail: "panic: driver"},
		"the camera blocks":      {grab: func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }, want: verdict.ReasonCamera, detail: "deadline exceeded"},
		"the camera is not here": {change: func(o *Options) { o.Open = func() (capture.Source, error) { return nil, errors.New("no such device") } }, want: verdict.ReasonCamera, detail: "no such device"},
		"a network fails": {inspect: func(context.Context) inspection.Outcome {
			return inspection.Undefined(verdict.ReasonEngine, "out of memory")
		},
			want: verdict.ReasonEngine, detail: "out of memory"},
		"a network hangs":       {inspect: func(context.Context) inspection.Outcome { <-hang; return inspection.Outcome{Evaluation: verdict.OK} }, want: verdict.ReasonDeadline, detail: "within 300ms"},
		"the inspection panics": {inspect: func(context.Context) inspection.Outcome { panic("index out of range") }, want: verdict.ReasonInternal, detail: "panic: index out of range"},
		"a number is none": {inspect: func(context.Context) inspection.Outcome {
			outcome := inspection.Outcome{Evaluation: verdict.OK, Scored: true}
			outcome.Result.Score = math.NaN()
			return outcome
		}, want: verdict.ReasonInternal, detail: "unsupported value: NaN"},
		"the engines are busy":   {change: func(o *Options) { _ = o.Turns.Take(context.Background()) }, want: verdict.ReasonDeadline, detail: "the engines were busy"},
		"the listener panics":    {change: func(o *Options) { told := o.Finished; o.Finished = func(f Finished) { told(f); panic("listener") } }, want: "", detail: ""},
		"pictures are not taken": {change: func(o *Options) { o.Images = ledger.NewImages(o.Ledger, "/dev/null/images", 1) }, want: "", detail: ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(o *Options) {
				o.Deadline = 300 * time.Millisecond
				o.Model.Inspector = test.inspect
				if test.change != nil {
					test.change(o)
				}
			})
			b.camera.grab = test.grab
			b.Run()
			for range 2 {
				b.start(verdict.Start{})
			}
			for _, record := range b.wait(2) {
				if test.want == "" {
					if b.Status().State != Ready {
						t.Errorf("it inspects all the same: found %+v", b.Status())
					}
					if record.Evaluation != verdict.OK || record.Image.Kept != (name != "pictures are not taken") {
						t.Errorf("found %s, %+v", record.Evaluation, record.Image)
					}
					continue
				}
				if record.Evaluation != verdict.Undefined || record.Reason.Code != test.want || !strings.Contains(record.Reason.Detail, test.detail) {
					t.Errorf("want Undefined, %s, %q, found %s, %+v", test.want, test.detail, record.Evaluation, record.Reason)
				}
				// By the deadline, and not only at some time; a busy machine adds a little.
				if record.LatencyMS > 2*300 {
					t.Errorf("want it within 300 ms, found %.0f", record.LatencyMS)
				}
			}
		})
	}
}

func TestStateFollowsTheCamera(t *testing.T) {
	b := newBench(t, nil)
	broken := errors.New("unplugged")
	b.camera.grab = func(_ context.Context, n int) error {
		if n == 1 {
			return broken
		}
		return nil
	}
	if status := b.Status(); status.State != Preoperational {
		t.Errorf("found %+v", status)
	}
	if reply := b.Start(verdict.Start{}, time.Now(), ""); reply.Accepted || reply.Reason.Code != verdict.RefusedNotReady {
		t.Errorf("not started: found %+v", reply)
	}
	b.Run()
	if status := b.Status(); status.State != Ready || status.Reason != "" {
		t.Errorf("found %+v", status)
	}
	b.start(verdict.Start{})
	b.wait(1)
	if status := b.Status(); status.State != Error || status.Reason != "camera: unplugged" || b.CameraError() == nil {
		t.Errorf("found %+v", status)
	}
	b.start(verdict.Start{})
	if records := b.wait(1); records[1].Evaluation != verdict.OK {
		t.Errorf("found %+v", records[1].Reason)
	}
	if status := b.Status(); status.State != Ready || b.CameraError() != nil {
		t.Errorf("found %+v", status)
	}
	b.stop()
	if status := b.Status(); status.State != Halted || !b.camera.closed {
		t.Errorf("found %+v, camera closed: %t", status, b.camera.closed)
	}
}

func TestRefusals(t *testing.T) {
	release := make(chan struct{})
	began := make(chan struct{}, 10)
	b := newBench(t, func(o *Options) {
		o.Queue = 1
		o.Model.Inspector = fakeInspector(func(context.Context) inspection.Outcome {
			began <- struct{}{}
			<-release
			return inspection.Outcome{Evaluation: verdict.OK}
		})
	})
	b.Run()
	past := time.Now().Add(-time.Second)
	for name, test := range map[string]struct {
		start verdict.Start
		want  verdict.RefusalCode
	}{
		"stale":          {verdict.Start{ExpiresAt: &past, CommandID: text("stale")}, verdict.RefusedExpired},
		"another recipe": {verdict.Start{Recipe: text("nut")}, verdict.RefusedUnknownRecipe},
	} {
		if reply := b.Start(test.start, time.Now(), ""); reply.Accepted || reply.Reason.Code != test.want || reply.TriggerID != nil {
			t.Errorf("%s: found %+v", name, reply)
		}
	}
	first := b.start(verdict.Start{CommandID: text("c-1")})
	<-began
	b.start(verdict.Start{})
	if status := b.Status(); status.State != SingleExecution {
		t.Errorf("no room: found %+v", status)
	}
	if reply := b.Start(verdict.Start{}, time.Now(), ""); reply.Accepted || reply.Reason.Code != verdict.RefusedBusy {
		t.Errorf("found %+v", reply)
	}
	if b.Offer("a.png@1", "/nowhere/a.png", "a.png") {
		t.Error("an offered file must wait")
	}
	// A repeated command is no new trigger, and needs no room.
	if again := b.start(verdict.Start{CommandID: text("c-1")}); *again.TriggerID != *first.TriggerID {
		t.Errorf("want the first reply, found %+v", again)
	}
	close(release)
	b.wait(2)
	counters, err := b.ledger.Counters(b.Source())
	if err != nil {
		t.Fatal(err)
	}
	if counters.Accepted != 2 || counters.Refusals[verdict.RefusedBusy] != 1 || counters.Refusals[verdict.RefusedExpired] != 1 || counters.Refusals[verdict.RefusedUnknownRecipe] != 1 {
		t.Errorf("found %+v", counters)
	}
}

// A row of refusals is two lines of the log, however long it is.
func TestRefusalsAreToldOnce(t *testing.T) {
	var log bytes.Buffer
	b := newBench(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	b.Run()
	for range 50 {
		b.Start(verdict.Start{Recipe: text("nut")}, time.Now(), "")
	}
	b.start(verdict.Start{})
	b.wait(1)
	if count := strings.Count(log.String(), "\n"); count != 2 || !strings.Contains(log.String(), "count=50") {
		t.Errorf("found\n%s", &log)
	}
}

// SIGTERM with a full queue: the inspection under way ends, waiting ones are
// Undefined.
func TestStopWithFullQueue(t *testing.T) {
	release, began := make(chan struct{}), make(chan struct{}, 10)
	b := newBench(t, func(o *Options) {
		o.Model.Inspector = fakeInspector(func(context.Context) inspection.Outcome {
			began <- struct{}{}
			<-release
			return inspection.Outcome{Evaluation: verdict.OK}
		})
	})
	b.Run()
	for range 5 {
		b.start(verdict.Start{})
	}
	<-began
	stopped := make(chan struct{})
	go func() { b.stop(); close(stopped) }()
	<-b.stopContext().Done()
	if reply := b.Start(verdict.Start{}, time.Now(), ""); reply.Accepted || reply.Reason.Code != verdict.RefusedNotReady {
		t.Errorf("found %+v", reply)
	}
	close(release)
	<-stopped
	var found []string
	for _, record := range b.wait(5) {
		code := ""
		if record.Reason != nil {
			code = string(record.Reason.Code)
		}
		found = append(found, fmt.Sprint(record.Sequence, record.Evaluation, code))
	}
	if want := "[1OK 2Undefinedshutdown 3Undefinedshutdown 4Undefinedshutdown 5Undefinedshutdown]"; fmt.Sprint(found) != want {
		t.Errorf("want %s, found %v", want, found)
	}
}

// Who shares the engines gets them in the order of asking.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := NewTurns()
		if err := turns.Take(t.Context()); err != nil || turns.Since().IsZero() {
			t.Fatal(err)
		}
		order := make(chan string, 3)
		for _, name := range []string{"a", "b", "a again"} {
			go func() {
				if err := turns.Take(t.Context()); err != nil {
					t.Error(err)
				}
				order <- name
				turns.Give()
			}()
			synctest.Wait()
		}
		expired, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := turns.Take(expired); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("found %v", err)
		}
		turns.Give()
		if found := []string{<-order, <-order, <-order}; fmt.Sprint(found) != "[a b a again]" {
			t.Errorf("found %v", found)
		}
		synctest.Wait()
		if !turns.Since().IsZero() {
			t.Error("nobody has a turn any more")
		}
	})
}

// A clock that is set back meanwhile changes neither durations nor the order
// of a record's times.
func TestClockSetBack(t *testing.T) {
	var mutex sync.Mutex
	wall := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	set := func(to time.Time) {
		mutex.Lock()
		defer mutex.Unlock()
		wall = to
	}
	b := newBench(t, func(o *Options) {
		o.Wall = func() time.Time { mutex.Lock(); defer mutex.Unlock(); return wall }
		o.Model.Inspector = fakeInspector(func(context.Context) inspection.Outcome {
			set(wall.Add(-time.Hour))
			return inspection.Outcome{Evaluation: verdict.OK}
		})
	})
	b.Run()
	for range 2 {
		b.start(verdict.Start{})
		b.wait(1)
	}
	for i, record := range b.records {
		if record.LatencyMS < 0 || record.LatencyMS > 5000 || record.Evaluation != verdict.OK || record.Sequence != int64(i+1) {
			t.Errorf("found latency %v, %s, sequence %d", record.LatencyMS, record.Evaluation, record.Sequence)
		}
		if record.Times.Finished.Before(record.Times.Captured.Time) || record.Times.Captured.Before(record.Times.Triggered.Time) {
			t.Errorf("times are turned around: %+v", record.Times)
		}
	}
}

func TestKeepImages(t *testing.T) {
	for name, test := range map[string]struct {
		keep KeepImages
		want string
	}{"all": {KeepAll, "true true"}, "not OK": {KeepNotOK, "false true"}, "none": {KeepNone, "false false"}} {
		t.Run(name, func(t *testing.T) {
			count := 0
			b := newBench(t, func(o *Options) {
				o.Keep = test.keep
				o.Model.Inspector = fakeInspector(func(context.Context) inspection.Outcome {
					count++
					return inspection.Outcome{Evaluation: []verdict.Evaluation{verdict.OK, verdict.NotOK}[count-1]}
				})
			})
			b.Run()
			b.start(verdict.Start{})
			b.start(verdict.Start{})
			records := b.wait(2)
			if found := fmt.Sprint(records[0].Image.Kept, " ", records[1].Image.Kept); found != test.want {
				t.Errorf("want %s, found %s", test.want, found)
			}
			files, err := filepath.Glob(filepath.Join(b.imageDir, "*", "*", "*.png"))
			if err != nil || len(files) != strings.Count(test.want, "true") {
				t.Errorf("found %v, %v", files, err)
			}
		})
	}
}

func TestNoModel(t *testing.T) {
	b := newBench(t, func(o *Options) { o.ModelError = errors.New("bundle.yaml: damaged") })
	b.Run()
	if reply := b.Start(verdict.Start{}, time.Now(), ""); reply.Accepted || reply.Reason.Code != verdict.RefusedNotReady || !strings.Contains(reply.Reason.Detail, "damaged") {
		t.Errorf("found %+v", reply)
	}
	if status := b.Status(); status.State != Error || !strings.Contains(status.Reason, "damaged") {
		t.Errorf("found %+v", status)
	}
}

func TestOffer(t *testing.T) {
	picture := &capture.Picture{Width: 8, Height: 8, RGB: make([]byte, 192)}
	content, err := picture.EncodePNG()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "part.png")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, func(o *Options) { o.Continuous = true })
	b.Run()
	for range 2 {
		if !b.Offer("part.png@1", path, "part.png") {
			t.Error("the file is settled, the second time because it was before")
		}
	}
	record := b.wait(1)[0]
	if record.Evaluation != verdict.OK || string(record.Context) != `{"file":"part.png"}` || b.camera.grabs != 0 {
		t.Errorf("found %s, %s, %d grabs of the camera", record.Evaluation, record.Context, b.camera.grabs)
	}
	if counters, err := b.ledger.Counters(b.Source()); err != nil || counters.Accepted != 1 {
		t.Errorf("found %+v, %v", counters, err)
	}
}

func TestWait(t *testing.T) {
	release := make(chan struct{})
	b := newBench(t, func(o *Options) {
		o.Model.Inspector = fakeInspector(func(context.Context) inspection.Outcome {
			<-release
			return inspection.Outcome{Evaluation: verdict.OK}
		})
	})
	b.Run()
	reply := b.start(verdict.Start{})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Wait(ended, *reply.TriggerID); !errors.Is(err, context.Canceled) {
		t.Errorf("found %v", err)
	}
	close(release)
	record, err := b.Wait(t.Context(), *reply.TriggerID)
	if err != nil || !bytes.Contains(record, []byte(*reply.TriggerID)) {
		t.Errorf("found %s, %v", record, err)
	}
}

// plannedInspector tells how it inspects, as a model with several plans does.
type plannedInspector struct {
	inspect func(ctx context.Context, part inspection.Part) inspection.Outcome
}

func (p plannedInspector) Inspect(ctx context.Context, part inspection.Part) inspection.Outcome {
	return p.inspect(ctx, part)
}

// A record names the plan and the thresholds that the part was inspected with,
// also where a network hangs; and what a hung network writes to is not given to
// the next part.
func TestRecordNamesThePlanInUse(t *testing.T) {
	id, threshold := "of short-tail", 0.7
	how := inspection.Outcome{Method: &engines.Method{Backend: "onnxruntime", Mode: "adaptive", Plan: "short-tail"}, CalibrationID: &id, ImageThreshold: &threshold}
	hang := make(chan struct{})
	var parts []inspection.Part
	var mutex sync.Mutex
	b := newBench(t, func(options *Options) {
		options.Deadline = time.Second
		options.Model.Method.Plan, options.Model.CalibrationID = "exact", text("of exact")
		options.Model.Inspector = plannedInspector{func(_ context.Context, part inspection.Part) inspection.Outcome {
			mutex.Lock()
			parts = append(parts, part)
			second := len(parts) == 2
			mutex.Unlock()
			part.Chosen(how)
			outcome := how
			outcome.Result.AnomalyMap = make([]float32, 4)
			if part.Reuse != nil {
				outcome.Result.AnomalyMap = part.Reuse.Result.AnomalyMap
			}
			if second {
				<-hang
			}
			for i := range outcome.Result.AnomalyMap { // what was late to come may still be written
				outcome.Result.AnomalyMap[i]++
			}
			outcome.Evaluation, outcome.Scored = verdict.OK, true
			return outcome
		}}
	})
	b.Run()
	for range 2 {
		b.start(verdict.Start{})
		b.wait(1)
	}
	close(hang)
	b.start(verdict.Start{})
	for i, record := range b.wait(1) {
		if record.Method.Plan != "short-tail" || *record.CalibrationID != id || *record.ImageThreshold != threshold {
			t.Errorf("part %d: found %+v, %v, %v", i+1, record.Method, *record.CalibrationID, record.ImageThreshold)
		}
		if undefined := record.Evaluation == verdict.Undefined; undefined != (i == 1) {
			t.Errorf("part %d: found %s, %v", i+1, record.Evaluation, record.Reason)
		}
	}
	if parts[1].Reuse == nil || parts[2].Reuse != nil || parts[1].Budget <= time.Second/2 || parts[1].Budget >= time.Second {
		t.Errorf("found %v, %v, budget %v", parts[1].Reuse, parts[2].Reuse, parts[1].Budget)
	}
}

func TestReserveFollowsTheLedger(t *testing.T) {
	s := New(Options{Deadline: time.Second})
	if found := s.reserve(); found != 50*time.Millisecond {
		t.Errorf("before the first record: found %v", found)
	}
	s.recorded(40 * time.Millisecond)
	if found := s.reserve(); found != 80*time.Millisecond {
		t.Errorf("twice what the ledger took: found %v", found)
	}
	s.recorded(5 * time.Second)
	if found := s.reserve(); found != 250*time.Millisecond {
		t.Errorf("a stall: want a quarter of the deadline, found %v", found)
	}
	for range 20 {
		s.recorded(time.Millisecond)
	}
	if found := s.reserve(); found != 50*time.Millisecond {
		t.Errorf("20 records after a stall: found %v", found)
	}
}

// A disk that is too slow for a rejected part's picture costs the picture, not the
// verdict.
func TestSlowPictureOfARejectedPart(t *testing.T) {
	rejected := inspection.Outcome{Evaluation: verdict.NotOK, Reason: &verdict.Reason{Code: verdict.ReasonAnomaly}}
	b := newBench(t, func(o *Options) { o.Keep, o.Deadline = KeepNotOK, time.Second })
	b.recording.Store(int64(200 * time.Millisecond)) // so much is left for the ledger
	taken := &job{model: b.active.Load(), underWay: b.underWay, triggered: time.Now()}
	taken.deadline = taken.triggered.Add(b.options.Deadline)
	taken.draft = b.draft(verdict.Start{}, taken.triggered, taken.model)
	if _, _, err := b.begin(taken); err != nil {
		t.Fatal(err)
	}
	stuck := make(chan struct{})
	defer close(stuck)
	taken.picture = &keptPicture{done: make(chan struct{}), store: func([]byte) (*ledger.StoredImage, error) { <-stuck; return nil, nil }}
	close(taken.picture.done)
	b.outstanding.Add(1)
	b.finish(taken, rejected)
	if record := b.wait(1)[0]; record.Evaluation != verdict.NotOK || record.Image != nil && record.Image.Kept {
		t.Errorf("found %s, %+v", record.Evaluation, record.Reason)
	}
}
