package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gladd/daemon/internal/mes/mestest"
	"gladd/engines"
	"gladd/engines/enginetest"
)

// site is a box of a test: a folder with a configuration, a bundle with a
// threshold, and pictures.
type site struct {
	t      *testing.T
	dir    string
	broker string // its address; empty: the embedded one
	more   string // lines of the configuration
}

// newSite makes a box of one station that inspects the golden pictures in a
// circle. Two of the six are above the threshold by far, two below.
func newSite(t *testing.T, broker string) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), broker: broker}
	bundle := enginetest.Copy(t, enginetest.TinyA(t))
	if err := os.Rename(bundle, filepath.Join(s.dir, "bundle")); err != nil {
		t.Fatal(err)
	}
	calibrate(t, filepath.Join(s.dir, "bundle"))
	if err := os.Symlink(filepath.Join(enginetest.TinyA(t), "images"), filepath.Join(s.dir, "pictures")); err != nil {
		t.Fatal(err)
	}
	return s
}

func calibrate(t *testing.T, bundle string) {
	t.Helper()
	loaded := enginetest.Load(t, bundle)
	enginetest.WriteFile(t, filepath.Join(bundle, engines.CalibrationsFile), fmt.Appendf(nil, `schema: gladd.calibrations/v1
calibrations:
  - {id: cal-1, model_digest: %s, backend: onnxruntime, precision: fp32, mode: exact, plan: exact, gate_threshold: %v,
     image_threshold: 1.0, guard_band: 0, region_threshold: 1.0}
`, loaded.ModelDigest, loaded.Manifest.Denoise.Threshold))
}

const oneStation = `
stations:
  - {name: st-01, recipe: r, camera: {source: "folder:pictures?loop=true"}, trigger: {kind: mqtt}, deadline: 20s}
recipes: {r: {bundle: bundle}}
`

// config writes the configuration and returns its path.
func (s *site) config(stations string) string {
	s.t.Helper()
	text := "site: p\nline: l\nbox: box-1\nledger: {path: ledger.db}\nweb: {listen: \"127.0.0.1:0\"}\ngpu: {monitor: none}\n" + s.more + stations
	if s.broker == "" {
		text += "mqtt: {embedded: true, listen: \"127.0.0.1:0\"}\n"
	} else {
		text += "mqtt: {url: \"" + s.broker + "\"}\n"
	}
	path := filepath.Join(s.dir, "gladd.yaml")
	enginetest.WriteFile(s.t, path, []byte(text))
	return path
}

// process is gladd running as a process, told of by a systemd of the test's.
type process struct {
	t       *testing.T
	command *exec.Cmd
	exited  chan struct{}
	notify  *net.UnixConn

	mutex  sync.Mutex
	stderr bytes.Buffer
	stdout bytes.Buffer
	states []string      // told to systemd
	told   chan struct{} // closed and replaced when something new came
}

// stream collects an output of the process.
type stream struct {
	process *process
	buffer  *bytes.Buffer
}

func (s stream) Write(text []byte) (int, error) {
	s.process.mutex.Lock()
	defer s.process.mutex.Unlock()
	s.process.wake()
	return s.buffer.Write(text)
}

// wake wakes who waits for something new; under the mutex.
func (p *process) wake() {
	close(p.told)
	p.told = make(chan struct{})
}

// launch runs gladd and does not wait for it to be ready.
func launch(t *testing.T, arguments []string, environment ...string) *process {
	t.Helper()
	return launchCommand(t, exec.Command(os.Args[0], arguments...), environment...)
}

// launchCommand runs gladd by a command that becomes it.
func launchCommand(t *testing.T, command *exec.Cmd, environment ...string) *process {
	t.Helper()
	// A socket's path must be short.
	folder, err := os.MkdirTemp("", "gladd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) }) //nolint:errcheck // a temporary folder
	socket := filepath.Join(folder, "notify")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, command: command, exited: make(chan struct{}), notify: notify, told: make(chan struct{})}
	p.command.Env = append(os.Environ(), asProgram+"=1", "GLADD_ONNXRUNTIME_LIBRARY="+enginetest.Library(t), "NOTIFY_SOCKET="+socket)
	p.command.Env = append(p.command.Env, environment...)
	p.command.Stdout, p.command.Stderr = stream{p, &p.stdout}, stream{p, &p.stderr}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go p.listen()
	go func() {
		p.command.Wait() //nolint:errcheck // its state says it
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.command.Process.Kill() //nolint:errcheck // it may have ended
		<-p.exited
		notify.Close() //nolint:errcheck // the test is over
	})
	return p
}

