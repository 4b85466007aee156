package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gladd/daemon/internal/station"
	"gladd/engines"
)

// A call into the engines that does not return is found out.
func TestStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{turns: station.NewTurns()}
		if err := d.stuck(); err != nil {
			t.Errorf("nothing runs: found %v", err)
		}
		if err := d.turns.Take(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(stuckAfter)
		if err := d.stuck(); err != nil {
			t.Errorf("still in time: found %v", err)
		}
		time.Sleep(time.Second)
		if err := d.stuck(); err == nil || err.Error() != "engines: a call began 31s ago and does not return" {
			t.Errorf("found %v", err)
		}
		d.turns.Give()
		if err := d.stuck(); err != nil {
			t.Errorf("it returned: found %v", err)
		}
	})
}

// hungGPU is a backend whose GPU hangs.
type hungGPU struct {
	engines.Backend
	fault error
}

func (g *hungGPU) Fault() error { return g.fault }

// A GPU that hangs gives every part an error at once: nothing is stuck, but
// nothing works either.
func TestGPUThatHangsIsStuck(t *testing.T) {
	gpu := &hungGPU{fault: errors.New("the GPU hangs")}
	d := &daemon{turns: station.NewTurns(), engines: &Engines{backends: backends{opened: map[string]opened{
		BackendTensorRT: {backend: gpu}, BackendONNXRuntime: {err: errors.New("it is not there")},
	}}}}
	if err := d.stuck(); !errors.Is(err, gpu.fault) {
		t.Errorf("expected %v, found %v", gpu.fault, err)
	}
	gpu.fault = nil
	if err := d.stuck(); err != nil {
		t.Errorf("it works again: found %v", err)
	}
}

// The watchdog is fed only while everything goes on.
func TestWatchdog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close() //nolint:errcheck // the test is over
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "15000")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	beats := 0
	go func() {
		defer close(ended)
		newNotifier(slog.New(slog.DiscardHandler)).watch(ctx, func() error {
			if beats++; beats > 3 && beats < 8 {
				return errors.New("stuck")
			}
			return nil
		}, func() string { return "words" })
	}()
	buffer := make([]byte, 1000)
	var fed []bool
	for range 10 {
		n, err := socket.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		if state := string(buffer[:n]); !strings.HasPrefix(state, "STATUS=words") {
			t.Errorf("found %q", state)
		}
		fed = append(fed, strings.Contains(string(buffer[:n]), "WATCHDOG=1"))
	}
	cancel()
	<-ended
	for i, is := range fed {
		if want := i < 3 || i >= 7; is != want {
			t.Errorf("beat %d: want fed %t, found %t", i+1, want, is)
		}
	}
}
