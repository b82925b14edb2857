package net

import (
	"context"
	"syscall"

	"golang.org/x/sys/unix"

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
	if c.net.proto != "unix" && len(b) > 0 {
		n, copied, err = lend(ctx, &c.socket, func(z *ops.ZeroCopy) ops.Op[[]byte] {
			return ops.SendZC(c.h.FD, b, unix.MSG_DONTWAIT, z)
		})
		if !mustCopy(err) {
			return n, handle.Back(b, err), copied, c.fail("write", "send", err)
		}
	}
	n, err = c.sendPart(ctx, b, c.h.Free)
	return n, handle.Back(b, err), true, c.fail("write", "send", err)
}

// mustCopy reports whether a send failed for want of a way, or of memory, to do without a copy. If it is something else that is wrong, that shows when
// it is sent with one.
func mustCopy(err error) bool {
	switch err {
	case syscall.EOPNOTSUPP, syscall.EINVAL, syscall.ENOMEM, syscall.ENOBUFS:
		return true
	}
	return false
}

// SendMsgZeroCopy is SendMsg without a copy of the data on the way: see [Conn.WriteZeroCopy], of which this is the form for data in pieces and
// for datagrams with a destination. Kernel 6.2, sendmsg(2), io_uring_enter(2).
func (s *endpoint) SendMsgZeroCopy(ctx context.Context, m *Message) (n int, copied bool, err error) {
	if s.net.proto != "unix" && lengthOf(m.Bufs) > 0 {
		if n, copied, err = s.tryMsgZeroCopy(ctx, m); !mustCopy(err) {
			return n, copied, s.fail("write", "sendmsg", err)
		}
	}
	n, err = s.SendMsg(ctx, m)
	return n, true, err
}

func (s *endpoint) tryMsgZeroCopy(ctx context.Context, m *Message) (int, bool, error) {
	to, err := s.destination(m.Addr)
	if err != nil {
		return 0, false, err
	}
	if err := s.whole(m.Bufs); err != nil {
		return 0, false, err
	}
	p := messages.Get().(*ops.Msg)
	n, copied, err := lend(ctx, &s.socket, func(z *ops.ZeroCopy) ops.Op[*ops.Msg] {
		return p.SendZC(s.h.FD, m.Bufs, m.OOB, to, unix.MSG_DONTWAIT, z)
	})
	m.Bufs, m.OOB = handle.Back(m.Bufs, err), handle.Back(m.OOB, err)
	recycle(&messages, p, err)
	return n, copied, err
}

// lend performs a zero-copy send that does not wait, as soon as there is room.
func lend[T any](ctx context.Context, s *socket, op func(z *ops.ZeroCopy) ops.Op[T]) (int, bool, error) {
	for w := (await{}); ; {
		n, copied, err := lendOnce(ctx, s, op)
		if err != syscall.EAGAIN {
			return n, copied, err
		}
		if err := w.event(ctx, s, unix.POLLOUT); err != nil {
			return 0, false, err
		}
	}
}

// lendOnce performs a zero-copy send. The memory may be in use for longer than the descriptor.
func lendOnce[T any](ctx context.Context, s *socket, op func(z *ops.ZeroCopy) ops.Op[T]) (int, bool, error) {
	if !s.h.Acquire() {
		return 0, false, ErrClosed
	}
	u := &lentBytes{h: &s.h}
	u.Performed = u.performed
	n, err := onRing(ctx, op(&u.ZeroCopy), u.free)
	switch {
	case handle.Abandoned(err):
		return n, false, err // and the rest is the driver's
	case u.released:
		return n, u.Copied, err
	}
	return n, u.Copied, s.h.Settle(err, ErrClosed)
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
