package driver_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/ops"
)

// failing returns the ways to run a driver on a kernel whose enter fails with these errors, before or after its work.
func failing(chance, limit float64, errnos ...syscall.Errno) []way {
	faults := ring.FaultConfig{EnterFails: chance, EnterErrnos: errnos, Limit: limit}
	return []way{
		{"uring", driver.Uring, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
			return e.behind(ring.Linux(), faults, cfg)
		}},
		{"portable", driver.Portable, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
			return e.behind(kernels()["portable"](), faults, cfg)
		}},
		{"sim", driver.Auto, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
			return e.model(ring.SimConfig{Calls: ops.Calls(), Delay: 3, EnterFails: chance, EnterErrnos: errnos, Partial: limit,
				Start: 1<<32 - 20}, cfg)
		}},
	}
}

// Every third enter fails, with the entries taken or not, and some take only part of them. Everything is done once all the same.
func TestEnterFails(t *testing.T) {
	errnos := []syscall.Errno{syscall.EAGAIN, syscall.EINTR, syscall.EBUSY, syscall.ENOMEM}
	cases := map[string][]syscall.Errno{"any": errnos}
	for _, errno := range errnos {
		cases[errno.Error()] = []syscall.Errno{errno}
	}
	for name, errnos := range cases {
		t.Run(name, func(t *testing.T) {
			on(t, failing(1./3, 0.2, errnos...), func(e *rig) {
				for range size(2, 200) {
					d := e.open(driver.Config{Entries: 4 << e.rng.IntN(4), InFlight: 64})
					newMix(e, d).play(4, size(150, 250))
					e.shut(d)
				}
			})
		})
	}
}

// As before, and operations that ask to be repeated, with hardly any room to do so.
func TestEverythingFails(t *testing.T) {
	again := []int32{-int32(syscall.EINTR), -int32(syscall.EAGAIN), -int32(syscall.ECANCELED), -512, -513, -514, -516}
	faults := ring.FaultConfig{EnterFails: 0.3, Limit: 0.3, Inject: 0.2, Results: again}
	on(t, []way{
		{"uring", driver.Uring, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
			return e.behind(ring.Linux(), faults, cfg)
		}},
		{"portable", driver.Portable, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
			return e.behind(kernels()["portable"](), faults, cfg)
		}},
	}, func(e *rig) {
		for range size(3, 200) {
			d := e.open(driver.Config{Entries: 4, InFlight: 16})
			m := newMix(e, d)
			m.play(16, size(60, 250))
			e.shut(d)
			if s := d.Stats(); s.Repeated == 0 && e.fault.CanInject() || s.Busy == 0 {
				e.Errorf("nothing failed: %+v", s)
			}
		}
	})
}

// enters returns how many calls of enter a driver makes in a while, which on a busy machine is a part of those that it made meanwhile.
func enters(d *driver.Driver, while time.Duration) int {
	before, begun := d.Stats().Enters, time.Now()
	time.Sleep(while)
	n := d.Stats().Enters - before
	return int(float64(n) * while.Seconds() / time.Since(begun).Seconds())
}

