package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"gladd/daemon/internal/mes/mestest"
)

// A network that is gone for half a minute costs nothing: no verdict, no order,
// no memory, and no inspection takes longer. The first box has many parts of two
// milliseconds each, to which the quarter of one matters that recording a trigger
// takes longer where there is less to do (docs/performance.md). The times looked
// at are another one's, whose model is of ordinary size.
func TestFaultPartition(t *testing.T) {
	n := newNetwork(t)
	partition := &partition{t: t, network: n, length: scale(2*time.Second, 30*time.Second)}
	many := partition.box(newLine(t, "mqtt://"+n.broker+":1883", 4), 50*time.Millisecond)
	plates := many
	if long() {
		plates = partition.box(newPlates(t, "mqtt://"+n.broker+":1884"), 2*time.Second)
	}
	early, late := partition.run(0)
	slower := plates.slower(0)
	if slower && long() { // two rounds seldom err in the same way
		partition.run(1)
		if plates.slower(1) {
			t.Error("inspections take longer while the network is gone")
		}
	}
	early.checkFlat(t, late)
	for _, box := range partition.boxes {
		box.end()
	}
	t.Logf("memory: %v, later %v", early, late)
}

// partition is a run during which the network goes and comes.
type partition struct {
	t       *testing.T
	network *network
	boxes   []*cutBox
	length  time.Duration
}

// cutBox is a gladd in the network, with a broker, an MES and triggers of its own.
type cutBox struct {
	t       *testing.T
	line    *line
	mes     *mestest.MES
	process *process
	panel   *panel
	stop    func() // of the triggers
	session int64  // that it was online in
}

// box starts one, with a trigger every so often. The broker listens where the
// line's address says.
func (p *partition) box(l *line, every time.Duration) *cutBox {
	p.t.Helper()
	listener := strings.TrimPrefix(l.broker, "mqtt://")
	host, port, _ := strings.Cut(listener, ":")
	broker := mestest.StartDurable(p.t, "listener "+port+" "+host)
	l.keep, l.mqtt = "none", ", allow_plaintext: true, require_ack: true"
	b := &cutBox{
		t: p.t, line: l, mes: mestest.NewMES(p.t, broker.URL(), mestest.MESOptions{Acknowledge: true}), process: p.network.start(l.write()),
	}
	b.session = b.mes.WaitOnline(0)
	b.panel = newPanel(b.process, p.network.dial)
	b.stop = b.panel.run(l.stations, every)
	p.boxes = append(p.boxes, b)
	return b
}

// The phases of a round: connected, cut off, connected and so on, as long
// connected as cut off. A machine that grows busier meanwhile slows both alike.
const (
	phases  = 5
	neither = -1
)

// run is one round: the far end of the cable goes down, so that packets vanish;
// later the box's own, so that nothing can be sent. It returns what the first
// box held.
func (p *partition) run(round int) (early, late footprint) {
	// Phases, not events, are waited for: inspections go on meanwhile.
	phase := func(number int, length time.Duration) {
		set := func(phase int) {
			for _, box := range p.boxes {
				box.panel.phase.Store(int64(phase))
			}
		}
		set(round*phases + number)
		time.Sleep(length)
		set(neither)
	}
	phase(0, p.length/2)
	early = footprintOf(p.boxes[0].process)
	for i, atTheBox := range []bool{false, true} {
		cut := time.Now()
		p.network.cut(atTheBox)
		phase(2*i+1, p.length)
		mended := time.Now()
		p.network.mend(atTheBox)
		for _, box := range p.boxes {
			if long() { // a short cut need not be noticed
				noticed := box.process.loggedAfter("no connection to the broker; verdicts wait in the ledger", cut)
				box.session = box.mes.WaitOnline(box.session)
				p.t.Logf("cut at the box: %t; noticed after %.1f s; online again %.1f s after the cable was mended",
					atTheBox, noticed.Sub(cut).Seconds(), time.Since(mended).Seconds())
			}
			total, _ := box.panel.counts()
			box.mes.WaitFor("what waited", func() bool { different, _ := box.mes.Different(); return different >= total })
		}
		phase(2*i+2, p.length/time.Duration(1+i))
	}
	return early, footprintOf(p.boxes[0].process)
}

// end ends the triggers, then the box, and looks whether anything is lost.
func (b *cutBox) end() {
	b.t.Helper()
	b.stop()
	b.panel.checkDelivered(b.mes)
	total, accepted := b.panel.counts()
	b.t.Logf("%d verdicts; refused %v", total, b.panel.refused)
	if code := b.process.end(); code != 0 {
		b.t.Errorf("exit code %d:\n%s", code, b.process.errors())
	}
	b.line.checkLedger(accepted)
}

// slower says whether inspections clearly took more than 5 % longer in a round
// while it was cut off.
func (b *cutBox) slower(round int) bool {
	b.t.Helper()
	latencies := map[bool][]sample{}
	for _, station := range b.line.stations {
		for _, message := range b.mes.Verdicts(station) {
			record := message.JSON(b.t)["data"].(map[string]any)
			phase := int(record["context"].(map[string]any)["phase"].(float64))
			if phase/phases == round && phase != neither {
				cut := phase%phases%2 == 1
				latencies[cut] = append(latencies[cut], sampleOf(b.t, record))
			}
		}
	}
	ratio, low, high := compareMedians(latencies[false], latencies[true])
	b.t.Logf("an inspection takes %.3f times as long while it is cut off (95 %%: %.3f to %.3f; medians of %d and %d)",
		ratio, low, high, len(latencies[true]), len(latencies[false]))
	return low > 1.05
}

// sample is how long a verdict took and when it came about.
type sample struct {
	at        time.Time
	latencyMS float64
}

func sampleOf(t *testing.T, record map[string]any) sample {
	t.Helper()
	at, err := time.Parse(time.RFC3339, fmt.Sprint(record["times"].(map[string]any)["finished"]))
	if err != nil {
		t.Fatal(err)
	}
	return sample{at, record["latency_ms"].(float64)}
}

// compareMedians is the second median by the first, with its 95 % interval by
// the bootstrap. Blocks of two seconds are drawn, not single samples: what else
// the machine does lasts longer than one inspection (the block bootstrap; Künsch,
// The jackknife and the bootstrap for general stationary observations, 1989).
func compareMedians(first, second []sample) (ratio, low, high float64) {
	blocks := func(samples []sample) (blocks [][]float64) {
		byBlock := map[int64][]float64{}
		for _, each := range samples {
			block := each.at.Unix() / 2
			byBlock[block] = append(byBlock[block], each.latencyMS)
		}
		for _, block := range byBlock {
			blocks = append(blocks, block)
		}
		return blocks
	}
	draw := func(blocks [][]float64) (drawn []float64) {
		for range blocks {
			drawn = append(drawn, blocks[rand.IntN(len(blocks))]...)
		}
		return drawn
	}
	one, other := blocks(first), blocks(second)
	var ratios []float64
	for range 2000 {
		ratios = append(ratios, median(draw(other))/median(draw(one)))
	}
	slices.Sort(ratios)
	return median(slices.Concat(other...)) / median(slices.Concat(one...)), ratios[len(ratios)*25/1000], ratios[len(ratios)*975/1000]
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	return values[len(values)/2]
}
