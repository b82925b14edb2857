package driver_test

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/ops"
)

// reluctant is a kernel that at times takes no more than a number of entries.
type reluctant struct {
	ring.Kernel
	atMost  atomic.Int64 // negative: all
	waiting atomic.Bool  // whether the driver sleeps in it
}

func (k *reluctant) Enter(fd int, submit, least, flags uint32, arg *ring.WaitArg) (int, syscall.Errno) {
	if left := k.atMost.Load(); left >= 0 && submit > 0 {
		if left == 0 {
			return 0, syscall.EAGAIN
		}
		if int64(submit) > left {
			submit, least = uint32(left), 0
		}
		k.atMost.Store(left - int64(submit))
	}
	k.waiting.Store(least > 0)
	defer k.waiting.Store(false)
	return k.Kernel.Enter(fd, submit, least, flags, arg)
}

// reluctantly runs a test on such kernels; k returns that of the latest driver.
func reluctantly(t *testing.T, test func(e *rig, k func() *reluctant)) {
	var latest *reluctant
	before := func(kernel func() ring.Kernel) func(*rig, driver.Config) (*driver.Driver, error) {
		return func(_ *rig, cfg driver.Config) (*driver.Driver, error) {
			latest = &reluctant{Kernel: kernel()}
			latest.atMost.Store(-1)
			cfg.Engine = driver.Uring
			return driver.Open(driver.OnKernel(cfg, latest))
		}
	}
	on(t, []way{
		{"uring", driver.Uring, before(ring.Linux)},
		{"portable", driver.Portable, before(func() ring.Kernel { return ring.NewPortable(ops.Calls(), 64) })},
	}, func(e *rig) { test(e, func() *reluctant { return latest }) })
}

// asleep opens a driver, and returns it when it sleeps in the kernel, with its wake-up armed, for a read from a pipe whose other end is w.
func asleep(e *rig, cfg driver.Config, k func() *reluctant) (d *driver.Driver, idle *driver.Pending[[]byte], w int) {
	e.Helper()
	d = e.open(cfg)
	r, w := e.pipe()
	idle = driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
	e.eventually("the driver sleeps, with its wake-up armed", k().waiting.Load)
	return d, idle, w
}

// shutting begins to close a driver, and returns when that refuses operations; closed waits for the end.
func (e *rig) shutting(d *driver.Driver) (closed func()) {
	e.Helper()
	var closing sync.WaitGroup
	closing.Go(func() { e.shut(d) })
	e.eventually("it is closing", func() bool {
		p := driver.Submit(d, ops.Nop())
		d.Stats() // asked for in the channel behind it
		select {
		case r := <-p.Done():
			return r.Err == driver.ErrClosed
		default:
			return false
		}
	})
	return closing.Wait
}

// A member that was cancelled says so under whatever name the kernel says it, also if a hard link has been followed; and that its driver was closed.
func TestChainCancelledBeforeAHardLink(t *testing.T) {
	reluctantly(t, func(e *rig, k func() *reluctant) {
		for _, shut := range []bool{false, true} {
			d, idle, w := asleep(e, driver.Config{}, k)
			op, res := e.nop(-int(syscall.EINTR))
			if res == 0 {
				e.Skip("needs IORING_NOP_INJECT_RESULT")
			}
			k().atMost.Store(0)
			var c driver.Chain
			a := driver.Link(&c, op)
			z := driver.HardLink(&c, ops.Nop())
			e.submit(d, &c)
			pending(e, a)
			why := error(syscall.ECANCELED)
			closed := func() {}
			if shut {
				why = driver.ErrClosed
				closed = e.shutting(d)
			} else {
				a.Cancel()
				pending(e, a)
			}
			k().atMost.Store(-1)
			wants(e, "cancelled", a, 0, why)
			if got := result(e, z); got.Err != nil && !shut {
				e.Errorf("the one behind it: %v", got.Err)
			}
			if !shut {
				e.write(w, []byte("x"))
			}
			result(e, idle)
			closed()
		}
	})
}

