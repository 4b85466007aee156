package mes

import (
	"fmt"
	"log/slog"
	"net"
	"sync"

	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// Embedded is a broker inside the daemon, open to everyone who reaches its
// address, and without a memory: for trying gladd out and for tests.
type Embedded struct {
	server   *broker.Server
	listener *attended
}

// StartEmbedded starts a broker on a loopback address; port 0: a free one.
func StartEmbedded(listen string) (*Embedded, error) {
	server := broker.New(&broker.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := server.AddHook(new(auth.AllowHook), nil); err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	listening, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("embedded broker on %s (mqtt.listen): %w", listen, err)
	}
	listener := &attended{Listener: listening}
	listener.changed.L = &listener.mutex
	if err := server.AddListener(listeners.NewNet("tcp", listener)); err != nil {
		return nil, fmt.Errorf("embedded broker on %s (mqtt.listen): %w", listen, err)
	}
	if err := server.Serve(); err != nil {
		return nil, fmt.Errorf("embedded broker on %s (mqtt.listen): %w", listen, err)
	}
	return &Embedded{server: server, listener: listener}, nil
}

// URL is the broker's address.
func (e *Embedded) URL() string { return "mqtt://" + e.listener.Addr().String() }

// Close ends the broker.
func (e *Embedded) Close() error {
	e.listener.end()
	return e.server.Close()
}

// attended is a listener that can end when every connection it gave away is
// attended to. The broker counts a client shortly after it took the
// connection, and its Close, if it comes between, waits for a count that is
// just being begun: a race.
type attended struct {
	net.Listener

	mutex   sync.Mutex
	changed sync.Cond
	waiting int // connections that nobody has read from yet
	ended   bool
}

// Accept implements [net.Listener].
func (a *attended) Accept() (net.Conn, error) {
	connection, err := a.Listener.Accept()
	if err != nil {
		return nil, err
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.ended {
		connection.Close() //nolint:errcheck // nobody has it
		return nil, net.ErrClosed
	}
	a.waiting++
	return &attendedConn{Conn: connection, attend: sync.OnceFunc(func() {
		a.mutex.Lock()
		defer a.mutex.Unlock()
		a.waiting--
		a.changed.Broadcast()
	})}, nil
}

// end takes no more connections, and returns when all are attended to.
func (a *attended) end() {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.ended = true
	a.Close() //nolint:errcheck // it is closed again by the broker
	for a.waiting > 0 {
		a.changed.Wait()
	}
}

// attendedConn tells when it is first read from or closed.
type attendedConn struct {
	net.Conn
	attend func()
}

// Read implements [net.Conn].
func (c *attendedConn) Read(into []byte) (int, error) {
	c.attend()
	return c.Conn.Read(into)
}

// Close implements [net.Conn].
func (c *attendedConn) Close() error {
	c.attend()
	return c.Conn.Close()
}
