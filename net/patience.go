package net

import (
	"context"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
)

// queuesAtPeer reports whether sending may fail because the peer's queue is full, as packets of Unix sockets do. The ring must not send
// them: the kernel finds the queue full when it has taken the data, and what io_uring then tries again is an empty packet (seen on
// 6.18). Nor is there an event to wait for, unless the socket is connected: poll(2) says that it can send.
func (n network) queuesAtPeer() bool { return n.proto == "unix" && n.typ != unix.SOCK_STREAM }

func (s *socket) queuesAtPeer() bool { return s.net.queuesAtPeer() }

// sendPatiently sends with a call that does not wait, and tries again after a pause when there is no room.
func (s *socket) sendPatiently(ctx context.Context, send func() (int, error)) (int, error) {
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		if ctx.Err() != nil {
			return 0, driver.Canceled(ctx)
		}
		n, err := send()
		if err == nil {
			s.countTry(ctx, n)
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
