package ops

import (
	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

var (
	kindRecv = &Kind{Name: "recv", Code: ring.OpRecv, Writes: true, Bounded: true, Waits: true, NoWait: unix.MSG_DONTWAIT,
		Ready: readyRecv, PollFirst: ring.RecvSendPollFirst}
	kindSend = &Kind{Name: "send", Code: ring.OpSend, Gives: true, Bounded: true, NoWait: unix.MSG_DONTWAIT, Ready: readySend,
		PollFirst: ring.RecvSendPollFirst, Asks: true}
	kindSendKnown = unasked(kindSend)

	// With MSG_TRUNC the result is the size of the datagram, also where that exceeds the buffer.
	kindRecvSize = &Kind{Name: "recv", Code: ring.OpRecv, Writes: true, Waits: true, NoWait: unix.MSG_DONTWAIT, Ready: readyRecv,
		PollFirst: ring.RecvSendPollFirst}
)

// Recv receives into b from the socket fd, once, and waits until there is something: N is 0 at the end of a stream. flags are
// unix.MSG_*: with MSG_DONTWAIT, EAGAIN is an outcome like any other; with MSG_TRUNC, N is the size of the datagram, even if it exceeds
// the buffer. MSG_WAITALL is EINVAL: what a cancellation leaves half done could not be told. The kernel writes to b until the result is
// in. Kernel 5.6, recv(2).
func Recv(fd int, b []byte, flags int) (o Op[[]byte]) {
	k := kindRecv
	if flags&unix.MSG_TRUNC != 0 {
		k = kindRecvSize
	}
	o.stream(k, fd, b, flags)
	o.Buf = b
	return o
}

// Send sends b on the socket fd, once, and waits until there is room: it may be short. flags are unix.MSG_*, with MSG_NOSIGNAL always
// among them: a broken connection is EPIPE and no signal. MSG_WAITALL is EINVAL, as with [Recv]. The kernel reads b until the result is
// in. Kernel 5.6, send(2).
func Send(fd int, b []byte, flags int) (o Op[[]byte]) {
	o.stream(kindSend, fd, b, flags|unix.MSG_NOSIGNAL)
	o.Buf = b
	return o
}

// stream fills in s, field by field: a Spec that is made and then copied costs as much again.
func (s *Spec) stream(k *Kind, fd int, b []byte, flags int) {
	s.Kind, s.FD, s.mem, s.len, s.opFlags = k, int32(fd), bytes(b), uint32(min(len(b), MaxTransfer)), uint32(flags)
	if flags&unix.MSG_WAITALL != 0 {
		s.aux = badFlags
	}
}

var badFlags = &invalid{unix.EINVAL}

// Loses reports whether the kernel loses what the operation sends if it has to wait for room: with Unix datagrams it finds the peer's queue
// full when it has taken the data, and what the ring then tries again is an empty packet (seen on 6.18). It asks the descriptor, by a system call or
// two; a place in the ring's table cannot be asked.
func (s *Spec) Loses() bool {
	if !s.Kind.Asks || s.Flags&Direct != 0 || s.NoWait() {
		return false
	}
	if typ, err := unix.GetsockoptInt(int(s.FD), unix.SOL_SOCKET, unix.SO_TYPE); err != nil || typ != unix.SOCK_DGRAM {
		return false
	}
	domain, err := unix.GetsockoptInt(int(s.FD), unix.SOL_SOCKET, unix.SO_DOMAIN)
	return err == nil && domain == unix.AF_UNIX
}

// NotUnixgram says of a [Send] or [SendMsg] that its socket is not one for Unix datagrams, and so spares the driver to ask, which costs a fifth of an
// echo: see [Spec.Loses].
func (s *Spec) NotUnixgram() {
	switch s.Kind {
	case kindSend:
		s.Kind = kindSendKnown
	case kindSendmsg:
		s.Kind = kindSendmsgKnown
	}
}

// unasked is a kind of which the driver does not ask the socket.
func unasked(k *Kind) *Kind {
	known := *k
	known.Asks = false
	return &known
}

// readyRecv says what to wait for when there is nothing to receive.
func readyRecv(s *Spec, res int32) uint32 {
	if res != eagain {
		return 0
	}
	return uint32(recvEvents(s.opFlags))
}

// recvEvents returns what tells that there is something to receive with these flags.
func recvEvents(flags uint32) int16 {
	switch {
	case flags&unix.MSG_ERRQUEUE != 0:
		return unix.POLLERR
	case flags&unix.MSG_OOB != 0:
		return unix.POLLPRI
	}
	return unix.POLLIN
}

// readySend says what to wait for when there is no room to send.
func readySend(_ *Spec, res int32) uint32 {
	if res != eagain {
		return 0
	}
	return unix.POLLOUT
}
