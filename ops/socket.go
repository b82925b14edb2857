package ops

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

var (
	kindSocket  = &Kind{Name: "socket", Code: ring.OpSocket, Prepare: prepareSocket, Discard: discardFD}
	kindConnect = &Kind{Name: "connect", Code: ring.OpConnect, Prepare: prepareConnect, Waits: true, Ready: readyConnect}
	kindAccept  = &Kind{Name: "accept", Code: ring.OpAccept, Prepare: prepareAccept, Waits: true, Discard: discardFD, Ready: readyRecv,
		PollFirst: ring.AcceptPollFirst}
	kindShutdown = &Kind{Name: "shutdown", Code: ring.OpShutdown}
)

// Socket makes a socket, close-on-exec. domain is unix.AF_*, typ unix.SOCK_* with SOCK_NONBLOCK if wanted, proto unix.IPPROTO_* or 0.
// N is the descriptor. Kernel 5.19, socket(2).
func Socket(domain, typ, proto int) Op[struct{}] {
	return Op[struct{}]{Spec: Spec{Kind: kindSocket, FD: -1, opFlags: uint32(domain), off: uint64(uint32(typ | unix.SOCK_CLOEXEC)),
		len: uint32(proto)}}
}

// The descriptor's place holds the domain, which no cancellation by descriptor should take for one: Spec.FD stays -1.
func prepareSocket(s *Spec, e *ring.SQE) {
	e.FD = int32(s.opFlags)
	e.Off = s.off
	e.Len = s.len
}

// Connect connects the socket fd to addr: [*unix.SockaddrInet4], [*unix.SockaddrInet6] or [*unix.SockaddrUnix], others are
// EAFNOSUPPORT. The address is copied. It waits until the connection stands or has failed, also on a socket with O_NONBLOCK; on a Unix
// socket, until the listener's queue has room.
//
// A socket whose Connect failed or was cancelled is in no state to be used, and is to be closed. Kernel 5.5, connect(2).
func Connect(fd int, addr unix.Sockaddr) Op[struct{}] {
	s := Spec{Kind: kindConnect, FD: int32(fd)}
	if a, err := newSockaddr(addr); err != nil {
		s.aux = &invalid{err}
	} else {
		s.aux = a
	}
	return Op[struct{}]{Spec: s}
}

func prepareConnect(s *Spec, e *ring.SQE) {
	if a, ok := s.aux.(*sockaddr); ok {
		e.Addr = uint64(uintptr(unsafe.Pointer(&a.raw)))
		e.Off = uint64(a.len)
	}
}

// Disconnect takes its peer from the socket for datagrams fd. A TCP socket, which nothing else may be using, loses its connection, with a reset to
// the peer unless both have ended it; then [Connect] can connect it again. Others refuse. It is a plain system call that does not wait.
// connect(2) with AF_UNSPEC.
func Disconnect(fd int) error {
	nobody := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	for {
		_, _, errno := syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&nobody)), unsafe.Sizeof(nobody))
		switch errno {
		case 0:
			return nil
		case syscall.EINTR:
		default:
			return errno
		}
	}
}

// readyConnect says what to wait for when a connection is being made already, as it is for an operation that is repeated. EAGAIN is
// about a listener's queue, of which no event tells.
func readyConnect(_ *Spec, res int32) uint32 {
	if res == einprogress || res == ealready {
		return unix.POLLOUT
	}
	return 0
}

// Accept takes a connection from the listening socket fd, and waits for one, also if the socket has O_NONBLOCK. N is its descriptor,
// close-on-exec; flags are 0 or unix.SOCK_NONBLOCK. Who is at the other end, [AcceptFrom] and [Peer.Of] tell. Kernel 5.5, accept(2).
func Accept(fd int, flags int) Op[struct{}] { return AcceptFrom(fd, flags, nil) }

// AcceptFrom is [Accept], and p, if not nil, is told the peer's address.
func AcceptFrom(fd int, flags int, p *Peer) Op[struct{}] {
	s := Spec{Kind: kindAccept, FD: int32(fd), opFlags: uint32(flags | unix.SOCK_CLOEXEC)}
	if p != nil {
		s.aux = p
	}
	return Op[struct{}]{Spec: s}
}

func prepareAccept(s *Spec, e *ring.SQE) {
	e.OpFlags = s.opFlags
	if p, ok := s.aux.(*Peer); ok {
		p.name.len = uint32(unsafe.Sizeof(p.name.raw))
		e.Addr = uint64(uintptr(unsafe.Pointer(&p.name.raw)))
		e.Off = uint64(uintptr(unsafe.Pointer(&p.name.len)))
	}
}

// Peer is who is at the other end of a connection. It is the operation's that is to tell until the result is in.
type Peer struct{ name sockaddr }

// Addr returns the peer's address, nil if it has none.
func (p *Peer) Addr() unix.Sockaddr { return p.name.sockaddr() }

// AddrPort returns the peer's internet address and the index of its zone, without allocating. The address is invalid if it has none.
func (p *Peer) AddrPort() (addr netip.AddrPort, zone uint32) { return p.name.addrPort() }

// Of asks who is at the other end of the socket fd. It is a plain system call, getpeername(2).
func (p *Peer) Of(fd int) error {
	p.name.len = uint32(unsafe.Sizeof(p.name.raw))
	_, _, errno := syscall.RawSyscall(unix.SYS_GETPEERNAME, uintptr(fd), uintptr(unsafe.Pointer(&p.name.raw)), uintptr(unsafe.Pointer(&p.name.len)))
	if errno != 0 {
		p.name.len = 0
		return errno
	}
	return nil
}

// Shutdown ends one or both directions of the socket fd: how is unix.SHUT_RD, SHUT_WR or SHUT_RDWR. Operations that wait on the socket
// then end. Kernel 5.11, shutdown(2).
func Shutdown(fd, how int) Op[struct{}] {
	return Op[struct{}]{Spec: Spec{Kind: kindShutdown, FD: int32(fd), len: uint32(how)}}
}
