package net

import (
	"context"
	stdnet "net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/handle"
	"uringo/ops"
)

// PacketConn receives datagrams from anybody and sends them to anybody. Its methods may be called from several tasks at once. For
// datagrams to and from one peer alone, see [Dial] and [PacketConn.Connect].
type PacketConn struct {
	endpoint
	path string // to be removed by Close
	peer association
}

// ListenPacket makes a socket for datagrams with an address. Networks are udp, udp4, udp6 with addresses like those of [Listen], and
// unixgram with a path or an abstract name that begins with @. socket(2), bind(2).
func ListenPacket(ctx context.Context, network, address string) (*PacketConn, error) {
	return new(ListenConfig).ListenPacket(ctx, network, address)
}

// ListenPacket is [ListenPacket] with options.
func (lc *ListenConfig) ListenPacket(ctx context.Context, network, address string) (*PacketConn, error) {
	d, err := driver.FromContext(ctx)
	if err != nil {
		return nil, noDriver("listen", network)
	}
	n, fd, a, err := lc.bind(ctx, network, address, true)
	if err != nil {
		return nil, opError("listen", "bind", network, nil, a, err)
	}
	c := &PacketConn{path: pathOf(a)}
	c.open(d, n, fd)
	return c, nil
}

// packet is the memory of one transfer of a datagram.
type packet struct {
	msg  ops.Msg
	bufs [1][]byte
}

var packets = sync.Pool{New: func() any { return new(packet) }}

// RecvFrom receives a datagram into b, waiting until there is one, and hands b back. It says who sent it: nil if that has no address.
// The end of a datagram that is longer than b is lost; [PacketConn.RecvMsg] tells of it. Kernel 5.3, recvmsg(2).
func (c *PacketConn) RecvFrom(ctx context.Context, b []byte) (n int, buf []byte, from Addr, err error) {
	n, from, err = c.recvFrom(ctx, b, c.h.Free)
	return n, handle.Back(b, err), from, c.fail("read", "recvmsg", err)
}

func (c *PacketConn) recvFrom(ctx context.Context, b []byte, free func()) (n int, from Addr, err error) {
	if n, m, err, ok := c.leftoverMessage(ctx, 0, nil, b); ok {
		m.discard()
		return n, m.Addr(), err
	}
	p := packets.Get().(*packet)
	p.bufs[0] = b
	n, err = c.receiveMessage(ctx, &p.msg, p.bufs[:], nil, 0, free)
	if err == nil {
		if sa := p.msg.From(); sa != nil {
			from = c.net.address(sa)
		}
	}
	recycle(&packets, p, err)
	return n, from, err
}

// RecvFromAddrPort is RecvFrom for UDP, and allocates nothing. An IPv4 address on a socket for both families is IPv4. Kernel 5.3, recvmsg(2).
func (c *PacketConn) RecvFromAddrPort(ctx context.Context, b []byte) (n int, buf []byte, from netip.AddrPort, err error) {
	if n, m, err, ok := c.leftoverMessage(ctx, 0, nil, b); ok {
		m.discard()
		return n, b, m.AddrPort(), c.fail("read", "recvmsg", err)
	}
	p := packets.Get().(*packet)
	p.bufs[0] = b
	n, err = c.receiveMessage(ctx, &p.msg, p.bufs[:], nil, 0, c.h.Free)
	if err == nil {
		from = withZone(p.msg.FromAddrPort())
	}
	recycle(&packets, p, err)
	return n, handle.Back(b, err), from, c.fail("read", "recvmsg", err)
}

// withZone adds its zone to an address, and takes one of IPv4 for that.
func withZone(addr netip.AddrPort, zone uint32) netip.AddrPort {
	ip := addr.Addr()
	if zone != 0 {
		ip = ip.WithZone(zoneName(zone))
	}
	return netip.AddrPortFrom(ip.Unmap(), addr.Port())
}

// SendTo sends b as a datagram to an address, a *[UDPAddr] or *[UnixAddr], and hands b back. With a peer ([PacketConn.Connect]), nil means that.
// Kernel 5.3, sendmsg(2).
func (c *PacketConn) SendTo(ctx context.Context, b []byte, to Addr) (int, []byte, error) {
	n, err := c.sendTo(ctx, b, to, c.h.Free)
	return n, handle.Back(b, err), c.failTo(to, err)
}

func (c *PacketConn) sendTo(ctx context.Context, b []byte, to Addr, free func()) (int, error) {
	if none(to) && c.peer.now.Load() == nil {
		return 0, errMissingAddress
	}
	p := packets.Get().(*packet)
	p.bufs[0] = b
	n, err := c.sendMessage(ctx, &p.msg, p.bufs[:], nil, to, free)
	recycle(&packets, p, err)
	return n, err
}

// SendToAddrPort is SendTo for UDP. Kernel 5.3, sendmsg(2).
func (c *PacketConn) SendToAddrPort(ctx context.Context, b []byte, to netip.AddrPort) (int, []byte, error) {
	return c.SendTo(ctx, b, stdnet.UDPAddrFromAddrPort(to))
}

// failTo is fail for a datagram with a destination.
func (c *PacketConn) failTo(to Addr, err error) error {
	if none(to) {
		to = c.RemoteAddr()
	}
	return opError("write", "sendmsg", c.net.name, c.local, to, err)
}

// destination returns an address to send to in the kernel's form: nil for none.
func (s *socket) destination(to Addr) (unix.Sockaddr, error) {
	switch {
	case none(to):
		return nil, nil
	case !s.net.has(to):
		return nil, &stdnet.AddrError{Err: "mismatched address type", Addr: to.String()}
	case s.net.typ != unix.SOCK_DGRAM:
		return nil, syscall.EISCONN // TCP and unixpacket would send to the peer, and say nothing
	}
	family := unix.AF_INET6
	if ip, _, _ := ipOf(s.local); ip.Is4() {
		family = unix.AF_INET
	}
	return sockaddr(to, family)
}

// Close closes the socket. The path of a Unix socket is removed, if ListenPacket made it. See [Conn.Close].
func (c *PacketConn) Close(ctx context.Context) error {
	return c.closeAfter(ctx, func() { unlink(c.path) })
}