// A kernel that refuses everything is not asked over and over, whether there is something in flight or not. When it comes back, so
// does the driver.
func TestKernelStaysBusy(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EAGAIN, syscall.EBUSY, syscall.ENOMEM} {
		t.Run(errno.Error(), func(t *testing.T) {
			on(t, failing(0, 0, errno), func(e *rig) {
				d := e.open(driver.Config{})
				r, w := e.pipe()
				refuse := func(chance float64) {
					if e.sim != nil {
						e.sim.Change(func(c *ring.SimConfig) { c.EnterFails = chance })
					} else {
						e.fault.Set(ring.FaultConfig{EnterFails: chance, EnterErrnos: []syscall.Errno{errno}})
					}
				}
				for range size(1, 10) {
					// With nothing in flight.
					refuse(1)
					nop := driver.Submit(d, ops.Nop())
					d.Stats()
					if n := enters(d, 100*time.Millisecond); n > 100 {
						e.Errorf("%d calls in 100ms, nothing in flight", n)
					}
					refuse(0)
					if r := result(e, nop); r.Err != nil {
						e.Error(r.Err)
					}
					// With something in flight.
					read := driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
					pending(e, read)
					refuse(1)
					nop = driver.Submit(d, ops.Nop())
					d.Stats()
					if n := enters(d, 100*time.Millisecond); n > 100 {
						e.Errorf("%d calls in 100ms, one in flight", n)
					}
					e.write(w, []byte{1})
					refuse(0)
					if r := result(e, nop); r.Err != nil {
						e.Error(r.Err)
					}
					if r := result(e, read); r.N != 1 {
						e.Errorf("%+v", r)
					}
				}
				if d.Stats().Busy == 0 {
					e.Error("nothing was refused")
				}
			})
		})
	}
}

// One enter of three fails while nothing happens: that is no reason to be busy.
func TestQuietWhileBlocked(t *testing.T) {
	on(t, append(failing(1./3, 0), everywhere...), func(e *rig) {
		d := e.open(driver.Config{})
		r, w := e.pipe()
		read := driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
		pending(e, read)
		bound := 30
		if e.name == "sim" {
			bound = 10_000 // it returns early by chance, and has no readiness to wait for
		}
		if n := enters(d, 100*time.Millisecond); n > bound {
			e.Errorf("%d calls in 100ms", n)
		}
		e.write(w, []byte{1})
		result(e, read)
	})
}

// A ring that has died takes nobody with it: what the kernel may have is abandoned, everything else fails with the reason, and the
// memory stays.
func TestRingBreaks(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EBADF, syscall.EEXIST, syscall.ENXIO, syscall.EBADR} {
		t.Run(errno.Error(), func(t *testing.T) {
			for _, locked := range []bool{false, true} {
				on(t, []way{{fmt.Sprintf("sim, locked: %v", locked), driver.Auto, nil}}, func(e *rig) {
					e.sim = ring.NewSim(ring.SimConfig{Seed: e.seed, Calls: ops.Calls(), EnterErrnos: []syscall.Errno{errno}})
					cfg := driver.OnKernel(driver.Config{Engine: driver.Uring, Entries: 4, InFlight: 16}, e.sim)
					open := driver.Open
					if locked {
						open = func(cfg driver.Config) (*driver.Driver, error) { return driver.OpenGuest(cfg, idle{}) }
					}
					d, err := open(cfg)
					if err != nil {
						e.Fatal(err)
					}
					r, _ := e.pipe()
					var reads []*driver.Pending[[]byte]
					for range 30 {
						reads = append(reads, driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1)))
					}
					call := ops.Nop()
					call.Route = ops.RouteCall
					must(e, d, call)
					e.sim.Change(func(c *ring.SimConfig) { c.EnterFails = 1 })
					nop := driver.Submit(d, ops.Nop())
					abandoned := 0
					for _, p := range reads {
						r := result(e, p)
						switch {
						case r.Err == driver.ErrAbandoned && r.Buf == nil:
							abandoned++
						case errors.Is(r.Err, driver.ErrBroken) && errors.Is(r.Err, errno) && r.Buf != nil:
						default:
							e.Errorf("read: %+v", r)
						}
					}
					if abandoned == 0 || abandoned == len(reads) {
						e.Errorf("%d of %d abandoned", abandoned, len(reads))
					}
					if r := result(e, nop); r.Err != driver.ErrAbandoned && !errors.Is(r.Err, driver.ErrBroken) {
						e.Errorf("nop: %+v", r)
					}
					if r := do(e, d, ops.Nop()); !errors.Is(r.Err, driver.ErrBroken) && r.Err != driver.ErrClosed {
						e.Errorf("afterwards: %+v", r)
					}
					d.Stats()
					for range 2 {
						ctx, cancel := context.WithTimeout(context.Background(), patience)
						if err := d.Close(ctx); !errors.Is(err, driver.ErrBroken) || !errors.Is(err, errno) {
							e.Errorf("close: %v", err)
						}
						cancel()
					}
					if r := do(e, d, ops.Nop()); r.Err != driver.ErrClosed && !errors.Is(r.Err, driver.ErrBroken) {
						e.Errorf("closed: %+v", r)
					}
				})
			}
		})
	}
}

