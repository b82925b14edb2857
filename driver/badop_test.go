package driver_test

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/ops"
)

// What is no operation at all is an error of its own, and no harm to the others.
func TestNoOperation(t *testing.T) {
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{})
		if r := do(e, d, ops.Op[[]byte]{Buf: []byte{1}}); r.Err == nil || errors.Is(r.Err, driver.ErrBroken) || len(r.Buf) != 1 {
			e.Errorf("no kind: %+v", r)
		}
		if r := do(e, d, ops.ReadIn(0, nil, make([]byte, 1), 0)); r.Err == nil || errors.Is(r.Err, driver.ErrBroken) {
			e.Errorf("no buffer: %+v", r)
		}
		if r := do(e, d, ops.Await("nothing")); r.Err == nil || errors.Is(r.Err, driver.ErrBroken) {
			e.Errorf("no stream: %+v", r)
		}
		accept := ops.AcceptMulti(-1, 0)
		for _, op := range []ops.Multi{{}, {Many: accept.Many}, {Once: accept.Once}} {
			if _, err := driver.SubmitMulti(d, op).Next(inTime(e)); err == nil || errors.Is(err, driver.ErrBroken) {
				e.Errorf("half a stream: %v", err)
			}
		}
		if err := d.RegisterBuffers(nil); err == nil || errors.Is(err, driver.ErrBroken) {
			e.Errorf("no arena: %v", err)
		}
		must(e, d, ops.Nop())
	})
}

// A file that is always ready never becomes ready for anything else, so polling it for that is an error, and nobody waits for ever.
func TestPollForNothing(t *testing.T) {
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{})
		fd := e.file([]byte("x"))
		for _, events := range []uint32{0, unix.POLLPRI} {
			if r := do(e, d, ops.PollAdd(fd, events)); r.Err != syscall.EINVAL {
				e.Errorf("polled for %#x: %+v", events, r)
			}
		}
		if n := must(e, d, ops.PollAdd(fd, unix.POLLIN|unix.POLLPRI)); n != unix.POLLIN {
			e.Errorf("ready for %#x", n)
		}
	})
}

// Canceling what is on a descriptor that is not open says so, and cancels nothing: neither what the driver has in hand with that number, nor
// what has none.
func TestCancelNoDescriptor(t *testing.T) {
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{})
		r, w := e.pipe()
		in := driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
		clock := ops.Timeout(time.Hour)
		clock.Route = ops.RouteCall
		timer := driver.Submit(d, clock)
		pending(e, in)
		pending(e, timer)
		if got := do(e, d, ops.CancelFD(-1)); got.Err != syscall.EBADF {
			e.Errorf("%+v", got)
		}
		pending(e, timer)
		timer.Cancel()
		e.write(w, []byte{1})
		wants(e, "read", in, 1, nil)
		wants(e, "timeout", timer, 0, syscall.ECANCELED)
	})
}
