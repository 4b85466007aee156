package mes

import (
	"fmt"
	"log/slog"

	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// Embedded is a broker inside the daemon, open to everyone who reaches its
// address, and without a memory: for trying gladd out and for tests.
type Embedded struct {
	server  *broker.Server
	address string
}

// StartEmbedded starts a broker on a loopback address; port 0: a free one.
func StartEmbedded(listen string) (*Embedded, error) {
	server := broker.New(&broker.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := server.AddHook(new(auth.AllowHook), nil); err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	listener := listeners.NewTCP(listeners.Config{ID: "tcp", Address: listen})
	if err := server.AddListener(listener); err != nil {
		return nil, fmt.Errorf("embedded broker on %s: %w", listen, err)
	}
	if err := server.Serve(); err != nil {
		return nil, fmt.Errorf("embedded broker on %s: %w", listen, err)
	}
	return &Embedded{server: server, address: listener.Address()}, nil
}

// URL is the broker's address.
func (e *Embedded) URL() string { return "mqtt://" + e.address }

// Close ends the broker.
func (e *Embedded) Close() error { return e.server.Close() }
