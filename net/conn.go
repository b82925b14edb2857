package net

import (
	"context"
	"io"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/handle"
	"uringo/ops"
)

// Conn is a connection: a stream, for unixpacket a sequence of packets, or for udp and unixgram datagrams to and from one peer. Its methods may be
// called from several tasks at once.
type Conn struct {
	endpoint
	writes    executor.Mutex // of those who write all
	freeWrite func()         // drops a writer's reference and turn
	adapter   atomic.Pointer[netConn]
}

// newConn makes a Conn of a connected socket. An address that is nil is asked for.
func newConn(d *driver.Driver, n *network, fd int, local, remote Addr) *Conn {
	if remote == nil {
		remote = n.remoteAddr(fd)
	}
	c := unopened(local, remote)
	c.open(d, n, fd)
	return c
}

// unopened makes a Conn without a socket.
func unopened(local, remote Addr) *Conn {
	c := &Conn{}
	c.local, c.remote = local, remote
	c.freeWrite = func() {
		c.writes.Unlock()
		c.h.Release()
	}
	return c
}

// RemoteAddr returns the address of the other end. It must not be modified.
func (c *Conn) RemoteAddr() Addr { return c.remote }

// Read receives what there is into b, once, waiting until there is something, and hands b back. It may be short; io.EOF means that the
// peer has closed or shut down its end. With an empty b it returns 0 and no error, and so does a datagram that is empty. A packet or datagram that
// is longer than b loses its end; [Conn.RecvMsg] tells of it. Allocates nothing. Kernel 5.6, recv(2).
func (c *Conn) Read(ctx context.Context, b []byte) (int, []byte, error) {
	n, err := c.receive(ctx, b, 0, c.h.Free)
	if err == nil {
		return n, b, nil
	}
	return n, handle.Back(b, err), c.fail("read", "recv", err)
}

// Peek is [Conn.Read], but leaves what it received to be received again. Kernel 5.6, recv(2) with MSG_PEEK.
func (c *Conn) Peek(ctx context.Context, b []byte) (int, []byte, error) {
	n, err := c.receive(ctx, b, unix.MSG_PEEK, c.h.Free)
	return n, handle.Back(b, err), c.fail("read", "recv", err)
}

// ReadFull receives until b is full, and hands b back. The count says how much was received in any case; an end of the stream before
// that is io.ErrUnexpectedEOF, or io.EOF if nothing was received. Other tasks that read meanwhile take their share.
// See [Conn.Read].
func (c *Conn) ReadFull(ctx context.Context, b []byte) (int, []byte, error) {
	done := 0
	for done < len(b) {
		n, err := c.receive(ctx, b[done:], 0, c.h.Free)
		done += n
		if err == nil {
			continue
		}
		if err == io.EOF && done > 0 {
			err = io.ErrUnexpectedEOF
		}
		return done, handle.Back(b, err), c.fail("read", "recv", err)
	}
	return done, b, nil
}

// Write sends b, once, waiting until there is room, and hands b back. It may be short, and of a long b that goes to a stream it is: others
// have their turn between two parts. Allocates nothing. Kernel 5.6, send(2).
func (c *Conn) Write(ctx context.Context, b []byte) (int, []byte, error) {
	n, err := c.sendPart(ctx, b, c.h.Free)
	return n, handle.Back(b, err), c.fail("write", "send", err)
}

// WriteAll sends all of b, and hands b back. The count says how much was sent, also with an error. Calls of WriteAll, [Conn.WriteFixedAll],
// [Conn.SendFile] and [Conn.Splice] take turns: each sends all of its bytes before the next begins. Those that send once, such as [Conn.Write],
// wait for no turn: what they send may come in between.
func (c *Conn) WriteAll(ctx context.Context, b []byte) (int, []byte, error) {
	n, err := c.sendAll(ctx, b, c.freeWrite)
	if err == nil {
		return n, b, nil
	}
	return n, handle.Back(b, err), c.fail("write", "send", err)
}

// portion is the most that one operation on a stream sends. The kernel copies all that there is room for in one go, which may be several MiB for
// each connection, and others would wait for all of it. One thread performs what a driver submits together, so tasks in company ask less of the
// ring each, that a round of theirs does not send more than perRound all together.
const (
	portion      = 256 << 10
	leastPortion = 16 << 10
	perRound     = 1 << 20
)

