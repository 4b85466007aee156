package mes

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// stage is how far a connection came.
type stage int

const (
	dialing     stage = iota // no connection yet
	handshaking              // TLS is being agreed on
	loggingIn                // from CONNECT to CONNACK
	working                  // the broker took the login
)

// attempt is one attempt to connect, and what is known of it: an error alone
// does not tell why a connection failed.
type attempt struct {
	endpoint
	broker      Broker
	clientID    string
	credentials credentials

	heard *hearing // the connection below TLS; nil before there is one

	mutex  sync.Mutex
	stage  stage
	since  time.Time // when the stage began
	asked  bool      // the broker wanted to see a certificate
	failed error     // the first error of reading or writing MQTT
}

// enter notes that the next stage has begun.
func (a *attempt) enter(next stage) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.stage, a.since = next, time.Now()
}

// fail notes an error of reading or writing; the first one tells why.
func (a *attempt) fail(err error) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.failed == nil {
		a.failed = err
	}
}

// worked is for how long the broker has had the box logged in.
func (a *attempt) worked() time.Duration {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.stage != working {
		return 0
	}
	return time.Since(a.since)
}

// open connects to the broker, over TLS where that is wanted. What comes over
// the connection is what the MQTT library may see.
func (a *attempt) open(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	heard, err := a.dial(ctx)
	if err != nil {
		return nil, err
	}
	a.mutex.Lock()
	a.heard = heard
	a.mutex.Unlock()
	var connection net.Conn = heard
	if a.encrypted {
		a.enter(handshaking)
		encrypted := tls.Client(heard, a.tls())
		if err := encrypted.HandshakeContext(ctx); err != nil {
			heard.Close() //nolint:errcheck // nothing was said yet
			return nil, err
		}
		connection = encrypted
	}
	a.enter(loggingIn)
	return newGuard(connection, a.fail), nil
}

func (a *attempt) dial(ctx context.Context) (*hearing, error) {
	dialer := net.Dialer{Resolver: a.broker.resolver}
	connection, err := dialer.DialContext(ctx, "tcp", a.address)
	if err != nil {
		return nil, err
	}
	return &hearing{Conn: connection}, nil
}

// tls always has the broker's certificate verified.
func (a *attempt) tls() *tls.Config {
	return &tls.Config{
		ServerName: a.host,
		MinVersion: tls.VersionTLS12,
		RootCAs:    a.credentials.authorities,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			a.mutex.Lock()
			defer a.mutex.Unlock()
			a.asked = true
			if a.credentials.own == nil {
				return &tls.Certificate{}, nil
			}
			return a.credentials.own, nil
		},
	}
}

// speaksTLS asks whether TLS is spoken at the broker's port.
func (a *attempt) speaksTLS(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	heard, err := a.dial(ctx)
	if err != nil {
		return false
	}
	defer heard.Close()                                                                                        //nolint:errcheck // nothing was said that matters
	_ = tls.Client(heard, &tls.Config{ServerName: a.host, MinVersion: tls.VersionTLS12}).HandshakeContext(ctx) // whatever comes of it
	return heard.tls()
}

// hearing is a connection that remembers the first byte that came, and when
// the last one did.
type hearing struct {
	net.Conn
	first atomic.Int32 // the byte with 256 added; 0: nothing came yet
	last  atomic.Pointer[time.Time]
}

// Read implements [net.Conn].
func (h *hearing) Read(into []byte) (int, error) {
	n, err := h.Conn.Read(into)
	if n > 0 {
		h.first.CompareAndSwap(0, 256+int32(into[0]))
		now := time.Now()
		h.last.Store(&now)
	}
	return n, err
}

// anything says whether anything came.
func (h *hearing) anything() bool { return h != nil && h.first.Load() != 0 }

// quiet is for how long nothing has come.
func (h *hearing) quiet() time.Duration {
	last := h.last.Load()
	if last == nil {
		return 0
	}
	return time.Since(*last)
}

// tls says whether a TLS handshake came (RFC 8446, section 5.1).
func (h *hearing) tls() bool { return h.first.Load() == 256+22 }
