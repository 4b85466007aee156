package cuda

import (
	"net"
	"syscall"
)

// peer is the process at a connection's other end; 0: not known, as beyond the bounds of a
// container.
func peer(connection *net.UnixConn) (process int) {
	raw, err := connection.SyscallConn()
	if err != nil {
		return 0
	}
	err = raw.Control(func(file uintptr) {
		if other, err := syscall.GetsockoptUcred(int(file), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			process = int(other.Pid)
		}
	})
	if err != nil {
		return 0
	}
	return process
}
