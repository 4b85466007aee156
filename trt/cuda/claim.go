package cuda

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"sync"
	"syscall"
)

// Claim tells others on this computer that a GPU is in use, until it is closed or the
// process ends.
//
// It is a socket of Linux's abstract namespace that is named after the GPU: such
// a name needs no folder and no right, so that it is seen across users, as a
// systemd service with DynamicUser has them. Containers with a network
// of their own do not see each other's.
type Claim struct {
	listener *net.UnixListener // nil: all places are taken
	accepted sync.WaitGroup
}

// claimPlaces is how many users of one GPU are told apart.
const claimPlaces = 16

// Claim says that this process uses the GPU, and finds the processes that do so
// already; 0 stands for one whose number the system does not tell. later is called once, with the
// first process that comes after; nil: nobody is told.
func (p Properties) Claim(later func(process int)) (claim *Claim, users []int, err error) {
	name := p.UUID
	if name == "" && p.Integrated {
		name = "integrated" // there is but one
	}
	switch {
	case runtime.GOOS != "linux":
		return nil, nil, errors.New("claim of a GPU: works on Linux only")
	case name == "":
		return nil, nil, fmt.Errorf("claim of GPU %d (%s): it has no UUID", p.Ordinal, p.Name)
	}
	claim = &Claim{}
	for place := range claimPlaces {
		address := &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("@gladd/gpu/%s/%d", name, place)}
		listener, err := net.ListenUnix("unix", address)
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			users = append(users, listening(address))
		case err != nil:
			return nil, nil, errors.Join(fmt.Errorf("claim of GPU %s: %w", name, err), claim.Close())
		case claim.listener == nil:
			claim.listener = listener
		default:
			listener.Close() //nolint:errcheck // the place was only tried
		}
	}
	if claim.listener != nil {
		claim.accepted.Go(func() { claim.accept(later) })
	}
	slices.Sort(users)
	return claim, slices.Compact(users), nil
}

// Announce claims the GPU and warns in the log if another gladd uses it, now or later: both
// work, but not as they were measured. It never fails, since it is no more than a
// warning; the claim is nil where none can be made.
func (p Properties) Announce(log *slog.Logger) *Claim {
	warn := func(processes ...int) {
		log.Warn("another gladd uses this GPU: calls of both take turns, so that parts take longer, and each has its networks in the GPU's memory; end the one that is not needed",
			"gpu", p.Name, "processes", processes)
	}
	claim, users, err := p.Claim(func(process int) { warn(process) })
	if err != nil {
		log.Debug("whether another gladd uses the GPU is not known", "error", err)
	}
	if len(users) > 0 {
		warn(users...)
	}
	return claim
}

// Close gives the claim up. It may be called twice.
func (c *Claim) Close() error {
	if c == nil || c.listener == nil {
		return nil
	}
	err := c.listener.Close()
	c.accepted.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// accept hears of those that come later: each one connects once.
func (c *Claim) accept(later func(process int)) {
	for told := later == nil; ; {
		connection, err := c.listener.AcceptUnix()
		if err != nil {
			return
		}
		process := peer(connection)
		connection.Close() //nolint:errcheck // nothing was written
		if !told {
			told = true
			later(process)
		}
	}
}

// listening is the process that has a place; 0: not known.
func listening(address *net.UnixAddr) int {
	connection, err := net.DialUnix("unix", nil, address)
	if err != nil {
		return 0
	}
	defer connection.Close() //nolint:errcheck // nothing was written
	return peer(connection)
}
