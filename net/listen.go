package net

import (
	"context"
	stdnet "net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/handle"
	"uringo/ops"
)

// ListenConfig has options for listening. The zero value means those of [Listen].
type ListenConfig struct {
	// Control, if not nil, is called with the socket before it is bound.
	Control func(network, address string, c syscall.RawConn) error

	// KeepAlive is the time between keep-alive probes of accepted TCP connections. Zero means 15 seconds, a negative value none.
	// It does not count if KeepAliveConfig.Enable is set.
	KeepAlive time.Duration

	// KeepAliveConfig is about the probes in detail, see the standard library.
	KeepAliveConfig stdnet.KeepAliveConfig

	// Backlog is how many connections may wait to be accepted; the kernel has a limit of its own (net.core.somaxconn). Zero means
	// that limit.
	Backlog int

	// ReusePort lets several sockets have the same address, if all of them set it; the kernel distributes connections among them.
	// SO_REUSEPORT, socket(7).
	ReusePort bool

	// FastOpen, if positive, lets clients send data with the first packet of a TCP connection (tcp(7), TCP_FASTOPEN), for as many
	// of them at a time.
	FastOpen int
}

// Listener accepts connections. Its methods may be called from several tasks at once.
type Listener struct {
	socket
	path string // to be removed by Close
	left backlog

	changing executor.Mutex // of who begins or ends an iteration
	streams  []*accepting   // whose turn it is
}

// Listen announces on an address. Networks are tcp, tcp4, tcp6 with addresses like "localhost:80", "[::1]:0" or ":http"; unix and
// unixpacket with a path, or an abstract name that begins with @. Port 0 means a free one, no host all addresses of the machine, and
// no address both; for unix that is an abstract name of the kernel's choice.
// A name of several addresses means one of them, IPv4 if there is. socket(2), bind(2), listen(2).
func Listen(ctx context.Context, network, address string) (*Listener, error) {
	return new(ListenConfig).Listen(ctx, network, address)
}

// Listen is [Listen] with options.
func (lc *ListenConfig) Listen(ctx context.Context, network, address string) (*Listener, error) {
	d, err := driver.FromContext(ctx)
	if err != nil {
		return nil, noDriver("listen", network)
	}
	n, fd, a, err := lc.bind(ctx, network, address, false)
	if err != nil {
		return nil, opError("listen", "bind", network, nil, a, err)
	}
	backlog := lc.Backlog
	if backlog <= 0 {
		backlog = 1<<16 - 1
	}
	if err = lc.prepare(n, fd); err == nil {
		err = sysError("listen", unix.Listen(fd, backlog))
	}
	if err != nil {
		_ = unix.Close(fd) // the error that counts is err
		return nil, opError("listen", "listen", network, nil, a, err)
	}
	l := &Listener{path: pathOf(a)}
	l.open(d, n, fd)
	l.slow.Store(lc.Control != nil && handle.Lingers(fd))
	return l, nil
}

// bind makes a socket with an address.
func (lc *ListenConfig) bind(ctx context.Context, name, address string, packets bool) (n *network, fd int, a Addr, err error) {
	n, err = networkNamed(name)
	if err == nil && (n.typ == unix.SOCK_DGRAM) != packets {
		err = &stdnet.AddrError{Err: "networks of datagrams are for ListenPacket, others for Listen", Addr: address}
	}
	if err != nil {
		return n, -1, nil, err
	}
	addrs, err := n.resolve(ctx, nil, address)
	if err != nil {
		return n, -1, nil, err
	}
	a = addrs[0]
	for _, other := range addrs {
		if ip, _, _ := ipOf(other); ip.Is4() {
			a = other
			break
		}
	}
	ip, _, port := ipOf(a)
	family, both := n.listenFamily(ip)
	fd, err = n.create(family)
	if both && err != nil { // no IPv6 here
		family, both = unix.AF_INET, false
		fd, err = n.create(family)
	}
	if err != nil {
		return n, -1, a, err
	}
	if both {
		a = n.addr(netip.IPv6Unspecified(), port)
	}
	if err = lc.bindTo(n, fd, family, both, a); err != nil {
		_ = unix.Close(fd) // the error that counts is err
		return n, -1, a, err
	}
	return n, fd, a, nil
}

// listenFamily returns the family of a socket that listens on ip, and whether it takes the other one as well.
func (n *network) listenFamily(ip netip.Addr) (family int, both bool) {
	any := !ip.IsValid() || ip.IsUnspecified()
	switch {
	case n.proto == "unix":
		return unix.AF_UNIX, false
	case n.only == '4' || n.only == 0 && ip.Is4() && !any:
		return unix.AF_INET, false
	case n.only == '6' || !any:
		return unix.AF_INET6, false
	}
	return unix.AF_INET6, true
}

