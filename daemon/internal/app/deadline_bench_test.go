package app_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"gladd/capture"
	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/station"
	"gladd/daemon/internal/verdict"
)

// BenchmarkDeadline has parts come at random at a rate at which a fifth of them
// would take longer than 1.5 times the median time of a part, and gives each
// part that time: every part that cannot make it must be Undefined before its
// deadline, on disk.
func BenchmarkDeadline(b *testing.B) {
	parts, err := strconv.Atoi(os.Getenv("GLADD_BENCH_DEADLINE"))
	if err != nil {
		b.Skip("GLADD_BENCH_DEADLINE does not say how many parts")
	}
	model, files := benchModel(b)
	if err := model.CheckSelf(b.Context(), 0); err != nil {
		b.Fatal(err)
	}
	open := func() (capture.Source, error) {
		return capture.OpenSource("folder:" + filepath.Dir(files[0].Path) + "?loop=true")
	}
	run := func(deadline time.Duration, gaps []time.Duration) (latencies []time.Duration, undefined int) {
		book, err := ledger.Open(b.Context(), ledger.Options{Path: filepath.Join(b.TempDir(), "ledger.db")})
		if err != nil {
			b.Fatal(err)
		}
		var mutex sync.Mutex
		triggered, took := map[string]time.Time{}, map[string]time.Duration{}
		each := station.New(station.Options{
			Site: "p", Line: "l", Name: "st", Model: station.Model{Inspector: model.Inspector},
			Open: open, Turns: station.NewTurns(), Ledger: book, Keep: station.KeepNone, Deadline: deadline, Queue: 1000,
			Finished: func(finished station.Finished) {
				now := time.Now()
				mutex.Lock()
				defer mutex.Unlock()
				took[finished.Record.TriggerID] = now.Sub(triggered[finished.Record.TriggerID])
				if reason := finished.Record.Reason; reason != nil && reason.Code == verdict.ReasonDeadline {
					undefined++
				}
			},
			Log: slog.New(slog.DiscardHandler),
		})
		each.Run()
		next := time.Now()
		for _, gap := range gaps {
			next = next.Add(gap)
			time.Sleep(time.Until(next))
			came := time.Now()
			mutex.Lock()
			reply := each.Start(verdict.Start{}, came, "")
			if !reply.Accepted {
				b.Fatalf("refused: %v", reply.Reason)
			}
			triggered[*reply.TriggerID] = came
			mutex.Unlock()
		}
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		defer cancel()
		for each.Outstanding() > 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		if err := each.Stop(ctx); err != nil {
			b.Fatal(err)
		}
		if err := book.Close(); err != nil {
			b.Fatal(err)
		}
		for _, latency := range took {
			latencies = append(latencies, latency)
		}
		slices.Sort(latencies)
		return latencies, undefined
	}
	for b.Loop() {
		// One after the other, nothing waits.
		alone, _ := run(time.Minute, slices.Repeat([]time.Duration{300 * time.Millisecond}, 1))
		alone, _ = run(time.Minute, slices.Repeat([]time.Duration{4 * alone[0]}, 30))
		median := alone[len(alone)/2]
		deadline := median * 3 / 2
		gaps := gapsWithLate(parts, median, deadline, 0.2)
		without, _ := run(time.Hour, gaps)
		late := func(latencies []time.Duration) (count float64) {
			for _, latency := range latencies {
				if latency > deadline {
					count++
				}
			}
			return count
		}
		with, undefined := run(deadline, gaps)
		if len(with) != parts {
			b.Fatalf("%d of %d parts have a verdict", len(with), parts)
		}
		ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
		b.ReportMetric(float64(parts), "parts")
		b.ReportMetric(ms(median), "ms-median-alone")
		b.ReportMetric(ms(deadline), "ms-deadline")
		b.ReportMetric(100*late(without)/float64(parts), "%-late-without-a-deadline")
		b.ReportMetric(100*float64(undefined)/float64(parts), "%-undefined-with-it")
		b.ReportMetric(late(with), "late-with-it")
		b.ReportMetric(ms(with[len(with)-1]), "ms-longest-with-it")
	}
}

// gapsWithLate are gaps of parts that come at random, at the rate at which a
// share of them takes longer than a time if each keeps the engines busy for the
// median.
func gapsWithLate(parts int, median, allowed time.Duration, share float64) []time.Duration {
	draw := func(rate float64) (gaps []time.Duration, late int) {
		source := rand.New(rand.NewPCG(1, 1))
		var now, free time.Duration
		for range parts {
			gap := time.Duration(source.ExpFloat64() / rate * float64(median))
			gaps, now = append(gaps, gap), now+gap
			free = max(free, now) + median
			if free-now > allowed {
				late++
			}
		}
		return gaps, late
	}
	low, high := 0.01, 1.0
	for range 30 {
		if _, late := draw((low + high) / 2); float64(late) < share*float64(parts) {
			low = (low + high) / 2
		} else {
			high = (low + high) / 2
		}
	}
	gaps, _ := draw(high)
	return gaps
}
