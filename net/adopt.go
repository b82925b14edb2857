package net

import (
	"context"
	stdnet "net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/handle"
)

// NewConn makes a Conn of a connected socket, which from now on belongs to it, and makes it non-blocking. With an error it still belongs
// to the caller.
func NewConn(ctx context.Context, fd int) (*Conn, error) {
	d, n, err := adopt(ctx, fd, false)
	if err != nil {
		return nil, opError("file", "getsockopt", "", nil, nil, err)
	}
	c := newConn(d, n, fd, nil, nil)
	c.slow.Store(true) // for all we know
	return c, nil
}

// NewListener makes a Listener of a listening socket, such as one that was handed over by a service manager; see [NewConn].
func NewListener(ctx context.Context, fd int) (*Listener, error) {
	d, n, err := adopt(ctx, fd, true)
	if err != nil {
		return nil, opError("file", "getsockopt", "", nil, nil, err)
	}
	l := &Listener{}
	l.open(d, n, fd)
	l.slow.Store(handle.Lingers(fd))
	return l, nil
}

// NewPacketConn makes a PacketConn of a socket for datagrams that is not connected; see [NewConn]. A path that it is bound to stays, and is not
// removed by Close.
func NewPacketConn(ctx context.Context, fd int) (*PacketConn, error) {
	d, n, err := adopt(ctx, fd, false)
	if err == nil && n.typ != unix.SOCK_DGRAM {
		err = unix.EINVAL
	}
	if err == nil {
		if _, connected := unix.Getpeername(fd); connected == nil {
			err = unix.EISCONN
		}
	}
	if err != nil {
		return nil, opError("file", "getsockopt", "", nil, nil, err)
	}
	c := &PacketConn{}
	c.open(d, n, fd)
	return c, nil
}

// FromNet makes a Conn of a connection of the standard library, such as a *net.TCPConn, which it closes: the two share the socket, not
// the descriptor. With an error, c is as it was.
func FromNet(ctx context.Context, c stdnet.Conn) (*Conn, error) {
	return from(ctx, c, NewConn)
}

// FromNetListener is [FromNet] for listeners. The path of a Unix listener stays, and is not removed by Close.
func FromNetListener(ctx context.Context, l stdnet.Listener) (*Listener, error) {
	return from(ctx, l, func(ctx context.Context, fd int) (*Listener, error) {
		own, err := NewListener(ctx, fd)
		if u, ok := l.(*stdnet.UnixListener); ok && err == nil {
			u.SetUnlinkOnClose(false)
		}
		return own, err
	})
}

// FromNetPacketConn is [FromNet] for sockets for datagrams, such as a *net.UDPConn that is not connected.
func FromNetPacketConn(ctx context.Context, c stdnet.PacketConn) (*PacketConn, error) {
	return from(ctx, c, NewPacketConn)
}

// from makes one of ours of one of the standard library's.
func from[T any](ctx context.Context, c interface{ Close() error }, make func(context.Context, int) (T, error)) (T, error) {
	var none T
	fd, err := duplicate(c)
	if err != nil {
		return none, opError("file", "dup", "", nil, nil, err)
	}
	own, err := make(ctx, fd)
	if err != nil {
		_ = unix.Close(fd) // the error that counts is err
		return none, err
	}
	_ = c.Close() // the socket goes on
	return own, nil
}

// duplicate returns another descriptor of the socket of c.
func duplicate(c any) (int, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return -1, &stdnet.AddrError{Err: "connection has no descriptor"}
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var dup error
	if err := raw.Control(func(old uintptr) { fd, dup = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return -1, err
	}
	return fd, dup
}

// adopt finds out what a socket is.
func adopt(ctx context.Context, fd int, listening bool) (*driver.Driver, *network, error) {
	d, err := driver.FromContext(ctx)
	if err != nil {
		return nil, nil, err
	}
	var opt [3]int
	for i, o := range [...]int{unix.SO_DOMAIN, unix.SO_TYPE, unix.SO_ACCEPTCONN} {
		if opt[i], err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, o); err != nil {
			return nil, nil, err
		}
	}
	if (opt[2] != 0) != listening {
		return nil, nil, unix.EINVAL
	}
	n, err := networkOf(opt[0], opt[1])
	if err != nil {
		return nil, nil, err
	}
	return d, n, unix.SetNonblock(fd, true)
}

// File returns a file of package os with a descriptor of its own of the same socket. Unlike that of *net.TCPConn it stays non-blocking when somebody
// takes the descriptor, as os/exec does: for a program that would not expect that, call unix.SetNonblock, which goes for both descriptors, and use
// the socket no more here.
func (s *socket) File() (*os.File, error) {
	s.slow.Store(true) // for all we know
	var file *os.File
	err := s.control("file", "dup", func(fd int) error {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			file = os.NewFile(uintptr(dup), s.net.name)
		}
		return err
	})
	return file, err
}

// Detach ends the use of the socket as Close does, but does not close it: the descriptor, which is non-blocking, belongs to the caller.
// If ctx ends while it waits for operations in flight, the socket is closed after them. What an iteration has left over (see
// [Conn.Receives]) is to be read before, or it is lost; connections that one has ([Listener.Accepts]), Accept still returns. To have a TCP
// socket connected to somebody else, use ops.Disconnect, ops.Connect and [NewConn].
func (s *socket) Detach(ctx context.Context) (fd int, err error) {
	first, err := s.h.Shut(ctx)
	s.bar()
	if !first {
		err = ErrClosed
	}
	if err != nil {
		return -1, s.fail("file", "", err)
	}
	return s.h.FD, nil
}

// UnixPair returns two ends of a Unix stream, neither of which has a name. socketpair(2).
func UnixPair(ctx context.Context) (*Conn, *Conn, error) {
	d, err := driver.FromContext(ctx)
	if err != nil {
		return nil, nil, noDriver("socketpair", "unix")
	}
	n, err := networkOf(unix.AF_UNIX, unix.SOCK_STREAM)
	if err != nil {
		return nil, nil, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, opError("socketpair", "socketpair", "unix", nil, nil, err)
	}
	return newConn(d, n, fds[0], nil, nil), newConn(d, n, fds[1], nil, nil), nil
}
