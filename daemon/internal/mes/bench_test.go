package mes_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"gladd/capture"
	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/mes"
	"gladd/daemon/internal/mes/mestest"
	"gladd/daemon/internal/station"
	"gladd/daemon/internal/verdict"
)

// plant is a daemon without networks: stations that find every part OK at
// once, a ledger on disk, a client on a mosquitto, and an MES that notes when
// verdicts come.
type plant struct {
	stations []*station.Station
	ledger   *ledger.Ledger
	client   *mes.Client
	broker   *mestest.Mosquitto

	mutex sync.Mutex
	came  map[string]time.Time // by trigger id
	took  []float64            // milliseconds from the trigger to the durable record
	more  chan struct{}
}

func newPlant(b *testing.B, stations int, keep station.KeepImages) *plant {
	b.Helper()
	broker := mestest.StartMosquitto(b, "allow_anonymous true", "max_inflight_messages 0", "max_queued_messages 0")
	dir := b.TempDir()
	p := &plant{broker: broker, came: map[string]time.Time{}, more: make(chan struct{}, 1)}
	var err error
	if p.ledger, err = ledger.Open(b.Context(), ledger.Options{Path: filepath.Join(dir, "ledger.db")}); err != nil {
		b.Fatal(err)
	}
	options := mes.Options{
		Broker: mes.Broker{URL: broker.URL()}, Site: "p", Line: "l", Box: "box-1",
		Snapshot: func(name string) mes.Snapshot {
			counters, err := p.ledger.Counters("/p/l/" + name)
			if err != nil {
				b.Error(err)
			}
			return mes.Snapshot{Counters: mes.Counters{Counters: counters}}
		},
		Health: func(string) mes.Health { return mes.Health{} },
		Ledger: p.ledger,
		Log:    slog.New(slog.DiscardHandler),
	}
	images := ledger.NewImages(p.ledger, filepath.Join(dir, "images"), 1<<40)
	turns := station.NewTurns()
	for i := range stations {
		each := station.New(station.Options{
			Site: "p", Line: "l", Name: fmt.Sprintf("st-%02d", i),
			Model:  station.Model{Inspector: allGood{}},
			Open:   func() (capture.Source, error) { return largeFrames{}, nil },
			Turns:  turns,
			Ledger: p.ledger, Images: images, Keep: keep,
			Deadline: time.Minute, Queue: 16,
			Log: options.Log,
		})
		p.stations = append(p.stations, each)
		options.Stations = append(options.Stations, each)
	}
	p.client = mes.New(options)
	for _, each := range p.stations {
		each.Run()
	}
	p.client.Run(context.Background())
	listener := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(broker.URL()).SetClientID("mes"))
	if token := listener.Connect(); token.Wait() && token.Error() != nil {
		b.Fatal(token.Error())
	}
	if token := listener.Subscribe("insp/v1/p/l/+/verdict", 1, p.receive); token.Wait() && token.Error() != nil {
		b.Fatal(token.Error())
	}
	for connected := false; !connected; connected, _ = p.client.Connected() {
		time.Sleep(time.Millisecond)
	}
	b.Cleanup(func() {
		listener.Disconnect(0)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for _, each := range p.stations {
			if err := each.Stop(ctx); err != nil {
				b.Error(err)
			}
		}
		p.client.Close()
		if err := p.ledger.Close(); err != nil {
			b.Error(err)
		}
	})
	return p
}

// largeFrames gives frames of 640x480.
type largeFrames struct{ frames }

func (largeFrames) Grab(context.Context) (*capture.Frame, error) {
	return &capture.Frame{Picture: &capture.Picture{Width: 640, Height: 480, RGB: make([]byte, 3*640*480)}, Captured: time.Now()}, nil
}

