package ops

import (
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestCancel(t *testing.T) {
	const ecanceled = -int32(syscall.ECANCELED)
	onEnginesWith(t, 1, func(t *testing.T, e *engine) {
		r, _ := e.pipe()
		other, _ := e.pipe()
		reads := func(fd, n int) (ids []uint64) {
			for range n {
				read := ReadAt(fd, make([]byte, 8), -1)
				ids = append(ids, e.start(&read.Spec))
			}
			return ids
		}
		cancelled := func(ids []uint64) {
			t.Helper()
			for _, id := range ids {
				if res := e.await(id); res != ecanceled {
					t.Errorf("cancelled: %d", res)
				}
			}
		}

		ids := reads(r, 2)
		e.begun() // both wait now
		must(e, CancelData(ids[0]))
		cancelled(ids[:1])
		fails(e, CancelData(ids[0]), syscall.ENOENT)
		fails(e, CancelData(1<<40), syscall.ENOENT)
		if !e.pending(ids[1]) {
			t.Error("the other read is gone, too")
		}

		more, theirs := reads(r, 2), reads(other, 1)
		e.pending(ids[1])
		if n := must(e, CancelFD(r)); n != 3 {
			t.Errorf("cancelled %d requests of 3", n)
		}
		cancelled(append(more, ids[1]))
		if n := must(e, CancelFD(r)); n != 0 {
			t.Errorf("cancelled %d requests of none", n)
		}
		fails(e, CancelFD(1<<20), syscall.EBADF)
		fails(e, CancelFD(e.opened(unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0))), syscall.EBADF)
		if !e.pending(theirs[0]) {
			t.Error("a request on another file was cancelled")
		}

		timeout := Timeout(time.Hour)
		id := e.start(&timeout.Spec)
		if n := must(e, CancelAny()); n < 2 { // the ring's own request is among them
			t.Errorf("cancelled %d requests of 2", n)
		}
		cancelled(append(theirs, id))
	})
}

// Bytes that have arrived are not lost to a cancellation, and those that come after it are not taken.
func TestCancelRace(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		r, w := e.pipe()
		cancelRace(e, func(b []byte) Op[[]byte] { return ReadAt(r, b, -1) }, func(b []byte) Op[[]byte] { return WriteAt(w, b, -1) })
	})
}

// cancelRace has a byte given and the operation that takes it cancelled at the same time, again and again, and in the end takes what is
// left: as many bytes must come out as went in.
func cancelRace(e *engine, take, give func(b []byte) Op[[]byte]) {
	e.Helper()
	buf := make([]byte, 1)
	taken := 0
	const rounds = 50
	for i := range rounds {
		taking := take(buf)
		id := e.start(&taking.Spec)
		if i%2 == 0 {
			e.settle()
		}
		giving, cancel := give([]byte("x")), CancelData(id)
		gid, cid := e.start(&giving.Spec), e.start(&cancel.Spec)
		if res := e.await(gid); res != 1 {
			e.Fatalf("%s: %d", giving.Kind.Name, res)
		}
		e.await(cid)
		switch res := e.await(id); res {
		case 1:
			taken++
		case -int32(syscall.ECANCELED):
		default:
			e.Fatalf("%s: %d", taking.Kind.Name, res)
		}
	}
	for ; taken < rounds; taken++ {
		must(e, take(buf))
	}
}
