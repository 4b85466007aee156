package mes

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// received is a connection on which something came.
type received struct {
	net.Conn
	io.Reader
}

func (r received) Read(into []byte) (int, error) { return r.Reader.Read(into) }

func wire(t testing.TB, all ...packets.ControlPacket) []byte {
	t.Helper()
	var written bytes.Buffer
	for _, packet := range all {
		if err := packet.Write(&written); err != nil {
			t.Fatal(err)
		}
	}
	return written.Bytes()
}

func inbound(qos byte, topic string, length int) *packets.PublishPacket {
	packet := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	packet.Qos, packet.TopicName, packet.MessageID = qos, topic, 7
	packet.Payload = bytes.Repeat([]byte("x"), length)
	return packet
}

// What is short comes as it was sent; what is too long comes shortened, and
// what follows it is whole.
func TestGuard(t *testing.T) {
	sent := []packets.ControlPacket{packets.NewControlPacket(packets.Connack)}
	lengths := []int{0, 1, 100, maxPayload - 20, maxPayload - 1, maxPayload, maxPayload + 1, maxPayload + 100, 70_000, 10 << 20}
	for _, qos := range []byte{0, 1} {
		for _, length := range lengths {
			sent = append(sent, inbound(qos, "a/topic", length), inbound(qos, strings.Repeat("t", 60_000), length), packets.NewControlPacket(packets.Pingresp))
		}
	}
	all := wire(t, sent...)
	for name, reader := range map[string]io.Reader{
		"whole": bytes.NewReader(all), "halves": iotest.HalfReader(bytes.NewReader(all)), "data with error": iotest.DataErrReader(bytes.NewReader(all)),
	} {
		t.Run(name, func(t *testing.T) {
			var ended error
			guarded := newGuard(received{Reader: reader}, func(err error) { ended = err })
			for i, want := range sent {
				found, err := packets.ReadPacket(guarded)
				if err != nil {
					t.Fatalf("packet %d: %v", i, err)
				}
				publish, is := want.(*packets.PublishPacket)
				if !is {
					if found.String() != want.String() {
						t.Fatalf("packet %d: want %s, found %s", i, want, found)
					}
					continue
				}
				got := found.(*packets.PublishPacket)
				if got.TopicName != publish.TopicName || got.Qos != publish.Qos || publish.Qos > 0 && got.MessageID != 7 || len(got.Payload) != min(len(publish.Payload), maxPayload) {
					t.Fatalf("packet %d: found a payload of %d bytes for one of %d, of %q", i, len(got.Payload), len(publish.Payload), got.TopicName[:7])
				}
			}
			if _, err := packets.ReadPacket(guarded); !errors.Is(err, io.EOF) || !errors.Is(ended, io.EOF) {
				t.Errorf("found %v, %v", err, ended)
			}
		})
	}
}

func TestGuardRefuses(t *testing.T) {
	const connack = "\x20\x02\x00\x00"
	for name, test := range map[string]struct {
		sent string
		want error
	}{
		"HTTP":                    {"HTTP/1.1 400 Bad Request", errNotMQTT},
		"a TLS alert":             {"\x15\x03\x01\x00\x02\x02\x46", errTLSAnswer},
		"no CONNACK first":        {"\xd0\x00", errNotMQTT},
		"a length without end":    {connack + "\x30\xff\xff\xff\xff\x01", errNotMQTT},
		"a topic without end":     {connack + "\x30\xa0\x9c\x01\xff\xff", errNotMQTT},
		"200 MiB of a SUBACK":     {connack + "\x90\x80\x80\x80\x64", errNotMQTT},
		"200 MiB that do not end": {connack + "\x30\x80\x80\x80\x64\x00\x01a", io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			guarded := newGuard(received{Reader: strings.NewReader(test.sent)}, func(error) {})
			if _, err := packets.ReadPacket(guarded); strings.HasPrefix(test.sent, connack) && err != nil {
				t.Fatal(err)
			} else if !strings.HasPrefix(test.sent, connack) {
				if !errors.Is(err, test.want) {
					t.Errorf("found %v", err)
				}
				return
			}
			if _, err := packets.ReadPacket(guarded); !errors.Is(err, test.want) {
				t.Errorf("found %v", err)
			}
		})
	}
}

// Whatever a broker sends, the guard makes no more of it, and ends.
func FuzzGuard(f *testing.F) {
	f.Add([]byte("\x20\x02\x00\x00\x30\x05\x00\x01abc\xd0\x00"))
	f.Add([]byte("\x20\x02\x00\x00\x32\xff\xff\x7f\x00\x01a\x00\x07"))
	f.Add([]byte("\x20\x02\x00\x00\x90\x80\x80\x80\x64"))
	f.Add([]byte("\x20\x80\x80\x80\x80\x00"))
	f.Add([]byte("\x15\x03\x01"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		let, err := io.ReadAll(newGuard(received{Reader: bytes.NewReader(sent)}, func(error) {}))
		if len(let) > len(sent) {
			t.Errorf("%d bytes became %d, %v", len(sent), len(let), err)
		}
	})
}
