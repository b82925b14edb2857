package net

import (
	"context"
	"errors"
	"iter"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/driver"
	"uringo/executor"
	"uringo/ops"
)

// RingConn is a connection whose socket is in the table of its driver's ring and nowhere else (a direct descriptor). The kernel is spared looking
// a descriptor up and counting its users for every operation, and the process' limit of open files does not count it. That is what there is to gain:
// an echo takes about the processor time that it takes with a [Conn], up to 7 % less on Local and 6 % more on goroutines, where a Conn tries in place.
// What a RingConn can do is read, write, receive by iteration, and be shut down and closed; [RingConn.Install] makes an ordinary Conn of it.
//
// The table has room for 4032 files and connections, or for fewer where the limit of open files is lower. Where there is no table, on an old
// kernel or the portable engine, or no room in it, and for packets, a RingConn has an ordinary descriptor and
// works all the same. Its methods may be called from several tasks at once, all of the driver whose ring it is in.
type RingConn struct {
	c *Conn // whose descriptor is a place in the table, or an ordinary one
}

var errOtherRing = errors.New("the connection is in the ring of another driver")

// newRingConn makes a RingConn of a place in the table of d's ring.
func newRingConn(d *driver.Driver, n *network, place int, local, remote Addr) *RingConn {
	c := unopened(local, remote)
	c.net = n
	c.h.OpenDirect(place, d)
	c.h.Collect()
	return &RingConn{c}
}

// AcceptRing is [Listener.Accept] into the ring's table. Kernel 6.0, accept4(2).
func (l *Listener) AcceptRing(ctx context.Context) (*RingConn, error) {
	c, err := l.acceptRing(ctx)
	return c, l.fail("accept", "accept4", err)
}

func (l *Listener) acceptRing(ctx context.Context) (*RingConn, error) {
	d, err := executor.DriverOf(ctx)
	if err != nil {
		return nil, err
	}
	c := l.leftover(ctx)
	if c == nil && d.Engine() == driver.Uring && !l.queuesAtPeer() && !l.lingers() {
		var peer ops.Peer
		switch place, err := l.acceptPlace(ctx, &peer); err {
		case nil:
			return newRingConn(d, l.net, place, l.local, l.net.peer(&peer)), nil
		case syscall.ENFILE, syscall.ENXIO, syscall.EOPNOTSUPP, syscall.EINVAL: // no room or no table; or what is wrong shows then
		default:
			return nil, err
		}
	}
	if c == nil {
		if c, err = l.next(ctx, d); err != nil {
			return nil, err
		}
	}
	return &RingConn{c}, nil
}

// acceptPlace accepts a connection into the table.
func (l *Listener) acceptPlace(ctx context.Context, peer *ops.Peer) (place int, err error) {
	for {
		place, err := perform(ctx, &l.socket, ops.AcceptDirect(l.h.FD, unix.SOCK_NONBLOCK, peer))
		if err != syscall.ECONNABORTED {
			return place, err
		}
	}
}

// RingAccepts is [Listener.Accepts] into the ring's table. One that ends leaves nothing over. It accepts one after the other, with a
// request for each: the kernel would close connections that it accepted by multishot and found no place for. Kernel 6.0, accept4(2).
func (l *Listener) RingAccepts(ctx context.Context) iter.Seq2[*RingConn, error] {
	return func(yield func(*RingConn, error) bool) {
		const least, most = 5 * time.Millisecond, 500 * time.Millisecond
		for pause := least; ; {
			c, err := l.acceptRing(ctx)
			if !yield(c, l.fail("accept", "accept4", err)) || err != nil && !ofTheMoment(err) {
				return
			}
			if err == nil {
				pause = least
				continue
			}
			_ = executor.Sleep(ctx, pause) // the next accept says if ctx has ended
			pause = min(2*pause, most)
		}
	}
}

// DialRing is [Dialer.Dial] into the ring's table; see [Conn.IntoRing]. With a Dialer.Driver that is not the one of ctx it stays out of the
// table, where ctx could not be used with it. Kernel 6.0.
func (dl *Dialer) DialRing(ctx context.Context, network, address string) (*RingConn, error) {
	c, err := dl.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if d, err := executor.DriverOf(ctx); err == nil && d != c.h.Driver {
		return &RingConn{c}, nil
	}
	return c.IntoRing(dl.on(ctx))
}

// IntoRing moves a connection into the table of its driver's ring, and ends the use of c as Close does. If it has to stay where it is, for want
// of a table or of room, because bytes were received that nobody has read, or after [Conn.SetLinger] or [Conn.NetConn], the RingConn is c
// under another name. With an error, c is closed. Kernel 6.0.
func (c *Conn) IntoRing(ctx context.Context) (*RingConn, error) {
	if c.h.Driver.Engine() != driver.Uring || c.queuesAtPeer() || c.net.typ == unix.SOCK_DGRAM ||
		c.lingers() || c.adapter.Load() != nil || c.hasLeftover() {
		return &RingConn{c}, nil
	}
	place, err := 0, c.sameDriver(ctx)
	if err == nil {
		place, err = perform(ctx, &c.socket, ops.PutDirect(c.h.FD))
	}
	switch err {
	case nil:
	case syscall.ENFILE, syscall.ENXIO, syscall.EOPNOTSUPP, syscall.EINVAL:
		return &RingConn{c}, nil
	default:
		_ = c.Close(context.WithoutCancel(ctx)) // the error that counts is the other
		return nil, c.fail("file", "files_update", err)
	}
	r := newRingConn(c.h.Driver, c.net, place, c.local, c.remote)
	if err := c.Close(ctx); err != nil {
		_ = r.Close(context.WithoutCancel(ctx)) // the same
		return nil, err
	}
	return r, nil
}