// bomb is a Waiter with a mistake.
type bomb struct{}

func (bomb) Complete(*driver.Request) { panic("boom") }

// So does a panic on the driver goroutine.
func TestPanicOnDriver(t *testing.T) {
	for _, locked := range []bool{false, true} {
		on(t, []way{{fmt.Sprintf("sim, locked: %v", locked), driver.Auto, nil}}, func(e *rig) {
			e.sim = ring.NewSim(ring.SimConfig{Seed: e.seed, Calls: ops.Calls()})
			cfg := driver.OnKernel(driver.Config{Engine: driver.Uring}, e.sim)
			d, err := driver.Open(cfg)
			if locked {
				d2, err2 := driver.OpenGuest(driver.OnKernel(driver.Config{Engine: driver.Uring}, ring.NewSim(ring.SimConfig{Calls: ops.Calls()})), idle{})
				e.shut(d)
				d, err = d2, err2
			}
			if err != nil {
				e.Fatal(err)
			}
			r, _ := e.pipe()
			read := driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
			nop := ops.Nop()
			req := new(driver.Request)
			req.Reset(&nop.Spec, bomb{})
			d.Send(req)
			if r := result(e, read); r.Err != driver.ErrAbandoned {
				e.Errorf("read: %+v", r)
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := d.Close(ctx); !errors.Is(err, driver.ErrBroken) || !strings.Contains(err.Error(), "boom") ||
				!strings.Contains(err.Error(), "bomb") {
				e.Errorf("close: %v", err)
			}
		})
	}
}

// The bound on what is in flight keeps the completion queue from overflowing, whoever is slow.
func TestNoOverflow(t *testing.T) {
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{Entries: 4, InFlight: 16})
		r, _ := e.pipe()
		var polls []*driver.Pending[struct{}]
		for range 8 {
			polls = append(polls, driver.Submit(d, ops.PollAdd(r, unix.POLLIN)))
		}
		var done atomic.Int32
		n := size(5000, 100_000)
		e.together(16, func(i int) {
			rng := e.random(i)
			var late []*driver.Pending[struct{}]
			for range n / 16 {
				late = append(late, driver.Submit(d, ops.Nop()))
				if rng.IntN(200) == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			for _, p := range late {
				if r := <-p.Done(); r.Err == nil {
					done.Add(1)
				}
			}
		})
		if int(done.Load()) != n/16*16 {
			e.Errorf("%d of %d", done.Load(), n)
		}
		for _, p := range polls {
			p.Cancel()
			result(e, p)
		}
		if s := d.Stats(); s.Overflows != 0 {
			e.Errorf("%d overflows", s.Overflows)
		}
	})
}

