package mes_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/oklog/ulid/v2"

	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/mes"
	"gladd/daemon/internal/mes/mestest"
	"gladd/daemon/internal/verdict"
)

// outbox is a ledger with verdicts, and the client that sends them.
type outbox struct {
	t      *testing.T
	url    string
	ledger *ledger.Ledger
	client *mes.Client
	log    logged
}

func newOutbox(t *testing.T, url string) *outbox {
	t.Helper()
	o := &outbox{t: t, url: url}
	var err error
	if o.ledger, err = ledger.Open(t.Context(), ledger.Options{Path: filepath.Join(t.TempDir(), "ledger.db")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		o.disconnect()
		if err := o.ledger.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

// start starts a client; with a time of 0, one that wants no acknowledgements.
func (o *outbox) start(ackTimeout time.Duration) {
	o.t.Helper()
	o.client = mes.New(mes.Options{
		Broker: mes.Broker{URL: o.url}, Site: "p", Line: "l", Box: "box-1",
		Ledger: o.ledger, Log: slog.New(slog.NewTextHandler(&o.log, nil)),
		RequireAck: ackTimeout > 0, AckTimeout: ackTimeout, Acks: []string{"st-01", "st-02"},
	})
	o.client.Run(context.Background())
}

func (o *outbox) connect(ackTimeout time.Duration) {
	o.t.Helper()
	o.start(ackTimeout)
	waitConnected(o.t, o.client)
}

func (o *outbox) disconnect() {
	if o.client != nil {
		o.client.Close()
	}
}

// finish ends a number of inspections at a station, and returns the results.
func (o *outbox) finish(station string, count int) (ids []string) {
	o.t.Helper()
	for range count {
		record := &verdict.Record{
			TriggerID: ulid.Make().String(), Kind: "view", Attempt: 1, Purpose: verdict.Production, Evaluation: verdict.OK, ResultState: verdict.Completed,
			Context: []byte("{}"), Times: verdict.Times{Triggered: verdict.Time{Time: time.Now()}, Finished: verdict.Time{Time: time.Now()}},
		}
		if _, _, err := o.ledger.Begin("/p/l/"+station, record); err != nil {
			o.t.Fatal(err)
		}
		if err := o.ledger.Finish("/p/l/"+station, record, time.Time{}, nil); err != nil {
			o.t.Fatal(err)
		}
		ids = append(ids, record.ResultID)
	}
	return ids
}

// waits waits until the outbox holds so many.
func (o *outbox) waits(count, unacknowledged, rejected int64) {
	o.t.Helper()
	var found ledger.Waiting
	defer func() {
		if o.t.Failed() {
			o.t.Logf("the outbox: %+v", found)
		}
	}()
	mestest.Eventually(o.t, fmt.Sprintf("%d in the outbox, %d unacknowledged, %d rejected", count, unacknowledged, rejected), func() bool {
		var err error
		found, err = o.ledger.Waiting("")
		return err == nil && found.Count == count && found.Unacknowledged == unacknowledged && found.Rejected == rejected
	})
}

// factory is an MES. It answers each verdict as it is told to.
type factory struct {
	t      *testing.T
	client mqtt.Client

	mutex  sync.Mutex
	answer func(station, resultID string) string // a payload; empty: none
	came   []arrival
	more   chan struct{} // closed and replaced with every verdict
}

type arrival struct {
	station, id, payload string
	sequence             int64
}

// accept accepts every verdict, and silence answers none.
func accept(_, resultID string) string {
	return fmt.Sprintf(`{"result_id":%q,"status":"accepted"}`, resultID)
}
func silence(_, _ string) string { return "" }

func newFactory(t *testing.T, url string, answer func(station, resultID string) string) *factory {
	t.Helper()
	f := &factory{t: t, answer: answer, more: make(chan struct{})}
	f.client = mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).SetClientID(ulid.Make().String()))
	if token := f.client.Connect(); !token.WaitTimeout(mestest.Patience) || token.Error() != nil {
		t.Fatal("the MES cannot connect: ", token.Error())
	}
	t.Cleanup(func() { f.client.Disconnect(0) })
	if token := f.client.Subscribe("insp/v1/p/l/+/verdict", 1, f.receive); !token.WaitTimeout(mestest.Patience) || token.Error() != nil {
		t.Fatal("the MES cannot subscribe: ", token.Error())
	}
	return f
}

func (f *factory) receive(_ mqtt.Client, message mqtt.Message) {
	var event struct {
		ID   string `json:"id"`
		Data struct {
			Sequence int64 `json:"sequence"`
		} `json:"data"`
	}
	if err := json.Unmarshal(message.Payload(), &event); err != nil {
		f.t.Error(err)
	}
	station := strings.Split(message.Topic(), "/")[4]
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.came = append(f.came, arrival{station, event.ID, string(message.Payload()), event.Data.Sequence})
	close(f.more)
	f.more = make(chan struct{})
	if ack := f.answer(station, event.ID); ack != "" {
		f.client.Publish("insp/v1/p/l/"+station+"/ack", 1, false, ack) // not waited for: nothing more comes while this runs
	}
}

func (f *factory) answers(answer func(station, resultID string) string) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.answer = answer
}

