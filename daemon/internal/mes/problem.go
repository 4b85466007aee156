package mes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Class of a problem with the connection, for machines.
type Class string

// The classes.
const (
	ClassConnecting          Class = "connecting" // nothing is wrong yet
	ClassClosed              Class = "closed"     // gladd has ended
	ClassNameNotFound        Class = "name-not-found"
	ClassNameServer          Class = "name-server"
	ClassRefused             Class = "refused"
	ClassUnreachable         Class = "unreachable"
	ClassTimeout             Class = "timeout"
	ClassCertificateExpired  Class = "certificate-expired"
	ClassCertificateHost     Class = "certificate-host"
	ClassCertificateUnknown  Class = "certificate-unknown"
	ClassCertificateInvalid  Class = "certificate-invalid"
	ClassCertificateRequired Class = "certificate-required"
	ClassCertificateRejected Class = "certificate-rejected"
	ClassTLSRequired         Class = "tls-required"
	ClassTLSMissing          Class = "tls-missing"
	ClassTLS                 Class = "tls"
	ClassLoginRefused        Class = "login-refused"
	ClassClientIDRefused     Class = "client-id-refused"
	ClassClientIDTaken       Class = "client-id-taken"
	ClassBrokerUnavailable   Class = "broker-unavailable"
	ClassAccessRefused       Class = "access-refused"
	ClassProtocol            Class = "protocol"
	ClassBrokerClosed        Class = "broker-closed"
	ClassPingTimeout         Class = "ping-timeout"
	ClassFiles               Class = "files"
	ClassLedger              Class = "ledger"
)

// Problem is why there is no connection to the broker, or what is wrong with
// the one that there is.
type Problem struct {
	Class Class
	Text  string // what is wrong, and what to do
	Cause error  // in the words of who found it; nil: there is none
}

// Error implements error.
func (p *Problem) Error() string {
	if p.Cause == nil {
		return p.Text
	}
	return p.Text + " (" + p.Cause.Error() + ")"
}

// Unwrap returns the cause.
func (p *Problem) Unwrap() error { return p.Cause }

// noAnswerError is the error of a broker that does not answer.
type noAnswerError struct{ within time.Duration }

func (e noAnswerError) Error() string {
	return fmt.Sprintf("the broker did not answer within %s", e.within)
}

// problem finds out why the attempt, or the connection that came of it, ended.
func (a *attempt) problem(ctx context.Context, err error) *Problem {
	if known := (*Problem)(nil); errors.As(err, &known) {
		return known
	}
	a.mutex.Lock()
	stage, failed, asked, heard := a.stage, a.failed, a.asked, a.heard
	a.mutex.Unlock()
	if alert, is := alertOf(err); is && asked && stage != working { // with TLS 1.3 a certificate is judged after the handshake
		if found := a.alertProblem(alert); found != nil {
			found.Cause = err
			return found
		}
	}
	var found Problem
	switch stage {
	case dialing:
		found = a.dialProblem(err)
	case handshaking:
		found = a.handshakeProblem(err, heard.anything())
	case loggingIn:
		found = a.loginProblem(ctx, err, asked, heard.anything())
	default:
		// What was going on at the end says less than what ended it.
		ended := failed != nil && !errors.Is(failed, net.ErrClosed) // otherwise the library did
		if ended {
			err = failed
		}
		found = lostProblem(err, ended, heard.quiet())
		found.Text = "connection lost: " + found.Text
	}
	found.Cause = err
	return &found
}

// dialProblem is that of the way to the broker.
func (a *attempt) dialProblem(err error) Problem {
	var name *net.DNSError
	switch {
	case errors.As(err, &name) && name.IsNotFound:
		return Problem{Class: ClassNameNotFound, Text: fmt.Sprintf("there is no machine of the name %q: correct mqtt.url, or have the name entered in the name server", a.host)}
	case errors.As(err, &name):
		return Problem{Class: ClassNameServer, Text: fmt.Sprintf("the name %q cannot be looked up, because the name server does not answer: check the box's network, or write the broker's address in mqtt.url", a.host)}
	case errors.Is(err, syscall.ECONNREFUSED):
		return Problem{Class: ClassRefused, Text: fmt.Sprintf("nothing listens at %s: start the broker, or correct the port in mqtt.url", a.address)}
	case isTimeout(err):
		return Problem{Class: ClassTimeout, Text: fmt.Sprintf("%s does not answer: the machine is off, has another address, or a firewall is between", a.address)}
	}
	return Problem{Class: ClassUnreachable, Text: fmt.Sprintf("there is no way to %s: check the box's cable and network, and the address in mqtt.url", a.address)}
}

