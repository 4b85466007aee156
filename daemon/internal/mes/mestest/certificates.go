package mestest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// Authority issues the certificates of a test.
type Authority struct {
	// File holds its own certificate.
	File string

	t           testing.TB
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// serials number certificates: some libraries tell them apart by that.
var serials atomic.Int64

// NewAuthority makes an authority.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{t: t, File: filepath.Join(t.TempDir(), "ca.pem")}
	a.key = a.newKey()
	a.certificate = &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().AddDate(-10, 0, 0), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.save(a.File, "CERTIFICATE", a.sign(a.certificate, &a.key.PublicKey))
	return a
}

// Certificate says what is issued.
type Certificate struct {
	Name string   // localhost where empty
	For  []string // hosts; localhost where empty
	// From and To say when it is valid; zero: since an hour ago, for a year.
	From, To time.Time
}

// Issue issues a certificate with a key of its own, into files of their own.
func (a *Authority) Issue(what Certificate) (cert, key string) {
	a.t.Helper()
	dir := a.t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	a.IssueTo(what, cert, key)
	return cert, key
}

// IssueTo issues a certificate into files, which are replaced.
func (a *Authority) IssueTo(what Certificate, cert, key string) {
	a.t.Helper()
	issued := &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{CommonName: what.Name}, DNSNames: what.For,
		NotBefore: what.From, NotAfter: what.To,
	}
	if what.Name == "" {
		issued.Subject.CommonName = "localhost"
	}
	if len(what.For) == 0 {
		issued.DNSNames = []string{"localhost"}
	}
	if what.From.IsZero() {
		issued.NotBefore = time.Now().Add(-time.Hour)
	}
	if what.To.IsZero() {
		issued.NotAfter = time.Now().AddDate(1, 0, 0)
	}
	private := a.newKey()
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	a.save(cert, "CERTIFICATE", a.sign(issued, &private.PublicKey))
	a.save(key, "PRIVATE KEY", encoded)
}

// Mutual is a broker that is open to the MES of a test, and wants a certificate
// of the box at a port of its own.
type Mutual struct {
	*Mosquitto
	Authority *Authority
	// How a box reaches it.
	BoxURL, CertFile, KeyFile string
}

// StartMutual starts a broker, and issues the box's certificate.
func StartMutual(t testing.TB, own Certificate) Mutual {
	t.Helper()
	m := Mutual{Authority: NewAuthority(t, "the plant")}
	port := freePort(t)
	cert, key := m.Authority.Issue(Certificate{})
	m.Mosquitto = StartMosquitto(t, "allow_anonymous true", fmt.Sprintf("listener %d 127.0.0.1", port),
		"certfile "+cert, "keyfile "+key, "cafile "+m.Authority.File, "require_certificate true")
	m.BoxURL = fmt.Sprintf("mqtts://localhost:%d", port)
	m.CertFile, m.KeyFile = m.Authority.Issue(own)
	return m
}

func (a *Authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

func (a *Authority) sign(certificate *x509.Certificate, public *ecdsa.PublicKey) []byte {
	signed, err := x509.CreateCertificate(rand.Reader, certificate, a.certificate, public, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return signed
}

func (a *Authority) save(path, kind string, content []byte) {
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}
