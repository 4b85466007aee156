package mes

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"gladd/daemon/internal/verdict"
)

// maxPayload is what is taken of a message: enough to see that it is too long
// for a command.
const maxPayload = verdict.MaxCommandBytes + 1

// maxPacket is the length of the longest packet without a payload.
const maxPacket = 64 << 10

// lastWords is how long they may take.
const lastWords = 200 * time.Millisecond

// Errors of what the guard does not let through.
var (
	errTLSAnswer = errors.New("the answer is TLS")
	errNotMQTT   = errors.New("the answer is not MQTT")
)

// guard is a connection that reads MQTT packets ahead of the MQTT library.
// MQTT 3.1.1 has no way to tell a broker how long a message may be, and the
// library would take into memory whatever comes, twice. Of a message that is
// too long, the guard lets the beginning through: it is acknowledged and
// refused like any other.
type guard struct {
	net.Conn
	reader *bufio.Reader
	fail   func(error)
	began  bool
	ready  []byte // what the library may have at once
	left   int    // bytes of the packet that follow
}

func newGuard(connection net.Conn, fail func(error)) *guard {
	return &guard{Conn: connection, reader: bufio.NewReaderSize(connection, 32<<10), fail: fail}
}

// Write implements [net.Conn].
func (g *guard) Write(from []byte) (int, error) {
	n, err := g.Conn.Write(from)
	if err != nil {
		if alert, is := g.alert(); is {
			err = alert
		}
		g.fail(err)
	}
	return n, err
}

// alert is what a broker said that ended the connection before it read the
// login: with TLS 1.3 it judges the box's certificate meanwhile.
func (g *guard) alert() (alert error, is bool) {
	if g.began {
		return nil, false
	}
	if err := g.SetReadDeadline(time.Now().Add(lastWords)); err != nil {
		return err, false
	}
	_, alert = g.Conn.Read(make([]byte, 1))
	_, is = alertOf(alert)
	return alert, is
}

// Read implements [net.Conn].
func (g *guard) Read(into []byte) (n int, err error) {
	if len(g.ready) == 0 && g.left == 0 {
		if err := g.next(); err != nil {
			g.fail(err)
			return 0, err
		}
	}
	if len(g.ready) > 0 {
		n = copy(into, g.ready)
		g.ready = g.ready[n:]
		return n, nil
	}
	n, err = g.reader.Read(into[:min(len(into), g.left)])
	g.left -= n
	if err != nil {
		g.fail(err)
	}
	return n, err
}

// next reads the head of the next packet (MQTT 3.1.1, section 2.2).
func (g *guard) next() error {
	kind, err := g.reader.ReadByte()
	if err != nil {
		return err
	}
	if !g.began {
		if err := g.checkFirst(kind); err != nil {
			return err
		}
		g.began = true
	}
	length, digits := 0, 0
	for more := true; more; digits++ {
		if digits == 4 {
			return fmt.Errorf("%w: a packet's length does not end", errNotMQTT)
		}
		digit, err := g.reader.ReadByte()
		if err != nil {
			return err
		}
		length |= int(digit&127) << (7 * digits)
		more = digit >= 128
	}
	switch {
	case length <= maxPayload:
		g.ready, g.left = head(kind, length), length
	case kind>>4 == packets.Publish:
		return g.shorten(kind, length)
	case length > maxPacket:
		return fmt.Errorf("%w: a %s of %d bytes", errNotMQTT, packets.PacketNames[kind>>4], length)
	default:
		g.ready, g.left = head(kind, length), length
	}
	return nil
}

// checkFirst looks at the first byte, which must be that of a CONNACK.
func (g *guard) checkFirst(kind byte) error {
	switch next, _ := g.reader.Peek(1); {
	case kind == packets.Connack<<4:
		return nil
	case (kind == 21 || kind == 22) && len(next) == 1 && next[0] == 3: // an alert or a handshake (RFC 8446, section 5.1)
		return errTLSAnswer
	}
	return fmt.Errorf("%w: its first byte is %#x, not that of a CONNACK", errNotMQTT, kind)
}

// shorten has a PUBLISH's payload end where it is too long. The rest is read
// first: the broker may not be done with what is acknowledged.
func (g *guard) shorten(kind byte, length int) error {
	size := make([]byte, 2)
	if _, err := io.ReadFull(g.reader, size); err != nil {
		return err
	}
	prefix := 2 + int(binary.BigEndian.Uint16(size)) // the topic
	if kind>>1&3 > 0 {
		prefix += 2 // the packet's id
	}
	if prefix > length {
		return fmt.Errorf("%w: a PUBLISH of %d bytes whose topic has more", errNotMQTT, length)
	}
	kept := min(length, prefix+maxPayload)
	packet := append(head(kind, kept), size...)
	begin := len(packet)
	packet = append(packet, make([]byte, kept-2)...)
	if _, err := io.ReadFull(g.reader, packet[begin:]); err != nil {
		return err
	}
	for rest := length - kept; rest > 0; {
		n, err := g.reader.Discard(min(rest, 1<<20))
		if rest -= n; err != nil {
			return err
		}
	}
	g.ready = packet
	return nil
}

// head is the fixed header of a packet.
func head(kind byte, length int) []byte {
	return binary.AppendUvarint([]byte{kind}, uint64(length))
}
