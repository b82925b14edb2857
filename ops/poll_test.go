package ops

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPollAdd(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		r, w := e.pipe()
		if n := must(e, PollAdd(w, unix.POLLOUT|unix.POLLIN)); n != unix.POLLOUT {
			t.Errorf("events %#x", n)
		}
		poll := PollAdd(r, unix.POLLIN)
		id := e.start(&poll.Spec)
		if !e.pending(id) {
			t.Fatalf("an empty pipe: %#x", e.await(id))
		}
		must(e, WriteAt(w, []byte("x"), -1))
		if n := e.await(id); n != unix.POLLIN {
			t.Errorf("events %#x", n)
		}
		must(e, ReadAt(r, make([]byte, 1), -1))

		// The end of the other side is told unasked.
		id = e.start(&poll.Spec)
		e.settle()
		must(e, Close(w))
		if n := e.await(id); n != unix.POLLHUP {
			t.Errorf("events %#x", n)
		}
		if n := must(e, PollAdd(e.file(""), unix.POLLIN|unix.POLLOUT|unix.POLLPRI)); n != unix.POLLIN|unix.POLLOUT {
			t.Errorf("a plain file: %#x", n)
		}
		fails(e, PollAdd(-1, unix.POLLIN), syscall.EBADF)
		fails(e, PollAdd(1<<20, unix.POLLIN), syscall.EBADF)
	})
}
