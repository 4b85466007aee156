package mes_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/mes"
	"gladd/daemon/internal/mes/mestest"
)

// startMutual starts a broker that wants a certificate, and says how a box
// reaches it.
func startMutual(t *testing.T, own mestest.Certificate) (mestest.Mutual, mes.Broker) {
	t.Helper()
	m := mestest.StartMutual(t, own)
	return m, mes.Broker{URL: m.BoxURL, CAFile: m.Authority.File, CertFile: m.CertFile, KeyFile: m.KeyFile}
}

// Certificates and passwords are renewed while verdicts flow.
func TestRenewal(t *testing.T) {
	t.Parallel() // it waits for looks at the files
	broker, reached := startMutual(t, mestest.Certificate{})
	reached.Username, reached.PasswordFile = "gladd", filepath.Join(t.TempDir(), "password")
	write(t, reached.PasswordFile, "the first\n")
	listener := mestest.Listen(t, broker.URL())
	b := newBox(t, reached)
	listener.Wait("_box/box-1/status", mestest.Last(`"session":1,`))
	flowing, stop := context.WithCancel(t.Context())
	defer stop()
	triggered := make(chan int, 1)
	go func() {
		count := 0
		for ; flowing.Err() == nil; time.Sleep(5 * time.Millisecond) {
			b.trigger(1)
			count++
		}
		triggered <- count
	}()

	// Good files: the box is online again at once, with a word before and after.
	for session, renew := range []func(){
		func() { broker.Authority.IssueTo(mestest.Certificate{}, reached.CertFile, reached.KeyFile) },
		func() { write(t, reached.PasswordFile, "the second\n") },
		func() {
			write(t, reached.CAFile, read(t, mestest.NewAuthority(t, "the next one").File)+read(t, reached.CAFile))
		},
	} {
		renew()
		said := listener.Wait("_box/box-1/status", mestest.Last(fmt.Sprintf(`"online","session":%d,`, session+2)))
		if before := said[len(said)-2].Payload; !strings.Contains(before, fmt.Sprintf(`"offline","session":%d,`, session+1)) {
			t.Errorf("want offline before online, found %s", before)
		}
	}
	log := b.log.text()
	if strings.Count(log, "the files of the connection to the broker were renewed; connecting again with them") != 3 || strings.Contains(log, "no connection") {
		t.Errorf("found log %s", log)
	}

	// Files that do not belong together leave the connection as it is; once the
	// other one comes, they are taken.
	good := read(t, reached.KeyFile)
	newCert, newKey := broker.Authority.Issue(mestest.Certificate{})
	write(t, reached.KeyFile, read(t, newKey))
	mestest.Eventually(t, "warning", func() bool { return strings.Contains(b.log.text(), "cannot be used") })
	want := "the files of the connection to the broker have changed and cannot be used; the connection stays as it is"
	if log = b.log.text(); !strings.Contains(log, want) || !strings.Contains(log, "mqtt.cert_file "+reached.CertFile+", mqtt.key_file "+reached.KeyFile+": tls: private key does not match public key") {
		t.Errorf("found log %s", log)
	}
	if connected, err := b.client.Connected(); !connected {
		t.Errorf("the connection is gone: %v", err)
	}
	write(t, reached.CertFile, read(t, newCert))
	listener.Wait("_box/box-1/status", mestest.Last(`"online","session":5,`))
	if good == read(t, reached.KeyFile) {
		t.Error("the key is the old one")
	}

	stop()
	count := <-triggered
	mestest.CheckOrder(t, listener.Wait("/verdict", mestest.Distinct(count)), count)
	waitEmpty(t, b.ledger)
	if log = b.log.text(); strings.Count(log, want) != 1 || strings.Contains(log, "the first") || strings.Contains(log, "the second") {
		t.Errorf("found log %s", log)
	}
}

// Files that come right are used by the next attempt.
func TestBadFiles(t *testing.T) {
	_, reached := startMutual(t, mestest.Certificate{})
	good := read(t, reached.KeyFile)
	write(t, reached.KeyFile, "no key\n")
	b := newBox(t, reached)
	if problem := waitClass(t, b.client, mes.ClassFiles); !strings.Contains(problem.Error(), "mqtt.key_file "+reached.KeyFile+": tls: failed to find any PEM data in key input") {
		t.Errorf("found %v", problem)
	}
	b.trigger(3)
	write(t, reached.KeyFile, good)
	waitConnected(t, b.client)
	waitEmpty(t, b.ledger)
}

