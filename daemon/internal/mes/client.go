// Package mes connects the daemon to the factory's MES over MQTT: it takes
// commands, and publishes verdicts and the state of box and stations. The
// ledger's outbox is the only queue of verdicts; what is in it is repeated
// until the broker has acknowledged it.
package mes

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
)

// Times of the connection.
const (
	connectTimeout = 5 * time.Second
	ackTimeout     = 10 * time.Second // for a PUBACK or SUBACK
	keepAlive      = 10 * time.Second
	pingTimeout    = 5 * time.Second
	// steadyAfter is how long a connection must have held for the next one to
	// be tried at once.
	steadyAfter = 2 * time.Second
)

// closeTimeout is how long the end waits for the connection's and for commands that
// are being executed.
const closeTimeout = 2 * connectTimeout

// qos of everything: at least once.
const qos = 1

// Station is what the client needs of a station.
type Station interface {
	Name() string
	// Command decides on a command that came at a time, and does what it says. It
	// may take as long as a recipe takes to prepare.
	Command(ctx context.Context, verb verdict.Verb, payload []byte, received time.Time) verdict.Reply
}

// Options of the client.
type Options struct {
	Broker          Broker
	Site, Line, Box string
	Stations        []Station
	// Snapshot describes a station for its retained messages; Health, which takes
	// longer, only now and then.
	Snapshot func(station string) Snapshot
	Health   func(station string) Health
	Ledger   *ledger.Ledger
	// RequireAck keeps verdicts until the MES has acknowledged them, and sends them
	// again when that takes longer than AckTimeout (10 s where it is 0).
	RequireAck bool
	AckTimeout time.Duration
	// Acks names what has verdicts beside the stations: parts of several views.
	Acks []string
	Log  *slog.Logger
}

// Client keeps a connection to the broker.
type Client struct {
	options  Options
	topics   topics
	commands map[string]chan command // by station
	limits   map[string]*limit       // the same
	// preparing holds a token for each prepare that waits for its answer.
	preparing chan struct{}
	acquired  chan acquired

	badAcks badAcks

	session int64 // the last one; of keepConnected only
	deaf    bool  // the connection ended when it asked for the box's status; the same

	renewal *renewal
	damaged damaged

	mutex      sync.Mutex
	open       *connection // from CONNECT on; nil while there is none
	connection *connection // once the box is online; nil while it is not
	problem    *Problem    // why there is none
	since      time.Time   // when the box came online, or ceased to be
	attempts   int         // that failed since
	taken      taken
	changed    chan struct{}

	cancel context.CancelFunc
	done   sync.WaitGroup
	wall   func() time.Time
}

// New makes a client; Run connects it.
func New(options Options) *Client {
	if options.AckTimeout == 0 {
		options.AckTimeout = 10 * time.Second
	}
	client := &Client{
		options:   options,
		topics:    topics{site: options.Site, line: options.Line, box: options.Box},
		commands:  map[string]chan command{},
		limits:    map[string]*limit{},
		preparing: make(chan struct{}, commandsWaiting),
		acquired:  make(chan acquired, acquiredWaiting),
		problem:   &Problem{Class: ClassConnecting, Text: "not connected yet"},
		changed:   make(chan struct{}, 1),
		wall:      time.Now,
	}
	client.since = client.wall()
	client.renewal = newRenewal(options.Broker, options.Log, client.wall)
	for _, station := range options.Stations {
		client.commands[station.Name()] = make(chan command, commandsWaiting+othersWaiting)
		client.limits[station.Name()] = newLimit()
	}
	return client
}

// Run connects, and connects again whenever the connection is lost, until
// Close.
func (c *Client) Run(ctx context.Context) {
	ctx, c.cancel = context.WithCancel(ctx)
	for _, station := range c.options.Stations {
		c.done.Go(func() { c.answer(ctx, station) })
	}
	c.done.Go(func() { c.publishAcquired(ctx) })
	c.done.Go(func() { c.keepConnected(ctx) })
	c.done.Go(func() { c.renewal.watch(ctx) })
}

// clientID is always the same: the broker has at most one connection of this
// box, and the newest one is right.
func (c *Client) clientID() string {
	return "gladd-" + c.options.Site + "-" + c.options.Line + "-" + c.options.Box
}

// Changed has the stations' retained messages looked at.
func (c *Client) Changed() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// keepConnected is the life of the client.
func (c *Client) keepConnected(ctx context.Context) {
	var pause backoff
	told, repeated := "", 0
	for ctx.Err() == nil {
		deaf := c.deaf
		worked, err := c.connect(ctx)
		if deaf && worked < shortConnection { // it did not help not to ask
			c.deaf = false
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errRenewed) {
			c.options.Log.Info("the files of the connection to the broker were renewed; connecting again with them", "broker", c.options.Broker.URL)
			pause, told = backoff{}, ""
			c.disconnected(&Problem{Class: ClassConnecting, Text: "connecting again with renewed files"}, 0)
			continue
		}
		c.disconnected(err, worked)
		problem := c.whyNot()
		if worked > steadyAfter {
			pause = backoff{}
			if problem.Class != ClassClientIDTaken {
				told = ""
			}
		}
		// A repeated fault is told once, and counted.
		if problem.Text != told {
			c.options.Log.Warn("no connection to the broker; verdicts wait in the ledger", "broker", c.options.Broker.URL, "class", problem.Class, "error", problem)
			told, repeated = problem.Text, 0
		} else {
			repeated++
			c.options.Log.Debug("still no connection to the broker", "class", problem.Class, "error", problem, "repeated", repeated)
		}
		select {
		case <-ctx.Done():
		case <-c.renewal.renewed: // it may go well now
		case <-time.After(pause.next()):
		}
	}
}

