package driver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"weak"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/ops"
)

// wants compares the result of a member with what it should be.
func wants[T any](e *rig, what string, p *driver.Pending[T], n int, err error) {
	e.Helper()
	if r := result(e, p); r.N != n || r.Err != err {
		e.Errorf("%s = %d, %v; want %d, %v", what, r.N, r.Err, n, err)
	}
}

func (e *rig) submit(d *driver.Driver, c *driver.Chain) {
	e.Helper()
	if err := c.Submit(d); err != nil {
		e.Error(err)
	}
}

// splitting is a kernel that takes a few entries at a time, wherever that is in a chain.
type splitting struct {
	ring.Kernel
	calls atomic.Uint32
}

func (k *splitting) Enter(fd int, submit, least, flags uint32, arg *ring.WaitArg) (int, syscall.Errno) {
	if n := k.calls.Add(1); submit > 1 {
		submit = min(submit, 1+n%3)
		least = 0 // what is left behind would not be waited for
	}
	return k.Kernel.Enter(fd, submit, least, flags, arg)
}

var chaining = append([]way{
	{"splitting", driver.Uring, func(_ *rig, cfg driver.Config) (*driver.Driver, error) {
		cfg.Engine = driver.Uring
		return driver.Open(driver.OnKernel(cfg, &splitting{Kernel: ring.Linux()}))
	}},
	{"portable splitting", driver.Portable, func(_ *rig, cfg driver.Config) (*driver.Driver, error) {
		cfg.Engine = driver.Uring
		return driver.Open(driver.OnKernel(cfg, &splitting{Kernel: ring.NewPortable(ops.Calls(), 64)}))
	}},
	{"sim that splits", driver.Auto, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
		e.stale = true
		return e.model(ring.SimConfig{Calls: ops.Calls(), Delay: 5, Partial: 0.5, SplitLinks: true, EnterFails: 0.1, Early: 0.1}, cfg)
	}},
}, everywhere...)

// The members run in order, and each has its result.
func TestChain(t *testing.T) { // G10
	on(t, chaining, func(e *rig) {
		d := e.open(driver.Config{})
		for round := range 20 {
			fd := e.file(nil)
			var c driver.Chain
			text := fmt.Appendf(nil, "round %d", round)
			w := driver.Link(&c, ops.WriteAt(fd, text, 3))
			s := driver.Link(&c, ops.Fdatasync(fd))
			r := driver.Link(&c, ops.ReadAt(fd, make([]byte, len(text)+3), 0))
			u := driver.Link(&c, ops.WriteAt(fd, []byte("!"), 0))
			again := driver.Link(&c, ops.ReadAt(fd, make([]byte, 1), 0))
			e.submit(d, &c)
			wants(e, "write", w, len(text), nil)
			wants(e, "sync", s, 0, nil)
			if got := result(e, r); got.Err != nil || !bytes.Equal(got.Buf[3:], text) {
				e.Errorf("read %q, %v", got.Buf, got.Err)
			}
			wants(e, "second write", u, 1, nil)
			if got := result(e, again); got.Err != nil || string(got.Buf) != "!" {
				e.Errorf("read %q, %v", got.Buf, got.Err)
			}
		}
		if d.Stats().Linked == 0 {
			e.Error("nothing was linked")
		}
	})
}

