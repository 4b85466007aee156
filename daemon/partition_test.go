package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gladd/daemon/internal/mes/mestest"
)

// A network that is gone for half a minute costs nothing: no verdict, no order,
// no memory, and no inspection takes longer.
func TestFaultPartition(t *testing.T) {
	n := newNetwork(t)
	broker := mestest.StartDurable(t, "listener 1883 "+n.broker)
	l := newLine(t, "mqtt://"+n.broker+":1883", 4)
	l.keep, l.mqtt = "none", ", allow_plaintext: true, require_ack: true"
	partition := &partition{
		t: t, network: n, mes: mestest.NewMES(t, broker.URL(), mestest.MESOptions{Acknowledge: true}), process: n.start(l.write()),
		length: scale(2*time.Second, 30*time.Second),
	}
	p := partition.process
	partition.session = partition.mes.WaitOnline(0)
	partition.panel = newPanel(p, n.dial)
	stop := partition.panel.run(l.stations, 50*time.Millisecond)
	early, late := partition.run(0)
	slower := partition.slower(0)
	if slower { // two rounds seldom err in the same way
		partition.run(1)
		slower = partition.slower(1)
	}
	if slower && long() {
		t.Error("inspections take longer while the network is gone")
	}
	early.checkFlat(t, late)
	stop()
	partition.panel.checkDelivered(partition.mes)
	total, accepted := partition.panel.counts()
	t.Logf("%d verdicts; refused %v; %v, later %v", total, partition.panel.refused, early, late)
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
	l.checkLedger(accepted)
}

// partition is a run during which the network goes and comes.
type partition struct {
	t       *testing.T
	network *network
	process *process
	panel   *panel
	mes     *mestest.MES
	session int64         // that the box was online in
	length  time.Duration // of a partition
}

// The phases of a round: connected, cut off, connected and so on, as long
// connected as cut off. A machine that grows busier meanwhile slows both alike.
const (
	phases  = 5
	neither = -1
)

// run is one round: the far end of the cable goes down, so that packets vanish;
// later the box's own, so that nothing can be sent.
func (p *partition) run(round int) (early, late footprint) {
	// Phases, not events, are waited for: inspections go on meanwhile.
	phase := func(number int, length time.Duration) {
		p.panel.phase.Store(int64(round*phases + number))
		time.Sleep(length)
		p.panel.phase.Store(neither)
	}
	phase(0, p.length/2)
	early = footprintOf(p.process)
	for i, atTheBox := range []bool{false, true} {
		cut := time.Now()
		p.network.cut(atTheBox)
		phase(2*i+1, p.length)
		mended := time.Now()
		p.network.mend(atTheBox)
		if long() { // a short cut need not be noticed
			noticed := p.process.loggedAfter("no connection to the broker; verdicts wait in the ledger", cut)
			p.session = p.mes.WaitOnline(p.session)
			p.t.Logf("cut at the box: %t; noticed after %.1f s; online again %.1f s after the cable was mended",
				atTheBox, noticed.Sub(cut).Seconds(), time.Since(mended).Seconds())
		}
		total, _ := p.panel.counts()
		p.mes.WaitFor("what waited", func() bool { different, _ := p.mes.Different(); return different >= total })
		phase(2*i+2, p.length/time.Duration(1+i))
	}
	return early, footprintOf(p.process)
}

// slower says whether inspections clearly took more than 5 % longer in a round
// while it was cut off.
func (p *partition) slower(round int) bool {
	p.t.Helper()
	latencies := map[bool][]sample{}
	for i := range 4 {
		for _, message := range p.mes.Verdicts(fmt.Sprintf("st-%02d", i+1)) {
			record := message.JSON(p.t)["data"].(map[string]any)
			phase := int(record["context"].(map[string]any)["phase"].(float64))
			if phase/phases == round && phase != neither {
				cut := phase%phases%2 == 1
				latencies[cut] = append(latencies[cut], sampleOf(p.t, record))
			}
		}
	}
	ratio, low, high := compareMedians(latencies[false], latencies[true])
	p.t.Logf("an inspection takes %.3f times as long while it is cut off (95 %%: %.3f to %.3f; medians of %d and %d)",
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