func (lc *ListenConfig) bindTo(n *network, fd, family int, both bool, a Addr) error {
	if family == unix.AF_INET6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, boolint(!both)) // not on every system
	}
	if n.typ == unix.SOCK_DGRAM && n.proto == "udp" {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
			return sysError("setsockopt", err)
		}
	}
	if n.proto == "tcp" {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return sysError("setsockopt", err)
		}
	}
	if lc.ReusePort {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return sysError("setsockopt", err)
		}
	}
	if lc.Control != nil {
		err := rawFD(fd).given(func(c syscall.RawConn) error { return lc.Control(n.exact(family), a.String(), c) })
		if err != nil {
			return err
		}
	}
	sa, err := sockaddr(a, family)
	if err != nil {
		return err
	}
	return bind(fd, sa)
}

// exact is the network's name with the family in it, which Control functions are told.
func (n *network) exact(family int) string {
	switch family {
	case unix.AF_INET:
		return n.proto + "4"
	case unix.AF_INET6:
		return n.proto + "6"
	}
	return n.name
}

// prepare sets what accepted connections inherit.
func (lc *ListenConfig) prepare(n *network, fd int) error {
	if n.proto != "tcp" {
		return nil
	}
	if lc.FastOpen > 0 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN, lc.FastOpen); err != nil {
			return sysError("setsockopt", err)
		}
	}
	return tune(fd, lc.KeepAlive, lc.KeepAliveConfig)
}

// Addr returns the address that the listener listens on. It must not be modified.
func (l *Listener) Addr() Addr { return l.local }

// Accept waits for a connection. One that was accepted in the moment in which ctx ended is returned. With too many open files the
// error is EMFILE or ENFILE, and the connection waits on. Kernel 5.5, accept4(2).
func (l *Listener) Accept(ctx context.Context) (*Conn, error) {
	d, err := driver.FromContext(ctx)
	if err != nil {
		return nil, l.fail("accept", "accept4", err)
	}
	c, err := l.next(ctx, d)
	return c, l.fail("accept", "accept4", err)
}

// next returns a connection that an iteration has left, or accepts one.
func (l *Listener) next(ctx context.Context, d *driver.Driver) (*Conn, error) {
	if c := l.leftover(ctx); c != nil {
		return c, nil
	}
	fd, remote, err := l.accept(ctx)
	if err != nil {
		return nil, err
	}
	return l.conn(d, fd, remote), nil
}

// leftover returns a connection that an iteration has left, unless there is none or ctx has ended.
func (l *Listener) leftover(ctx context.Context) *Conn {
	if ctx.Err() != nil {
		return nil
	}
	return l.left.pop()
}

// conn makes a connection of what was accepted. The remote address is nil if it is not known yet.
func (l *Listener) conn(d *driver.Driver, fd int, remote Addr) *Conn {
	c := newConn(d, l.net, fd, l.common(), remote)
	if l.slow.Load() { // which is inherited
		c.slow.Store(true)
	}
	return c
}

// common returns the local address that all accepted connections have, nil if they differ.
func (l *Listener) common() Addr {
	if ip, _, _ := ipOf(l.local); l.net.proto != "unix" && (!ip.IsValid() || ip.IsUnspecified()) {
		return nil
	}
	return l.local
}

// peers has the memory for addresses of those who are accepted.
var peers = sync.Pool{New: func() any { return new(ops.Peer) }}

// accept returns the remote address, too.
func (l *Listener) accept(ctx context.Context) (fd int, remote Addr, err error) {
	const flags = unix.SOCK_NONBLOCK
	if !l.h.Acquire() {
		return -1, nil, ErrClosed
	}
	for {
		fd, err := l.try(ctx, OpAccept, func() (int, error) {
			var peer ops.Peer
			n, err := ops.TryAccept(l.h.FD, flags, &peer)
			if err == nil {
				remote = l.net.peer(&peer)
			}
			return n, err
		})
		if err == syscall.EAGAIN {
			peer := peers.Get().(*ops.Peer)
			if fd, err = onRing(ctx, ops.AcceptFrom(l.h.FD, flags, peer), l.h.Free); err == nil {
				remote = l.net.peer(peer)
			}
			recycle(&peers, peer, err)
		}
		if err == syscall.ECONNABORTED {
			continue // reset before it was accepted: nobody's business
		}
		return fd, remote, l.h.Settle(err, ErrClosed)
	}
}

// Close stops listening. Calls of Accept that wait end with [ErrClosed]. The path of a Unix listener is removed, if Listen made it.
// See [Conn.Close].
func (l *Listener) Close(ctx context.Context) error {
	err := l.closeAfter(ctx, func() { unlink(l.path) })
	l.left.close(context.WithoutCancel(ctx))
	return err
}

// pathOf returns the path that binding to an address makes, if it makes one.
func pathOf(a Addr) string {
	if u, ok := a.(*UnixAddr); ok && u.Name != "" && u.Name[0] != '@' {
		return u.Name
	}
	return ""
}

// unlink removes the path of a socket. It may be gone.
func unlink(path string) {
	if path != "" {
		_ = unix.Unlink(path)
	}
}
