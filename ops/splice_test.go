package ops

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSplice(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		from, to := e.file("0123456789"), e.file("")
		r, w := e.pipe()
		if n := must(e, Splice(from, 2, w, -1, 5, 0)); n != 5 {
			t.Errorf("into the pipe: %d", n)
		}
		if n := must(e, Splice(r, -1, to, 1, 100, 0)); n != 5 {
			t.Errorf("out of the pipe: %d", n)
		}
		if got := e.content(to); got != "\x0023456" {
			t.Errorf("%q", got)
		}
		if n := must(e, Splice(from, -1, w, -1, 4, unix.SPLICE_F_MOVE)); n != 4 {
			t.Errorf("at the position: %d", n)
		}
		must(e, ReadAt(r, make([]byte, 8), -1))
		if n := must(e, Splice(from, 10, w, -1, 4, 0)); n != 0 {
			t.Errorf("at the end: %d", n)
		}
		empty := Splice(r, -1, to, -1, 1, unix.SPLICE_F_NONBLOCK)
		if !empty.NoWait() {
			t.Error("does not know that it must not wait")
		}
		fails(e, empty, syscall.EAGAIN)
		fails(e, Splice(from, 0, to, 0, 1, 0), syscall.EINVAL)
		fails(e, Splice(-1, -1, w, -1, 1, 0), syscall.EBADF)

		wait := Splice(r, -1, to, 0, 10, 0)
		id := e.start(&wait.Spec)
		if !e.pending(id) {
			t.Fatalf("out of an empty pipe: %d", e.await(id))
		}
		must(e, WriteAt(w, []byte("abc"), -1))
		if n := e.await(id); n != 3 || e.content(to)[:3] != "abc" {
			t.Errorf("%d %q", n, e.content(to))
		}
	})
}
