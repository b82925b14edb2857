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

		// From pipe to pipe, to a socket, and back.
		r2, w2 := e.pipe()
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(p[0])
		defer unix.Close(p[1])
		must(e, WriteAt(w, []byte("passed on"), -1))
		for i, ends := range [][2]int{{r, w2}, {r2, p[0]}, {p[1], w}} {
			if n := must(e, Splice(ends[0], -1, ends[1], -1, 100, 0)); n != 9 {
				t.Errorf("hop %d: %d", i, n)
			}
		}
		passed := make([]byte, 20)
		if n := must(e, ReadAt(r, passed, -1)); string(passed[:n]) != "passed on" {
			t.Errorf("%q came back", passed[:n])
		}

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

// Splicing nothing, or with flags that do not exist, has no end to wait for.
func TestSpliceNothing(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		r, _ := e.pipe()
		_, w := e.pipe()
		if n := must(e, Splice(r, -1, w, -1, 0, 0)); n != 0 {
			t.Errorf("%d bytes", n)
		}
		fails(e, Splice(r, -1, w, -1, 1, 1<<20), syscall.EINVAL)
	})
}

// TestSpliceWrongWay splices into the end that is for reading, out of the one for writing: that has nothing to wait for.
func TestSpliceWrongWay(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		r, w := e.pipe()
		other, into := e.pipe()
		fails(e, Splice(r, -1, other, -1, 1, 0), syscall.EBADF)
		fails(e, Splice(w, -1, into, -1, 1, 0), syscall.EBADF)
	})
}

// TestSpliceNoWait splices out of a socket that has nothing and says nothing of that: its own calls would wait.
func TestSpliceNoWait(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		if !e.portable {
			t.Skip("the ring waits: the flag is about pipes")
		}
		a, b := e.socketpair(unix.SOCK_DGRAM)
		_, w := e.pipe()
		splice := Splice(a, -1, w, -1, 8, unix.SPLICE_F_NONBLOCK)
		id := e.start(&splice.Spec)
		defer func() { // or the end of the test would wait for one that waits all the same
			if _, err := unix.Write(b, []byte("x")); err != nil {
				t.Error(err)
			}
		}()
		if res := e.await(id); res != eagain {
			t.Errorf("%d", res)
		}
	})
}

// TestSpliceImpossible splices what will never do, between ends of which neither is ready: that has nothing to wait for.
func TestSpliceImpossible(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		r, w := e.pipe()
		a, b := e.socketpair(unix.SOCK_STREAM)
		_, into := e.pipe()
		file := e.file("")
		if _, err := unix.FcntlInt(uintptr(file), unix.F_SETFL, unix.O_APPEND); err != nil {
			t.Fatal(err)
		}
		for _, flags := range []uint32{0, unix.SPLICE_F_NONBLOCK} {
			fails(e, Splice(r, 0, into, -1, 1, flags), syscall.ESPIPE)
			fails(e, Splice(a, -1, into, 0, 1, flags), syscall.ESPIPE)
			fails(e, Splice(a, 0, into, -1, 1, flags), syscall.EINVAL)
			fails(e, Splice(r, -1, a, 0, 1, flags), syscall.EINVAL)
			fails(e, Splice(a, -1, b, -1, 1, flags), syscall.EINVAL)
			fails(e, Splice(r, -1, w, -1, 1, flags), syscall.EINVAL)
			fails(e, Splice(r, -1, file, -1, 1, flags), syscall.EINVAL)
		}
	})
}
