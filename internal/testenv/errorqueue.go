package testenv

import (
	"testing"

	"golang.org/x/sys/unix"
)

// ErrorQueued returns a socket for datagrams that polls as being in error, for good, and of which no call says so: there is something in its
// queue of errors (IP_RECVERR, ip(7)). It is bound to the address, also, that is returned.
func ErrorQueued(t testing.TB) (fd int, addr unix.Sockaddr) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	bound := func() (int, unix.Sockaddr) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		must(err)
		t.Cleanup(func() { _ = unix.Close(fd) })
		must(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
		addr, err := unix.Getsockname(fd)
		must(err)
		return fd, addr
	}
	deaf, nobody := bound()
	must(unix.Connect(deaf, nobody)) // to itself: for others its port is closed
	fd, addr = bound()
	must(unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1))
	must(unix.Sendto(fd, []byte("x"), 0, nobody))
	fds := []unix.PollFd{{Fd: int32(fd)}}
	for {
		n, err := unix.Poll(fds, -1)
		if err == unix.EINTR {
			continue
		}
		must(err)
		if n == 1 && fds[0].Revents == unix.POLLERR {
			break
		}
		t.Fatalf("%d sockets are ready, for %#x", n, fds[0].Revents)
	}
	_, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR) // the error proper is told of once
	must(err)
	return fd, addr
}
