package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// network is a network namespace that a cable, a pair of virtual interfaces,
// connects with the test.
type network struct {
	t      *testing.T
	name   string // of the namespace, and of the cable's end there
	far    string // of the cable's end here
	broker string // the address here
}

// newNetwork makes one; it needs root and a kernel that has them.
func newNetwork(t *testing.T) *network {
	t.Helper()
	if os.Getuid() != 0 {
		unavailable(t, "needs root, to make a network namespace")
	}
	// 198.18.0.0/15 is for tests of networks (RFC 2544); each process its own part.
	pid := os.Getpid()
	prefix := fmt.Sprintf("198.18.%d.%d", pid/64%256, pid%64*4)
	last := strings.LastIndexByte(prefix, '.')
	first, err := strconv.Atoi(prefix[last+1:])
	if err != nil {
		t.Fatal(err)
	}
	here, there := fmt.Sprintf("%s.%d", prefix[:last], first+1), fmt.Sprintf("%s.%d", prefix[:last], first+2)
	n := &network{t: t, name: fmt.Sprintf("gladd-%d", pid), far: fmt.Sprintf("gladd%d", pid), broker: here}
	if problem := n.try("netns", "add", n.name); problem != "" {
		unavailable(t, "no network namespace can be made here: %s", problem)
	}
	t.Cleanup(func() { n.ip("netns", "del", n.name) }) // the cable goes with it
	if problem := n.try("link", "add", n.far, "type", "veth", "peer", "name", "box", "netns", n.name); problem != "" {
		unavailable(t, "no pair of virtual interfaces can be made here: %s", problem)
	}
	n.ip("addr", "add", here+"/30", "dev", n.far)
	n.ip("-n", n.name, "addr", "add", there+"/30", "dev", "box")
	n.ip("-n", n.name, "link", "set", "lo", "up")
	n.ip("-n", n.name, "link", "set", "box", "up")
	n.ip("link", "set", n.far, "up")
	return n
}

// try runs ip and returns what went wrong.
func (n *network) try(arguments ...string) (problem string) {
	output, err := exec.Command("ip", arguments...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("ip %s: %v: %s", strings.Join(arguments, " "), err, output)
	}
	return ""
}

func (n *network) ip(arguments ...string) {
	n.t.Helper()
	if problem := n.try(arguments...); problem != "" {
		n.t.Fatal(problem)
	}
}

// cut takes the link down, at the far end or at the box.
func (n *network) cut(atTheBox bool)  { n.link(atTheBox, "down") }
func (n *network) mend(atTheBox bool) { n.link(atTheBox, "up") }

func (n *network) link(atTheBox bool, state string) {
	n.t.Helper()
	if atTheBox {
		n.ip("-n", n.name, "link", "set", "box", state)
	} else {
		n.ip("link", "set", n.far, state)
	}
}

// start runs the daemon inside until it is ready.
func (n *network) start(config string) *process {
	n.t.Helper()
	p := launchCommand(n.t, exec.Command("ip", "netns", "exec", n.name, os.Args[0], "run", "--config", config))
	p.waitState("READY=1")
	return p
}

// dial connects with an address inside, the loopback's among them, whatever
// the cable's state.
func (n *network) dial(address string) (connection net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// A socket belongs to the namespace of the thread that made it. The thread
		// is not unlocked, and ends with this goroutine.
		runtime.LockOSThread()
		var namespace *os.File
		if namespace, err = os.Open(filepath.Join("/run/netns", n.name)); err != nil {
			return
		}
		defer namespace.Close()
		if err = unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err == nil {
			connection, err = net.Dial("tcp", address)
		}
	}()
	<-done
	return connection, err
}