// A member that fails, or cannot do all that it was asked to, keeps those behind it from running, whatever it is; a hard link holds.
func TestChainBreaks(t *testing.T) { // HAZARDS T26
	on(t, chaining, func(e *rig) {
		d := e.open(driver.Config{})
		fd := e.file([]byte("12345"))
		dir, name := e.fifo()
		bad := map[string]func(c *driver.Chain) func(){
			"a write that fails": func(c *driver.Chain) func() {
				p := driver.Link(c, ops.WriteAt(-1, []byte("x"), 0))
				return func() { wants(e, "write", p, 0, syscall.EBADF) }
			},
			"a short read": func(c *driver.Chain) func() {
				p := driver.Link(c, ops.ReadAt(fd, make([]byte, 10), 0))
				return func() { wants(e, "read", p, 5, nil) }
			},
			"a short vectored read": func(c *driver.Chain) func() {
				p := driver.Link(c, ops.ReadvAt(fd, [][]byte{make([]byte, 3), make([]byte, 9)}, 1))
				return func() { wants(e, "readv", p, 4, nil) }
			},
			"a rename": func(c *driver.Chain) func() {
				p := driver.Link(c, ops.Renameat2(dir, "none", dir, "other", 0))
				return func() { wants(e, "rename", p, 0, syscall.ENOENT) }
			},
			"a sync": func(c *driver.Chain) func() {
				p := driver.Link(c, ops.Fsync(dir))
				q := driver.Link(c, ops.Unlinkat(dir, "none", 0))
				return func() {
					wants(e, "fsync", p, 0, nil)
					wants(e, "unlink", q, 0, syscall.ENOENT)
				}
			},
			"a mkdir": func(c *driver.Chain) func() {
				p := driver.Link(c, ops.Mkdirat(dir, name, 0o700))
				return func() { wants(e, "mkdir", p, 0, syscall.EEXIST) }
			},
			"a plain call": func(c *driver.Chain) func() {
				op := ops.Unlinkat(dir, "none", 0)
				op.Route = ops.RouteCall
				p := driver.Link(c, op)
				return func() { wants(e, "unlink", p, 0, syscall.ENOENT) }
			},
		}
		for what, add := range bad {
			for _, before := range []int{0, 2} {
				marker := e.file([]byte("....."))
				var c driver.Chain
				var head, tail []*driver.Pending[[]byte]
				for i := range before {
					head = append(head, driver.Link(&c, ops.WriteAt(marker, []byte("h"), int64(i))))
				}
				check := add(&c)
				for range 2 {
					tail = append(tail, driver.Link(&c, ops.WriteAt(marker, []byte("t"), 4)))
				}
				e.submit(d, &c)
				for _, p := range head {
					wants(e, what+": before", p, 1, nil)
				}
				check()
				for _, p := range tail {
					wants(e, what+": behind", p, 0, syscall.ECANCELED)
				}
				var got [5]byte
				if _, err := unix.Pread(marker, got[:], 0); err != nil || string(got[:]) != "hhhhh"[:before]+"....."[before:] {
					e.Errorf("%s: the marker is %q, %v", what, got, err)
				}
			}

			var c driver.Chain
			check := add(&c)
			hard := driver.HardLink(&c, ops.WriteAt(fd, []byte("1"), 0))
			soft := driver.Link(&c, ops.ReadAt(fd, make([]byte, 1), 0))
			e.submit(d, &c)
			check()
			wants(e, what+": hard link", hard, 1, nil)
			wants(e, what+": behind it", soft, 1, nil)
		}

		// An earlier failure goes for a hard link, too.
		var c driver.Chain
		p := driver.Link(&c, ops.ReadAt(-1, make([]byte, 1), 0))
		q := driver.Link(&c, ops.ReadAt(fd, make([]byte, 1), 0))
		h := driver.HardLink(&c, ops.ReadAt(fd, make([]byte, 1), 0))
		e.submit(d, &c)
		wants(e, "head", p, 0, syscall.EBADF)
		wants(e, "soft", q, 0, syscall.ECANCELED)
		wants(e, "hard", h, 0, syscall.ECANCELED)
	})
}

// A transfer that was cut short goes on where it stopped, and what is behind it waits for that.
func TestChainResumes(t *testing.T) { // HAZARDS T26
	on(t, chaining, func(e *rig) {
		d := e.open(driver.Config{})
		for _, vectored := range []bool{false, true} {
			r, w := e.pipe()
			fd := e.file(make([]byte, 10))
			e.write(w, []byte("0123"))
			var c driver.Chain
			buf := make([]byte, 10)
			var n func() (int, error)
			if vectored {
				p := driver.Link(&c, ops.ReadvAt(r, [][]byte{buf[:2], buf[2:5], nil, buf[5:]}, -1))
				n = func() (int, error) { r := result(e, p); return r.N, r.Err }
			} else {
				p := driver.Link(&c, ops.ReadAt(r, buf, -1))
				n = func() (int, error) { r := result(e, p); return r.N, r.Err }
			}
			q := driver.Link(&c, ops.WriteAt(fd, buf, 0))
			e.submit(d, &c)
			pending(e, q)
			for _, part := range []string{"4", "5678", "9more"} {
				e.write(w, []byte(part))
			}
			if n, err := n(); n != 10 || err != nil || string(buf) != "0123456789" {
				e.Errorf("read %d, %v: %q", n, err, buf)
			}
			wants(e, "write", q, 10, nil)
			got := make([]byte, 10)
			if _, err := unix.Pread(fd, got, 0); err != nil || string(got) != "0123456789" {
				e.Errorf("%q was written, %v", got, err)
			}
		}
	})
}