// setOpen keeps the connection for replies: commands may come before the box is
// online.
func (c *Client) setOpen(open *connection) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.open = open
}

func (c *Client) current() *connection {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.open
}

// connect connects once, with a client of its own. It returns for how long the
// broker had the box logged in and why the connection ended: a [Problem], or
// errRenewed.
func (c *Client) connect(ctx context.Context) (worked time.Duration, err error) {
	attempt := &attempt{broker: c.options.Broker, clientID: c.clientID()}
	if attempt.endpoint, err = c.options.Broker.endpoint(); err != nil {
		return 0, &Problem{Class: ClassFiles, Text: "mqtt.url cannot be understood", Cause: err}
	}
	if attempt.credentials, err = c.renewal.load(); err != nil {
		return 0, err
	}
	session, err := c.options.Ledger.NextSession()
	if err != nil && c.session == 0 {
		return 0, &Problem{Class: ClassLedger, Text: "the ledger gives no number for a new session", Cause: err}
	}
	if err != nil { // on a full disk; better a number that is given again after a restart than no connection
		session = c.session + 1
	}
	c.session = session
	err = c.connectAs(ctx, session, attempt)
	if errors.Is(err, errRenewed) || ctx.Err() != nil {
		return 0, err
	}
	worked = attempt.worked()
	return worked, attempt.problem(ctx, err)
}

// connectAs connects in a session and returns why the connection ended.
func (c *Client) connectAs(ctx context.Context, session int64, attempt *attempt) error {
	connected := &connection{
		client:  c,
		session: session,
		lost:    make(chan error, 1),
		sent:    map[string]string{},
		acks:    make(chan ledger.Acknowledgement, acksWaiting),

		publishers: map[string]*publisher{},
	}
	offline, err := verdict.JSON(c.status(statusOffline, session))
	if err != nil {
		return err
	}
	options := c.options.Broker.clientOptions(attempt.endpoint, attempt.credentials.password)
	options.SetClientID(attempt.clientID)
	options.SetBinaryWill(c.topics.status(), offline, qos, true)
	options.SetConnectionLostHandler(func(_ mqtt.Client, err error) { connected.lose(err) })
	options.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return attempt.open(ctx) })
	connected.mqtt = mqtt.NewClient(options)
	if err := wait(ctx, connected.mqtt.Connect(), connectTimeout+time.Second); err != nil {
		connected.mqtt.Disconnect(0)
		return err
	}
	attempt.enter(working)
	c.setOpen(connected)
	defer c.setOpen(nil)
	defer connected.end() //nolint:contextcheck // offline is said after ctx has ended
	if err := connected.begin(ctx); err != nil {
		return err
	}
	level := slog.LevelInfo
	if c.connected(connected) != nil {
		level = slog.LevelDebug // it comes and goes
	}
	c.options.Log.Log(ctx, level, "connected to the broker", "broker", c.options.Broker.URL, "session", session)
	return connected.work(ctx)
}

// status is what is said of the box.
func (c *Client) status(status string, session int64) Status {
	return Status{Status: status, Session: session, Since: verdict.Time{Time: c.wall()}, LedgerID: c.options.Ledger.ID()}
}

// wait waits for a token of the MQTT library.
func wait(ctx context.Context, token mqtt.Token, timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-token.Done():
		return token.Error()
	case <-timer.C:
		return noAnswerError{timeout}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Drain waits until the outbox is empty, but for what cannot be sent and what the
// MES does not acknowledge or rejected, ctx ends, or there is no connection that could empty
// it.
func (c *Client) Drain(ctx context.Context) (left int64, err error) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		waiting, err := c.options.Ledger.Waiting("")
		if err != nil || waiting.Count <= c.damaged.count() || c.options.RequireAck && waiting.Count == waiting.Unacknowledged {
			return waiting.Count, err
		}
		if up, _ := c.Connected(); !up {
			return waiting.Count, nil
		}
		select {
		case <-ctx.Done():
			return waiting.Count, nil
		case <-ticker.C:
		}
	}
}

// Close says offline and ends the connection. It may be called twice.
func (c *Client) Close() {
	if c.cancel == nil {
		return
	}
	c.cancel()
	ended := make(chan struct{})
	go func() {
		c.done.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(closeTimeout): // a recipe's loading may hang, and cannot be ended
		c.options.Log.Error("a command is still being executed; it is left to the end of the process")
	}
	c.disconnected(nil, 0)
}