// An overflow that others cause loses nothing. The model invents completions without measure; the kernel lets another ring send them.
func TestOverflow(t *testing.T) {
	on(t, []way{{"sim", driver.Auto, nil}}, func(e *rig) {
		e.stale = true
		for range size(5, 100) {
			d := e.opened(e.model(ring.SimConfig{Calls: ops.Calls(), Delay: 10, Bogus: 0.9}, driver.Config{Entries: 4, InFlight: 16}))
			newMix(e, d).play(16, 20)
			e.shut(d)
			// Some may have come when the ring was already being closed.
			if n, all := int(d.Stats().Stale), e.sim.Stats().Bogus; n > all || n < all-16 {
				e.Errorf("%d of %d strange completions counted", n, all)
			}
		}
	})
	on(t, []way{{"uring", driver.Uring, nil}}, func(e *rig) {
		e.stale = true
		g := &gate{seen: make(chan struct{}, 1)}
		k := &captured{hooked: hooked{Kernel: ring.Linux()}}
		k.enter = func(fd int, submit, minComplete, flags uint32, arg *ring.WaitArg) (int, syscall.Errno) {
			n, errno := k.Kernel.Enter(fd, submit, minComplete, flags, arg)
			if minComplete > 0 {
				g.pass()
			}
			return n, errno
		}
		d := e.opened(driver.Open(driver.OnKernel(driver.Config{Engine: driver.Uring, Entries: 4, InFlight: 16}, k)))
		other, err := ring.Open(ring.Config{Entries: 64})
		if err != nil {
			e.Fatal(err)
		}
		defer other.Close()
		const opMsgRing = 40
		if !other.Supports(opMsgRing) {
			e.Skip("needs IORING_OP_MSG_RING (Linux 5.18)")
		}
		r, w := e.pipe()
		strange := 0
		for range size(10, 200) {
			read := g.stop(e, d, r, w)
			// The driver cannot look at its queue now.
			var nops []*driver.Pending[struct{}]
			for range 5 {
				nops = append(nops, driver.Submit(d, ops.Nop()))
			}
			for range 50 {
				s := other.Next()
				s.Op, s.FD, s.Len, s.Off, s.UserData = opMsgRing, int32(k.fd), 7, 1<<62|0xabc, 1
			}
			if err := other.Submit(); err != nil {
				e.Fatal(err)
			}
			strange += 50
			for out, n := make([]ring.CQE, 64), 0; n < 50; {
				if err := other.SubmitAndWait(0); err != nil {
					e.Fatal(err)
				}
				m := other.Reap(out)
				for _, c := range out[:m] {
					if c.Res != 0 {
						strange--
					}
				}
				n += m
			}
			g.mu.Unlock()
			if r := result(e, read); r.N != 1 {
				e.Errorf("%+v", r)
			}
			for _, p := range nops {
				if r := result(e, p); r.Err != nil {
					e.Error(r.Err)
				}
			}
		}
		e.eventually("all have come", func() bool { return int(d.Stats().Stale) >= strange })
		if s := d.Stats(); s.Overflows == 0 || int(s.Stale) != strange {
			e.Errorf("%d overflows, %d of %d strange completions", s.Overflows, s.Stale, strange)
		}
	})
}

// captured is a kernel that remembers the ring's descriptor.
type captured struct {
	hooked
	fd int
}

func (k *captured) Setup(entries uint32, p *ring.Params) (int, error) {
	fd, err := k.Kernel.Setup(entries, p)
	k.fd = fd
	return fd, err
}

// The smallest ring, and very many who use it.
func TestTinyRing(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{Entries: 2, InFlight: 4})
		start := time.Now()
		m := newMix(e, d)
		m.play(256, size(10, 2000))
		e.Logf("%v", time.Since(start))
		if took := time.Since(start); took > 30*time.Second && size(0, 1) == 0 {
			e.Errorf("took %v", took)
		}
		if s := d.Stats(); s.Overflows != 0 && e.name != "sim" {
			e.Errorf("%d overflows", s.Overflows)
		}
	})
}

// Fifty no-operations on the smallest ring.
func TestFiftyNops(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{Entries: 2, InFlight: 4})
		var nops []*driver.Pending[struct{}]
		var want []int
		for i := range 50 {
			op, n := e.nop(i)
			nops, want = append(nops, driver.Submit(d, op)), append(want, n)
		}
		for i, p := range nops {
			if r := result(e, p); r.N != want[i] || r.Err != nil {
				e.Errorf("%d: %+v", i, r)
			}
		}
	})
}
