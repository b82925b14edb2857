package net

import (
	"context"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/handle"
	"uringo/ops"
)

// await waits, between one attempt that found nothing to do and the next, for one of the events on a socket. The zero await is for the first time.
type await struct {
	vain  bool // the last poll told of nothing but an error
	pause time.Duration
}

// event waits. The kernel has nothing of the caller's meanwhile, who always keeps it.
//
// An error that an attempt does not tell of is one in the error queue, such as the time at which a packet was sent, for which poll(2) ends at once as
// long as nobody takes it. Then the wait is a pause.
func (w *await) event(ctx context.Context, s *socket, events uint32) error {
	if w.vain {
		w.vain = false
		w.pause = min(max(2*w.pause, 50*time.Microsecond), 5*time.Millisecond)
		return executor.Sleep(ctx, w.pause)
	}
	seen, err := s.poll(ctx, events)
	if handle.Abandoned(err) {
		err = driver.Canceled(ctx)
	}
	w.vain = seen == unix.POLLERR
	return err
}

// poll waits for one of the events, once.
func (s *socket) poll(ctx context.Context, events uint32) (seen int, err error) {
	return perform(ctx, s, ops.PollAdd(s.h.FD, events))
}

// queuesAtPeer reports whether sending may fail because the peer's queue is full, as packets of Unix sockets do. The ring must not send
// them: the kernel finds the queue full when it has taken the data, and what io_uring then tries again is an empty packet (seen on
// 6.18). Nor is there an event to wait for, unless the socket is connected: poll(2) says that it can send.
func (s *socket) queuesAtPeer() bool { return s.net.proto == "unix" && s.net.typ != unix.SOCK_STREAM }

// sendPatiently sends with a call that does not wait, and tries again after a pause when there is no room.
func (s *socket) sendPatiently(ctx context.Context, send func() (int, error)) (int, error) {
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		if ctx.Err() != nil {
			return 0, driver.Canceled(ctx)
		}
		n, err := send()
		if err == nil {
			s.countTry(ctx, executor.CallerOf(ctx), n)
		}
		if err != syscall.EAGAIN {
			return n, err
		}
		if s.h.Closing() {
			return 0, ErrClosed
		}
		if err := executor.Sleep(ctx, pause); err != nil {
			return 0, err
		}
	}
}
