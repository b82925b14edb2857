//go:build !amd64 && !arm64

package ops

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FstatatNow describes the file name, relative to dirfd unless absolute, by a plain call, for which the kernel does less than for statx. flags are
// unix.AT_*. It may block. fstatat(2).
func FstatatNow(dirfd int, name string, flags int, st *syscall.Stat_t) error {
	for {
		err := unix.Fstatat(dirfd, name, (*unix.Stat_t)(unsafe.Pointer(st)), flags) // the same, in another package
		if err != syscall.EINTR {
			return err
		}
	}
}
