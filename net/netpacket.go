package net

import (
	stdnet "net"
	"os"
)

// netPacketConn is a PacketConn as the standard library has them.
type netPacketConn struct {
	deadlines
	c *PacketConn
}

// NetPacketConn returns c in the shape of the standard library. It has deadlines, is a syscall.Conn, and has the methods of *net.UDPConn that
// libraries look for to size its buffers and to pass it on. Its methods may be called from any goroutine and from tasks; closing it closes c.
func (c *PacketConn) NetPacketConn() stdnet.PacketConn {
	return &netPacketConn{newDeadlines(&c.socket), c}
}

// ReadFrom implements net.PacketConn.
func (a *netPacketConn) ReadFrom(p []byte) (int, Addr, error) {
	l := borrow(&a.c.socket, nil)
	ctx := a.read.context()
	n, from, err := a.c.recvFrom(ctx, p, l.free)
	l.settle(err)
	return n, from, a.c.fail("read", "recvmsg", stdError(ctx, err))
}

// WriteTo implements net.PacketConn.
func (a *netPacketConn) WriteTo(p []byte, to Addr) (int, error) {
	l := borrow(&a.c.socket, nil)
	ctx := a.write.context()
	n, err := a.c.sendTo(ctx, p, to, l.free)
	l.settle(err)
	return n, a.c.failTo(to, stdError(ctx, err))
}

// Close implements net.PacketConn.
func (a *netPacketConn) Close() error {
	a.stop()
	return a.c.Close(background(a.c.h.Driver))
}

// SetReadBuffer is that of *net.UDPConn.
func (a *netPacketConn) SetReadBuffer(bytes int) error { return a.c.SetReadBuffer(bytes) }

// SetWriteBuffer is that of *net.UDPConn.
func (a *netPacketConn) SetWriteBuffer(bytes int) error { return a.c.SetWriteBuffer(bytes) }

// File is that of *net.UDPConn.
func (a *netPacketConn) File() (*os.File, error) { return a.c.File() }