// say publishes something on a station's topic for acknowledgements.
func (f *factory) say(station, payload string, retain bool) {
	f.t.Helper()
	if token := f.client.Publish("insp/v1/p/l/"+station+"/ack", 1, retain, payload); !token.WaitTimeout(mestest.Patience) || token.Error() != nil {
		f.t.Fatal("the MES cannot publish: ", token.Error())
	}
}

// arrivals waits until those of a station are as wanted.
func (f *factory) arrivals(station, what string, wanted func([]arrival) bool) []arrival {
	f.t.Helper()
	timeout := time.After(mestest.Patience)
	for {
		f.mutex.Lock()
		found := slices.DeleteFunc(slices.Clone(f.came), func(a arrival) bool { return a.station != station })
		more := f.more
		f.mutex.Unlock()
		if wanted(found) {
			return found
		}
		select {
		case <-more:
		case <-timeout:
			f.t.Fatalf("%s of %s: it did not come; found %v", what, station, sequences(found))
		}
	}
}

func sequences(arrivals []arrival) (found []int64) {
	for _, each := range arrivals {
		found = append(found, each.sequence)
	}
	return found
}

// firsts are the sequences without those that came before.
func firsts(all []int64) (found []int64) {
	for _, sequence := range all {
		if !slices.Contains(found, sequence) {
			found = append(found, sequence)
		}
	}
	return found
}

// times is how often a result came.
func times(arrivals []arrival, id string) (count int) {
	for _, each := range arrivals {
		if each.id == id {
			count++
		}
	}
	return count
}

func atLeast(count int) func([]arrival) bool {
	return func(found []arrival) bool { return len(found) >= count }
}

// checkRepeats checks that what came again came as it was.
func checkRepeats(t *testing.T, arrivals []arrival) {
	t.Helper()
	first := map[int64]arrival{}
	for _, each := range arrivals {
		if before, again := first[each.sequence]; again && before != each {
			t.Errorf("a verdict changed when it was sent again:\n%v\n%v", before, each)
		}
		first[each.sequence] = each
	}
}

func TestAccepted(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	f := newFactory(t, broker.URL(), accept)
	o := newOutbox(t, broker.URL())
	o.finish("st-01", 5) // before there is a connection
	o.connect(time.Minute)
	o.finish("st-01", 15)
	o.finish("st-02", 1)
	o.waits(0, 0, 0)
	found := f.arrivals("st-01", "20 verdicts", atLeast(20))
	if want := "[1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20]"; fmt.Sprint(sequences(found)) != want {
		t.Errorf("want them in order and once each, found %v", sequences(found))
	}
	if ignored := o.client.AcksIgnored(); len(ignored) > 0 {
		t.Errorf("found %v", ignored)
	}
}

