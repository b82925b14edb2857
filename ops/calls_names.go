package ops

import (
	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

func callMkdirat(e *ring.SQE) int32 {
	return call(unix.SYS_MKDIRAT, uintptr(e.FD), uintptr(e.Addr), uintptr(e.Len), 0, 0, 0)
}

func callUnlinkat(e *ring.SQE) int32 {
	return call(unix.SYS_UNLINKAT, uintptr(e.FD), uintptr(e.Addr), uintptr(e.OpFlags), 0, 0, 0)
}

func callRenameat(e *ring.SQE) int32 {
	return call(unix.SYS_RENAMEAT2, uintptr(e.FD), uintptr(e.Addr), uintptr(int32(e.Len)), uintptr(e.Off), uintptr(e.OpFlags), 0)
}

func callSymlinkat(e *ring.SQE) int32 {
	return call(unix.SYS_SYMLINKAT, uintptr(e.Addr), uintptr(e.FD), uintptr(e.Off), 0, 0, 0)
}

func callLinkat(e *ring.SQE) int32 {
	return call(unix.SYS_LINKAT, uintptr(e.FD), uintptr(e.Addr), uintptr(int32(e.Len)), uintptr(e.Off), uintptr(e.OpFlags), 0)
}
