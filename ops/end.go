package ops

import (
	"math"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

// A socket that was shut down for receiving may be ready for ever without anything to receive. A call that waits returns then, and one that does not
// wait says EAGAIN again and again: sockets for datagrams do that, and Unix ones that listen.

// End returns the result of an operation that was refused with EAGAIN after its descriptor had hung up (unix.POLLRDHUP), if that is because nothing
// can come any more. It asks the descriptor, and does not wait.
func (s *Spec) End() (res int32, ended bool) {
	switch s.Kind.Code {
	case ring.OpAccept:
		return einval, true // nobody can connect any more
	case ring.OpRecv, ring.OpRecvmsg, ring.OpRead:
		// Others are looked at once more, as the kernel may have refused for another reason, and what has arrived must not be lost.
		if _, err := TryRecv(int(s.FD), make([]byte, 1), unix.MSG_PEEK); err != syscall.EAGAIN {
			return 0, false
		}
		if m, ok := s.aux.(*Msg); ok {
			emptied(&m.hdr)
		}
		return 0, true
	}
	return 0, false
}

// emptied makes a header for receiving that of the message that is none.
func emptied(hdr *unix.Msghdr) {
	hdr.Namelen, hdr.Flags = 0, 0
	hdr.SetControllen(0)
}

func endRead(e *ring.SQE) int32   { return endOf(e, tryRead, 0) }
func endReadv(e *ring.SQE) int32  { return endOf(e, tryReadv, 0) }
func endRecv(e *ring.SQE) int32   { return endOf(e, tryRecv, 0) }
func endAccept(e *ring.SQE) int32 { return endOf(e, tryAccept, einval) }

func endRecvmsg(e *ring.SQE) int32 {
	const ended = math.MinInt32
	res := endOf(e, tryRecvmsg, ended)
	if res == ended {
		emptied((*unix.Msghdr)(pointer(&e.Addr)))
		return 0
	}
	return res
}

// endOf is end if the descriptor has come to its end, and what try says if something has come before that, but after the attempt that found nothing.
func endOf(e *ring.SQE, try func(*ring.SQE) int32, end int32) int32 {
	if r := pollNow(e.FD, unix.POLLRDHUP); r < 0 || r&unix.POLLRDHUP == 0 {
		return eagain
	}
	if res := try(e); res != eagain {
		return res
	}
	return end
}
