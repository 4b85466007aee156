package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"gladd/daemon/internal/mes/mestest"
)

// kill -9 at any moment, a hundred times, over at work, starting and ending: no
// trigger is lost, none is double, the order is kept, the sequence has no gaps,
// and every command has one answer.
func TestFaultKill(t *testing.T) {
	t.Run("pictures kept", func(t *testing.T) { runKills(t, false, "all") })
	t.Run("acknowledged", func(t *testing.T) { runKills(t, true, "not-ok") })
}

// kills is a run of the daemon that is killed again and again.
type kills struct {
	t      *testing.T
	line   *line
	config string
	mes    *mestest.MES
	random *rand.Rand
	starts time.Duration // how long a start takes

	quota int               // how many commands there may be by now
	made  int               // how many there are
	open  map[string]bool   // ids of commands without an answer
	all   map[string]string // topics of all commands, by their ids
}

func runKills(t *testing.T, acknowledge bool, keep string) {
	wanted, triggers := scale(15, 100), scale(200, 2000)
	// Without nodelay it holds a reply back for 40 ms behind the PUBACK of its command.
	broker := mestest.StartMosquitto(t, "allow_anonymous true", "set_tcp_nodelay true")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	k := &kills{t: t, line: newLine(t, broker.URL(), 4), random: rand.New(rand.NewPCG(seed, 0)), open: map[string]bool{}, all: map[string]string{}}
	k.line.keep = keep
	options := mestest.MESOptions{Acknowledge: acknowledge}
	if acknowledge {
		k.line.mqtt = ", require_ack: true, ack_timeout: 1s"
		forgets := rand.New(rand.NewPCG(seed, 1))
		options.Forget = func() bool { return forgets.IntN(10) == 0 }
	}
	k.mes = mestest.NewMES(t, broker.URL(), options)
	k.config = k.line.write()
	began := time.Now()
	start(t, k.config).end()
	k.starts = time.Since(began)

	killed := map[string]int{}
	for total := 0; total < wanted; {
		k.quota = triggers * (total + 1) / wanted
		how := []string{"at work", "starting", "at work", "ending", "at work"}[total%5]
		if k.killOne(how) {
			killed[how]++
			total++
		}
	}
	p := start(t, k.config)
	p.loggedAfter("connected to the broker", time.Time{})
	for total := 0; total < triggers; k.quota += triggers - total { // until so many were accepted
		k.drive(nil)
		total = count(k.checkReplies())
	}
	k.askAgain()
	accepted := k.checkReplies()
	total := count(accepted)
	k.mes.WaitDelivered(total)
	ended := map[string]int{}
	byStation := map[string]int{}
	for _, station := range k.line.stations {
		byStation[station] = len(accepted[station])
		for trigger, record := range records(t, k.mes, station, len(accepted[station])) {
			if commandID, known := accepted[station][trigger]; !known || record["command_id"] != commandID {
				t.Errorf("%s: a verdict on a trigger that nobody accepted: %s of command %v", station, trigger, record["command_id"])
			}
			reason, _ := record["reason"].(map[string]any)
			ended[fmt.Sprint(reason["code"])]++
		}
	}
	came := 0
	for _, station := range k.line.stations {
		came += len(k.mes.Verdicts(station))
	}
	_, forgotten := k.mes.Different()
	t.Logf("killed %v; %d commands, %d accepted; %d verdicts came %d times, %d were acknowledged only when repeated; reasons %v; a start takes %v",
		killed, len(k.all), total, total, came, forgotten, ended, k.starts.Round(time.Millisecond))
	if ended["restarted"] == 0 || ended["<nil>"] == 0 {
		t.Error("want some inspected and some ended by a restart")
	}
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
	k.line.checkLedger(byStation)
}