// What takes several operations is moved by as many before what is behind it runs, whatever the link.
func TestChainOfMoreThanOneTransfer(t *testing.T) {
	on(t, chaining, func(e *rig) {
		d := e.open(driver.Config{})
		for what, link := range map[string]func(*driver.Chain, ops.Op[[][]byte]) *driver.Pending[[][]byte]{
			"linked": driver.Link[[][]byte], "hard": driver.HardLink[[][]byte],
		} {
			fd := e.file(nil)
			many := make([][]byte, 2*ops.MaxVec+10)
			for i := range many {
				many[i] = []byte{byte(i)}
			}
			var c driver.Chain
			buf := make([]byte, len(many)+1)
			w := link(&c, ops.WritevAt(fd, many, 0))
			r := driver.Link(&c, ops.ReadAt(fd, buf, 0))
			e.submit(d, &c)
			wants(e, what+" write", w, len(many), nil)
			wants(e, what+" read", r, len(many), nil)
			for i, b := range buf[:len(many)] {
				if b != byte(i) {
					e.Fatalf("%s: byte %d is %d", what, i, b)
				}
			}
		}
	})
}

// What is known of a member is told while the one behind a hard link waits, also if it failed.
func TestChainTellsEarly(t *testing.T) {
	on(t, chaining, func(e *rig) {
		d := e.open(driver.Config{})
		fd := e.file([]byte("12345"))
		r, w := e.pipe()
		var c driver.Chain
		first := driver.Link(&c, ops.ReadAt(fd, make([]byte, 5), 0))
		timer := driver.HardLink(&c, ops.Timeout(0))
		bad := driver.HardLink(&c, ops.ReadAt(-1, make([]byte, 1), 0))
		short := driver.HardLink(&c, ops.ReadAt(fd, make([]byte, 10), 2))
		wait := driver.HardLink(&c, ops.ReadAt(r, make([]byte, 1), -1))
		e.submit(d, &c)
		wants(e, "read", first, 5, nil)
		wants(e, "timeout", timer, 0, nil)
		wants(e, "bad read", bad, 0, syscall.EBADF)
		wants(e, "short read", short, 3, nil)
		pending(e, wait)
		e.write(w, []byte("x"))
		wants(e, "the last", wait, 1, nil)
	})
}

// Chains that cannot be, and those that just can.
func TestChainLimits(t *testing.T) { // G10
	on(t, chaining, func(e *rig) {
		d := e.open(driver.Config{Entries: 8})
		for n := range 12 {
			var c driver.Chain
			var all []*driver.Pending[struct{}]
			for range n {
				all = append(all, driver.Link(&c, ops.Nop()))
			}
			err := c.Submit(d)
			if errors.Is(err, driver.ErrChainTooLong) != (n > 7) {
				e.Errorf("%d members: %v", n, err)
			}
			for _, p := range all {
				wants(e, "nop", p, 0, err)
			}
			if c.Submit(d) == nil {
				e.Error("submitted twice")
			}
		}
		var c driver.Chain
		p := driver.Link(&c, ops.Nop())
		q := driver.Link(&c, ops.Openat(-1, "a\x00b", 0, 0))
		err := c.Submit(d)
		if !errors.Is(err, syscall.EINVAL) {
			e.Errorf("an invalid member: %v", err)
		}
		wants(e, "nop", p, 0, err)
		wants(e, "open", q, 0, err)
	})
}

// Nobody can wait for a stream in a chain, and is told so rather than that something has come.
func TestChainWithAStream(t *testing.T) {
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{})
		r, _ := e.pipe()
		s := driver.SubmitMulti(d, ops.AcceptMulti(r, 0))
		var c driver.Chain
		p, q := driver.Link(&c, s.Ready()), driver.Link(&c, ops.Nop())
		err := c.Submit(d)
		if !errors.Is(err, syscall.EINVAL) {
			e.Errorf("submitted: %v", err)
		}
		wants(e, "the wait", p, 0, err)
		wants(e, "the one behind it", q, 0, err)
	})
}

