package mes_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gladd/daemon/internal/mes"
	"gladd/daemon/internal/mes/mestest"
)

// waitClass waits until the connection has a class of problem, and returns it.
func waitClass(t *testing.T, client *mes.Client, class mes.Class) *mes.Problem {
	t.Helper()
	var problem *mes.Problem
	mestest.Eventually(t, "class "+string(class), func() bool {
		_, err := client.Connected()
		return errors.As(err, &problem) && problem.Class == class
	})
	return problem
}

// Every way in which a connection can fail has its class and its words.
func TestProblems(t *testing.T) {
	known, other := mestest.NewAuthority(t, "known authority"), mestest.NewAuthority(t, "other authority")
	ca := known.File
	long, hour := time.Date(2020, 1, 2, 3, 4, 0, 0, time.UTC), time.Now().Add(2*time.Hour)

	broker := func(lines ...string) *mestest.Mosquitto { return mestest.StartMosquitto(t, lines...) }
	withCertificate := func(from *mestest.Authority, what mestest.Certificate, more ...string) *mestest.Mosquitto {
		cert, key := from.Issue(what)
		return broker(append([]string{"allow_anonymous true", "certfile " + cert, "keyfile " + key, "cafile " + ca}, more...)...)
	}
	own := func(from *mestest.Authority, what mestest.Certificate) mes.Broker {
		cert, key := from.Issue(what)
		return mes.Broker{CAFile: ca, CertFile: cert, KeyFile: key}
	}
	at := func(url string, broker mes.Broker) mes.Broker {
		broker.URL = url
		return broker
	}

	good := withCertificate(known, mestest.Certificate{})
	plain := broker()
	strict := withCertificate(known, mestest.Certificate{}, "require_certificate true")
	older := withCertificate(known, mestest.Certificate{}, "require_certificate true", "tls_version tlsv1.2")
	expired := withCertificate(known, mestest.Certificate{Name: "the old one", From: long.AddDate(-1, 0, 0), To: long})
	future := withCertificate(known, mestest.Certificate{Name: "the new one", From: hour})
	elsewhere := withCertificate(known, mestest.Certificate{For: []string{"broker.plant", "broker"}})
	strange := withCertificate(other, mestest.Certificate{})

	passwords := filepath.Join(t.TempDir(), "passwords")
	if output, err := exec.Command("mosquitto_passwd", "-b", "-c", passwords, "gladd", "right horse").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "wrong horse\n")
	closed := broker("allow_anonymous false", "password_file "+passwords)

	address := func(url string) string { return url[strings.Index(url, "//")+2:] }
	nobody := mestest.NewMosquitto(t)
	const clientID = `"gladd-p-l-box-1"`
	day := "2006-01-02 15:04 UTC"
	for name, test := range map[string]struct {
		broker mes.Broker
		class  mes.Class
		text   string
	}{
		"name": {
			mes.WithResolver(mes.Broker{URL: "mqtt://brokr.plant"}, nameServer(t, 3)), mes.ClassNameNotFound,
			`there is no machine of the name "brokr.plant": correct mqtt.url, or have the name entered in the name server`,
		},
		"name server": {
			mes.WithResolver(mes.Broker{URL: "mqtt://brokr.plant"}, nameServer(t, 2)), mes.ClassNameServer,
			`the name "brokr.plant" cannot be looked up, because the name server does not answer: check the box's network, or write the broker's address in mqtt.url`,
		},
		"refused": {
			mes.Broker{URL: nobody.URL()}, mes.ClassRefused,
			"nothing listens at " + address(nobody.URL()) + ": start the broker, or correct the port in mqtt.url",
		},
		"expired": {
			at(expired.TLSURL(), mes.Broker{CAFile: ca}), mes.ClassCertificateExpired,
			`the broker's certificate "the old one" expired on 2020-01-02 03:04 UTC: renew it at the broker, or set this box's clock, if it is wrong`,
		},
		"not yet": {
			at(future.TLSURL(), mes.Broker{CAFile: ca}), mes.ClassCertificateExpired,
			`the broker's certificate "the new one" is valid only from ` + hour.UTC().Format(day) + ` on: set this box's clock, if it is wrong, or give the broker another certificate`,
		},
		"host": {
			at(elsewhere.TLSURL(), mes.Broker{CAFile: ca}), mes.ClassCertificateHost,
			"the broker's certificate is for broker.plant, broker, not for localhost: write in mqtt.url what it is for, or give the broker a certificate for localhost",
		},
		"authority": {
			at(strange.TLSURL(), mes.Broker{CAFile: ca}), mes.ClassCertificateUnknown,
			`the broker's certificate was issued by "other authority", which this box does not know: add its certificate to mqtt.ca_file, ` + ca,
		},
		"authority, of the system": {
			at(good.TLSURL(), mes.Broker{}), mes.ClassCertificateUnknown,
			`the broker's certificate was issued by "known authority", which this box does not know: name the file with its certificate in mqtt.ca_file`,
		},
		"no certificate": {
			at(strict.TLSURL(), mes.Broker{CAFile: ca}), mes.ClassCertificateRequired,
			"the broker wants a certificate of this box: give mqtt.cert_file and mqtt.key_file",
		},
		"no certificate, TLS 1.2": {
			at(older.TLSURL(), mes.Broker{CAFile: ca}), mes.ClassCertificateRequired,
			"the broker wants a certificate of this box: give mqtt.cert_file and mqtt.key_file",
		},
		"own certificate of another": {
			at(strict.TLSURL(), own(other, mestest.Certificate{To: hour})), mes.ClassCertificateRejected,
			`the broker rejects this box's certificate, issued by "other authority" and valid until ` + hour.UTC().Format(day) +
				`: the broker does not know who issued it; give mqtt.cert_file another one, or have the broker take this one`,
		},
		"own certificate expired": {
			at(strict.TLSURL(), own(known, mestest.Certificate{From: long.AddDate(-1, 0, 0), To: long})), mes.ClassCertificateRejected,
			`the broker rejects this box's certificate, issued by "known authority" and valid until 2020-01-02 03:04 UTC: ` +
				`it has expired; give mqtt.cert_file another one, or have the broker take this one`,
		},
		"own certificate expired, TLS 1.2": {
			at(older.TLSURL(), own(known, mestest.Certificate{From: long.AddDate(-1, 0, 0), To: long})), mes.ClassCertificateRejected,
			`the broker rejects this box's certificate, issued by "known authority" and valid until 2020-01-02 03:04 UTC: ` +
				`it has expired; give mqtt.cert_file another one, or have the broker take this one`,
		},
		"plain text to TLS": {
			mes.Broker{URL: good.URL()}, mes.ClassTLSRequired,
			"TLS is spoken at " + address(good.URL()) + ": write mqtts:// in mqtt.url, or the broker's port without TLS",
		},
		"TLS to plain text": {
			at(plain.TLSURL(), mes.Broker{CAFile: ca}), mes.ClassTLSMissing,
			"no TLS is spoken at " + address(plain.TLSURL()) + ": write the broker's port for TLS in mqtt.url (8883 as a rule), or have the broker offer TLS there",
		},
		"plain text to TLS that answers": {
			mes.Broker{URL: "mqtt://" + answering(t, "\x15\x03\x01\x00\x02\x02\x46")}, mes.ClassTLSRequired, "",
		},
		"TLS to plain text that answers": {
			at("mqtts://"+answering(t, "HTTP/1.1 400 Bad Request\r\n\r\n"), mes.Broker{CAFile: ca}), mes.ClassTLSMissing, "",
		},
		"password": {
			mes.Broker{URL: closed.URL(), Username: "gladd", PasswordFile: secret}, mes.ClassLoginRefused,
			`the broker refuses the login of "gladd": check mqtt.username, the password in mqtt.password_file and what the broker allows that user`,
		},
		"no user": {
			mes.Broker{URL: closed.URL()}, mes.ClassLoginRefused,
			"the broker wants to know who logs in: give mqtt.username and mqtt.password_file",
		},
		"user of no password": {
			mes.Broker{URL: "mqtt://" + answering(t, "\x20\x02\x00\x04"), Username: "gladd"}, mes.ClassLoginRefused, "",
		},
		"protocol": {
			mes.Broker{URL: "mqtt://" + answering(t, "\x20\x02\x00\x01")}, mes.ClassProtocol,
			"the broker does not speak MQTT 3.1.1: allow it at the broker",
		},
		"client id": {
			mes.Broker{URL: "mqtt://" + answering(t, "\x20\x02\x00\x02")}, mes.ClassClientIDRefused,
			"the broker does not take the client id " + clientID + ": allow it at the broker, or change site, line or box",
		},
		"unavailable": {
			mes.Broker{URL: "mqtt://" + answering(t, "\x20\x02\x00\x03")}, mes.ClassBrokerUnavailable,
			"the broker says that it is not available: its log tells why",
		},
		"another server": {
			mes.Broker{URL: "mqtt://" + answering(t, "HTTP/1.1 400 Bad Request\r\n\r\n")}, mes.ClassProtocol, "",
		},
		"no answer to the login": {
			mes.Broker{URL: "mqtt://" + answering(t, "")}, mes.ClassBrokerClosed,
			"the broker ended the connection without an answer to the login: its log tells why",
		},
		"no password file": {
			mes.Broker{URL: plain.URL(), Username: "gladd", PasswordFile: secret + "-none"}, mes.ClassFiles,
			"a file that the connection needs cannot be used, and is tried again and again: mqtt.password_file: open " + secret + "-none: no such file or directory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, test.broker)
			problem := waitClass(t, b.client, test.class)
			if problem.Text != test.text && test.text != "" {
				t.Errorf("want  %s\nfound %s", test.text, problem.Text)
			}
			connection := b.client.Connection()
			if connection.Connected || connection.Attempts == 0 || connection.Class == nil || *connection.Class != test.class ||
				!strings.HasPrefix(*connection.Reason, problem.Text) {
				t.Errorf("found %+v, %s", connection, *connection.Reason)
			}
			mestest.Eventually(t, "a line in the log", func() bool { return strings.Contains(b.log.text(), "class="+string(test.class)) })
			if log := b.log.text(); strings.Count(log, "no connection to the broker") > 1 || strings.Contains(log, "horse") {
				t.Errorf("found log %s", log)
			}
		})
	}
}

// nameServer answers every question with a code (RFC 1035, section 4.1.1): 3
// for a name that there is not, 2 for a failure.
func nameServer(t *testing.T, code byte) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() }) //nolint:errcheck // the test is over
	go func() {
		question := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(question)
			if err != nil {
				return
			}
			answer := append([]byte{}, question[:n]...)
			answer[2], answer[3] = 0x81, 0x80|code
			server.WriteTo(answer, from) //nolint:errcheck // it is asked again
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// answering answers whatever comes, and ends the connection.
func answering(t *testing.T, answer string) (address string) {
	t.Helper()
	at := serve(t, func(connection net.Conn) {
		connection.Read(make([]byte, 4096)) //nolint:errcheck // whatever it is
		io.WriteString(connection, answer)  //nolint:errcheck // the same
		connection.Close()                  //nolint:errcheck // the same
	})
	return fmt.Sprintf("localhost:%d", at.(*net.TCPAddr).Port)
}