func TestRejected(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	long := strings.Repeat("ä", 3000)
	f := newFactory(t, broker.URL(), silence)
	o := newOutbox(t, broker.URL())
	ids := o.finish("st-01", 3)
	f.answers(func(_, id string) string {
		switch id {
		case ids[0]:
			return fmt.Sprintf(`{"result_id":%q,"status":"rejected","reason":"no order for this part"}`, id)
		case ids[1]:
			return fmt.Sprintf(`{"result_id":%q,"status":"rejected","reason":%q}`, id, long)
		}
		return ""
	})
	o.connect(20 * time.Millisecond)
	o.waits(1, 0, 2)
	// The third is sent again and again; by then the others would have come, too. Two of
	// it may be on their way, one behind others that were asked for before the rejection.
	later := func(more int) []arrival {
		before := times(f.arrivals("st-01", "any", atLeast(0)), ids[2])
		return f.arrivals("st-01", "the third", func(found []arrival) bool { return times(found, ids[2]) >= before+more })
	}
	before := later(2)
	after := later(2)
	for _, id := range ids[:2] {
		if times(before, id) != times(after, id) {
			t.Errorf("a rejected one was sent again: %v, %v", sequences(before), sequences(after))
		}
	}
	if log := o.log.text(); strings.Count(log, "the MES rejected a verdict") != 2 || !strings.Contains(log, "no order for this part") || strings.Contains(log, strings.Repeat("ä", 1025)) {
		t.Errorf("want each rejection told with at most 2 KiB of its reason, found %.5000s", log)
	}
	f.say("st-01", accept("", ids[0]), false)
	o.waits(1, 1, 1)
	f.say("st-01", fmt.Sprintf(`{"result_id":%q,"status":"accepted","reason":null}`, ids[1]), false)
	f.say("st-01", accept("", ids[2]), false)
	o.waits(0, 0, 0)
}

// An MES that does not answer holds up nobody, and gets everything when it is
// back.
func TestSilentMES(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	silent := newFactory(t, broker.URL(), func(station, id string) string {
		if station == "st-02" {
			return accept(station, id)
		}
		return ""
	})
	o := newOutbox(t, broker.URL())
	o.connect(50 * time.Millisecond)
	o.finish("st-01", 10)
	o.waits(10, 10, 0)
	// Those behind them, and those of others, come at once.
	o.finish("st-01", 1)
	o.finish("st-02", 3)
	silent.arrivals("st-01", "the eleventh", func(found []arrival) bool { return slices.Contains(sequences(found), 11) })
	silent.arrivals("st-02", "all", atLeast(3))
	o.waits(11, 11, 0)
	if log := o.log.text(); strings.Count(log, "the MES does not acknowledge verdicts") != 1 || !strings.Contains(log, "topic=insp/v1/p/l/st-01/ack") {
		t.Errorf("want it told once, found %s", log)
	}
	// It has begun anew, and knows of nothing. With the first one that it
	// acknowledges all come in order.
	back := newFactory(t, broker.URL(), accept)
	o.waits(0, 0, 0)
	checkRepeats(t, silent.arrivals("st-01", "all", atLeast(11)))
	found := sequences(back.arrivals("st-01", "all", func(found []arrival) bool { return len(firsts(sequences(found))) == 11 }))
	if row := firsts(found[slices.Index(found, 1):]); !slices.IsSorted(row) {
		t.Errorf("want them in order from the first on, found %v", found)
	}
	mestest.Eventually(t, "told", func() bool { return strings.Contains(o.log.text(), "the MES acknowledges verdicts again") })
}