// Cancelling a member ends that and what is behind it, wherever the chain is.
func TestChainCancel(t *testing.T) { // HAZARDS T26
	on(t, chaining, func(e *rig) {
		d := e.open(driver.Config{})
		fd := e.file([]byte("12345"))
		for which := range 3 {
			r, w := e.pipe()
			var c driver.Chain
			a := driver.Link(&c, ops.ReadAt(fd, make([]byte, 1), 0))
			b := driver.Link(&c, ops.ReadAt(r, make([]byte, 4), -1))
			z := driver.Link(&c, ops.WriteAt(fd, []byte("x"), 4))
			e.submit(d, &c)
			wants(e, "head", a, 1, nil) // while the others are out
			pending(e, b)
			switch which {
			case 0:
				b.Cancel()
				wants(e, "middle", b, 0, syscall.ECANCELED)
				wants(e, "tail", z, 0, syscall.ECANCELED)
			case 1: // with a part of it done
				e.write(w, []byte("ab"))
				e.emptied("the part is read", r)
				pending(e, b)
				b.Cancel()
				wants(e, "middle", b, 2, syscall.ECANCELED)
				wants(e, "tail", z, 0, syscall.ECANCELED)
			case 2: // while its turn has not come: it may be the kernel's already, and then it runs
				z.Cancel()
				pending(e, b)
				e.write(w, []byte("abcd"))
				wants(e, "middle", b, 4, nil)
				if got := result(e, z); (got.N != 1 || got.Err != nil) && got.Err != syscall.ECANCELED {
					e.Errorf("tail = %+v", got)
				}
			}
		}
		var got [5]byte
		if _, err := unix.Pread(fd, got[:], 0); err != nil || string(got[:4]) != "1234" {
			e.Errorf("the file has %q, %v", got, err)
		}
	})
}

// A driver that is closed ends chains, too, in the kernel or before it.
func TestChainClose(t *testing.T) {
	on(t, chaining, func(e *rig) {
		d := e.open(driver.Config{Entries: 4})
		r, _ := e.pipe()
		var all []*driver.Pending[[]byte]
		for range 40 { // more than there is room for
			var c driver.Chain
			for range 3 {
				all = append(all, driver.Link(&c, ops.ReadAt(r, make([]byte, 1), -1)))
			}
			e.submit(d, &c)
		}
		pending(e, all[0])
		e.shut(d)
		for i, p := range all {
			if got := result(e, p); got.Err != driver.ErrClosed && got.Err != syscall.ECANCELED || i%3 == 0 && got.Err != driver.ErrClosed {
				e.Errorf("member %d: %v", i, got.Err)
			}
		}
		var c driver.Chain
		p := driver.Link(&c, ops.Nop())
		q := driver.Link(&c, ops.Nop())
		e.submit(d, &c)
		wants(e, "late", p, 0, driver.ErrClosed)
		wants(e, "late", q, 0, driver.ErrClosed)
	})
}

// A member that is abandoned does not hold up the caller, and the chain ends when the kernel lets go.
func TestChainAbandoned(t *testing.T) {
	on(t, abandoning[:1], func(e *rig) {
		d := e.open(driver.Config{CancelGrace: time.Nanosecond})
		e.swallowCancels()
		for _, linked := range []bool{true, false} {
			r, w := e.pipe()
			fd := e.file([]byte("12345"))
			var c driver.Chain
			a := driver.Link(&c, ops.ReadAt(fd, make([]byte, 1), 0))
			if !linked {
				driver.Link(&c, ops.Fsync(fd))
			}
			b := driver.Link(&c, ops.ReadAt(r, make([]byte, 2), -1))
			if !linked {
				driver.HardLink(&c, ops.Fsync(fd))
			}
			z := driver.Link(&c, ops.WriteAt(fd, []byte("x"), 0))
			e.submit(d, &c)
			wants(e, "head", a, 1, nil)
			e.eventually("its turn comes", func() bool { return d.Stats().InFlightBy["read"] == 1 })
			done := d.Stats().AbandonedDone
			b.Cancel()
			if got := result(e, b); got.Err != driver.ErrAbandoned || got.Buf != nil {
				e.Errorf("%+v", got)
			}
			pending(e, z)
			e.write(w, []byte("ab"))
			wants(e, "tail", z, 1, nil) // the abandoned one ended well
			if d.Stats().AbandonedDone != done+1 {
				e.Error("nobody noticed the end of the abandoned one")
			}
		}
		e.fault.Set(ring.FaultConfig{})
	})
}

