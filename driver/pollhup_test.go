package driver_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/ops"
)

// That the peer sends no more is no event that anybody asked for: who waits until there is room goes on waiting, on every engine, and who finds
// something finds nothing else.
func TestPollAndHalfClose(t *testing.T) {
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{})
		a, b := e.sockets()
		e.stuff(a)
		e.write(b, []byte("x"))
		if err := unix.Shutdown(b, unix.SHUT_WR); err != nil {
			e.Fatal(err)
		}
		for events, want := range map[uint32]int{unix.POLLIN: unix.POLLIN, unix.POLLIN | unix.POLLRDHUP: unix.POLLIN | unix.POLLRDHUP} {
			if r := do(e, d, ops.PollAdd(a, events)); r.N != want || r.Err != nil {
				e.Errorf("%#x: %#x, %v", events, r.N, r.Err)
			}
		}
		room := driver.Submit(d, ops.PollAdd(a, unix.POLLOUT))
		given := driver.Submit(d, ops.PollAdd(a, unix.POLLOUT))
		pending(e, room)
		pending(e, given)
		given.Cancel()
		if r := result(e, given); !driver.IsCanceled(r.Err) {
			e.Errorf("cancelled: %+v", r)
		}
		e.drain(b)
		if r := result(e, room); r.N != unix.POLLOUT || r.Err != nil {
			e.Errorf("room: %#x, %v", r.N, r.Err)
		}
	})
}

// stuff sends on a socket until there is no room.
func (e *rig) stuff(fd int) {
	e.Helper()
	for b := make([]byte, 4096); ; {
		switch _, err := unix.SendmsgN(fd, b, nil, nil, unix.MSG_DONTWAIT); err {
		case nil, unix.EINTR:
		case unix.EAGAIN:
			return
		default:
			e.Fatal(err)
		}
	}
}

// drain receives what is there.
func (e *rig) drain(fd int) {
	for buf := make([]byte, 1<<16); ; {
		if n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT); n <= 0 || err != nil {
			return
		}
	}
}

// The same for operations that the kernel gives back as there is no room: they are not tried over and over.
func TestNoRoomAndHalfClose(t *testing.T) {
	on(t, []way{onFaults}, func(e *rig) {
		d := e.open(driver.Config{})
		a, b := e.sockets()
		e.stuff(a)
		if err := unix.Shutdown(b, unix.SHUT_WR); err != nil {
			e.Fatal(err)
		}
		e.fault.Set(ring.FaultConfig{Inject: 1, Results: []int32{-int32(unix.EAGAIN)}, Match: func(q *ring.SQE) bool { return q.Op == ring.OpSend }})
		send := driver.Submit(d, ops.Send(a, []byte("x"), 0))
		pending(e, send)
		if n := d.Stats().Repeated; n > 100 {
			e.Errorf("%d attempts", n)
		}
		e.fault.Set(ring.FaultConfig{})
		e.drain(b)
		if r := result(e, send); r.N != 1 || r.Err != nil {
			e.Errorf("%+v", r)
		}
	})
}

// The same in a chain: what is behind it waits, too.
func TestPollInChainAndHalfClose(t *testing.T) {
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{})
		a, b := e.sockets()
		e.stuff(a)
		if err := unix.Shutdown(b, unix.SHUT_WR); err != nil {
			e.Fatal(err)
		}
		var c driver.Chain
		room := driver.Link(&c, ops.PollAdd(a, unix.POLLOUT))
		send := driver.HardLink(&c, ops.Send(a, []byte("x"), unix.MSG_DONTWAIT))
		if err := c.Submit(d); err != nil {
			e.Fatal(err)
		}
		pending(e, send)
		e.drain(b)
		if r := result(e, room); r.N != unix.POLLOUT || r.Err != nil {
			e.Errorf("room: %#x, %v", r.N, r.Err)
		}
		if r := result(e, send); r.N != 1 || r.Err != nil {
			e.Errorf("%+v", r)
		}
	})
}
