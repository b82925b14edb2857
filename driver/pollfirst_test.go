package driver_test

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/ops"
)

// Operations that shall wait before their first attempt do what they do without that, whatever was there before, and kernels that do not
// know the flag never see it.
func TestPollFirst(t *testing.T) {
	ways := everywhere[:len(everywhere):len(everywhere)]
	for _, v := range []ring.Version{ring.V(5, 18), ring.V(5, 19), ring.V(6, 10)} {
		ways = append(ways, way{v.String(), driver.Auto, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
			return e.model(ring.SimConfig{Version: v, Calls: ops.Calls(), Delay: 3}, cfg)
		}})
	}
	on(t, ways, func(e *rig) {
		d := e.open(driver.Config{})
		a, b := e.sockets()
		l, addr := e.listener()
		for _, early := range []bool{true, false} {
			recv := ops.Recv(a, make([]byte, 10), 0)
			msg := ops.RecvMsg(a, [][]byte{make([]byte, 10)}, nil, 0)
			accept := ops.Accept(l, 0)
			recv.PollFirst, msg.PollFirst, accept.PollFirst = true, true, true
			client := -1
			if early {
				e.write(b, []byte("x"))
				client = e.dial(addr)
			}
			pr, pa := driver.Submit(d, recv), driver.Submit(d, accept)
			if !early {
				pending(e, pr)
				pending(e, pa)
				e.write(b, []byte("x"))
				client = e.dial(addr)
			}
			if got := result(e, pr); got.N != 1 || got.Err != nil || got.Buf[0] != 'x' {
				e.Errorf("recv: %+v", got)
			}
			got := result(e, pa)
			if got.Err != nil {
				e.Errorf("accept: %+v", got)
			}
			unix.Close(got.N)
			unix.Close(client)
			if early {
				e.write(b, []byte("y"))
			}
			pm := driver.Submit(d, msg)
			if !early {
				pending(e, pm)
				e.write(b, []byte("y"))
			}
			if got := result(e, pm); got.N != 1 || got.Err != nil || got.Buf.Bufs[0][0] != 'y' {
				e.Errorf("recvmsg: %+v", got)
			}
			send := ops.Send(a, []byte("z"), 0)
			send.PollFirst = true
			if n := must(e, d, send); n != 1 {
				e.Errorf("sent %d", n)
			}
		}
	})
}

// What cannot be waited with is no socket, and says so, however ready it is.
func TestPollFirstOnFile(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		fd := e.file([]byte("no socket"))
		recv, msg := ops.Recv(fd, make([]byte, 1), 0), ops.RecvMsg(fd, [][]byte{make([]byte, 1)}, nil, 0)
		send, accept := ops.Send(fd, []byte("x"), 0), ops.Accept(fd, 0)
		recv.PollFirst, msg.PollFirst, send.PollFirst, accept.PollFirst = true, true, true, true
		for what, err := range map[string]error{
			"recv": do(e, d, recv).Err, "recvmsg": do(e, d, msg).Err, "send": do(e, d, send).Err, "accept": do(e, d, accept).Err,
		} {
			if err != unix.ENOTSOCK {
				e.Errorf("%s: %v", what, err)
			}
		}
		var c driver.Chain
		linked, last := driver.Link(&c, recv), driver.Link(&c, ops.Nop())
		if err := c.Submit(d); err != nil {
			e.Fatal(err)
		}
		if err := result(e, linked).Err; err != unix.ENOTSOCK {
			e.Errorf("linked: %v", err)
		}
		if err := result(e, last).Err; err == nil {
			e.Error("what was linked behind it went on")
		}
	})
}

// A kernel that knows the flag sees it, and the ring's own attempt is spared.
func TestPollFirstIsSeen(t *testing.T) {
	on(t, []way{onUring}, func(e *rig) {
		if release(e) < 519 {
			e.Skipf("needs Linux 5.19, this is %d", release(e))
		}
		d, err := e.behind(ring.Linux(), ring.FaultConfig{}, driver.Config{})
		d = e.opened(d, err)
		var seen []uint16
		e.fault.Set(ring.FaultConfig{Inject: 1, Match: func(q *ring.SQE) bool {
			seen = append(seen, q.IoPrio)
			return false
		}})
		a, b := e.sockets()
		e.write(b, []byte("xy"))
		recv := ops.Recv(a, make([]byte, 1), 0)
		must(e, d, recv)
		recv.PollFirst = true
		must(e, d, recv)
		var c driver.Chain
		e.write(b, []byte("zz"))
		first, then := driver.Link(&c, recv), driver.HardLink(&c, recv)
		if err := c.Submit(d); err != nil {
			e.Error(err)
		}
		for _, p := range []*driver.Pending[[]byte]{first, then} {
			if got := result(e, p); got.N != 1 || got.Err != nil {
				e.Errorf("linked: %+v", got)
			}
		}
		if err := d.Close(inTime(e)); err != nil {
			e.Error(err)
		}
		if want := []uint16{0, ring.RecvSendPollFirst, ring.RecvSendPollFirst, ring.RecvSendPollFirst}; !slices.Equal(seen, want) {
			e.Errorf("flags %v instead of %v", seen, want)
		}
	})
}