// TestChainSmallRing has many goroutines put chains through a small ring: none is split, and nobody starves.
func TestChainSmallRing(t *testing.T) { // HAZARDS T13
	on(t, chaining, func(e *rig) {
		d := e.open(driver.Config{Entries: 4})
		fd := e.file(nil)
		rounds, tasks := size(20, 2000), size(32, 256)
		e.together(tasks, func(i int) {
			rng := e.random(i)
			at := int64(i) * 64
			for round := range rounds {
				text := fmt.Appendf(nil, "%10d%10d", i, round)
				back := make([]byte, len(text))
				var c driver.Chain
				w := driver.Link(&c, ops.WriteAt(fd, text, at))
				var fail *driver.Pending[struct{}]
				if rng.IntN(3) == 0 {
					fail = driver.Link(&c, ops.CancelFD(-5))
				}
				r := driver.Link(&c, ops.ReadAt(fd, back, at))
				lone := driver.Submit(d, ops.Nop())
				if err := c.Submit(d); err != nil {
					e.Error(err)
					return
				}
				wants(e, "write", w, len(text), nil)
				got := result(e, r)
				switch {
				case fail != nil && result(e, fail).Err != nil:
					if got.Err != syscall.ECANCELED {
						e.Errorf("behind a failure: %+v", got)
					}
				case got.N != len(text) || got.Err != nil || !bytes.Equal(back, text):
					e.Errorf("read %q, %v, want %q", back, got.Err, text)
				}
				result(e, lone)
			}
		})
	})
}

// Waiting for a member as any Pending, from several goroutines.
func TestChainWait(t *testing.T) {
	on(t, chaining, func(e *rig) {
		d := e.open(driver.Config{})
		r, w := e.pipe()
		var c driver.Chain
		a := driver.Link(&c, ops.ReadAt(r, make([]byte, 1), -1))
		b := driver.Link(&c, ops.Nop())
		e.submit(d, &c)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if got := b.Wait(context.Background()); got.Err != nil {
					e.Error(got.Err)
				}
			})
		}
		e.write(w, []byte("x"))
		wg.Wait()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if got := a.Wait(ctx); got.N != 1 || got.Err != nil {
			e.Errorf("%+v", got)
		}
	})
}

// A chain that has ended keeps no memory.
func TestChainLetsGoOfMemory(t *testing.T) {
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{})
		fd := e.file(nil)
		chain := func() weak.Pointer[byte] {
			b := make([]byte, 1<<16)
			var c driver.Chain
			driver.Link(&c, ops.WriteAt(fd, b, 0))
			p := driver.Link(&c, ops.WriteAt(fd, b, 0))
			if err := c.Submit(d); err != nil {
				e.Fatal(err)
			}
			result(e, p)
			return weak.Make(&b[0])
		}
		w := chain()
		must(e, d, ops.Nop())
		e.eventually("the memory is free", func() bool { runtime.GC(); return w.Value() == nil })
	})
}

