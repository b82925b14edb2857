package net

import (
	"context"
	stdnet "net"
	"os"
	"sync"
	"syscall"
	"time"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/handle"
)

// netConn is a Conn as the standard library has them.
type netConn struct {
	deadlines
	c *Conn
}

// NetConn returns c in the shape of the standard library: for net/http, crypto/tls, database drivers. It has deadlines, is a
// syscall.Conn, and has the methods of *net.TCPConn that such libraries look for. Its methods may be called from any goroutine and
// from tasks; closing it closes c. All calls return the same value.
//
// A call whose deadline passes waits until the kernel has let go of the buffer, and says what it did by then, however soon a Config.CancelGrace lets
// others go.
func (c *Conn) NetConn() stdnet.Conn {
	if a := c.adapter.Load(); a != nil {
		return a
	}
	c.adapter.CompareAndSwap(nil, &netConn{newDeadlines(&c.socket), c})
	return c.adapter.Load()
}

// Read implements net.Conn.
func (a *netConn) Read(p []byte) (int, error) {
	if len(p) > 0 && a.read.over() && !a.c.h.Closing() {
		return 0, a.c.fail("read", "read", os.ErrDeadlineExceeded) // net/http ends a read so for every request
	}
	l := borrow(&a.c.socket, nil)
	ctx := a.read.context()
	n, err := a.c.receive(ctx, p, 0, l.free)
	l.settle(err)
	return n, a.c.fail("read", "read", stdError(ctx, err))
}

// Write implements net.Conn.
func (a *netConn) Write(p []byte) (int, error) {
	l := borrow(&a.c.socket, &a.c.writes)
	ctx := a.write.context()
	n, err := a.c.sendAll(ctx, p, l.free)
	l.settle(err)
	return n, a.c.fail("write", "write", stdError(ctx, err))
}

// Close implements net.Conn.
func (a *netConn) Close() error { return a.c.Close(background(a.c.h.Driver)) }

// RemoteAddr implements net.Conn.
func (a *netConn) RemoteAddr() Addr { return a.c.RemoteAddr() }

// CloseRead is that of *net.TCPConn.
func (a *netConn) CloseRead() error { return a.c.CloseRead() }

// CloseWrite is that of *net.TCPConn.
func (a *netConn) CloseWrite() error { return a.c.CloseWrite() }

// SetNoDelay is that of *net.TCPConn.
func (a *netConn) SetNoDelay(on bool) error { return a.c.SetNoDelay(on) }

// SetKeepAlive is that of *net.TCPConn.
func (a *netConn) SetKeepAlive(on bool) error { return a.c.SetKeepAlive(on) }

// SetKeepAlivePeriod is that of *net.TCPConn.
func (a *netConn) SetKeepAlivePeriod(d time.Duration) error { return a.c.SetKeepAlivePeriod(d) }

// SetKeepAliveConfig is that of *net.TCPConn.
func (a *netConn) SetKeepAliveConfig(cfg stdnet.KeepAliveConfig) error {
	return a.c.SetKeepAliveConfig(cfg)
}

// SetLinger is that of *net.TCPConn.
func (a *netConn) SetLinger(sec int) error { return a.c.SetLinger(sec) }

// SetReadBuffer is that of *net.TCPConn.
func (a *netConn) SetReadBuffer(bytes int) error { return a.c.SetReadBuffer(bytes) }

// SetWriteBuffer is that of *net.TCPConn.
func (a *netConn) SetWriteBuffer(bytes int) error { return a.c.SetWriteBuffer(bytes) }

// File is that of *net.TCPConn.
func (a *netConn) File() (*os.File, error) { return a.c.File() }

// background is the context of a call that has none.
func background(d *driver.Driver) context.Context {
	return driver.NewContext(context.Background(), d)
}

// lease is the use of a buffer that must not stay with the kernel after the call: the interfaces of the standard library forbid it.
type lease struct {
	s    *socket
	turn *executor.Mutex // which the user has, or nil
	gone executor.Event
	free func() // end, as a value
}

var leases = sync.Pool{New: func() any {
	l := &lease{}
	l.free = l.end
	return l
}}

// borrow begins the use of a buffer with a socket.
func borrow(s *socket, turn *executor.Mutex) *lease {
	l := leases.Get().(*lease)
	l.s, l.turn = s, turn
	return l
}

// end is called by the driver when the kernel has let go of the buffer of somebody who did not wait for it.
func (l *lease) end() {
	if l.turn != nil {
		l.turn.Unlock()
	}
	l.s.h.Release()
	l.gone.Set()
}

// settle ends the use after an operation with the outcome err.
func (l *lease) settle(err error) {
	if handle.Abandoned(err) {
		_ = l.gone.Wait(background(l.s.h.Driver)) // which never ends early
		return
	}
	l.s, l.turn = nil, nil
	leases.Put(l)
}

var (
	_ stdnet.Conn  = (*netConn)(nil)
	_ syscall.Conn = (*netConn)(nil)
)
