package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"gladd/engines"
	"gladd/engines/enginetest"
)

// heldBackend opens as long as a test wants.
type heldBackend struct {
	inside, release, closed chan struct{}
}

func (h *heldBackend) Open(context.Context, *engines.Bundle) (engines.Networks, error) {
	close(h.inside)
	<-h.release
	return nil, io.EOF
}

func (h *heldBackend) Close() error   { close(h.closed); return nil }
func (h *heldBackend) String() string { return "held" }

// A backend is not freed under the hands of who is opening networks with it.
func TestCloseWhileOpening(t *testing.T) {
	held := &heldBackend{inside: make(chan struct{}), release: make(chan struct{}), closed: make(chan struct{})}
	log := slog.New(slog.DiscardHandler)
	e := &Engines{
		backends: backends{options: EngineOptions{Backend: "held"}, log: log, opened: map[string]opened{"held": {backend: held}}, told: map[string]bool{}},
		networks: map[string]*shared{}, log: log,
	}
	opening := make(chan error, 1)
	go func() {
		_, err := e.OpenNetworks(context.Background(), &engines.Bundle{ModelDigest: "d"})
		opening <- err
	}()
	<-held.inside
	closing := make(chan error, 1)
	go func() { closing <- e.Close() }()
	select {
	case <-held.closed:
		t.Fatal("the backend was freed while networks were opened with it")
	default:
	}
	close(held.release)
	if err := <-opening; err == nil {
		t.Error("want the backend's error")
	}
	if err := <-closing; err != nil {
		t.Error(err)
	}
	<-held.closed
	if _, err := e.OpenNetworks(context.Background(), &engines.Bundle{ModelDigest: "d"}); err == nil {
		t.Error("closed engines open nothing")
	}
}

// A self-test that is told to end is no broken model.
func TestSelfTestIsCancelled(t *testing.T) {
	opened, err := OpenEngines(EngineOptions{Backend: BackendONNXRuntime, Threads: 1, ONNXRuntimeLibrary: enginetest.Library(t)}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close() //nolint:errcheck // the test is over
	bundle, err := engines.Load(enginetest.Path(t, "bundles/demo"))
	if err != nil {
		t.Fatal(err)
	}
	model, err := opened.OpenModel(t.Context(), bundle, engines.ModeAdaptive)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel) // wherever it is by then, it is not done
	if err := model.CheckSelf(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("found %v", err)
	}
}
