package ops

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSync(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		fd := e.file("content")
		must(e, Fsync(fd))
		must(e, Fdatasync(fd))
		must(e, SyncFileRange(fd, 2, 3, unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER))
		must(e, SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WRITE))
		fails(e, SyncFileRange(fd, 0, 0, 1<<20), syscall.EINVAL)
		fails(e, SyncFileRange(fd, -1, 1, 0), syscall.EINVAL)
		r, _ := e.pipe()
		fails(e, Fsync(r), syscall.EINVAL)
		fails(e, Fdatasync(r), syscall.EINVAL)
		fails(e, SyncFileRange(r, 0, 0, 0), syscall.ESPIPE)
		fails(e, Fsync(-1), syscall.EBADF)
	})
}