// portionInRing is how much the caller may have the ring send.
func portionInRing(ctx context.Context) int {
	return min(max(perRound/executor.CallerOf(ctx).Company(), leastPortion), portion)
}

// portionInPlace is how much the caller may send by itself. Of workers' tasks few send in a round, see attemptMuch. Goroutines all do.
func portionInPlace(ctx context.Context) int {
	if executor.CallerOf(ctx).MayBlock() {
		return portion / 2
	}
	return portion
}

// much reports whether n bytes are to be sent in portions.
func (s *socket) much(n int) bool { return n > leastPortion && s.net.typ == unix.SOCK_STREAM }

// sendPart sends of b what it may, once; see receive. Who has much to send waits for room, and not in an operation that sends: when those
// who read slowly go on, the kernel would perform all that wait for them at a stroke, each as large as it was when its caller was alone.
func (c *Conn) sendPart(ctx context.Context, b []byte, free func()) (int, error) {
	if !c.much(len(b)) {
		return c.send(ctx, b, 0, free)
	}
	if c.h.InTable() {
		return c.sendFromTable(ctx, b, free)
	}
	if Route(pins[OpWrite].Load()) == Ring {
		return c.send(ctx, b[:min(len(b), portionInRing(ctx))], 0, free)
	}
	return c.attemptMuch(ctx, func() (int, error) { return ops.TrySend(c.h.FD, b[:min(len(b), portionInPlace(ctx))], 0) })
}

// sendFromTable sends a portion of b from a place in the ring's table, where no call can.
func (c *Conn) sendFromTable(ctx context.Context, b []byte, free func()) (int, error) {
	for w := (await{}); ; {
		n, err := c.send(ctx, b[:min(len(b), portionInRing(ctx))], unix.MSG_DONTWAIT, free)
		if err != syscall.EAGAIN {
			return n, err
		}
		if err := w.event(ctx, &c.socket, unix.POLLOUT); err != nil {
			return 0, err
		}
	}
}

// sendAll sends all of b in its turn. free is called if the caller is let go, and gives the turn. Mostly the first operation sends it all; while
// that waits, few functions are to be under way, see executor.Perform.
func (c *Conn) sendAll(ctx context.Context, b []byte, free func()) (done int, err error) {
	if err := c.writes.Lock(ctx); err != nil {
		return 0, err
	}
	if c.much(len(b)) {
		done, err = c.sendPart(ctx, b, free)
	} else {
		done, err = c.send(ctx, b, 0, free)
	}
	if err == nil && done < len(b) {
		done, err = sendRest(b, done, func(rest []byte) (int, error) { return c.sendPart(ctx, rest, free) })
	}
	if !handle.Abandoned(err) {
		c.writes.Unlock()
	}
	return done, err
}

// sendRest sends what the first operation did not, and returns how much was sent in all.
func sendRest(b []byte, done int, send func([]byte) (int, error)) (int, error) {
	for n := done; done < len(b); done += n {
		if n == 0 {
			return done, io.ErrShortWrite
		}
		var err error
		if n, err = send(b[done:]); err != nil {
			return done + n, err
		}
	}
	return done, nil
}

// CloseRead shuts down receiving: reads that wait and further ones end with io.EOF once they have received what had arrived, and iterations without
// an error. shutdown(2).
func (c *Conn) CloseRead() error {
	was := c.noMore.Swap(true) // before anybody can find out
	err := c.shutdown(unix.SHUT_RD)
	if err != nil {
		c.noMore.Store(was)
		return err
	}
	c.hasten()
	return nil
}

// CloseWrite shuts down sending: the peer finds the end of the stream after what was sent. shutdown(2).
func (c *Conn) CloseWrite() error { return c.shutdown(unix.SHUT_WR) }

func (c *Conn) shutdown(how int) error {
	return c.control("close", "shutdown", func(fd int) error { return unix.Shutdown(fd, how) })
}

// Close closes the connection. Operations on it that have not ended are cancelled and end with [ErrClosed], and further ones fail so at
// once. Close waits for all of them. If ctx ends first, Close returns its error and the connection is closed later, in the background.
// A second Close is an error, [ErrClosed]. What was sent is still delivered, unless [Conn.SetLinger] says otherwise. Kernel 5.6, close(2).
func (c *Conn) Close(ctx context.Context) error {
	if a := c.adapter.Load(); a != nil {
		a.stop()
	}
	return c.close(ctx)
}
