package mes_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"gladd/daemon/internal/mes/mestest"
	"gladd/daemon/internal/station"
	"gladd/daemon/internal/verdict"
)

// flood publishes payloads to a topic at a rate, with as little work as can be:
// it shares the machine with what is measured.
type flood struct {
	perSecond int
	payload   func(i int) []byte
	past      bool // the flood goes past gladd: what remains is the broker's and the machine's
}

func (f flood) start(b *testing.B, broker *mestest.Mosquitto, topic string) (stop func()) {
	b.Helper()
	if f.perSecond == 0 {
		return func() {}
	}
	connection, err := net.Dial("tcp", strings.TrimPrefix(broker.URL(), "mqtt://"))
	if err != nil {
		b.Fatal(err)
	}
	connect := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	connect.ProtocolName, connect.ProtocolVersion, connect.CleanSession, connect.ClientIdentifier = "MQTT", 4, true, "flood"
	if err := connect.Write(connection); err != nil {
		b.Fatal(err)
	}
	if f.past {
		topic = "elsewhere"
		subscribe := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
		subscribe.MessageID, subscribe.Topics, subscribe.Qoss = 1, []string{topic}, []byte{0}
		if err := subscribe.Write(connection); err != nil {
			b.Fatal(err)
		}
	}
	done := make(chan struct{})
	var both sync.WaitGroup
	both.Go(func() { io.Copy(io.Discard, connection) }) //nolint:errcheck // acknowledgements are not waited for
	both.Go(func() {
		interval := max(10*time.Millisecond, time.Second/time.Duration(f.perSecond))
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for sent := 0; ; {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			for range int(interval * time.Duration(f.perSecond) / time.Second) {
				payload := f.payload(sent)
				packet := binary.AppendUvarint([]byte{packets.Publish<<4 | 1<<1}, uint64(2+len(topic)+2+len(payload)))
				packet = append(binary.BigEndian.AppendUint16(packet, uint16(len(topic))), topic...)
				packet = binary.BigEndian.AppendUint16(packet, uint16(1+sent%65_000))
				whole := net.Buffers{packet, payload}
				if _, err := whole.WriteTo(connection); err != nil {
					return
				}
				sent++
			}
		}
	})
	return func() {
		close(done)
		connection.Close() //nolint:errcheck // the flood is over
		both.Wait()
	}
}

// BenchmarkFlood measures what BenchmarkTriggerToPublish does, while somebody
// floods the station's command topic.
func BenchmarkFlood(b *testing.B) {
	large := make([]byte, 10<<20)
	for _, each := range []struct {
		name string
		flood
	}{
		{"none", flood{}},
		{"expired=2000", flood{perSecond: 2000, payload: func(i int) []byte {
			return fmt.Appendf(nil, `{"command_id":"c-%d","expires_at":"2020-01-01T00:00:00Z"}`, i)
		}}},
		{"malformed=2000", flood{perSecond: 2000, payload: func(int) []byte { return []byte(`{"part_id":`) }}},
		{"10MB=10", flood{perSecond: 10, payload: func(int) []byte { return large }}},
		{"10MB=10,past", flood{perSecond: 10, payload: func(int) []byte { return large }, past: true}},
	} {
		b.Run("flood="+each.name, func(b *testing.B) {
			p := newPlant(b, 1, station.KeepNone)
			stop := each.start(b, p.broker, "insp/v1/p/l/st-00/cmd/start")
			defer stop()
			const count = 400
			triggered := map[string]time.Time{}
			ticker := time.NewTicker(50 * time.Millisecond)
			defer ticker.Stop()
			used, began := cpu(b), time.Now()
			memory := watchMemory(b)
			for b.Loop() {
				for range count {
					<-ticker.C
					now := time.Now()
					triggered[mustStart(b, p.stations[0], now)] = now
				}
				p.wait(b, len(triggered))
			}
			b.ReportMetric((cpu(b)-used).Seconds()/time.Since(began).Seconds(), "cpu")
			b.ReportMetric(memory(), "rss-MiB-max")
			var delays []float64
			for id, at := range triggered {
				delays = append(delays, verdict.Milliseconds(p.came[id].Sub(at)))
			}
			reportDelays(b, "publish", delays)
			reportDelays(b, "record", p.took)
			counters, err := p.ledger.Counters("/p/l/st-00")
			if err != nil {
				b.Fatal(err)
			}
			refused := int64(0)
			for _, count := range counters.Refusals {
				refused += count
			}
			b.ReportMetric(float64(refused)/time.Since(began).Seconds(), "refused/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func reportDelays(b *testing.B, of string, milliseconds []float64) {
	slices.Sort(milliseconds)
	b.ReportMetric(milliseconds[len(milliseconds)/2], of+"-p50-ms")
	b.ReportMetric(milliseconds[len(milliseconds)*99/100], of+"-p99-ms")
}

// cpu is the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// watchMemory looks at the process's memory until the returned function is
// called, which returns the most that was seen, in MiB.
func watchMemory(b *testing.B) (most func() float64) {
	var highest atomic.Int64
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			var pages, resident int64
			statm, err := os.ReadFile("/proc/self/statm")
			if err == nil {
				_, err = fmt.Sscan(string(statm), &pages, &resident)
			}
			if err != nil {
				b.Error(err)
				return
			}
			highest.Store(max(highest.Load(), resident*int64(os.Getpagesize())))
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return func() float64 {
		close(done)
		<-ended
		return float64(highest.Load()) / (1 << 20)
	}
}
