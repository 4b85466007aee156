package mes

import (
	"crypto/tls"
	"crypto/x509"
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
}

// clientOptions are the MQTT library's options, without its own queue and its
// own ways of reconnecting: the ledger and the client do that.
func (b Broker) clientOptions() (*mqtt.ClientOptions, error) {
	address, err := url.Parse(b.URL)
	if err != nil {
		return nil, fmt.Errorf("broker's address: %w", err)
	}
	port := address.Port()
	if port == "" {
		port = map[string]string{"mqtt": "1883", "mqtts": "8883"}[address.Scheme]
	}
	options := mqtt.NewClientOptions().
		AddBroker(address.Scheme + "://" + net.JoinHostPort(address.Hostname(), port)).
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
		password, err := FirstLine(b.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("broker's password: %w", err)
		}
		options.SetPassword(password)
	}
	if address.Scheme == "mqtts" {
		config, err := b.tls(address.Hostname())
		if err != nil {
			return nil, err
		}
		options.SetTLSConfig(config)
	}
	return options, nil
}

func (b Broker) tls(host string) (*tls.Config, error) {
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if b.CAFile != "" {
		authorities, err := os.ReadFile(b.CAFile)
		if err != nil {
			return nil, fmt.Errorf("broker's authorities: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, fmt.Errorf("broker's authorities: %s: expected certificates in PEM, found none", b.CAFile)
		}
	}
	if b.CertFile != "" {
		certificate, err := tls.LoadX509KeyPair(b.CertFile, b.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("the box's certificate %s with key %s: %w", b.CertFile, b.KeyFile, err)
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return config, nil
}

// FirstLine reads a secret: the first line of a file.
func FirstLine(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(content), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" {
		return "", fmt.Errorf("%s: expected a secret in the first line, found nothing", path)
	}
	return line, nil
}
