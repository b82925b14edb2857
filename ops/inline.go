package ops

import (
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

// Async is the flag in [Spec.Flags] by which the kernel's worker threads perform an operation from the start (IOSQE_ASYNC): for what could
// hold up the driver if it was tried at once, such as a request to a file system in user space or over a network.
const Async = ring.SQEAsync

// brief is how many bytes are copied in so little time that the scheduler need not be told of the call.
const brief = 16 << 10

// TryRead reads into b from offset off of fd, on the calling goroutine, as far as that is possible without waiting for a disk: what
// is in the page cache. It is a plain system call and allocates nothing. The count is short where the cache ends, and 0 at the end
// of the file. EAGAIN means that nothing is cached, EOPNOTSUPP that the file cannot tell. Kernel 4.14, preadv2(2) with RWF_NOWAIT.
func TryRead(fd int, b []byte, off int64) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		iov := unix.Iovec{Base: unsafe.SliceData(b)}
		iov.SetLen(min(len(b), MaxTransfer))
		var n uintptr
		var errno syscall.Errno
		if len(b) <= brief {
			n, _, errno = syscall.RawSyscall6(unix.SYS_PREADV2, uintptr(fd), uintptr(unsafe.Pointer(&iov)), 1,
				offsetLow(uint64(off)), offsetHigh(uint64(off)), unix.RWF_NOWAIT)
		} else {
			n, _, errno = syscall.Syscall6(unix.SYS_PREADV2, uintptr(fd), uintptr(unsafe.Pointer(&iov)), 1,
				offsetLow(uint64(off)), offsetHigh(uint64(off)), unix.RWF_NOWAIT)
		}
		switch {
		case errno == syscall.EINTR:
			continue
		case errno != 0:
			return 0, errno
		case n == 0 && falseEOF():
			return 0, syscall.EAGAIN
		}
		written(b[:n])
		return int(n), nil
	}
}

// TryReadv is [TryRead] for the buffers of a ReadvAt.
func TryReadv(o *Op[[][]byte]) (int, error) {
	v := o.aux.(*vec)
	if v.total == 0 {
		return 0, nil
	}
	for {
		n, _, errno := syscall.Syscall6(unix.SYS_PREADV2, uintptr(o.FD), uintptr(unsafe.Pointer(unsafe.SliceData(v.iov))),
			uintptr(len(v.iov)), offsetLow(o.off), offsetHigh(o.off), unix.RWF_NOWAIT)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno != 0:
			return 0, errno
		case n == 0 && falseEOF():
			return 0, syscall.EAGAIN
		}
		writtenTo(v.bufs, int(n))
		return int(n), nil
	}
}

// Pread reads into b from offset off of fd with a plain system call on the calling goroutine, once. It may block, and allocates
// nothing. pread(2).
func Pread(fd int, b []byte, off int64) (int, error) {
	b = b[:min(len(b), MaxTransfer)]
	for {
		n, err := syscall.Pread(fd, b, off)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// Pwrite writes b at offset off of fd with a plain system call on the calling goroutine, once. It may block, and allocates nothing.
// pwrite(2).
func Pwrite(fd int, b []byte, off int64) (int, error) {
	b = b[:min(len(b), MaxTransfer)]
	for {
		n, err := syscall.Pwrite(fd, b, off)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// Run performs an operation with a plain system call on the calling goroutine. It may block, and nothing can cancel it. One with other rights
// than the process's is refused, EPERM, and so is one on the ring's table of files, ENXIO. Where no system call does the same, it is ENOSYS.
func Run[T any](o *Op[T]) Result[T] {
	if err := o.Invalid(); err != nil {
		return o.Result(0, err)
	}
	return o.Result(o.Finish(o.call()))
}

// call is Run without types.
func (s *Spec) call() int32 {
	switch {
	case s.As != nil:
		return -int32(syscall.EPERM)
	case s.OnTable():
		return -int32(syscall.ENXIO) // the call would take the place for a descriptor
	}
	var e ring.SQE
	s.Prepare(&e)
	do := calls[e.Op].Do
	if do == nil {
		return -int32(syscall.ENOSYS)
	}
	for {
		res := do(&e)
		if res == -int32(syscall.EINTR) && !s.Kind.Once {
			continue
		}
		if res >= 0 && s.Kind.Writes && s.mem != nil {
			n := s.len
			if s.Kind.Bounded {
				n = min(n, uint32(res))
			}
			written(unsafe.Slice((*byte)(s.mem), n))
		}
		runtime.KeepAlive(s)
		return res
	}
}

// writtenTo is written for the first n bytes of bufs.
func writtenTo(bufs [][]byte, n int) {
	for _, b := range bufs {
		m := min(n, len(b))
		written(b[:m])
		n -= m
	}
}

// preadv2 takes the offset in two halves where a register is smaller than it.
func offsetLow(off uint64) uintptr { return uintptr(off) }

func offsetHigh(off uint64) uintptr {
	if wide {
		return 0
	}
	return uintptr(off >> 32)
}

// falseEOF reports whether the running kernel may answer a read that must not wait with 0 although the file goes on. Linux 5.9 and
// 5.10 do (preadv2(2), BUGS).
var falseEOF = sync.OnceValue(func() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return true
	}
	major, rest, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), ".")
	minor, _, _ := strings.Cut(rest, ".")
	minor, _, _ = strings.Cut(minor, "-")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	return err1 != nil || err2 != nil || a == 5 && (b == 9 || b == 10)
})
