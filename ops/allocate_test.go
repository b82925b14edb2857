package ops

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFallocate(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		fd := e.file("0123456789")
		r := do(e, Fallocate(fd, 0, 0, 8192))
		if r.Err == syscall.EOPNOTSUPP {
			t.Skip("this file system reserves nothing")
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); r.Err != nil || err != nil || st.Size != 8192 {
			t.Errorf("size %d, %v, %v", st.Size, r.Err, err)
		}
		must(e, Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 2, 3))
		if got := e.content(fd)[:10]; got != "01\x00\x00\x0056789" {
			t.Errorf("%q", got)
		}
		must(e, Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 5<<30, 4096)) // an offset beyond 32 bits
		fails(e, Fallocate(fd, 0, -1, 1), syscall.EINVAL)
		fails(e, Fallocate(fd, 0, 0, 0), syscall.EINVAL)
		fails(e, Fallocate(-1, 0, 0, 1), syscall.EBADF)
	})
}

func TestFtruncate(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		e.need(kindFtruncate, "6.9")
		fd := e.file("0123456789")
		must(e, Ftruncate(fd, 4))
		must(e, Ftruncate(fd, 6))
		if got := e.content(fd); got != "0123\x00\x00" {
			t.Errorf("%q", got)
		}
		fails(e, Ftruncate(fd, -1), syscall.EINVAL)
		fails(e, Ftruncate(-1, 0), syscall.EBADF)
		r, _ := e.pipe()
		fails(e, Ftruncate(r, 0), syscall.EINVAL)
	})
}
