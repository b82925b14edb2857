package net

import (
	"context"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/ops"
)

// Readable waits until receiving would not wait: something has arrived, the peer has closed its end, or there is an error to be told. It
// takes nothing, so it may be asked again; of several tasks that are told, one may receive it all and the others wait. While an iteration
// of [Conn.Receives] is on, it fails like other ways to receive. Allocates nothing. Kernel 5.1, poll(2).
func (s *endpoint) Readable(ctx context.Context) error {
	if _, err, ok := s.leftover(ctx, unix.MSG_PEEK); ok {
		if err == errReceiving {
			return s.fail("read", "poll", err)
		}
		return nil
	}
	return s.fail("read", "poll", s.ready(ctx, OpRead, unix.POLLIN|unix.POLLRDHUP))
}

// Writable waits until sending would not wait: there is room, or the connection is broken. How much room, only sending tells. A Unix socket
// for datagrams that is not connected always has room as far as can be told: what may be full is the queue of the receiver. Allocates
// nothing. Kernel 5.1, poll(2).
func (s *endpoint) Writable(ctx context.Context) error {
	return s.fail("write", "poll", s.ready(ctx, OpWrite, unix.POLLOUT))
}

// Readable waits until Accept would not wait, see [Conn.Readable]. Iterations of [Listener.Accepts] take what comes before it is seen here.
// Kernel 5.1, poll(2).
func (l *Listener) Readable(ctx context.Context) error {
	if ctx.Err() == nil && l.left.some() {
		return nil
	}
	return l.fail("accept", "poll", l.ready(ctx, OpAccept, unix.POLLIN))
}

// ready waits for one of the events, or for what poll(2) tells unasked.
func (s *socket) ready(ctx context.Context, op Operation, events uint32) error {
	if !s.h.Acquire() {
		return ErrClosed
	}
	_, err := s.try(ctx, op, func() (int, error) { return 0, pollNow(s.h.FD, int16(events)) })
	if err == syscall.EAGAIN {
		_, err = onRing(ctx, ops.PollAdd(s.h.FD, events), s.h.Free)
	}
	return s.h.Settle(err, ErrClosed)
}

// pollNow is a poll that does not wait: EAGAIN means that there is none of the events.
func pollNow(fd int, events int16) error {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		n, err := unix.Poll(fds[:], 0)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return err
		case n == 0:
			return syscall.EAGAIN
		default:
			return nil
		}
	}
}
