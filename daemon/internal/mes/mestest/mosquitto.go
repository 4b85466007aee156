// Package mestest helps tests with a real broker and a client that plays the
// MES.
package mestest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Mosquitto is a mosquitto that a test runs, stops and starts again.
type Mosquitto struct {
	t       testing.TB
	program string
	config  string
	port    int

	mutex   sync.Mutex
	running *exec.Cmd
	exited  chan struct{}
}

// StartMosquitto starts a broker on a free port. Its configuration may be
// given; otherwise everybody may do everything.
func StartMosquitto(t testing.TB, config ...string) *Mosquitto {
	t.Helper()
	m := NewMosquitto(t, config...)
	m.Start()
	return m
}

// NewMosquitto prepares a broker that does not run yet.
func NewMosquitto(t testing.TB, config ...string) *Mosquitto {
	t.Helper()
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		program = "/usr/sbin/mosquitto" // not in everybody's path
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatal("mosquitto is missing; run 'make setup-tests'")
	}
	if len(config) == 0 {
		config = []string{"allow_anonymous true"}
	}
	m := &Mosquitto{t: t, program: program, port: freePort(t)}
	// As the test's user, so that it reads the test's files.
	lines := append([]string{fmt.Sprintf("listener %d 127.0.0.1", m.port), "user root", "persistence false"}, config...)
	m.config = filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(m.config, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Kill)
	return m
}

func freePort(t testing.TB) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // only its number was wanted
	return listener.Addr().(*net.TCPAddr).Port
}

// Start runs the broker and waits until it listens.
func (m *Mosquitto) Start() {
	m.t.Helper()
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.running = exec.Command(m.program, "-c", m.config)
	if err := m.running.Start(); err != nil {
		m.t.Fatal(err)
	}
	exited := make(chan struct{})
	go func(running *exec.Cmd) {
		running.Wait() //nolint:errcheck // it is killed
		close(exited)
	}(m.running)
	m.exited = exited
	for {
		connection, err := net.DialTimeout("tcp", m.address(), time.Second)
		if err == nil {
			connection.Close() //nolint:errcheck // it listens, and that was the question
			return
		}
		select {
		case <-exited:
			m.t.Fatal("mosquitto ended at once")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Kill ends the broker as a power cut would.
func (m *Mosquitto) Kill() {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.running == nil {
		return
	}
	m.running.Process.Kill() //nolint:errcheck // it may have ended
	<-m.exited
	m.running = nil
}

// Pause stops the broker where it is: it is there and does not answer.
func (m *Mosquitto) Pause() { m.signal(syscall.SIGSTOP) }

// Resume has it go on.
func (m *Mosquitto) Resume() { m.signal(syscall.SIGCONT) }

func (m *Mosquitto) signal(signal syscall.Signal) {
	m.t.Helper()
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if err := m.running.Process.Signal(signal); err != nil {
		m.t.Fatal(err)
	}
}

func (m *Mosquitto) address() string { return fmt.Sprintf("127.0.0.1:%d", m.port) }

// URL is the broker's address.
func (m *Mosquitto) URL() string { return "mqtt://" + m.address() }

// TLSURL is its address for a listener with certificates.
func (m *Mosquitto) TLSURL() string { return fmt.Sprintf("mqtts://localhost:%d", m.port) }
