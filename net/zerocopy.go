package net

import (
	"context"
	"syscall"

	"uringo/internal/handle"
	"uringo/ops"
)

// WriteZeroCopy is [Conn.Write] without a copy on the way: the kernel sends from b itself. It returns when the kernel has let go of b, which
// for TCP is when the peer has acknowledged the bytes. That makes it a way to send much at a time, some 16 KiB and more, and to peers
// that read; several calls at a time overlap their waiting, and keep no order.
//
// copied says whether the bytes were copied all the same: the kernel does that for peers on the same machine, and wherever zero copy is
// not to be had (Unix sockets, no memory to pin, old kernels, the portable engine) the call is Write.
//
// When ctx ends before the bytes are sent, nothing is; afterwards nothing but the peer, or the end of the connection, hastens the return,
// and a Config.CancelGrace lets the caller go. Close does not wait for that. Kernel 6.2, io_uring_enter(2).
func (c *Conn) WriteZeroCopy(ctx context.Context, b []byte) (n int, buf []byte, copied bool, err error) {
	n, copied, err = c.sendZeroCopy(ctx, b)
	if handle.Abandoned(err) {
		b = nil
	}
	return n, b, copied, c.fail("write", "send", err)
}

func (c *Conn) sendZeroCopy(ctx context.Context, b []byte) (int, bool, error) {
	if c.net.proto != "unix" && len(b) > 0 {
		n, copied, err := c.tryZeroCopy(ctx, b)
		switch err {
		case syscall.EOPNOTSUPP, syscall.EINVAL, syscall.ENOMEM, syscall.ENOBUFS:
		default:
			return n, copied, err
		}
	}
	n, err := c.send(ctx, b, 0, c.h.Free)
	return n, true, err
}

// tryZeroCopy sends once, if that can be done without a copy.
func (c *Conn) tryZeroCopy(ctx context.Context, b []byte) (int, bool, error) {
	if !c.h.Acquire() {
		return 0, false, ErrClosed
	}
	u := &lentBytes{h: &c.h}
	u.Performed = u.performed
	n, err := onRing(ctx, ops.SendZC(c.h.FD, b, 0, &u.ZeroCopy), u.free)
	switch {
	case handle.Abandoned(err):
		return n, false, err // and the rest is the driver's
	case u.released:
		return n, u.Copied, err
	}
	return n, u.Copied, c.h.Settle(err, ErrClosed)
}

// lentBytes are those of a zero-copy send. They outlast the use of the descriptor: it is released when they are on their way.
type lentBytes struct {
	ops.ZeroCopy
	h        *handle.Handle
	released bool // the driver goroutine's until the operation has ended
}

func (u *lentBytes) performed() {
	u.released = true
	u.h.Release()
}

// free is called at the end of a send whose caller was let go.
func (u *lentBytes) free() {
	if !u.released {
		u.h.Release()
	}
}