// killOne starts the daemon and kills it at some moment. It returns false where
// the daemon had ended by itself before.
func (k *kills) killOne(how string) bool {
	p := launch(k.t, []string{"run", "--config", k.config})
	stop, driven := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(driven)
		k.drive(stop)
	}()
	defer func() {
		close(stop)
		<-driven
	}()
	// Not an event but a moment is waited for: that is what the test is about.
	moment := func(within time.Duration) { time.Sleep(time.Duration(k.random.Int64N(int64(within)))) }
	if how == "starting" {
		moment(k.starts)
	} else {
		p.waitState("READY=1")
		moment(200 * time.Millisecond)
	}
	if how == "ending" {
		p.command.Process.Signal(syscall.SIGTERM) //nolint:errcheck // its end is looked at below
		moment(100 * time.Millisecond)
	}
	select {
	case <-p.exited:
		if how != "ending" || p.command.ProcessState.ExitCode() != 0 {
			k.t.Fatalf("gladd ended with %d:\n%s", p.command.ProcessState.ExitCode(), p.errors())
		}
		return false
	default:
	}
	p.command.Process.Kill() //nolint:errcheck // its end is looked at below
	<-p.exited
	status, is := p.command.ProcessState.Sys().(syscall.WaitStatus)
	return is && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// drive sends commands until it is told to stop, or all that there may be have
// their answer: those without an answer again and again, as an MES does.
func (k *kills) drive(stop <-chan struct{}) {
	const patience = 100 * time.Millisecond // with an answer
	random := rand.New(rand.NewPCG(uint64(k.made), 2))
	sent := map[string]time.Time{}
	for {
		next := ""
		for id := range k.open {
			if k.mes.Answered(id) > 0 {
				delete(k.open, id)
			} else if time.Since(sent[id]) > patience {
				next = id // any of them
			}
		}
		switch known := fmt.Sprintf("c-%d", 1+random.IntN(max(1, k.made))); {
		case k.made < k.quota && len(k.open) < 8:
			k.made++
			station := k.line.stations[random.IntN(len(k.line.stations))]
			next = fmt.Sprintf("c-%d", k.made)
			k.all[next], k.open[next] = command(station), true
		case next != "":
		case len(k.open) == 0 && stop == nil:
			return
		case random.IntN(5) == 0 && time.Since(sent[known]) > patience:
			next = known // it has its answer, as a rule
		}
		if next != "" {
			k.send(next)
			sent[next] = time.Now()
		}
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(random.IntN(6)) * time.Millisecond):
		}
	}
}

func (k *kills) send(id string) {
	k.mes.Send(k.all[id], id, fmt.Sprintf(`{"command_id":%q,"part_id":%q}`, id, "P-"+id))
}

// askAgain sends every command once more: each gets its one answer.
func (k *kills) askAgain() {
	ask := func(id string) {
		answered := k.mes.Answered(id)
		k.send(id)
		// One at a time: more than some are refused.
		k.mes.WaitFor("the reply to "+id, func() bool { return k.mes.Answered(id) > answered })
	}
	// A station answers in order: behind these no earlier answer is on its way.
	for _, station := range k.line.stations {
		k.all["last-"+station] = command(station)
		ask("last-" + station)
	}
	before := k.mes.Replies()
	pace := time.NewTicker(2 * time.Millisecond) // a station takes 200 a second
	defer pace.Stop()
	for id := range k.all {
		<-pace.C
		ask(id)
	}
	after := k.mes.Replies()
	for id := range k.all {
		if found := len(after[id]) - len(before[id]); found != 1 {
			k.t.Errorf("command %s was sent once and got %d replies", id, found)
		}
	}
}

func count(accepted map[string]map[string]string) (total int) {
	for _, ids := range accepted {
		total += len(ids)
	}
	return total
}

// checkReplies checks that all replies to a command are the same, and returns
// the commands of the accepted triggers, by station and trigger.
func (k *kills) checkReplies() map[string]map[string]string {
	accepted := map[string]map[string]string{}
	for _, station := range k.line.stations {
		accepted[station] = map[string]string{}
	}
	sent := k.mes.Sent()
	for id, replies := range k.mes.Replies() {
		for _, each := range replies {
			if each != replies[0] {
				k.t.Errorf("two replies to one command:\n%s\n%s", replies[0], each)
			}
		}
		if len(replies) > sent[id] {
			k.t.Errorf("command %s was sent %d times and got %d replies", id, sent[id], len(replies))
		}
		var answer reply
		if err := json.Unmarshal([]byte(replies[0]), &answer); err != nil {
			k.t.Fatal(err)
		}
		if !answer.Accepted {
			continue
		}
		station := strings.Split(k.all[id], "/")[4] // insp/v1/SITE/LINE/STATION/…
		if other, twice := accepted[station][answer.TriggerID]; twice {
			k.t.Errorf("commands %s and %s started the same inspection", id, other)
		}
		accepted[station][answer.TriggerID] = id
	}
	return accepted
}