func (p *process) listen() {
	buffer := make([]byte, 4096)
	for {
		n, _, err := p.notify.ReadFrom(buffer)
		if err != nil {
			return
		}
		p.mutex.Lock()
		p.states = append(p.states, strings.Split(string(buffer[:n]), "\n")...)
		p.wake()
		p.mutex.Unlock()
	}
}

// waitState waits until systemd was told something.
func (p *process) waitState(prefix string) string {
	p.t.Helper()
	timeout := time.After(mestest.Patience)
	for {
		p.mutex.Lock()
		told := p.told
		for _, state := range p.states {
			if strings.HasPrefix(state, prefix) {
				p.mutex.Unlock()
				return state
			}
		}
		p.mutex.Unlock()
		select {
		case <-told:
		case <-p.exited:
			p.t.Fatalf("gladd ended with %d:\n%s", p.command.ProcessState.ExitCode(), p.errors())
		case <-timeout:
			p.t.Fatalf("systemd was not told %s:\n%s", prefix, p.errors())
		}
	}
}

func (p *process) errors() string {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.stderr.String()
}

func (p *process) output() string {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.stdout.String()
}

// start runs the daemon until it is ready.
func start(t *testing.T, config string) *process {
	t.Helper()
	p := launch(t, []string{"run", "--config", config})
	p.waitState("READY=1")
	return p
}

// end sends SIGTERM and waits.
func (p *process) end() int {
	p.t.Helper()
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	return p.wait()
}

func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(mestest.Patience):
		p.t.Fatalf("gladd does not end:\n%s", p.errors())
	}
	return p.command.ProcessState.ExitCode()
}

// logged waits for a log line with a message, and returns a value of it.
func (p *process) logged(message, key string) string {
	p.t.Helper()
	timeout := time.After(mestest.Patience)
	for {
		p.mutex.Lock()
		log, told := p.stderr.String(), p.told
		p.mutex.Unlock()
		for line := range strings.Lines(log) {
			if !strings.HasSuffix(line, "\n") {
				break // the rest of it is on its way
			}
			var entry map[string]any
			if err := json.Unmarshal([]byte(line), &entry); err != nil {
				p.t.Errorf("the log is JSON where no terminal is: %q", line)
			}
			if entry["msg"] == message {
				return fmt.Sprint(entry[key])
			}
		}
		select {
		case <-told:
		case <-timeout:
			p.t.Fatalf("no log line %q:\n%s", message, log)
		}
	}
}

// loggedAfter waits until a message was logged after a time, and returns when.
func (p *process) loggedAfter(message string, after time.Time) time.Time {
	p.t.Helper()
	timeout := time.After(mestest.Patience)
	for {
		p.mutex.Lock()
		log, told := p.stderr.String(), p.told
		p.mutex.Unlock()
		for line := range strings.Lines(log) {
			var entry struct {
				Time time.Time `json:"time"`
				Msg  string    `json:"msg"`
			}
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == message && entry.Time.After(after) {
				return entry.Time
			}
		}
		select {
		case <-told:
		case <-timeout:
			p.t.Fatalf("no log line %q after %v:\n%s", message, after, log)
		}
	}
}

// get asks the daemon over HTTP.
func (p *process) get(method, path, body string) (status int, content string) {
	p.t.Helper()
	request, err := http.NewRequest(method, p.logged("starting", "web")+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // it is only read
	var all bytes.Buffer
	if _, err := all.ReadFrom(response.Body); err != nil {
		p.t.Fatal(err)
	}
	return response.StatusCode, all.String()
}
