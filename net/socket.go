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

// socket is what connections and listeners have in common. Sockets are non-blocking, so that plain calls may try what they can do at
// once; the ring waits on them all the same.
type socket struct {
	h      handle.Handle
	net    *network
	local  Addr
	remote Addr        // nil for what is not connected
	slow   atomic.Bool // closing may wait: somebody had the descriptor who may have set SO_LINGER
	noMore atomic.Bool // is received: CloseRead was called
	inbox  atomic.Pointer[inbox]
	way    atomic.Pointer[wayIn]
	hope   hope // of finding something when receiving is tried
}

// open fills in s, the first field of its owner, which from now on owns the descriptor. A local address that is known is in s already.
func (s *socket) open(d *driver.Driver, n *network, fd int) {
	s.h.Open(fd, d)
	s.net = n
	if s.local == nil {
		s.local = n.localAddr(fd)
	}
	s.h.Collect()
}

// create makes a socket.
func (n *network) create(family int) (int, error) {
	fd, err := unix.Socket(family, n.typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, sysError("socket", err)
	}
	return fd, nil
}

// localAddr returns the address that fd is bound to.
func (n *network) localAddr(fd int) Addr {
	sa, _ := unix.Getsockname(fd) // without a name it has the zero address
	return n.address(sa)
}

// remoteAddr returns the address that fd is connected to. A peer that is gone already has the zero address.
func (n *network) remoteAddr(fd int) Addr {
	var peer ops.Peer
	_ = peer.Of(fd)
	return n.peer(&peer)
}

// peer returns the address of who is at the other end. Those without a name are called "@", as LocalAddr does.
func (n *network) peer(p *ops.Peer) Addr {
	if at, zone := p.AddrPort(); at.IsValid() && zone == 0 {
		return n.addr(at.Addr(), int(at.Port()))
	}
	a := n.address(p.Addr())
	if u, ok := a.(*UnixAddr); ok && u.Name == "" {
		u.Name = "@"
	}
	return a
}

// LocalAddr returns the address of this end. It must not be modified.
func (s *socket) LocalAddr() Addr { return s.local }

// Fd returns the descriptor, or ^uintptr(0) after Close. It stays the socket's: do not close it, and keep the socket alive.
func (s *socket) Fd() uintptr {
	if s.h.Closing() {
		return ^uintptr(0)
	}
	s.slow.Store(true) // for all we know
	return uintptr(s.h.FD)
}

// fail adds to an error what was tried on which socket.
func (s *socket) fail(op, call string, err error) error {
	if err == nil {
		return nil
	}
	if s.remote == nil {
		return opError(op, call, s.net.name, nil, s.local, err)
	}
	return opError(op, call, s.net.name, s.local, s.remote, err)
}

// close ends the use of the socket and closes it.
func (s *socket) close(ctx context.Context) error { return s.closeAfter(ctx, nil) }

// lingers reports whether closing may wait.
func (s *socket) lingers() bool {
	if !s.slow.Load() || !s.h.Acquire() {
		return false
	}
	defer s.h.Release()
	return handle.Lingers(s.h.FD)
}

// closeAfter is close, and calls last, if not nil, when the socket is no longer used and not closed yet.
func (s *socket) closeAfter(ctx context.Context, last func()) error {
	first, err := s.h.Shut(ctx)
	s.bar()
	if in := s.inbox.Load(); in != nil {
		in.forget()
	}
	if first && last != nil {
		last()
	}
	switch {
	case !first:
		err = ErrClosed
	case err != nil:
	case s.h.InTable():
		err = s.h.ClosePlace(ctx)
	case s.slow.Load() && handle.Lingers(s.h.FD):
		err = s.h.CloseApart(ctx, nil)
	default:
		err = ops.CloseNow(s.h.FD)
	}
	return s.fail("close", "close", err)
}

// control makes a plain system call on the descriptor, one that does not wait.
func (s *socket) control(op, call string, f func(fd int) error) error {
	if !s.h.Acquire() {
		return s.fail(op, call, ErrClosed)
	}
	defer s.h.Release() // also if f, which may be a user's, panics
	return s.fail(op, call, f(s.h.FD))
}

