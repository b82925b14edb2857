package ops

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestClose(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		must(e, Close(fd))
		if isOpen(fd) {
			t.Error("still open")
		}
		fails(e, Close(fd), syscall.EBADF)
		fails(e, Close(-1), syscall.EBADF)
	})
}