// handshakeProblem is that of TLS; heard says that the broker said anything.
func (a *attempt) handshakeProblem(err error, heard bool) Problem {
	var (
		invalid x509.CertificateInvalidError
		host    x509.HostnameError
		unknown x509.UnknownAuthorityError
		verify  *tls.CertificateVerificationError
		header  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return expiredProblem(invalid.Cert)
	case errors.As(err, &host):
		return Problem{Class: ClassCertificateHost, Text: fmt.Sprintf("the broker's certificate is for %s, not for %s: write in mqtt.url what it is for, or give the broker a certificate for %[2]s", names(host.Certificate), a.host)}
	case errors.As(err, &unknown):
		where := "name the file with its certificate in mqtt.ca_file"
		if a.broker.CAFile != "" {
			where = "add its certificate to mqtt.ca_file, " + a.broker.CAFile
		}
		return Problem{Class: ClassCertificateUnknown, Text: fmt.Sprintf("the broker's certificate was issued by %q, which this box does not know: %s", issuer(unknown.Cert), where)}
	case errors.As(err, &invalid), errors.As(err, &verify):
		return Problem{Class: ClassCertificateInvalid, Text: "the broker's certificate cannot be relied on: give the broker another one"}
	case errors.As(err, &header), isClosed(err) && !heard:
		return Problem{Class: ClassTLSMissing, Text: fmt.Sprintf("no TLS is spoken at %s: write the broker's port for TLS in mqtt.url (8883 as a rule), or have the broker offer TLS there", a.address)}
	case isTimeout(err):
		return Problem{Class: ClassTimeout, Text: fmt.Sprintf("%s takes the connection but does not answer: the broker hangs, or something else listens there", a.address)}
	}
	return Problem{Class: ClassTLS, Text: fmt.Sprintf("box and broker cannot agree on TLS at %s: have the broker offer TLS 1.2 or 1.3", a.address)}
}

// loginProblem is that of CONNECT and CONNACK.
func (a *attempt) loginProblem(ctx context.Context, err error, asked, heard bool) Problem {
	tlsRequired := Problem{Class: ClassTLSRequired, Text: fmt.Sprintf("TLS is spoken at %s: write mqtts:// in mqtt.url, or the broker's port without TLS", a.address)}
	switch {
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised):
		return a.loginRefused()
	case errors.Is(err, packets.ErrorRefusedIDRejected):
		return Problem{Class: ClassClientIDRefused, Text: fmt.Sprintf("the broker does not take the client id %q: allow it at the broker, or change site, line or box", a.clientID)}
	case errors.Is(err, packets.ErrorRefusedServerUnavailable):
		return Problem{Class: ClassBrokerUnavailable, Text: "the broker says that it is not available: its log tells why"}
	case errors.Is(err, packets.ErrorRefusedBadProtocolVersion):
		return Problem{Class: ClassProtocol, Text: "the broker does not speak MQTT 3.1.1: allow it at the broker"}
	case errors.Is(err, errTLSAnswer):
		return tlsRequired
	case isClosed(err) && asked && a.credentials.own == nil:
		return certificateRequired
	case isClosed(err) && !a.encrypted && !heard && a.speaksTLS(ctx):
		return tlsRequired
	case isClosed(err):
		return Problem{Class: ClassBrokerClosed, Text: "the broker ended the connection without an answer to the login: its log tells why"}
	case isTimeout(err):
		return Problem{Class: ClassTimeout, Text: fmt.Sprintf("%s takes the connection but does not answer: the broker hangs, or something else listens there", a.address)}
	}
	return Problem{Class: ClassProtocol, Text: fmt.Sprintf("what listens at %s is no MQTT broker: correct mqtt.url", a.address)}
}

func (a *attempt) loginRefused() Problem {
	text := "the broker wants to know who logs in: give mqtt.username and mqtt.password_file"
	switch {
	case a.broker.Username != "":
		text = fmt.Sprintf("the broker refuses the login of %q: check mqtt.username, the password in mqtt.password_file and what the broker allows that user", a.broker.Username)
	case a.credentials.own != nil:
		text = fmt.Sprintf("the broker refuses the login by the certificate of %q: allow it at the broker, or give mqtt.username and mqtt.password_file", a.credentials.own.Leaf.Subject.CommonName)
	}
	return Problem{Class: ClassLoginRefused, Text: text}
}

