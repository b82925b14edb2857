//go:build amd64 || arm64

package ops

import (
	"syscall"
	"unsafe"
)

// FstatatNow describes the file name, relative to dirfd unless absolute, by a plain call, for which the kernel does less than for statx. flags are
// unix.AT_*. It may block. fstatat(2).
func FstatatNow(dirfd int, name string, flags int, st *syscall.Stat_t) error {
	var b nameBuf
	p := b.set(name)
	if p == nil {
		return syscall.EINVAL
	}
	for {
		_, _, errno := syscall.Syscall6(sysFstatat, uintptr(dirfd), uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(st)), uintptr(flags), 0, 0)
		switch errno {
		case 0:
			return nil
		case syscall.EINTR:
		default:
			return errno
		}
	}
}
