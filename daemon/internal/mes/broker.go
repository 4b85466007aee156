package mes

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Broker says how the broker is reached. Files are read anew for every
// connection.
type Broker struct {
	URL          string // mqtt://HOST[:PORT] or mqtts://HOST[:PORT]
	Username     string
	PasswordFile string // its first line; empty: none
	CAFile       string // empty: the system's authorities
	CertFile     string // the box's own certificate; empty: none
	KeyFile      string

	resolver *net.Resolver // nil: the system's
}

// endpoint is where the broker listens.
type endpoint struct {
	host      string
	address   string // HOST:PORT
	encrypted bool
}

func (b Broker) endpoint() (endpoint, error) {
	address, err := url.Parse(b.URL)
	if err != nil {
		return endpoint{}, fmt.Errorf("broker's address: %w", err)
	}
	port := address.Port()
	if port == "" {
		port = map[string]string{"mqtt": "1883", "mqtts": "8883"}[address.Scheme]
	}
	host := address.Hostname()
	return endpoint{host: host, address: net.JoinHostPort(host, port), encrypted: address.Scheme == "mqtts"}, nil
}

// contents are the broker's files as they were at one moment.
type contents struct{ password, ca, cert, key content }

type content struct {
	bytes []byte
	err   error
}

// read reads the files; what cannot be read is found out when it is used.
func (b Broker) read() contents {
	read := func(path string) (found content) {
		if path != "" {
			found.bytes, found.err = os.ReadFile(path)
		}
		return found
	}
	return contents{password: read(b.PasswordFile), ca: read(b.CAFile), cert: read(b.CertFile), key: read(b.KeyFile)}
}

// Check reads the files that the connection needs and says what is wrong with them.
func (b Broker) Check() error {
	_, err := b.credentials(b.read())
	return err
}

// digest changes whenever what is read does.
func (c contents) digest() [sha256.Size]byte {
	hash := sha256.New()
	for _, each := range []content{c.password, c.ca, c.cert, c.key} {
		fmt.Fprintf(hash, "%d %v %x\n", len(each.bytes), each.err, each.bytes)
	}
	return [sha256.Size]byte(hash.Sum(nil))
}

// credentials are what the files hold.
type credentials struct {
	password    string
	authorities *x509.CertPool   // nil: the system's
	own         *tls.Certificate // nil: none
}

// credentials makes sense of the files.
func (b Broker) credentials(files contents) (found credentials, err error) {
	if b.PasswordFile != "" {
		if found.password, err = firstLine(b.PasswordFile, files.password); err != nil {
			return found, fmt.Errorf("mqtt.password_file: %w", err)
		}
	}
	if b.CAFile != "" {
		if files.ca.err != nil {
			return found, fmt.Errorf("mqtt.ca_file: %w", files.ca.err)
		}
		found.authorities = x509.NewCertPool()
		if !found.authorities.AppendCertsFromPEM(files.ca.bytes) {
			return found, fmt.Errorf("mqtt.ca_file: %s: expected certificates in PEM, found none", b.CAFile)
		}
	}
	if b.CertFile != "" {
		if err := errors.Join(files.cert.err, files.key.err); err != nil {
			return found, fmt.Errorf("mqtt.cert_file, mqtt.key_file: %w", err)
		}
		own, err := tls.X509KeyPair(files.cert.bytes, files.key.bytes)
		if err != nil {
			return found, fmt.Errorf("mqtt.cert_file %s, mqtt.key_file %s: %w", b.CertFile, b.KeyFile, err)
		}
		found.own = &own
	}
	return found, nil
}

// clientOptions are the MQTT library's options, without its own queue and its
// own ways of reconnecting: the ledger and the client do that.
func (b Broker) clientOptions(at endpoint, password string) *mqtt.ClientOptions {
	options := mqtt.NewClientOptions().
		AddBroker("mqtt://" + at.address).
		SetCleanSession(true).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetConnectTimeout(connectTimeout).
		SetWriteTimeout(connectTimeout).
		SetKeepAlive(keepAlive).
		SetPingTimeout(pingTimeout).
		SetProtocolVersion(4)
	if b.Username != "" {
		options.SetUsername(b.Username)
	}
	if b.PasswordFile != "" {
		options.SetPassword(password)
	}
	return options
}

// FirstLine reads a secret: the first line of a file.
func FirstLine(path string) (string, error) {
	found, err := os.ReadFile(path)
	return firstLine(path, content{found, err})
}

func firstLine(path string, found content) (string, error) {
	if found.err != nil {
		return "", found.err
	}
	line, _, _ := strings.Cut(string(found.bytes), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" {
		return "", fmt.Errorf("%s: expected a secret in the first line, found nothing", path)
	}
	return line, nil
}
