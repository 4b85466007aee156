package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"gladd/engines/tensorrt"
)

// statusEvery is how often systemd is told the status.
const statusEvery = 5 * time.Second

// longestSilence is how long a build of an engine may tell no progress: TensorRT 8
// tells none.
const longestSilence = 30 * time.Minute

// notifier tells systemd how the daemon is; without systemd nobody listens.
type notifier struct{ log *slog.Logger }

func newNotifier(log *slog.Logger) *notifier { return &notifier{log: log} }

func (n *notifier) send(state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		n.log.Warn("systemd cannot be told", "state", state, "error", err)
	}
}

func (n *notifier) ready()    { n.send(systemd.SdNotifyReady) }
func (n *notifier) stopping() { n.send(systemd.SdNotifyStopping) }

// building returns what tells systemd how far TensorRT is with the engines that
// are missing, and that this takes its time: a start that nobody hears of ends at
// TimeoutStartSec. Others hear of it by a function.
func (n *notifier) building(tell func(words string)) func(tensorrt.Progress) {
	var told time.Time
	return func(built tensorrt.Progress) {
		if time.Since(told) < statusEvery {
			return
		}
		told = time.Now()
		words := fmt.Sprintf("building engines: %s, %d of %d done, %.0f %% of this one", built.Network, built.Done, built.Count, 100*built.Share)
		tell(words)
		n.send(fmt.Sprintf("STATUS=%s\nEXTEND_TIMEOUT_USEC=%d", words, longestSilence.Microseconds()))
	}
}

// watch feeds the watchdog as long as nothing is stuck, and tells the status.
func (n *notifier) watch(ctx context.Context, stuck func() error, status func() string) {
	every := statusEvery
	timeout, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		n.log.Warn("the watchdog's settings are wrong", "error", err)
	}
	if timeout > 0 {
		every = min(every, timeout/3)
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	told := false
	for {
		state := "STATUS=" + status()
		if err := stuck(); err == nil {
			if timeout > 0 {
				state += "\n" + systemd.SdNotifyWatchdog
			}
			told = false
		} else if !told {
			n.log.Error("the watchdog is not fed any more", "error", err)
			told = true
		}
		n.send(state)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
