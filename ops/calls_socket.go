package ops

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

func callSocket(e *ring.SQE) int32 {
	if e.OpFlags != 0 {
		return einval
	}
	return call(unix.SYS_SOCKET, uintptr(e.FD), uintptr(e.Off), uintptr(e.Len), 0, 0, 0)
}

func callShutdown(e *ring.SQE) int32 {
	return call(unix.SYS_SHUTDOWN, uintptr(e.FD), uintptr(e.Len), 0, 0, 0, 0)
}

// The calls that wait are those that do not, made whenever the socket is ready.
func callConnect(e *ring.SQE) int32 { return untilDone(e, tryConnect, wantsConnect, nil) }
func callAccept(e *ring.SQE) int32  { return untilDone(e, tryAccept, wantsAccept, endAccept) }
func callRecv(e *ring.SQE) int32    { return untilDone(e, tryRecv, wantsRecv, endRecv) }
func callSend(e *ring.SQE) int32    { return untilDone(e, trySend, wantsSend, nil) }
func callRecvmsg(e *ring.SQE) int32 { return untilDone(e, tryRecvmsg, wantsRecv, endRecvmsg) }
func callSendmsg(e *ring.SQE) int32 { return untilDone(e, trySendmsg, wantsSend, nil) }

// The flag means the same in the flags of messages, and nothing in those of accept.
const dontWait = unix.MSG_DONTWAIT

// untilDone makes a call that does not wait until it is done. What its descriptor's readiness does not tell of, it waits for as a job of the pool does:
// see [ring.ErrorPause] and [ring.MostVain].
func untilDone(e *ring.SQE, try func(*ring.SQE) int32, wants func(*ring.SQE) (int32, int16), end func(*ring.SQE) int32) int32 {
	for inError, vain := false, 0; ; vain++ {
		res := try(e)
		if res != eagain || e.OpFlags&dontWait != 0 {
			return res
		}
		fd, events := wants(e)
		if fd < 0 {
			return res
		}
		if vain > 0 && events == unix.POLLIN && end != nil {
			if res = end(e); res != eagain {
				return res
			}
		}
		ready := poll(fd, events, -1)
		if ready < 0 {
			return ready
		}
		again := ready&int32(events) == 0
		if again && inError || vain >= ring.MostVain { // that was no news
			time.Sleep(ring.ErrorPause)
		}
		inError = again
	}
}

func wantsRecv(e *ring.SQE) (int32, int16)   { return e.FD, recvEvents(e.OpFlags) }
func wantsAccept(e *ring.SQE) (int32, int16) { return e.FD, unix.POLLIN }
func wantsSend(e *ring.SQE) (int32, int16)   { return e.FD, unix.POLLOUT }

func tryRecv(e *ring.SQE) int32 {
	if e.IoPrio&^ring.RecvSendPollFirst != 0 {
		return einval // multishot is the ring's alone
	}
	return call(unix.SYS_RECVFROM, uintptr(e.FD), uintptr(e.Addr), uintptr(e.Len), uintptr(e.OpFlags|unix.MSG_DONTWAIT), 0, 0)
}

func trySend(e *ring.SQE) int32 {
	return call(unix.SYS_SENDTO, uintptr(e.FD), uintptr(e.Addr), uintptr(e.Len), uintptr(e.OpFlags|unix.MSG_DONTWAIT), 0, 0)
}

func tryRecvmsg(e *ring.SQE) int32 {
	return call(unix.SYS_RECVMSG, uintptr(e.FD), uintptr(e.Addr), uintptr(e.OpFlags|unix.MSG_DONTWAIT), 0, 0, 0)
}

func trySendmsg(e *ring.SQE) int32 {
	return call(unix.SYS_SENDMSG, uintptr(e.FD), uintptr(e.Addr), uintptr(e.OpFlags|unix.MSG_DONTWAIT), 0, 0, 0)
}

// dropMsg gives back what came with a message that nobody will see.
func dropMsg(e *ring.SQE, _ int32) {
	hdr := (*unix.Msghdr)(pointer(&e.Addr))
	closeRights(unsafe.Slice(hdr.Control, hdr.Controllen))
}

func tryAccept(e *ring.SQE) int32 {
	if e.IoPrio&^ring.AcceptPollFirst != 0 || e.OpFlags&^(unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC) != 0 {
		return einval // multishot is the ring's alone
	}
	if r := pollNow(e.FD, unix.POLLIN); r < 0 {
		return r
	} else if r == 0 {
		return notYet(e.FD)
	}
	return nonblocking(e.FD, func() int32 {
		return call(unix.SYS_ACCEPT4, uintptr(e.FD), uintptr(e.Addr), uintptr(e.Off), uintptr(e.OpFlags), 0, 0)
	})
}

// notYet is EAGAIN if somebody may still connect to the descriptor, or else what is wrong with it.
func notYet(fd int32) int32 {
	listens, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	switch {
	case err != nil:
		return result(err)
	case listens == 0:
		switch typ, _ := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE); typ {
		case unix.SOCK_DGRAM, unix.SOCK_RAW:
			return eopnotsupp // nobody ever could
		}
		return einval
	}
	return eagain
}

// tryConnect begins to connect, or asks what became of it: while the connection is being made, connecting again says so, and then it says how
// it went, once.
func tryConnect(e *ring.SQE) int32 {
	r := nonblocking(e.FD, func() int32 {
		return call(unix.SYS_CONNECT, uintptr(e.FD), uintptr(e.Addr), uintptr(e.Off), 0, 0, 0)
	})
	if r == einprogress || r == ealready {
		return eagain
	}
	return r
}

// wantsConnect waits for the socket, unless that is not connecting at all: a Unix socket whose listener has a full queue. No event tells of
// room in that.
func wantsConnect(e *ring.SQE) (int32, int16) {
	if r := pollNow(e.FD, unix.POLLOUT); r > 0 && r&unix.POLLHUP != 0 && r&unix.POLLERR == 0 {
		return -1, 0
	}
	return e.FD, unix.POLLOUT
}

// nonblocking makes a call that has no flag against waiting, on a descriptor that is made non-blocking for its time. One at a time, so
// that nobody takes the other's setting for the caller's.
func nonblocking(fd int32, f func() int32) int32 {
	turn := &turns[uint32(fd)%uint32(len(turns))]
	turn.Lock()
	defer turn.Unlock()
	flags := call(unix.SYS_FCNTL, uintptr(fd), unix.F_GETFL, 0, 0, 0, 0)
	if flags < 0 {
		return flags
	}
	if flags&unix.O_NONBLOCK != 0 {
		return f()
	}
	if r := call(unix.SYS_FCNTL, uintptr(fd), unix.F_SETFL, uintptr(flags|unix.O_NONBLOCK), 0, 0, 0); r < 0 {
		return r
	}
	defer syscall.Syscall(unix.SYS_FCNTL, uintptr(fd), unix.F_SETFL, uintptr(flags))
	return f()
}
