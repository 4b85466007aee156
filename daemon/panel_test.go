package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gladd/daemon/internal/mes/mestest"
)

// reply is the answer to a start command.
type reply struct {
	CommandID *string `json:"command_id"`
	TriggerID string  `json:"trigger_id"`
	Accepted  bool    `json:"accepted"`
	Reason    *struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	} `json:"reason"`
}

func (r reply) code() string {
	if r.Reason == nil {
		return ""
	}
	return r.Reason.Code
}

// panel starts inspections over HTTP, where the broker cannot be asked.
type panel struct {
	t      *testing.T
	url    string
	client *http.Client

	phase    atomic.Int64 // goes into the context of what is started
	mutex    sync.Mutex
	accepted map[string]map[string]bool // trigger ids by station
	refused  map[string]int             // by code
}

// newPanel is a panel of a running daemon; dial reaches it where it has a
// network of its own, nil: as usual.
func newPanel(p *process, dial func(address string) (net.Conn, error)) *panel {
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	if dial != nil {
		transport.Dial = func(_, address string) (net.Conn, error) { return dial(address) } //nolint:staticcheck // it needs no context
	}
	return &panel{
		t: p.t, url: p.logged("ready", "web"), client: &http.Client{Transport: transport, Timeout: mestest.Patience},
		accepted: map[string]map[string]bool{}, refused: map[string]int{},
	}
}

// start sends one command and notes the answer.
func (p *panel) start(station, body string) reply {
	p.t.Helper()
	response, err := p.client.Post(p.url+"/api/v1/stations/"+station+"/start", "application/json", strings.NewReader(body))
	if err != nil {
		p.t.Error(err)
		return reply{}
	}
	defer response.Body.Close() //nolint:errcheck // it is only read
	content, err := io.ReadAll(response.Body)
	var answer reply
	if err == nil {
		err = json.NewDecoder(bytes.NewReader(content)).Decode(&answer)
	}
	if err != nil {
		p.t.Errorf("start at %s: %v: %s", station, err, content)
		return reply{}
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if !answer.Accepted {
		p.refused[answer.code()]++
		return answer
	}
	if p.accepted[station] == nil {
		p.accepted[station] = map[string]bool{}
	}
	p.accepted[station][answer.TriggerID] = true
	return answer
}

// run starts an inspection every so often, at one station after the other, until
// it is stopped.
func (p *panel) run(stations []string, every time.Duration) (stop func()) {
	ended := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for i := 0; ; i++ {
			select {
			case <-ended:
				return
			case <-ticker.C:
			}
			p.start(stations[i%len(stations)], fmt.Sprintf(`{"context":{"phase":%d}}`, p.phase.Load()))
		}
	})
	stop = sync.OnceFunc(func() {
		close(ended)
		running.Wait()
	})
	p.t.Cleanup(stop)
	return stop
}

// get reads a page.
func (p *panel) get(path string) (status int, content string) {
	p.t.Helper()
	response, err := p.client.Get(p.url + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // it is only read
	all, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return response.StatusCode, string(all)
}

// sum adds up the values of a metric, of those lines that have some labels.
func sum(metrics, name string, labels ...string) (total int) {
	for line := range strings.Lines(metrics) {
		if !strings.HasPrefix(line, name) || slices.ContainsFunc(labels, func(label string) bool { return !strings.Contains(line, label) }) {
			continue
		}
		var value int
		fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &value) //nolint:errcheck // 0 would be seen
		total += value
	}
	return total
}

// refusals is how many were refused for a reason.
func (p *panel) refusals(code string) int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.refused[code]
}

// counts is how many triggers were accepted, in all and by station.
func (p *panel) counts() (total int, byStation map[string]int) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	byStation = map[string]int{}
	for station, ids := range p.accepted {
		byStation[station] = len(ids)
		total += len(ids)
	}
	return total, byStation
}

// checkDelivered checks that the MES has the verdicts on exactly what was
// accepted, in order, and returns them by station.
func (p *panel) checkDelivered(mes *mestest.MES) map[string]map[string]map[string]any {
	p.t.Helper()
	total, byStation := p.counts()
	mes.WaitDelivered(total)
	all := map[string]map[string]map[string]any{}
	for station, count := range byStation {
		all[station] = records(p.t, mes, station, count)
		for trigger := range all[station] {
			if !p.accepted[station][trigger] {
				p.t.Errorf("%s: a verdict on a trigger that nobody accepted: %s", station, trigger)
			}
		}
	}
	return all
}
