package mestest

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Durable is a mosquitto that keeps sessions, and messages for those who are
// away: over a clean stop all of them, over a kill those that it had saved.
type Durable struct {
	*Mosquitto
	folder string
}

// StartDurable starts one.
func StartDurable(t testing.TB, config ...string) *Durable {
	t.Helper()
	folder := t.TempDir()
	return &Durable{folder: folder, Mosquitto: StartMosquitto(t, append(config,
		"allow_anonymous true", "persistence true", "persistence_location "+folder+"/", "max_queued_messages 0", "max_inflight_messages 0")...)}
}

// Save has the broker write down its sessions and messages, and waits for it.
func (d *Durable) Save() {
	d.t.Helper()
	written := func() time.Time {
		info, err := os.Stat(filepath.Join(d.folder, "mosquitto.db"))
		if err != nil {
			return time.Time{}
		}
		return info.ModTime()
	}
	before := written()
	d.signal(syscall.SIGUSR1)
	for timeout := time.After(Patience); !written().After(before); {
		select {
		case <-timeout:
			d.t.Fatal("mosquitto does not save its sessions")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Stop ends the broker as its service would.
func (d *Durable) Stop() {
	d.t.Helper()
	d.signal(syscall.SIGTERM)
	select {
	case <-d.exited:
	case <-time.After(Patience):
		d.t.Fatal("mosquitto does not end")
	}
	d.Kill() // notes that it ended
}