func TestOwnCertificateExpires(t *testing.T) {
	soon, past := time.Now().Add(10*24*time.Hour+time.Hour), time.Date(2020, 1, 2, 3, 4, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		own  mestest.Certificate
		want string
	}{
		"soon":    {mestest.Certificate{To: soon}, "expires on " + soon.UTC().Format("2006-01-02 15:04 UTC") + ", in 10 days"},
		"expired": {mestest.Certificate{From: past.AddDate(-1, 0, 0), To: past}, "expired on 2020-01-02 03:04 UTC"},
		"later":   {mestest.Certificate{To: time.Now().AddDate(0, 0, 15)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, reached := startMutual(t, test.own)
			b := newBox(t, reached)
			var found mes.Connection
			mestest.Eventually(t, "a connection or none", func() bool {
				found = b.client.Connection()
				return found.Connected || found.Class != nil && *found.Class == mes.ClassCertificateRejected
			})
			if test.want == "" {
				if len(found.Warnings) > 0 || strings.Contains(b.log.text(), "expire") {
					t.Errorf("want no warning, found %v", found.Warnings)
				}
				return
			}
			want := "the box's certificate " + reached.CertFile + " " + test.want + ": renew it; gladd takes the new one by itself"
			if len(found.Warnings) != 1 || found.Warnings[0] != want || strings.Count(b.log.text(), want) != 1 {
				t.Errorf("want %s\nfound %v\n%s", want, found.Warnings, b.log.text())
			}
		})
	}
}

// Two boxes of one name tell both that they are.
func TestTwoBoxesOfOneName(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	boxes := []*box{newBox(t, mes.Broker{URL: broker.URL()}), newBox(t, mes.Broker{URL: broker.URL()})}
	for i, b := range boxes {
		want := fmt.Sprintf(`another gladd, with the ledger %q, uses the name of this box, box-1, and its client id "gladd-p-l-box-1"; `+
			`they throw each other out: give every box a name of its own (key box)`, boxes[1-i].ledger.ID())
		mestest.Eventually(t, "the other box", func() bool {
			found := b.client.Connection()
			return found.Class != nil && *found.Class == mes.ClassClientIDTaken && *found.Reason == want
		})
		if log := b.log.text(); strings.Count(log, "level=ERROR") != 1 || !strings.Contains(log, `class=client-id-taken`) {
			t.Errorf("found log %s", log)
		}
		b.trigger(3)
	}
	for _, b := range boxes { // they come to speak in turns
		waitEmpty(t, b.ledger)
	}
}

// A client that is no gladd and takes the id can only be guessed at.
func TestClientIDTaken(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	b := newBox(t, mes.Broker{URL: broker.URL()})
	waitConnected(t, b.client)
	intruder := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(broker.URL()).SetClientID("gladd-p-l-box-1").
		SetAutoReconnect(true).SetConnectRetry(true).SetMaxReconnectInterval(20 * time.Millisecond).SetConnectRetryInterval(20 * time.Millisecond))
	intruder.Connect()
	defer intruder.Disconnect(0)
	problem := waitClass(t, b.client, mes.ClassClientIDTaken)
	want := `connection lost: the broker ended 3 connections in a row within 10s. Another client with the id "gladd-p-l-box-1" is the likely cause: ` +
		`give every box a name of its own (key box). Or the broker ends connections over topics that it forbids: its log tells`
	if problem.Text != want {
		t.Errorf("want  %s\nfound %s", want, problem.Text)
	}
	if log := b.log.text(); strings.Count(log, "class=client-id-taken") != 1 || strings.Contains(log, "level=ERROR") {
		t.Errorf("found log %s", log)
	}
	intruder.Disconnect(0)
	b.trigger(3)
	waitEmpty(t, b.ledger)
}

// A box that comes back, and one that takes the place of another, are alone.
func TestNobodyElse(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	first := newBox(t, mes.Broker{URL: broker.URL()})
	waitConnected(t, first.client)
	first.client.Close()
	again := mes.New(mes.Options{Broker: mes.Broker{URL: broker.URL()}, Site: "p", Line: "l", Box: "box-1", Ledger: first.ledger, Log: slog.New(slog.DiscardHandler)})
	again.Run(t.Context())
	defer again.Close()
	waitConnected(t, again)
	broker.Kill()
	mestest.Eventually(t, "the connection's end", func() bool { connected, _ := again.Connected(); return !connected })
	broker.Start()
	waitConnected(t, again)
	if found := again.Connection(); found.Class != nil {
		t.Errorf("found %s: %s", *found.Class, *found.Reason)
	}
	again.Close()
	listener := mestest.Listen(t, broker.URL())
	listener.Wait("_box/box-1/status", mestest.Last(first.ledger.ID()))
	other := newBox(t, mes.Broker{URL: broker.URL()})
	listener.Wait("_box/box-1/status", mestest.Last(other.ledger.ID()))
	waitConnected(t, other.client)
	other.trigger(1)
	listener.Wait("/verdict", mestest.Distinct(1))
	if found := other.client.Connection(); !found.Connected || found.Class != nil {
		t.Errorf("found %+v", found)
	}
}