// sameDriver refuses the use of another ring than the socket's: there, the number of a place would mean another socket.
func (s *socket) sameDriver(ctx context.Context) error {
	d, err := executor.DriverOf(ctx)
	if err == nil && d != s.h.Driver {
		err = errOtherRing
	}
	return err
}

// InRing reports whether the connection is in the ring's table, and has no descriptor.
func (r *RingConn) InRing() bool { return r.c.h.InTable() }

// LocalAddr returns the address of this end; of an accepted connection in the table that of the listener. It must not be modified.
func (r *RingConn) LocalAddr() Addr { return r.c.local }

// RemoteAddr returns the address of the other end. It must not be modified.
func (r *RingConn) RemoteAddr() Addr { return r.c.remote }

// Read is [Conn.Read] by way of the ring. Allocates nothing.
func (r *RingConn) Read(ctx context.Context, b []byte) (int, []byte, error) { return r.c.Read(ctx, b) }

// Receives is [Conn.Receives]. What an iteration leaves over comes next, from Read or Receives, and after Install from the Conn.
func (r *RingConn) Receives(ctx context.Context, from *driver.BufferRing) iter.Seq2[driver.Chunk, error] {
	return r.c.Receives(ctx, from)
}

// ReadFull is [Conn.ReadFull] by way of the ring. Allocates nothing.
func (r *RingConn) ReadFull(ctx context.Context, b []byte) (int, []byte, error) {
	return r.c.ReadFull(ctx, b)
}

// Write is [Conn.Write] by way of the ring. Allocates nothing.
func (r *RingConn) Write(ctx context.Context, b []byte) (int, []byte, error) {
	return r.c.Write(ctx, b)
}

// WriteAll is [Conn.WriteAll] by way of the ring. Allocates nothing.
func (r *RingConn) WriteAll(ctx context.Context, b []byte) (int, []byte, error) {
	return r.c.WriteAll(ctx, b)
}

// ReadFixed is [Conn.ReadFixed] by way of the ring. Allocates nothing.
func (r *RingConn) ReadFixed(ctx context.Context, b *buf.Fixed) (int, *buf.Fixed, error) {
	return r.c.ReadFixed(ctx, b)
}

// WriteFixed is [Conn.WriteFixed] by way of the ring. Allocates nothing.
func (r *RingConn) WriteFixed(ctx context.Context, b *buf.Fixed) (int, *buf.Fixed, error) {
	return r.c.WriteFixed(ctx, b)
}

// WriteFixedAll is [Conn.WriteFixedAll] by way of the ring. Allocates nothing.
func (r *RingConn) WriteFixedAll(ctx context.Context, b *buf.Fixed) (int, *buf.Fixed, error) {
	return r.c.WriteFixedAll(ctx, b)
}

// CloseRead is [Conn.CloseRead] by way of the ring. Kernel 5.11, shutdown(2).
func (r *RingConn) CloseRead(ctx context.Context) error {
	if !r.InRing() {
		return r.c.CloseRead()
	}
	return r.shutdown(ctx, unix.SHUT_RD)
}

// CloseWrite is [Conn.CloseWrite] by way of the ring. Kernel 5.11, shutdown(2).
func (r *RingConn) CloseWrite(ctx context.Context) error {
	if !r.InRing() {
		return r.c.CloseWrite()
	}
	return r.shutdown(ctx, unix.SHUT_WR)
}

func (r *RingConn) shutdown(ctx context.Context, how int) error {
	_, err := perform(ctx, &r.c.socket, ops.Shutdown(r.c.h.FD, how))
	return r.c.fail("close", "shutdown", err)
}

// Install returns an ordinary [Conn] for the same socket, with a descriptor of the process. Both have to be closed. What was received and
// nobody has read is read there. Before kernel 6.8 it is errors.ErrUnsupported.
func (r *RingConn) Install(ctx context.Context) (*Conn, error) {
	var fd int
	var err error
	if r.InRing() {
		fd, err = perform(ctx, &r.c.socket, ops.InstallDirect(r.c.h.FD))
	} else if !r.c.h.Acquire() {
		err = ErrClosed
	} else {
		fd, err = unix.FcntlInt(uintptr(r.c.h.FD), unix.F_DUPFD_CLOEXEC, 0)
		r.c.h.Release()
	}
	if err != nil {
		return nil, r.c.fail("file", "install", err)
	}
	c := newConn(r.c.h.Driver, r.c.net, fd, nil, r.c.remote)
	c.inherit(&r.c.socket)
	return c, nil
}

// Close closes the connection; see [Conn.Close]. A RingConn that is dropped without Close is closed in the background.
func (r *RingConn) Close(ctx context.Context) error { return r.c.Close(ctx) }
