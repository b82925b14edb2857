package net

import (
	stdnet "net"
	"os"
	"syscall"
	"time"
)

// netListener is a Listener as the standard library has them.
type netListener struct {
	l   *Listener
	end *deadline
}

// NetListener returns l in the shape of the standard library: for http.Serve and its like. The connections that it accepts are those
// of [Conn.NetConn]. It has SetDeadline, SyscallConn and File like *net.TCPListener. Its methods may be called from any goroutine and from
// tasks; closing it closes l.
func (l *Listener) NetListener() stdnet.Listener {
	return &netListener{l, newDeadline(l.h.Driver)}
}

// Accept implements net.Listener.
func (a *netListener) Accept() (stdnet.Conn, error) {
	ctx := a.end.context()
	c, err := a.l.next(ctx, a.l.h.Driver)
	if err != nil {
		return nil, a.l.fail("accept", "accept4", stdError(ctx, err))
	}
	return c.NetConn(), nil
}

// Close implements net.Listener.
func (a *netListener) Close() error {
	a.end.stop()
	return a.l.Close(background(a.l.h.Driver))
}

// Addr implements net.Listener.
func (a *netListener) Addr() Addr { return a.l.Addr() }

// SetDeadline is that of *net.TCPListener.
func (a *netListener) SetDeadline(t time.Time) error {
	return a.l.setDeadline(t, a.end)
}

// File is that of *net.TCPListener: those who hand a listener on to another process ask for it.
func (a *netListener) File() (*os.File, error) { return a.l.File() }

// SyscallConn implements syscall.Conn.
func (a *netListener) SyscallConn() (syscall.RawConn, error) {
	return newRawConn(&a.l.socket, a.end, a.end), nil
}