// lostProblem is that of a connection that worked: ended says that the network
// or the broker ended it, not the MQTT library.
func lostProblem(err error, ended bool, quiet time.Duration) Problem {
	var answer noAnswerError
	switch {
	case errors.As(err, &answer):
		return Problem{Class: ClassTimeout, Text: fmt.Sprintf("the broker did not acknowledge within %s: it hangs, or the network is interrupted", answer.within)}
	case isClosed(err):
		return Problem{Class: ClassBrokerClosed, Text: "the broker ended it: its log tells why"}
	case isTimeout(err):
		return Problem{Class: ClassTimeout, Text: "the broker takes nothing any more: it hangs, or the network is interrupted"}
	case errors.Is(err, errNotMQTT), !ended && quiet < pingTimeout:
		return Problem{Class: ClassProtocol, Text: "what the broker sends is not MQTT 3.1.1"}
	case !ended:
		return Problem{Class: ClassPingTimeout, Text: "the broker did not answer a ping: it hangs, or the network is interrupted"}
	}
	return Problem{Class: ClassUnreachable, Text: "check the box's cable and network"}
}

var certificateRequired = Problem{Class: ClassCertificateRequired, Text: "the broker wants a certificate of this box: give mqtt.cert_file and mqtt.key_file"}

// alertProblem is that of a TLS alert of the broker (RFC 8446, section 6);
// nil: the alert is about something else than the box's certificate.
func (a *attempt) alertProblem(alert tls.AlertError) *Problem {
	if a.credentials.own == nil {
		switch alert {
		case 40, 42, 116: // handshake_failure, bad_certificate: for want of one with TLS 1.2; certificate_required
			return &certificateRequired
		}
		return nil
	}
	why, known := map[tls.AlertError]string{
		42:  "it cannot be used",
		43:  "it is of a kind that the broker does not take",
		44:  "it was revoked",
		45:  "it has expired",
		46:  "the broker cannot use it",
		48:  "the broker does not know who issued it",
		49:  "it gives no right to connect",
		51:  "its signature is not right",
		116: "the broker wants another one",
	}[alert]
	if !known {
		return nil
	}
	return &Problem{Class: ClassCertificateRejected, Text: fmt.Sprintf("the broker rejects this box's certificate, issued by %q and valid until %s: %s; give mqtt.cert_file another one, or have the broker take this one",
		issuer(a.credentials.own.Leaf), date(a.credentials.own.Leaf.NotAfter), why)}
}

// alertOf is the TLS alert that the broker ended the connection with. The TLS
// library gives its alerts a type of its own, with the words of
// [tls.AlertError].
func alertOf(err error) (alert tls.AlertError, is bool) {
	var remote *net.OpError
	if !errors.As(err, &remote) || remote.Op != "remote error" {
		return 0, false
	}
	for number := range 256 {
		if tls.AlertError(number).Error() == remote.Err.Error() {
			return tls.AlertError(number), true
		}
	}
	return 0, false
}

func expiredProblem(certificate *x509.Certificate) Problem {
	name := certificate.Subject.CommonName
	if time.Now().Before(certificate.NotBefore) {
		return Problem{Class: ClassCertificateExpired, Text: fmt.Sprintf("the broker's certificate %q is valid only from %s on: set this box's clock, if it is wrong, or give the broker another certificate", name, date(certificate.NotBefore))}
	}
	return Problem{Class: ClassCertificateExpired, Text: fmt.Sprintf("the broker's certificate %q expired on %s: renew it at the broker, or set this box's clock, if it is wrong", name, date(certificate.NotAfter))}
}

// isClosed says that the other side ended the connection.
func isClosed(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, new(noAnswerError)) ||
		errors.As(err, &network) && network.Timeout()
}

func date(of time.Time) string { return of.UTC().Format("2006-01-02 15:04 UTC") }

func issuer(of *x509.Certificate) string {
	if of.Issuer.CommonName != "" {
		return of.Issuer.CommonName
	}
	return of.Issuer.String()
}

// names lists what a certificate is for.
func names(of *x509.Certificate) string {
	all := of.DNSNames
	for _, address := range of.IPAddresses {
		all = append(all, address.String())
	}
	if len(all) == 0 {
		return "no host at all"
	}
	return strings.Join(all, ", ")
}
