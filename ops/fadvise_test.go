package ops

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

func TestFadvise(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		fd := e.file("content")
		must(e, Fadvise(fd, 0, 0, unix.FADV_SEQUENTIAL))
		must(e, Fadvise(fd, 2, 4, unix.FADV_DONTNEED))
		fails(e, Fadvise(fd, 0, 0, 99), syscall.EINVAL)
		fails(e, Fadvise(-1, 0, 0, 0), syscall.EBADF)
		r, _ := e.pipe()
		fails(e, Fadvise(r, 0, 0, 0), syscall.ESPIPE)
	})
}

// Short lengths go where all kernels look for them, long ones where they fit.
func TestFadviseLength(t *testing.T) {
	var short, long ring.SQE
	a, b := Fadvise(0, 1, 1<<32-1, 0), Fadvise(0, 1, 1<<32, 0)
	a.Prepare(&short)
	b.Prepare(&long)
	if short.Len != 1<<32-1 || short.Addr != 0 || long.Len != 0 || long.Addr != 1<<32 {
		t.Errorf("%+v %+v", short, long)
	}
}