// A member is abandoned whose segment the kernel has taken a part of. The part that is next ends before its turn, and then the chain goes on with it.
func TestChainAbandonedBehindAPart(t *testing.T) {
	reluctantly(t, func(e *rig, k func() *reluctant) {
		fd := e.file([]byte("12345"))
		d, idle, w := asleep(e, driver.Config{CancelGrace: time.Nanosecond}, k)
		k().atMost.Store(1)
		var c driver.Chain
		var all []*driver.Pending[[]byte]
		for range 5 {
			all = append(all, driver.HardLink(&c, ops.ReadAt(fd, make([]byte, 1), 0)))
		}
		e.submit(d, &c)
		wants(e, "the first", all[0], 1, nil)
		all[3].Cancel()
		wants(e, "the one that was cancelled", all[3], 0, driver.ErrAbandoned)
		k().atMost.Store(-1)
		wants(e, "the second", all[1], 1, nil)
		wants(e, "the third", all[2], 1, nil)
		wants(e, "the last", all[4], 1, nil)
		e.write(w, []byte("x"))
		result(e, idle)
	})
}

// A Close that does not wait says of no member that has run that it has not, though the kernel has the rest of its segment.
func TestChainClosedInHaste(t *testing.T) {
	reluctantly(t, func(e *rig, k func() *reluctant) {
		fd := e.file([]byte("12345"))
		d, idle, _ := asleep(e, driver.Config{}, k)
		k().atMost.Store(1)
		var c driver.Chain
		short := driver.Link(&c, ops.ReadAt(fd, make([]byte, 10), 0))
		behind := driver.Link(&c, ops.Nop())
		e.submit(d, &c)
		e.eventually("the read has ended", func() bool { s := d.Stats(); return s.Linked == 2 && s.InFlightBy["read"] == 1 })
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if d.Close(ctx) == nil {
			e.Error("nothing is left")
		}
		wants(e, "read", short, 5, nil)
		wants(e, "behind it", behind, 0, driver.ErrAbandoned)
		wants(e, "idle", idle, 0, driver.ErrAbandoned)
		k().atMost.Store(-1)
	})
}

// A member that was interrupted before its driver was closed, and is not repeated for that, says that the driver is closed.
func TestChainInterruptedBeforeTheEnd(t *testing.T) {
	reluctantly(t, func(e *rig, k func() *reluctant) {
		d, idle, _ := asleep(e, driver.Config{}, k)
		op, res := e.nop(-int(syscall.EINTR))
		if res == 0 {
			e.Skip("needs IORING_NOP_INJECT_RESULT")
		}
		k().atMost.Store(1)
		var c driver.Chain
		interrupted := driver.Link(&c, op)
		behind := driver.Link(&c, ops.Nop())
		e.submit(d, &c)
		e.eventually("the first has ended", func() bool { s := d.Stats(); return s.Linked == 2 && s.InFlightBy["nop"] == 1 })
		closed := e.shutting(d)
		k().atMost.Store(-1)
		wants(e, "interrupted", interrupted, 0, driver.ErrClosed)
		wants(e, "idle", idle, 0, driver.ErrClosed)
		closed()
		if got := result(e, behind); got.Err != driver.ErrClosed && got.Err != syscall.ECANCELED {
			e.Errorf("behind it: %v", got.Err)
		}
	})
}

// A member is abandoned that the kernel has not taken yet, and never will. It has no result that would have to be given back, and what is behind it
// is told.
func TestChainAbandonedInTheQueue(t *testing.T) {
	reluctantly(t, func(e *rig, k func() *reluctant) {
		d, idle, w := asleep(e, driver.Config{CancelGrace: time.Nanosecond}, k)
		for _, hard := range []bool{false, true} {
			e.eventually("the driver sleeps, with its wake-up armed", k().waiting.Load)
			var given atomic.Int32
			op := ops.Nop()
			kind := *op.Kind
			kind.Discard = func(_ *ops.Spec, res int32) {
				if res >= 0 {
					given.Add(1)
				}
			}
			op.Kind = &kind
			var c driver.Chain
			a := driver.Link(&c, ops.Nop())
			b := driver.Link(&c, op)
			link, err := driver.Link[struct{}], error(syscall.ECANCELED)
			if hard {
				link, err = driver.HardLink[struct{}], nil
			}
			z := link(&c, ops.Nop())
			k().atMost.Store(1)
			e.submit(d, &c)
			wants(e, "the first", a, 0, nil)
			b.Cancel()
			wants(e, "cancelled", b, 0, driver.ErrAbandoned)
			pending(e, z)
			k().atMost.Store(-1)
			wants(e, "the last", z, 0, err)
			if given.Load() > 0 {
				e.Error("a result that nothing had was given back")
			}
		}
		e.write(w, []byte("x"))
		wants(e, "the one that kept the driver up", idle, 1, nil)
	})
}
