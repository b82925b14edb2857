package ops

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

func callOpenat(e *ring.SQE) int32 {
	return openNoWait(e.OpFlags, func(flags uint32) int32 {
		return call(unix.SYS_OPENAT, uintptr(e.FD), uintptr(e.Addr), uintptr(flags), uintptr(e.Len), 0, 0)
	})
}

// openNoWait opens as the ring does: without waiting for the other end of a FIFO. For that it asks for O_NONBLOCK, which no file
// that has been opened should be left with unless the caller wanted it.
func openNoWait(flags uint32, open func(flags uint32) int32) int32 {
	if flags&(unix.O_NONBLOCK|unix.O_PATH) != 0 {
		return open(flags)
	}
	fd := open(flags | unix.O_NONBLOCK)
	if fd == eagain {
		// Somebody holds a lease on the file, and would have to be waited for. It is no FIFO.
		return open(flags)
	}
	if fd >= 0 {
		// The other status flags are set as they are; the rest of the open flags does not count here.
		if r := call(unix.SYS_FCNTL, uintptr(fd), unix.F_SETFL, uintptr(flags), 0, 0, 0); r < 0 {
			dropFD(nil, fd)
			return r
		}
	}
	return fd
}

func callOpenat2(e *ring.SQE) int32 {
	if e.Off == 0 {
		return -int32(syscall.EFAULT)
	}
	how := *(*unix.OpenHow)(pointer(&e.Off))
	if e.Len != uint32(unsafe.Sizeof(how)) || how.Flags>>32 != 0 {
		return einval
	}
	return openNoWait(uint32(how.Flags), func(flags uint32) int32 {
		how.Flags = uint64(flags)
		return openat2(e, how)
	})
}

// askAgain is how often a path that must stay beneath a directory is looked up if the kernel says EAGAIN: on the way through .. it does if
// anybody renamed anything meanwhile. It says the same of a file that somebody has a lease on, and of what RESOLVE_CACHED does not find; then
// it is the answer in the end.
const askAgain = 128

func openat2(e *ring.SQE, how unix.OpenHow) int32 {
	scoped := how.Resolve&(unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT) != 0
	for tries := 1; ; tries++ {
		r, _, errno := syscall.Syscall6(unix.SYS_OPENAT2, uintptr(e.FD), uintptr(e.Addr), uintptr(unsafe.Pointer(&how)),
			unsafe.Sizeof(how), 0, 0)
		switch {
		case errno == 0:
			return int32(r)
		case errno == syscall.ENOSYS && how.Resolve == 0:
			// Linux before 5.6, or a filter that does not know the call: without rules for the path, openat does the same.
			return call(unix.SYS_OPENAT, uintptr(e.FD), uintptr(e.Addr), uintptr(how.Flags), uintptr(how.Mode), 0, 0)
		case errno == syscall.EAGAIN && scoped && tries < askAgain:
		case errno != syscall.EINTR:
			return -int32(errno)
		}
	}
}

// callClose is never repeated: after an interrupted close the descriptor is gone, and its number may be somebody else's.
func callClose(e *ring.SQE) int32 {
	return result(CloseNow(int(e.FD)))
}