// Cancellation by descriptor finds what is on its way in a chain, also members whose turn has not come.
func TestCancelFDInAChain(t *testing.T) {
	cancel := map[string]func(e *rig, d *driver.Driver, fd int){
		"CancelFD": func(e *rig, d *driver.Driver, fd int) { do(e, d, ops.CancelFD(fd)) },
		"CancelFD in a chain": func(e *rig, d *driver.Driver, fd int) {
			var c driver.Chain
			driver.Link(&c, ops.Nop())
			p := driver.Link(&c, ops.CancelFD(fd))
			stat := driver.HardLink(&c, ops.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MODE, new(unix.Statx_t))) // left alone
			e.submit(d, &c)
			result(e, p)
			if r := result(e, stat); r.Err != nil {
				e.Error(r.Err)
			}
		},
		"CancelDescriptor": func(_ *rig, d *driver.Driver, fd int) {
			d.CancelDescriptor(fd, false, func() bool { return true })
		},
	}
	for how, cancel := range cancel {
		t.Run(how, func(t *testing.T) {
			on(t, everywhere, func(e *rig) {
				d := e.open(driver.Config{Entries: 8, InFlight: 16})
				if e.sim != nil {
					e.sim.Change(func(c *ring.SimConfig) { c.Races = 0 })
				}
				idle, feed := e.pipe()
				r, w := e.pipe()
				e.write(w, []byte("ab"))
				var c, behind driver.Chain
				first := driver.Link(&c, ops.PollAdd(idle, unix.POLLIN)) // the kernel does not get what is behind it
				second := driver.HardLink(&c, ops.ReadAt(r, make([]byte, 1), -1))
				third := driver.HardLink(&c, ops.Nop())
				e.submit(d, &c)
				var crowd []*driver.Pending[[]byte]
				for range 20 { // more than there is room for
					crowd = append(crowd, driver.Submit(d, ops.ReadAt(idle, make([]byte, 1), -1)))
				}
				last := driver.Link(&behind, ops.ReadAt(r, make([]byte, 1), -1))
				rest := driver.Link(&behind, ops.PollAdd(idle, unix.POLLIN))
				e.submit(d, &behind)
				pending(e, first)
				cancel(e, d, r)
				pending(e, first)
				first.Cancel()
				wants(e, "first", first, 0, syscall.ECANCELED)
				wants(e, "second", second, 0, syscall.ECANCELED)
				wants(e, "third", third, 0, nil)
				wants(e, "last", last, 0, syscall.ECANCELED)
				wants(e, "the one behind it", rest, 0, syscall.ECANCELED)
				for _, p := range crowd {
					p.Cancel()
					result(e, p)
				}
				e.write(feed, []byte("c"))
				if n, err := unix.Read(r, make([]byte, 4)); n != 2 || err != nil {
					e.Errorf("%d bytes are left, %v", n, err)
				}
			})
		})
	}
}

// A chain that waits for places is queued as its first operation would be.
func TestChainQueued(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{Entries: 8, InFlight: 16})
		idle, _ := e.pipe()
		var crowd []*driver.Pending[[]byte]
		for range 40 {
			crowd = append(crowd, driver.Submit(d, ops.ReadAt(idle, make([]byte, 1), -1)))
		}
		var c driver.Chain
		first := driver.Link(&c, ops.ReadAt(idle, make([]byte, 1), -1))
		second := driver.Link(&c, ops.Nop())
		e.submit(d, &c)
		if s := d.Stats(); s.InFlight+s.Queued != len(crowd)+1 {
			e.Errorf("%d operations are in flight and %d queued, of %d and a chain of two", s.InFlight, s.Queued, len(crowd))
		}
		first.Cancel()
		for _, p := range crowd {
			p.Cancel()
			result(e, p)
		}
		wants(e, "first", first, 0, syscall.ECANCELED)
		wants(e, "second", second, 0, syscall.ECANCELED)
		if got := d.Stats().Queued; got != 0 {
			e.Errorf("%d operations are queued at the end", got)
		}
	})
}

// A member is abandoned in a segment that came back before its turn. When that comes it is not run and told again, and what is behind it is
// told once.
func TestChainAbandonedBeforeItsTurn(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{CancelGrace: time.Nanosecond})
		fd := e.file([]byte("12345"))
		for _, hard := range []bool{false, true} {
			r, w := e.pipe()
			var c driver.Chain
			a := driver.Link(&c, ops.ReadAt(r, make([]byte, 4), -1))
			b := driver.Link(&c, ops.WriteAt(fd, []byte("x"), 0))
			link, n, err := driver.Link[[]byte], 0, error(syscall.ECANCELED)
			if hard {
				link, n, err = driver.HardLink[[]byte], 1, nil
			}
			z := link(&c, ops.ReadAt(fd, make([]byte, 1), 0))
			e.submit(d, &c)
			pending(e, a)
			e.eventually("the segment is in the kernel", func() bool { return d.Stats().InFlight > 0 }) // cancelled before, it would be none of it
			b.Cancel()
			if got := result(e, b); got.Err != driver.ErrAbandoned && got.Err != syscall.ECANCELED {
				e.Errorf("cancelled: %v", got.Err)
			}
			e.write(w, []byte("ab"))
			e.emptied("the first comes back short", r)
			pending(e, a)
			e.write(w, []byte("cd"))
			wants(e, "the first", a, 4, nil)
			wants(e, "the last", z, n, err)
			must(e, d, ops.Nop())
		}
	})
}
