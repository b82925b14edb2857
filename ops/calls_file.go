package ops

import (
	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

// callFsync syncs the whole file, also where the entry names a range of it.
func callFsync(e *ring.SQE) int32 {
	switch e.OpFlags {
	case 0:
		return call(unix.SYS_FSYNC, uintptr(e.FD), 0, 0, 0, 0, 0)
	case ring.FsyncDatasync:
		return call(unix.SYS_FDATASYNC, uintptr(e.FD), 0, 0, 0, 0, 0)
	}
	return einval
}

func callSyncFileRange(e *ring.SQE) int32 {
	return uninterrupted(func() error {
		return unix.SyncFileRange(int(e.FD), int64(e.Off), int64(e.Len), int(e.OpFlags))
	})
}

func callFallocate(e *ring.SQE) int32 {
	return uninterrupted(func() error { return unix.Fallocate(int(e.FD), e.Len, int64(e.Off), int64(e.Addr)) })
}

func callFtruncate(e *ring.SQE) int32 {
	return uninterrupted(func() error { return unix.Ftruncate(int(e.FD), int64(e.Off)) })
}

func callFadvise(e *ring.SQE) int32 {
	n := int64(e.Addr)
	if n == 0 {
		n = int64(e.Len)
	}
	return uninterrupted(func() error { return unix.Fadvise(int(e.FD), int64(e.Off), n, int(e.OpFlags)) })
}

func callStatx(e *ring.SQE) int32 {
	return call(unix.SYS_STATX, uintptr(e.FD), uintptr(e.Addr), uintptr(e.OpFlags), uintptr(e.Len), uintptr(e.Off), 0)
}

func callFsetxattr(e *ring.SQE) int32 {
	return call(unix.SYS_FSETXATTR, uintptr(e.FD), uintptr(e.Addr), uintptr(e.Off), uintptr(e.Len), uintptr(e.OpFlags), 0)
}

func callSetxattr(e *ring.SQE) int32 {
	return call(unix.SYS_SETXATTR, uintptr(e.Addr3), uintptr(e.Addr), uintptr(e.Off), uintptr(e.Len), uintptr(e.OpFlags), 0)
}

func callFgetxattr(e *ring.SQE) int32 {
	return call(unix.SYS_FGETXATTR, uintptr(e.FD), uintptr(e.Addr), uintptr(e.Off), uintptr(e.Len), 0, 0)
}

func callGetxattr(e *ring.SQE) int32 {
	return call(unix.SYS_GETXATTR, uintptr(e.Addr3), uintptr(e.Addr), uintptr(e.Off), uintptr(e.Len), 0, 0)
}