// A verdict that was sent and not acknowledged comes again with a new connection,
// before new ones.
func TestRestartBeforeTheAck(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	f := newFactory(t, broker.URL(), silence)
	o := newOutbox(t, broker.URL())
	o.connect(time.Minute)
	o.finish("st-01", 3)
	f.arrivals("st-01", "three", atLeast(3))
	mestest.Eventually(t, "noted as sent", func() bool { last, err := o.ledger.LastSent("/p/l/st-01"); return err == nil && last == 3 })
	o.disconnect()
	o.finish("st-01", 2)
	f.answers(accept)
	o.connect(time.Minute)
	o.waits(0, 0, 0)
	found := f.arrivals("st-01", "all", atLeast(8))
	if want := "[1 2 3 1 2 3 4 5]"; fmt.Sprint(sequences(found)) != want {
		t.Errorf("want %s, found %v", want, sequences(found))
	}
	checkRepeats(t, found)
}

// Whatever is switched between starts, nothing is lost and nothing stays for
// ever.
func TestRequireAckSwitched(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	f := newFactory(t, broker.URL(), silence)
	o := newOutbox(t, broker.URL())
	ids := o.finish("st-01", 3)
	o.connect(20 * time.Millisecond)
	o.waits(3, 3, 0)
	f.say("st-01", fmt.Sprintf(`{"result_id":%q,"status":"rejected"}`, ids[1]), false)
	o.waits(2, 2, 1)
	o.disconnect()

	o.finish("st-01", 1)
	o.connect(0)
	o.finish("st-01", 1)
	o.waits(0, 0, 1)
	found := sequences(f.arrivals("st-01", "what was left and what is new", func(found []arrival) bool { return slices.Contains(sequences(found), 5) }))
	if want := "[1 3 4 5]"; fmt.Sprint(found[len(found)-4:]) != want {
		t.Errorf("want %s at the end, found %v", want, found)
	}
	o.disconnect()

	o.finish("st-01", 1)
	o.connect(20 * time.Millisecond)
	o.waits(1, 1, 1)
	f.say("st-01", accept("", ids[1]), false)
	f.answers(accept)
	o.waits(0, 0, 0)
}

// More of them than may be without an acknowledgement at a time.
func TestLongRow(t *testing.T) {
	const many = 230
	broker := mestest.StartMosquitto(t)
	silent := newFactory(t, broker.URL(), silence)
	o := newOutbox(t, broker.URL())
	o.connect(time.Minute)
	o.finish("st-01", many)
	silent.arrivals("st-01", "all", atLeast(many))
	mestest.Eventually(t, "noted as sent", func() bool { last, err := o.ledger.LastSent("/p/l/st-01"); return err == nil && last == many })
	o.disconnect()

	// Nobody answers: the row ends, and the new one comes all the same.
	o.finish("st-01", 1)
	o.connect(50 * time.Millisecond)
	found := silent.arrivals("st-01", "the new one", func(found []arrival) bool { return slices.Contains(sequences(found), many+1) })[many:]
	if row := sequences(found); len(row) != 101 || row[0] != 1 || row[99] != 100 || row[100] != many+1 {
		t.Errorf("want 100 and the new one, found %v", row)
	}
	o.disconnect()

	// An MES that answers gets all of them, in order.
	back := newFactory(t, broker.URL(), accept)
	o.connect(time.Minute)
	o.waits(0, 0, 0)
	row := sequences(back.arrivals("st-01", "all", atLeast(many+1)))
	if len(row) != many+1 || !slices.IsSorted(row) {
		t.Errorf("want all in order, found %v", row)
	}
}

// An MES that never answers some old ones does not hold up the new ones.
func TestOldOnesUnanswered(t *testing.T) {
	const many = 120 // more than a row takes
	broker := mestest.StartMosquitto(t)
	f := newFactory(t, broker.URL(), silence)
	o := newOutbox(t, broker.URL())
	old := map[string]bool{}
	for _, id := range o.finish("st-01", many) {
		old[id] = true
	}
	f.answers(func(_, id string) string {
		if old[id] {
			return ""
		}
		return accept("", id)
	})
	o.connect(20 * time.Millisecond)
	for next := int64(many + 1); next <= many+5; next++ {
		o.finish("st-01", 1)
		f.arrivals("st-01", "the next one", func(found []arrival) bool { return slices.Contains(sequences(found), next) })
	}
	o.waits(many, many, 0)
}

