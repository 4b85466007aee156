package app

import (
	"context"
	"errors"
	"testing"
)

// A GPU that this process cannot use again ends the daemon as a fault of the machine, so
// that systemd starts a new one.
func TestLostGPUEndsTheDaemon(t *testing.T) {
	for name, untilFinished := range map[string]bool{"daemon": false, "until finished": true} {
		t.Run(name, func(t *testing.T) {
			d := &daemon{options: RunOptions{UntilFinished: untilFinished}, lost: make(chan error, 1)}
			gone := errors.New("the GPU is lost")
			d.gpuLost(gone)
			d.gpuLost(errors.New("as another model finds, too"))
			if err := d.wait(t.Context()); !errors.As(err, &FaultError{}) || !errors.Is(err, gone) {
				t.Errorf("expected a FaultError, found %v", err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := d.wait(ctx); err != nil {
				t.Errorf("told to end: found %v", err)
			}
		})
	}
}