// receive receives once into b. The end of a stream is io.EOF. If the caller is let go while the kernel still has b, free is called
// later instead of dropping the reference now.
func (s *socket) receive(ctx context.Context, b []byte, flags int, free func()) (int, error) {
	if !s.h.Acquire() {
		return 0, ErrClosed
	}
	if len(b) == 0 {
		s.h.Release()
		return 0, nil
	}
	if s.inbox.Load() != nil {
		if n, err, ok := s.leftover(ctx, flags, b); ok {
			s.h.Release()
			return n, s.endOfPackets(n, err)
		}
	}
	n, err := 0, error(syscall.EAGAIN)
	if s.hope.any() {
		n, err = s.try(ctx, OpRead, func() (int, error) {
			n, err := ops.TryRecv(s.h.FD, b, flags)
			s.hope.learn(err != syscall.EAGAIN)
			return n, err
		})
	}
	if err == syscall.EAGAIN {
		o := ops.Recv(s.h.FD, b, flags)
		o.Release, o.Patient = free, patient(ctx)
		if err = s.direct(ctx, &o.Spec); err == nil {
			n, err = executor.Perform(ctx, &o.Spec)
		}
	}
	if err != nil {
		return n, s.h.Settle(err, ErrClosed)
	}
	s.h.Release()
	if n == 0 && s.nothingIsEnd() {
		return 0, io.EOF
	}
	return n, nil
}

// nothingIsEnd reports whether to receive nothing is the end, and not an empty datagram.
func (s *socket) nothingIsEnd() bool { return s.net.typ != unix.SOCK_DGRAM || s.noMore.Load() }

// endOfPackets has an empty packet that was left over be what a socket makes of it, of which one cannot tell: the end.
func (s *socket) endOfPackets(n int, err error) error {
	if n == 0 && err == nil && s.net.typ == unix.SOCK_SEQPACKET {
		return io.EOF
	}
	return err
}

// send sends b once; see receive.
func (s *socket) send(ctx context.Context, b []byte, flags int, free func()) (int, error) {
	if !s.h.Acquire() {
		return 0, ErrClosed
	}
	if s.queuesAtPeer() {
		n, err := s.sendPatiently(ctx, func() (int, error) { return ops.TrySend(s.h.FD, b, flags) })
		return n, s.h.Settle(err, ErrClosed)
	}
	n, err := s.try(ctx, OpWrite, func() (int, error) { return ops.TrySend(s.h.FD, b, flags) })
	if err == syscall.EAGAIN {
		o := ops.Send(s.h.FD, b, flags)
		o.NotUnixgram()
		o.Release, o.Patient = free, patient(ctx)
		if err = s.direct(ctx, &o.Spec); err == nil {
			n, err = executor.Perform(ctx, &o.Spec)
		}
	}
	if err != nil {
		return n, s.h.Settle(err, ErrClosed)
	}
	s.h.Release()
	return n, nil
}

// attempt makes a call that does not wait, on the caller's goroutine, and, as long as there is nothing to do for it, again when the ring
// sees one of the events on the socket.
func (s *socket) attempt(ctx context.Context, events uint32, call func() (int, error)) (int, error) {
	for w := (await{}); ; {
		noMore := s.noMore.Load() // before the call, which finds what had arrived by then
		n, err := s.attemptOnce(ctx, call)
		if err == nil {
			s.countTry(ctx, executor.CallerOf(ctx), n)
		}
		if err != syscall.EAGAIN {
			return n, err
		}
		if events == unix.POLLIN && noMore {
			return 0, nil // a socket for datagrams would be ready for ever
		}
		if err := w.event(ctx, s, events); err != nil {
			return 0, err
		}
	}
}

// attemptOnce is attempt without waiting and counting: EAGAIN says that it would have to wait.
func (s *socket) attemptOnce(ctx context.Context, call func() (int, error)) (int, error) {
	if !s.h.Acquire() {
		return 0, ErrClosed
	}
	if ctx.Err() != nil {
		s.h.Release()
		return 0, driver.Canceled(ctx)
	}
	n, err := call()
	if err == syscall.EAGAIN {
		s.h.Release()
		return 0, err
	}
	return n, s.h.Settle(err, ErrClosed)
}

// attemptMuch is attempt for a call that sends much, perhaps. Others have their turn before, also after waiting: of many who waited for room, all may
// find some at the same moment. Goroutines, too: the scheduler lets one that makes short calls have a processor for 10 ms, and so many such
// as are just being served would have the others wait for a multiple of that.
func (s *socket) attemptMuch(ctx context.Context, call func() (int, error)) (int, error) {
	c := executor.CallerOf(ctx)
	for w := (await{}); ; {
		inTurn := c.MayBlock() || c.Company() > 1
		if inTurn {
			executor.StepBack(ctx)
		}
		n, err := s.attemptOnce(ctx, call)
		switch {
		case err == nil && inTurn: // to step back once is enough
			s.countInline(c)
			c.Spent(n)
		case err == nil:
			s.countTry(ctx, c, n)
		}
		if err != syscall.EAGAIN {
			return n, err
		}
		if err := w.event(ctx, s, unix.POLLOUT); err != nil {
			return 0, err
		}
	}
}