func TestBadAcks(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	f := newFactory(t, broker.URL(), silence)
	o := newOutbox(t, broker.URL())
	ids := o.finish("st-01", 1)
	f.say("st-01", accept("", ids[0]), true) // of yesterday
	o.connect(time.Minute)
	f.arrivals("st-01", "one", atLeast(1))
	for _, payload := range []string{
		``, `null`, `[]`, `{}`, `{"result_id":7,"status":"accepted"}`, `{"result_id":"","status":"accepted"}`, `{"status":"accepted"}`,
		`{"result_id":"` + ids[0] + `"}`, `{"result_id":"` + ids[0] + `","status":"ok"}`, `{"result_id":"` + ids[0] + `","status":"Accepted"}`,
		`{"result_id":"` + ids[0] + `","status":"accepted","note":1}`, accept("", ids[0]) + `{}`, `{"result_id":"` + ids[0] + "\xff" + `","status":"accepted"}`,
		`{"result_id":"` + ids[0] + `","status":"accepted","reason":["a"]}`, `{"result_id":"` + strings.Repeat("x", 300) + `","status":"accepted"}`,
		`{"result_id":"` + ids[0] + `","status":"rejected","reason":"` + strings.Repeat("x", 17<<10) + `"}`,
	} {
		f.say("st-01", payload, false)
	}
	f.say("st-02", accept("", ids[0]), false)
	f.say("st-01", accept("", "01UNKNOWN"), false)
	want := map[string]int64{"retained": 1, "invalid": 16, "elsewhere": 1}
	mestest.Eventually(t, "counted", func() bool { return fmt.Sprint(o.client.AcksIgnored()) == fmt.Sprint(want) })
	o.waits(1, 0, 0)
	if log := o.log.text(); strings.Count(log, "acknowledgement ignored") != 3 {
		t.Errorf("want each kind told once, found %s", log)
	}
	f.say("st-01", accept("", ids[0]), false)
	o.waits(0, 0, 0)
}

// strictBroker is a broker that refuses some subscriptions, as most do by their
// access lists; mosquitto's only keeps the messages back.
func strictBroker(t *testing.T, forbidden string) (url string) {
	t.Helper()
	server := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	listener := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	if err := errors.Join(server.AddHook(&accessList{forbidden: forbidden}, nil), server.AddListener(listener), server.Serve()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() }) //nolint:errcheck // the test is over
	return "mqtt://" + listener.Address()
}

type accessList struct {
	mochi.HookBase
	forbidden string // topic that nobody may subscribe to
}

func (*accessList) ID() string { return "access" }

func (*accessList) Provides(what byte) bool {
	return what == mochi.OnConnectAuthenticate || what == mochi.OnACLCheck
}

func (*accessList) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }

func (a *accessList) OnACLCheck(_ *mochi.Client, topic string, write bool) bool {
	return write || topic != a.forbidden
}

// Without acknowledgements nothing would ever leave the outbox; of what is
// configured no more, the rest shall not suffer.
func TestForbiddenAcks(t *testing.T) {
	t.Run("own", func(t *testing.T) {
		o := newOutbox(t, strictBroker(t, "insp/v1/p/l/st-01/ack"))
		o.start(time.Minute)
		waitProblem(t, o.client, "subscribe to insp/v1/p/l/st-01/ack: the broker refuses it; allow it in the broker's access list, or set mqtt.require_ack: false")
	})
	t.Run("left over", func(t *testing.T) {
		url := strictBroker(t, "insp/v1/p/l/removed/ack")
		f := newFactory(t, url, accept)
		o := newOutbox(t, url)
		o.finish("removed", 1)
		o.connect(time.Minute)
		o.finish("st-01", 1)
		f.arrivals("removed", "what was left", atLeast(1))
		o.waits(1, 0, 0)
		if log := o.log.text(); !strings.Contains(log, "topic=insp/v1/p/l/removed/ack") {
			t.Errorf("found %s", log)
		}
	})
}
