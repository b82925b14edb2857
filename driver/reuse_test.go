package driver_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/ops"
)

// Somebody closes a descriptor under an operation that waits, and its number becomes another file's: what arrives there is not for the
// operation.
func TestDescriptorTakenOver(t *testing.T) { // HAZARDS T4
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{Calls: 1})
		old, _ := e.sockets()
		stale := driver.Submit(d, ops.Recv(old, make([]byte, 4), 0))
		// It has the descriptor's file when what is behind it has been performed, by the one goroutine there is for calls where it is such.
		must(e, d, ops.Statx(unix.AT_FDCWD, "/", 0, unix.STATX_MODE, new(unix.Statx_t)))
		pending(e, stale)
		fresh, peer := e.sockets()
		if err := unix.Dup3(fresh, old, unix.O_CLOEXEC); err != nil { // this closes it
			e.Fatal(err)
		}
		for range 20 {
			in := driver.Submit(d, ops.Recv(old, make([]byte, 4), 0))
			pending(e, in)
			e.write(peer, []byte("new"))
			if r := result(e, in); r.N != 3 || r.Err != nil {
				e.Errorf("%+v", r)
			}
		}
		stale.Cancel()
		if r := result(e, stale); r.Err == nil {
			e.Errorf("the operation on what was closed received %q", r.Buf[:r.N])
		}
	})
}
