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
	n, err := c.fixed(ctx, OpRead, b, ops.TryRecv, ops.RecvFixed, c.h.Free)
	if err == nil && n == 0 && b.Len() > 0 && c.nothingIsEnd() {
		err = io.EOF
	}
	return n, handle.Back(b, err), c.fail("read", "recv", err)
}

// WriteFixed is [Conn.Write] of the view of b, and hands b back; see [Conn.ReadFixed].
func (c *Conn) WriteFixed(ctx context.Context, b *buf.Fixed) (int, *buf.Fixed, error) {
	n, err := c.sendFixedPart(ctx, b, c.h.Free)
	return n, handle.Back(b, err), c.fail("write", "send", err)
}

// sendFixedPart is sendPart of the view of b.
func (c *Conn) sendFixedPart(ctx context.Context, b *buf.Fixed, free func()) (int, error) {
	if err := b.Usable(); err != nil {
		return 0, err
	}
	if !c.much(b.Len()) {
		return c.sendFixed(ctx, b, free)
	}
	if c.h.InTable() { // what there is no room for waits in the operation
		if err := new(await).event(ctx, &c.socket, unix.POLLOUT); err != nil {
			return 0, err
		}
	}
	if c.h.InTable() || Route(pins[OpWrite].Load()) == Ring {
		return inPortion(ctx, b, func() (int, error) { return c.sendFixed(ctx, b, free) })
	}
	mem := b.Bytes() // now: somebody may release b while this waits
	if !b.Pin() {
		return 0, buf.ErrReleased // just now
	}
	defer b.Unpin()
	return c.attemptMuch(ctx, func() (int, error) { return ops.TrySend(c.h.FD, mem[:min(len(mem), portionInPlace(ctx))], 0) })
}

// inPortion has send see no more of the view of b, which is much, than the ring may have at a time.
func inPortion(ctx context.Context, b *buf.Fixed, send func() (int, error)) (int, error) {
	lo, hi := b.Bounds()
	if err := view(b, lo, min(hi, lo+portionInRing(ctx))); err != nil {
		return 0, err
	}
	n, err := send()
	if !handle.Abandoned(err) {
		_ = view(b, lo, hi) // or nobody sees it any more
	}
	return n, err
}

// view sets the view of b, unless somebody has released b while its user waited.
func view(b *buf.Fixed, lo, hi int) error {
	err := b.Usable()
	if err == nil {
		b.View(lo, hi)
	}
	return err
}

func (c *Conn) sendFixed(ctx context.Context, b *buf.Fixed, free func()) (int, error) {
	return withoutSignal(func(send fixedOp) (int, error) { return c.fixed(ctx, OpWrite, b, ops.TrySend, send, free) })
}

// WriteFixedAll is [Conn.WriteAll] of the view of b, and hands b back with the view that it had; see [Conn.ReadFixed].
func (c *Conn) WriteFixedAll(ctx context.Context, b *buf.Fixed) (int, *buf.Fixed, error) {
	if err := b.Usable(); err != nil {
		return 0, b, c.fail("write", "send", err)
	}
	lo, hi := b.Bounds()
	all := b.Bytes()
	if err := c.writes.Lock(ctx); err != nil {
		return 0, b, c.fail("write", "send", err)
	}
	n, err := c.sendFixedPart(ctx, b, c.freeWrite)
	if err == nil && n < len(all) {
		n, err = sendRest(all, n, func(rest []byte) (int, error) {
			if err := view(b, hi-len(rest), hi); err != nil {
				return 0, err
			}
			return c.sendFixedPart(ctx, b, c.freeWrite)
		})
	}
	if handle.Abandoned(err) {
		return n, nil, c.fail("write", "send", err)
	}
	c.writes.Unlock()
	_ = view(b, lo, hi) // or nobody sees it any more
	return n, b, c.fail("write", "send", err)
}

// fixedOp makes an operation on a fixed buffer.
type fixedOp = func(fd int, b *buf.Fixed) ops.Op[*buf.Fixed]

// withoutSignal sends by an operation that raises no SIGPIPE, if the kernel knows one.
func withoutSignal(by func(send fixedOp) (int, error)) (int, error) {
	if oldSignals.Load() {
		return by(sendFixed)
	}
	n, err := by(sendQuietly)
	if err == syscall.EOPNOTSUPP || err == syscall.EINVAL { // maybe for the flag: others may be about to learn it, too
		if n, err = by(sendFixed); err == nil {
			oldSignals.Store(true)
		}
	}
	return n, err
}

// oldSignals is set when the kernel does not know RWF_NOSIGNAL: then sending registered memory to a peer who is gone raises SIGPIPE, which
// Go ignores unless the program asks for it.
var oldSignals atomic.Bool

func sendQuietly(fd int, b *buf.Fixed) ops.Op[*buf.Fixed] {
	return ops.SendFixed(fd, b, unix.RWF_NOSIGNAL)
}

func sendFixed(fd int, b *buf.Fixed) ops.Op[*buf.Fixed] { return ops.SendFixed(fd, b, 0) }

// fixed moves bytes of b once: by try if that is possible without waiting, else by the operation that make makes. If the caller is let go while
// the kernel still has b, free is called later.
func (c *Conn) fixed(ctx context.Context, op Operation, b *buf.Fixed, try func(int, []byte, int) (int, error), make fixedOp,
	free func()) (int, error) {
	if err := b.Usable(); err != nil {
		return 0, err
	}
	mem := b.Bytes() // now: somebody may release b while this waits
	if !c.h.Acquire() {
		return 0, ErrClosed
	}
	if len(mem) == 0 && (op == OpRead || c.net.typ == unix.SOCK_STREAM) { // else an empty packet
		c.h.Release()
		return 0, nil
	}
	if !b.Pin() {
		c.h.Release()
		return 0, buf.ErrReleased // just now
	}
	defer b.Unpin() // the driver holds it for longer, if the kernel does
	if op == OpRead {
		if n, err, ok := c.leftover(ctx, 0, mem); ok {
			c.h.Release()
			return n, err
		}
	}
	if op == OpWrite && c.queuesAtPeer() {
		n, err := c.sendPatiently(ctx, func() (int, error) { return try(c.h.FD, mem, 0) })
		return n, c.h.Settle(err, ErrClosed)
	}
	n, err := c.try(ctx, op, func() (int, error) { return try(c.h.FD, mem, 0) })
	if err == syscall.EAGAIN {
		n, err = byRing(ctx, &c.socket, make(c.h.FD, b), free)
	}
	return n, c.h.Settle(err, ErrClosed)
}