// A broker that forbids the box its own status is a broker all the same.
func TestForbiddenStatus(t *testing.T) {
	for name, ends := range map[string]bool{"refuses": false, "ends the connection": true} {
		t.Run(name, func(t *testing.T) {
			broker := &forbiddingBroker{ends: ends}
			client := newClient(t, broker.start(t))
			waitConnected(t, client)
			if asked := broker.asked.Load(); asked != 1 {
				t.Errorf("want it asked for once, found %d", asked)
			}
			if found := client.Connection(); found.Class != nil {
				t.Errorf("found %s", *found.Reason)
			}
			for len(broker.connects) > 0 {
				if connect := <-broker.connects; connect.ClientIdentifier != "gladd-p-l-box-1" || connect.Keepalive != 10 || !connect.CleanSession || connect.ProtocolVersion != 4 {
					t.Errorf("found %s", connect)
				}
			}
		})
	}
}

// newClient is a box without a station.
func newClient(t *testing.T, broker mes.Broker) *mes.Client {
	t.Helper()
	durable, err := ledger.Open(t.Context(), ledger.Options{Path: filepath.Join(t.TempDir(), "ledger.db")})
	if err != nil {
		t.Fatal(err)
	}
	client := mes.New(mes.Options{Broker: broker, Site: "p", Line: "l", Box: "box-1", Ledger: durable, Log: slog.New(slog.DiscardHandler)})
	client.Run(t.Context())
	t.Cleanup(func() {
		client.Close()
		durable.Close() //nolint:errcheck // the test is over
	})
	return client
}

// forbiddingBroker forbids every subscription, by a code or by the end of the
// connection.
type forbiddingBroker struct {
	ends     bool
	asked    atomic.Int32
	connects chan *packets.ConnectPacket
}

func (s *forbiddingBroker) start(t *testing.T) mes.Broker {
	t.Helper()
	s.connects = make(chan *packets.ConnectPacket, 100)
	return mes.Broker{URL: "mqtt://" + serve(t, s.serve).String()}
}

// serve has a function serve every connection.
func serve(t *testing.T, connected func(net.Conn)) net.Addr {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() }) //nolint:errcheck // the test is over
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go connected(connection)
		}
	}()
	return listener.Addr()
}

func (s *forbiddingBroker) serve(connection net.Conn) {
	defer connection.Close() //nolint:errcheck // nobody waits
	for {
		packet, err := packets.ReadPacket(connection)
		if err != nil {
			return
		}
		var answer packets.ControlPacket
		switch packet := packet.(type) {
		case *packets.ConnectPacket:
			s.connects <- packet
			answer = packets.NewControlPacket(packets.Connack)
		case *packets.SubscribePacket:
			s.asked.Add(1)
			if s.ends {
				return
			}
			refusal := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
			refusal.MessageID, refusal.ReturnCodes = packet.MessageID, []byte{0x80}
			answer = refusal
		case *packets.PublishPacket:
			taken := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
			taken.MessageID = packet.MessageID
			answer = taken
		case *packets.PingreqPacket:
			answer = packets.NewControlPacket(packets.Pingresp)
		default:
			return
		}
		if answer.Write(connection) != nil {
			return
		}
	}
}

// A station's commands are what a box is there for.
func TestForbiddenCommands(t *testing.T) {
	b := newBox(t, (&forbiddingBroker{}).start(t))
	problem := waitClass(t, b.client, mes.ClassAccessRefused)
	if want := "the broker does not let this box subscribe to insp/v1/p/l/st-01/cmd/+: allow it in the broker's access list"; problem.Text != want {
		t.Errorf("want  %s\nfound %s", want, problem.Text)
	}
}

func TestBrokerEndsConnection(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	b := newBox(t, mes.Broker{URL: broker.URL()})
	waitConnected(t, b.client)
	if found := b.client.Connection(); found.Class != nil || found.Reason != nil || found.Attempts != 0 || time.Since(found.Since.Time) > time.Minute {
		t.Errorf("found %+v", found)
	}
	broker.Kill()
	if problem := waitClass(t, b.client, mes.ClassRefused); strings.HasPrefix(problem.Text, "connection lost") {
		t.Errorf("found %s", problem.Text)
	}
	log := b.log.text()
	if !strings.Contains(log, `class=broker-closed error="connection lost: the broker ended it: its log tells why`) {
		t.Errorf("found log %s", log)
	}
}

// A broker that hangs while nothing is to be said is found out by a ping.
func TestPingTimeout(t *testing.T) {
	t.Parallel() // it waits for timeouts
	broker := mestest.StartMosquitto(t)
	client := newClient(t, mes.Broker{URL: broker.URL()})
	waitConnected(t, client)
	broker.Pause()
	defer broker.Resume()
	problem := waitClass(t, client, mes.ClassPingTimeout)
	if want := "connection lost: the broker did not answer a ping: it hangs, or the network is interrupted"; problem.Text != want {
		t.Errorf("want  %s\nfound %s", want, problem.Text)
	}
	problem = waitClass(t, client, mes.ClassTimeout)
	if want := strings.TrimPrefix(broker.URL(), "mqtt://") + " takes the connection but does not answer: the broker hangs, or something else listens there"; problem.Text != want {
		t.Errorf("want  %s\nfound %s", want, problem.Text)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
