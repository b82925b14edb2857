package driver_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/ops"
)

// What is spliced out of an end with O_NONBLOCK that has nothing, or into one that is full, is waited for: no EAGAIN comes that nobody asked for.
func TestSpliceWaitsForNonblockingEnds(t *testing.T) {
	on(t, []way{onUring, onPortable, onLocked, onLockedPortable}, func(e *rig) {
		d := e.open(driver.Config{})
		nonblocking := func() (r, w int) {
			r, w = e.pipe()
			for _, fd := range []int{r, w} {
				if err := unix.SetNonblock(fd, true); err != nil {
					e.Fatal(err)
				}
			}
			return r, w
		}
		r, w := nonblocking()
		_, into := e.pipe()
		empty := driver.Submit(d, ops.Splice(r, -1, into, -1, 8, 0))

		from := e.file([]byte("12345678"))
		out, full := nonblocking()
		for {
			if _, err := unix.Write(full, make([]byte, 4096)); err == unix.EAGAIN {
				break
			} else if err != nil {
				e.Fatal(err)
			}
		}
		noRoom := driver.Submit(d, ops.Splice(from, 0, full, -1, 8, 0))

		// The kernel has refused both by the time that they wait elsewhere; or it waits itself.
		waiting := func() bool {
			s := d.Stats()
			return s.InFlight == 2 && (s.Calls == 2 || d.Engine() == driver.Portable)
		}
		for deadline := time.Now().Add(patience); !waiting() && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			select {
			case res := <-empty.Done():
				e.Fatalf("out of an empty pipe: %+v", res)
			case res := <-noRoom.Done():
				e.Fatalf("into a full pipe: %+v", res)
			default:
			}
		}
		pending(e, empty)
		pending(e, noRoom)
		if _, err := unix.Write(w, []byte("abc")); err != nil {
			e.Fatal(err)
		}
		if res := result(e, empty); res.N != 3 || res.Err != nil {
			e.Errorf("out of a pipe: %+v", res)
		}
		if _, err := unix.Read(out, make([]byte, 64<<10)); err != nil {
			e.Fatal(err)
		}
		if res := result(e, noRoom); res.N != 8 || res.Err != nil {
			e.Errorf("into a pipe: %+v", res)
		}

		// One that waits there can be cancelled, too.
		again := driver.Submit(d, ops.Splice(r, -1, into, -1, 8, 0))
		pending(e, again)
		again.Cancel()
		if res := result(e, again); !driver.IsCanceled(res.Err) {
			e.Errorf("cancelled: %+v", res)
		}
	})
}

// A splice that waits for the socket at one of its ends does not keep others from the pipe at the other, least of all the driver.
func TestSpliceHoldsNobodyUp(t *testing.T) {
	on(t, []way{onUring, onPortable, onLocked, onLockedPortable}, func(e *rig) {
		d := e.open(driver.Config{})
		in, _ := e.sockets()
		r, w := e.pipe()
		waits := driver.Submit(d, ops.Splice(in, -1, w, -1, 8, 0))
		pending(e, waits)
		if n := must(e, d, ops.WriteAt(w, []byte("beside"), -1)); n != 6 {
			e.Errorf("wrote %d", n)
		}
		if n := must(e, d, ops.ReadAt(r, make([]byte, 8), -1)); n != 6 {
			e.Errorf("read %d", n)
		}

		out, _ := e.sockets()
		for {
			if err := unix.Sendto(out, make([]byte, 4096), unix.MSG_DONTWAIT, nil); err == unix.EAGAIN {
				break
			} else if err != nil {
				e.Fatal(err)
			}
		}
		must(e, d, ops.WriteAt(w, []byte("no room"), -1))
		stays := driver.Submit(d, ops.Splice(r, -1, out, -1, 8, 0))
		pending(e, stays)
		if n := must(e, d, ops.ReadAt(r, make([]byte, 8), -1)); n != 7 {
			e.Errorf("read %d", n)
		}
		for _, p := range []*driver.Pending[struct{}]{waits, stays} {
			p.Cancel()
			if res := result(e, p); !driver.IsCanceled(res.Err) {
				e.Errorf("cancelled: %+v", res)
			}
		}
	})
}
