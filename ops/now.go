package ops

import (
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of this file are operations as plain system calls on the calling goroutine, for callers who have decided to wait
// there. They may block, and nothing can cancel them. They allocate nothing unless the name is very long: an [Op] has to outlive its
// caller's frame, and these do not.

// StatxNow is [Statx] as a plain system call on the calling goroutine. It may block. statx(2).
func StatxNow(dirfd int, name string, flags int, mask uint32, st *unix.Statx_t) error {
	_, err := callOnName(unix.SYS_STATX, dirfd, name, uintptr(flags), uintptr(mask), unsafe.Pointer(st))
	return err
}

// UnlinkatNow is [Unlinkat] as a plain system call on the calling goroutine. It may block. unlinkat(2).
func UnlinkatNow(dirfd int, name string, flags int) error {
	_, err := callOnName(unix.SYS_UNLINKAT, dirfd, name, uintptr(flags), 0, nil)
	return err
}

// OpenatNow is [Openat] as a plain system call on the calling goroutine, which waits for the other end of a FIFO. openat(2).
func OpenatNow(dirfd int, name string, flags int, mode uint32) (fd int, err error) {
	return callOnName(unix.SYS_OPENAT, dirfd, name, uintptr(openFlags(uint64(flags))), uintptr(mode), nil)
}

// Openat2Now is [Openat2] as a plain system call on the calling goroutine, but takes the flags as they are and is not repeated after EINTR. It may
// block. openat2(2).
func Openat2Now(dirfd int, name string, how unix.OpenHow) (fd int, err error) {
	var b nameBuf
	p := b.set(name)
	if p == nil {
		return -1, syscall.EINVAL
	}
	r, _, errno := syscall.Syscall6(unix.SYS_OPENAT2, uintptr(dirfd), uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(&how)),
		unsafe.Sizeof(how), 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// CloseNow is [Close] as a plain system call on the calling goroutine, and like that never repeated. It may block. close(2).
func CloseNow(fd int) error {
	if _, _, errno := syscall.Syscall(unix.SYS_CLOSE, uintptr(fd), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// callOnName makes a call whose first arguments are a directory and a name. Without an error the result is not negative.
func callOnName(trap uintptr, dirfd int, name string, arg3, arg4 uintptr, out unsafe.Pointer) (int, error) {
	var b nameBuf
	p := b.set(name)
	if p == nil {
		return -1, syscall.EINVAL
	}
	for {
		r, _, errno := syscall.Syscall6(trap, uintptr(dirfd), uintptr(unsafe.Pointer(p)), arg3, arg4, uintptr(out), 0)
		switch errno {
		case 0:
			return int(r), nil
		case syscall.EINTR:
		default:
			return -1, errno
		}
	}
}

// nameBuf holds a name as the kernel reads it.
type nameBuf [256]byte

// set returns the address of the name with a NUL behind it, in b if it fits. It is nil for a name with a NUL inside, of which the
// kernel would see another one.
func (b *nameBuf) set(name string) *byte {
	if strings.IndexByte(name, 0) >= 0 {
		return nil
	}
	if len(name) < len(b) {
		copy(b[:], name)
		return &b[0]
	}
	return unsafe.SliceData(append([]byte(name), 0))
}
