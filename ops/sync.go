package ops

import "uringo/internal/ring"

var (
	kindFsync         = &Kind{Name: "fsync", Code: ring.OpFsync}
	kindFdatasync     = &Kind{Name: "fdatasync", Code: ring.OpFsync}
	kindSyncFileRange = &Kind{Name: "sync_file_range", Code: ring.OpSyncFileRange}
)

// Fsync brings the data and metadata of fd to stable storage. It covers the writes that completed before it was submitted, not
// those in flight beside it. Kernel 5.1, fsync(2).
func Fsync(fd int) Op[struct{}] { return Op[struct{}]{Spec: Spec{Kind: kindFsync, FD: int32(fd)}} }

// Fdatasync is [Fsync] without the metadata that reading the data back does not need. Kernel 5.1, fdatasync(2).
func Fdatasync(fd int) Op[struct{}] {
	return Op[struct{}]{Spec: Spec{Kind: kindFdatasync, FD: int32(fd), opFlags: ring.FsyncDatasync}}
}

// SyncFileRange starts or awaits the write-back of n bytes from offset off, as flags say (unix.SYNC_FILE_RANGE_*); n = 0 means to the
// end. It is no substitute for fsync: neither metadata nor the disk's cache are written. Kernel 5.2, sync_file_range(2).
func SyncFileRange(fd int, off int64, n uint32, flags uint32) Op[struct{}] {
	return Op[struct{}]{Spec: Spec{Kind: kindSyncFileRange, FD: int32(fd), off: uint64(off), len: n, opFlags: flags}}
}
