package ops

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TryRecv receives into b from the socket fd what has arrived, on the calling goroutine, without waiting. It is a plain system call and
// allocates nothing. EAGAIN means that there is nothing yet, 0 is the end of a stream. flags are unix.MSG_*. recv(2) with MSG_DONTWAIT.
func TryRecv(fd int, b []byte, flags int) (int, error) {
	n, err := transferNow(unix.SYS_RECVFROM, fd, b, flags)
	if err == nil {
		written(b[:min(n, len(b))]) // with MSG_TRUNC there may have been more
	}
	return n, err
}

// TrySend sends of b on the socket fd what there is room for, on the calling goroutine, without waiting. It is a plain system call and
// allocates nothing. EAGAIN means that there is no room. flags are unix.MSG_*, with MSG_NOSIGNAL always among them. send(2) with
// MSG_DONTWAIT.
func TrySend(fd int, b []byte, flags int) (int, error) {
	wasRead(b)
	return transferNow(unix.SYS_SENDTO, fd, b, flags|unix.MSG_NOSIGNAL)
}

// TryAccept accepts a connection that waits on the listening socket fd, which must not be a blocking one, and tells p who is at its other end. It
// is a plain system call and allocates nothing. EAGAIN means that none waits. The new descriptor is close-on-exec; flags are 0 or
// unix.SOCK_NONBLOCK. accept(2).
func TryAccept(fd int, flags int, p *Peer) (int, error) {
	for {
		p.name.len = uint32(unsafe.Sizeof(p.name.raw))
		n, _, errno := syscall.Syscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&p.name.raw)),
			uintptr(unsafe.Pointer(&p.name.len)), uintptr(flags|unix.SOCK_CLOEXEC), 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return -1, errno
		}
	}
}

// transferNow makes the call, without telling the scheduler if it is brief.
func transferNow(trap uintptr, fd int, b []byte, flags int) (int, error) {
	p, l := unsafe.Pointer(unsafe.SliceData(b)), uintptr(min(len(b), MaxTransfer))
	for {
		var n uintptr
		var errno syscall.Errno
		if l <= brief {
			n, _, errno = syscall.RawSyscall6(trap, uintptr(fd), uintptr(p), l, uintptr(flags|unix.MSG_DONTWAIT), 0, 0)
		} else {
			n, _, errno = syscall.Syscall6(trap, uintptr(fd), uintptr(p), l, uintptr(flags|unix.MSG_DONTWAIT), 0, 0)
		}
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// TryRecvMsg is [TryRecv] for a message: one made by [RecvMsg].
func TryRecvMsg(o *Op[*Msg]) (int, error) {
	n, err := messageNow(unix.SYS_RECVMSG, o)
	if err != nil {
		return 0, err
	}
	writtenTo(o.Buf.Bufs, n)
	written(o.Buf.OOB[:min(o.Buf.OOBLen(), len(o.Buf.OOB))])
	return n, nil
}

// TrySendMsg is [TrySend] for a message: one made by [SendMsg].
func TrySendMsg(o *Op[*Msg]) (int, error) {
	for _, b := range o.Buf.Bufs {
		wasRead(b)
	}
	wasRead(o.Buf.OOB)
	return messageNow(unix.SYS_SENDMSG, o)
}

func messageNow(trap uintptr, o *Op[*Msg]) (int, error) {
	if err := o.Invalid(); err != nil {
		return 0, err
	}
	for {
		n, _, errno := syscall.Syscall(trap, uintptr(o.FD), uintptr(unsafe.Pointer(&o.Buf.hdr)), uintptr(o.opFlags|unix.MSG_DONTWAIT))
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}
