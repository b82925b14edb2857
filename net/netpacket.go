package net

import (
	stdnet "net"
	"syscall"
	"time"
)

// netPacketConn is a PacketConn as the standard library has them.
type netPacketConn struct {
	c           *PacketConn
	read, write *deadline
}

// NetPacketConn returns c in the shape of the standard library. It has deadlines and is a syscall.Conn. Its methods may be called from
// any goroutine and from tasks; closing it closes c.
func (c *PacketConn) NetPacketConn() stdnet.PacketConn {
	return &netPacketConn{c, newDeadline(c.h.Driver), newDeadline(c.h.Driver)}
}

// ReadFrom implements net.PacketConn.
func (a *netPacketConn) ReadFrom(p []byte) (int, Addr, error) {
	l := borrow(&a.c.socket, nil)
	n, from, err := a.c.recvFrom(a.read.context(), p, l.free)
	l.settle(err)
	return n, from, a.c.fail("read", "recvmsg", stdError(err))
}

// WriteTo implements net.PacketConn.
func (a *netPacketConn) WriteTo(p []byte, to Addr) (int, error) {
	l := borrow(&a.c.socket, nil)
	n, err := a.c.sendTo(a.write.context(), p, to, l.free)
	l.settle(err)
	return n, a.c.failTo(to, stdError(err))
}

// Close implements net.PacketConn.
func (a *netPacketConn) Close() error {
	a.read.stop()
	a.write.stop()
	return a.c.Close(background(a.c.h.Driver))
}

// LocalAddr implements net.PacketConn.
func (a *netPacketConn) LocalAddr() Addr { return a.c.LocalAddr() }

// SetDeadline implements net.PacketConn.
func (a *netPacketConn) SetDeadline(t time.Time) error { return a.setDeadline(t, a.read, a.write) }

// SetReadDeadline implements net.PacketConn.
func (a *netPacketConn) SetReadDeadline(t time.Time) error { return a.setDeadline(t, a.read) }

// SetWriteDeadline implements net.PacketConn.
func (a *netPacketConn) SetWriteDeadline(t time.Time) error { return a.setDeadline(t, a.write) }

func (a *netPacketConn) setDeadline(t time.Time, of ...*deadline) error {
	if a.c.h.Closing() {
		return a.c.fail("set", "", ErrClosed)
	}
	for _, d := range of {
		d.set(t)
	}
	return nil
}

// SyscallConn implements syscall.Conn.
func (a *netPacketConn) SyscallConn() (syscall.RawConn, error) {
	return &rawConn{&a.c.socket, a.read, a.write}, nil
}
