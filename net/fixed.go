package net

import (
	"context"
	"io"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/internal/handle"
	"uringo/ops"
)

// ReadFixed is [Conn.Read] into the view of b, and hands b back; it is nil only with an error that wraps driver.ErrAbandoned, and then goes
// back to its pool by itself when the kernel has let go. The kernel is spared looking the memory's pages up, if the driver could register
// it; see package buf. Allocates nothing. Kernel 5.6; registered 5.19.
func (c *Conn) ReadFixed(ctx context.Context, b *buf.Fixed) (int, *buf.Fixed, error) {
	n, err := c.fixed(ctx, OpRead, b, ops.TryRecv, ops.RecvFixed)
	if err == nil && n == 0 && b.Len() > 0 && c.net.typ != unix.SOCK_DGRAM {
		err = io.EOF
	}
	if handle.Abandoned(err) {
		b = nil
	}
	return n, b, c.fail("read", "recv", err)
}

// WriteFixed is [Conn.Write] of the view of b, and hands b back; see [Conn.ReadFixed].
func (c *Conn) WriteFixed(ctx context.Context, b *buf.Fixed) (int, *buf.Fixed, error) {
	send := sendQuietly
	if oldSignals.Load() {
		send = sendFixed
	}
	n, err := c.fixed(ctx, OpWrite, b, ops.TrySend, send)
	if err == syscall.EOPNOTSUPP || err == syscall.EINVAL { // maybe for the flag: others may be about to learn it, too
		if n, err = c.fixed(ctx, OpWrite, b, ops.TrySend, sendFixed); err == nil {
			oldSignals.Store(true)
		}
	}
	if handle.Abandoned(err) {
		b = nil
	}
	return n, b, c.fail("write", "send", err)
}

// oldSignals is set when the kernel does not know RWF_NOSIGNAL: then sending registered memory to a peer who is gone raises SIGPIPE, which
// Go ignores unless the program asks for it.
var oldSignals atomic.Bool

func sendQuietly(fd int, b *buf.Fixed) ops.Op[*buf.Fixed] {
	return ops.SendFixed(fd, b, unix.RWF_NOSIGNAL)
}

func sendFixed(fd int, b *buf.Fixed) ops.Op[*buf.Fixed] { return ops.SendFixed(fd, b, 0) }

// fixed moves bytes of b once: by try if that is possible without waiting, else by the operation that make makes.
func (c *Conn) fixed(ctx context.Context, op Operation, b *buf.Fixed, try func(int, []byte, int) (int, error),
	make func(int, *buf.Fixed) ops.Op[*buf.Fixed]) (int, error) {
	if err := b.Usable(); err != nil {
		return 0, err
	}
	if !c.h.Acquire() {
		return 0, ErrClosed
	}
	if b.Len() == 0 && (op == OpRead || c.net.typ != unix.SOCK_DGRAM) {
		c.h.Release()
		return 0, nil
	}
	if !b.Pin() {
		c.h.Release()
		return 0, buf.ErrReleased // just now
	}
	defer b.Unpin() // the driver holds it for longer, if the kernel does
	if op == OpRead {
		if n, err, ok := c.leftover(ctx, 0, b.Bytes()); ok {
			c.h.Release()
			return n, err
		}
	}
	if op == OpWrite && c.queuesAtPeer() {
		n, err := c.sendPatiently(ctx, func() (int, error) { return try(c.h.FD, b.Bytes(), 0) })
		return n, c.h.Settle(err, ErrClosed)
	}
	n, err := c.try(ctx, op, func() (int, error) { return try(c.h.FD, b.Bytes(), 0) })
	if err == syscall.EAGAIN {
		n, err = onRing(ctx, make(c.h.FD, b), c.h.Free)
	}
	return n, c.h.Settle(err, ErrClosed)
}