func (p *plant) receive(_ mqtt.Client, message mqtt.Message) {
	now := time.Now()
	var event struct {
		Data struct {
			TriggerID string  `json:"trigger_id"`
			LatencyMS float64 `json:"latency_ms"`
		} `json:"data"`
	}
	if err := json.Unmarshal(message.Payload(), &event); err != nil {
		panic(err)
	}
	p.mutex.Lock()
	p.came[event.Data.TriggerID] = now
	p.took = append(p.took, event.Data.LatencyMS)
	p.mutex.Unlock()
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// wait waits until a number of verdicts came.
func (p *plant) wait(b *testing.B, count int) {
	b.Helper()
	timeout := time.After(time.Minute)
	for {
		p.mutex.Lock()
		came := len(p.came)
		p.mutex.Unlock()
		if came >= count {
			return
		}
		select {
		case <-p.more:
		case <-timeout:
			b.Fatalf("want %d verdicts, %d came", count, came)
		}
	}
}

func mustStart(b *testing.B, each *station.Station, triggered time.Time) string {
	reply := each.Start(verdict.Start{}, triggered, "")
	if !reply.Accepted {
		b.Fatalf("refused: %+v", reply.Reason)
	}
	return *reply.TriggerID
}

// BenchmarkTriggerToPublish measures one station at 20 triggers a second: from
// the trigger to the MES's having the verdict, with two durable commits, the
// picture and the broker between.
func BenchmarkTriggerToPublish(b *testing.B) {
	for name, keep := range map[string]station.KeepImages{"pictures=all": station.KeepAll, "pictures=none": station.KeepNone} {
		b.Run(name, func(b *testing.B) {
			p := newPlant(b, 1, keep)
			const count = 400
			triggered := map[string]time.Time{}
			ticker := time.NewTicker(50 * time.Millisecond)
			defer ticker.Stop()
			for b.Loop() {
				for range count {
					<-ticker.C
					now := time.Now()
					triggered[mustStart(b, p.stations[0], now)] = now
				}
				p.wait(b, len(triggered))
			}
			var delays []float64
			for id, at := range triggered {
				delays = append(delays, verdict.Milliseconds(p.came[id].Sub(at)))
			}
			slices.Sort(delays)
			b.ReportMetric(delays[len(delays)/2], "p50-ms")
			b.ReportMetric(delays[len(delays)*99/100], "p99-ms")
			b.ReportMetric(delays[len(delays)-1], "max-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// drive triggers at all stations as fast as they take it.
func (p *plant) drive(b *testing.B, each int) {
	var drivers sync.WaitGroup
	for _, driven := range p.stations {
		drivers.Go(func() {
			for range each {
				for driven.Outstanding() > 8 {
					time.Sleep(time.Millisecond)
				}
				mustStart(b, driven, time.Now())
			}
		})
	}
	drivers.Wait()
}

// BenchmarkThroughput measures eight stations that trigger as fast as they
// can.
func BenchmarkThroughput(b *testing.B) {
	for name, keep := range map[string]station.KeepImages{"pictures=all": station.KeepAll, "pictures=none": station.KeepNone} {
		b.Run(name, func(b *testing.B) {
			p := newPlant(b, 8, keep)
			const each = 150
			verdicts := 0
			began := time.Now()
			for b.Loop() {
				p.drive(b, each)
				verdicts += 8 * each
				p.wait(b, verdicts)
			}
			b.ReportMetric(float64(verdicts)/time.Since(began).Seconds(), "verdicts/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkManyTriggers shows that memory, files and goroutines stay as they
// are.
func BenchmarkManyTriggers(b *testing.B) {
	total := 10_000
	if set, err := strconv.Atoi(os.Getenv("GLADD_BENCH_TRIGGERS")); err == nil {
		total = set
	}
	p := newPlant(b, 4, station.KeepNone)
	measure := func() (heap, resident, files, goroutines float64) {
		runtime.GC()
		runtime.GC()
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		open, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			b.Fatal(err)
		}
		statm, err := os.ReadFile("/proc/self/statm")
		if err != nil {
			b.Fatal(err)
		}
		var pages, residentPages float64
		if _, err := fmt.Sscan(string(statm), &pages, &residentPages); err != nil {
			b.Fatal(err)
		}
		resident = residentPages * float64(os.Getpagesize()) / (1 << 20)
		return float64(memory.HeapAlloc) / (1 << 20), resident, float64(len(open)), float64(runtime.NumGoroutine())
	}
	for b.Loop() {
		p.drive(b, total/10/4)
		p.wait(b, total/10)
		p.mutex.Lock() // what the bench itself notes does not count
		p.came = map[string]time.Time{}
		p.mutex.Unlock()
		heap, resident, files, goroutines := measure()
		done := 0
		for done < total*9/10 {
			p.drive(b, total/10/4)
			p.wait(b, total/10)
			done += total / 10
			p.mutex.Lock()
			p.came = map[string]time.Time{}
			p.mutex.Unlock()
		}
		heapAfter, residentAfter, filesAfter, goroutinesAfter := measure()
		b.ReportMetric(heap, "heap-MiB-early")
		b.ReportMetric(heapAfter, "heap-MiB-late")
		b.ReportMetric(resident, "rss-MiB-early")
		b.ReportMetric(residentAfter, "rss-MiB-late")
		b.ReportMetric(files, "files-early")
		b.ReportMetric(filesAfter, "files-late")
		b.ReportMetric(goroutines, "goroutines-early")
		b.ReportMetric(goroutinesAfter, "goroutines-late")
	}
	b.ReportMetric(0, "ns/op")
}
