package net

import (
	"context"
	"errors"
	"io"
	"iter"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/handle"
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
	c      *Conn
	inRing bool // c's descriptor is a place in the table
}

var errOtherRing = errors.New("the connection is in the ring of another driver")

// newRingConn makes a RingConn of a place in the table of d's ring.
func newRingConn(d *driver.Driver, n network, place int, local, remote Addr) *RingConn {
	c := unopened(local, remote)
	c.net = n
	c.h.OpenDirect(place, d)
	c.h.Collect()
	return &RingConn{c, true}
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
	if c == nil && d.Engine() == driver.Uring && !l.net.queuesAtPeer() && !l.lingers() {
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
	return &RingConn{c: c}, nil
}

// acceptPlace accepts a connection into the table.
func (l *Listener) acceptPlace(ctx context.Context, peer *ops.Peer) (place int, err error) {
	for {
		if !l.h.Acquire() {
			return -1, ErrClosed
		}
		place, err := onRing(ctx, ops.AcceptDirect(l.h.FD, unix.SOCK_NONBLOCK, peer), l.h.Free)
		if err = l.h.Settle(err, ErrClosed); err != syscall.ECONNABORTED {
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
		return &RingConn{c: c}, nil
	}
	return c.IntoRing(dl.on(ctx))
}

// IntoRing moves a connection into the table of its driver's ring, and ends the use of c as Close does. If it has to stay where it is, for want
// of a table or of room, because bytes were received that nobody has read, or after [Conn.SetLinger] or [Conn.NetConn], the RingConn is c
// under another name. With an error, c is closed. Kernel 6.0.
func (c *Conn) IntoRing(ctx context.Context) (*RingConn, error) {
	if c.h.Driver.Engine() != driver.Uring || c.net.queuesAtPeer() || c.net.typ == unix.SOCK_DGRAM ||
		c.lingers() || c.adapter.Load() != nil || c.hasLeftover() {
		return &RingConn{c: c}, nil
	}
	place, err := onDriverOf(ctx, &c.h, ops.PutDirect(c.h.FD), c.h.Free)
	switch err {
	case nil:
	case syscall.ENFILE, syscall.ENXIO, syscall.EOPNOTSUPP, syscall.EINVAL:
		return &RingConn{c: c}, nil
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

// onDriverOf performs an operation on or with the descriptor of h, by the driver of h.
func onDriverOf[T any](ctx context.Context, h *handle.Handle, o ops.Op[T], free func()) (int, error) {
	if d, err := executor.DriverOf(ctx); err != nil {
		return 0, err
	} else if d != h.Driver {
		return 0, errOtherRing // there, the number of a place would mean another socket
	}
	if !h.Acquire() {
		return 0, ErrClosed
	}
	n, err := onRing(ctx, o, free)
	return n, h.Settle(err, ErrClosed)
}

// onTable performs an operation on the connection in the table.
func onTable[T any](ctx context.Context, r *RingConn, o ops.Op[T], free func()) (int, error) {
	o.Flags |= ops.Direct
	return onDriverOf(ctx, &r.c.h, o, free)
}

// InRing reports whether the connection is in the ring's table, and has no descriptor.
func (r *RingConn) InRing() bool { return r.inRing }

// LocalAddr returns the address of this end; of an accepted connection in the table that of the listener. It must not be modified.
func (r *RingConn) LocalAddr() Addr { return r.c.local }

// RemoteAddr returns the address of the other end. It must not be modified.
func (r *RingConn) RemoteAddr() Addr { return r.c.remote }

// Read is [Conn.Read] by way of the ring. Allocates nothing.
func (r *RingConn) Read(ctx context.Context, b []byte) (int, []byte, error) {
	if !r.inRing {
		return r.c.Read(ctx, b)
	}
	n, err := r.receive(ctx, b)
	return n, handle.Back(b, err), r.c.fail("read", "recv", err)
}

func (r *RingConn) receive(ctx context.Context, b []byte) (int, error) {
	if len(b) == 0 && !r.c.h.Closing() {
		return 0, nil // the kernel would wait all the same
	}
	if n, err, ok := r.c.leftover(ctx, 0, b); ok {
		return n, err
	}
	n, err := onTable(ctx, r, ops.Recv(r.c.h.FD, b, 0), r.c.h.Free)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// Receives is [Conn.Receives]. What an iteration leaves over comes next, from Read or Receives, and after Install from the Conn.
func (r *RingConn) Receives(ctx context.Context, from *driver.BufferRing) iter.Seq2[driver.Chunk, error] {
	return r.c.Receives(ctx, from)
}

// ReadFull is [Conn.ReadFull] by way of the ring. Allocates nothing.
func (r *RingConn) ReadFull(ctx context.Context, b []byte) (int, []byte, error) {
	if !r.inRing {
		return r.c.ReadFull(ctx, b)
	}
	done := 0
	for done < len(b) {
		n, err := r.receive(ctx, b[done:])
		if done += n; err == nil {
			continue
		}
		if err == io.EOF && done > 0 {
			err = io.ErrUnexpectedEOF
		}
		return done, handle.Back(b, err), r.c.fail("read", "recv", err)
	}
	return done, b, nil
}

// Write is [Conn.Write] by way of the ring. Allocates nothing.
func (r *RingConn) Write(ctx context.Context, b []byte) (int, []byte, error) {
	if !r.inRing {
		return r.c.Write(ctx, b)
	}
	n, err := r.sendPart(ctx, b, r.c.h.Free)
	return n, handle.Back(b, err), r.c.fail("write", "send", err)
}

// sendPart is [Conn.sendPart].
func (r *RingConn) sendPart(ctx context.Context, b []byte, free func()) (int, error) {
	if !r.c.much(len(b)) {
		return onTable(ctx, r, ops.Send(r.c.h.FD, b, 0), free)
	}
	for w := (await{}); ; {
		n, err := onTable(ctx, r, ops.Send(r.c.h.FD, b[:min(len(b), portionInRing(ctx))], unix.MSG_DONTWAIT), free)
		if err != syscall.EAGAIN {
			return n, err
		}
		if err := w.event(ctx, &r.c.socket, unix.POLLOUT); err != nil {
			return 0, err
		}
	}
}

// WriteAll is [Conn.WriteAll] by way of the ring. Allocates nothing.
func (r *RingConn) WriteAll(ctx context.Context, b []byte) (int, []byte, error) {
	if !r.inRing {
		return r.c.WriteAll(ctx, b)
	}
	n, err := r.c.sendAllBy(ctx, b, func(rest []byte) (int, error) { return r.sendPart(ctx, rest, r.c.freeWrite) })
	return n, handle.Back(b, err), r.c.fail("write", "send", err)
}

// CloseRead is [Conn.CloseRead] by way of the ring. Kernel 5.11, shutdown(2).
func (r *RingConn) CloseRead(ctx context.Context) error {
	if !r.inRing {
		return r.c.CloseRead()
	}
	return r.shutdown(ctx, unix.SHUT_RD)
}

// CloseWrite is [Conn.CloseWrite] by way of the ring. Kernel 5.11, shutdown(2).
func (r *RingConn) CloseWrite(ctx context.Context) error {
	if !r.inRing {
		return r.c.CloseWrite()
	}
	return r.shutdown(ctx, unix.SHUT_WR)
}

func (r *RingConn) shutdown(ctx context.Context, how int) error {
	_, err := onTable(ctx, r, ops.Shutdown(r.c.h.FD, how), r.c.h.Free)
	return r.c.fail("close", "shutdown", err)
}

// Install returns an ordinary [Conn] for the same socket, with a descriptor of the process. Both have to be closed. What was received and
// nobody has read is read there. Before kernel 6.8 it is errors.ErrUnsupported.
func (r *RingConn) Install(ctx context.Context) (*Conn, error) {
	var fd int
	var err error
	if r.inRing {
		fd, err = onTable(ctx, r, ops.InstallDirect(r.c.h.FD), r.c.h.Free)
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
func (r *RingConn) Close(ctx context.Context) error {
	if !r.inRing {
		return r.c.Close(ctx)
	}
	first, err := r.c.h.Shut(ctx)
	if in := r.c.inbox.Load(); in != nil {
		in.forget()
	}
	switch {
	case !first:
		err = ErrClosed
	case err == nil:
		err = r.c.h.ClosePlace(ctx)
	}
	return r.c.fail("close", "close", err)
}
