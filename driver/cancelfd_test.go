package driver_test

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/ops"
)

// Cancellation by descriptor ends all that the driver and the kernel have for it, and nothing else.
func TestCancelFD(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{Entries: 8, InFlight: 16})
		if e.sim != nil {
			e.sim.Change(func(c *ring.SimConfig) { c.Races = 0 })
		}
		r, _ := e.pipe()
		s, _ := e.pipe()
		for range size(5, 300) {
			var mine, others []*driver.Pending[[]byte]
			for range 10 + e.rng.IntN(20) {
				mine = append(mine, driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1)))
			}
			timer := driver.Submit(d, ops.Timeout(time.Hour))
			for range 3 {
				others = append(others, driver.Submit(d, ops.ReadAt(s, make([]byte, 1), -1)))
			}
			c := driver.Submit(d, ops.CancelFD(r))
			for _, p := range mine {
				if r := result(e, p); r.Err != syscall.ECANCELED {
					e.Fatalf("read: %+v", r)
				}
			}
			if r := result(e, c); r.Err != nil {
				e.Fatalf("cancellation: %+v", r)
			}
			for _, p := range others {
				pending(e, p)
				p.Cancel()
				if r := result(e, p); r.Err != syscall.ECANCELED {
					e.Fatalf("read of another: %+v", r)
				}
			}
			pending(e, timer)
			timer.Cancel()
			result(e, timer)
		}
	})
}

// What was cancelled by its descriptor behind a transfer that came out short, and is then performed later than it was to be, stays cancelled.
func TestCancelDescriptorBehindAShortTransfer(t *testing.T) {
	on(t, chaining, func(e *rig) {
		d := e.open(driver.Config{})
		for range 5 {
			r, w := e.pipe()
			other, _ := e.pipe()
			var c driver.Chain
			first := driver.Link(&c, ops.ReadAt(r, make([]byte, 2), -1))
			between := driver.Link(&c, ops.Nop())
			p := driver.Link(&c, ops.ReadAt(other, make([]byte, 1), -1))
			e.submit(d, &c)
			must(e, d, ops.Nop()) // the chain is where it waits
			d.CancelDescriptor(other, false, func() bool { return true })
			must(e, d, ops.Nop())
			e.write(w, []byte("x"))
			e.emptied("the first part is read", r)
			e.write(w, []byte("y"))
			wants(e, "read", first, 2, nil)
			wants(e, "nop", between, 0, nil)
			wants(e, "read of the other", p, 0, syscall.ECANCELED)
		}
	})
}

// Who is about to close a descriptor has everything on it cancelled, on every driver, as long as it is his.
func TestCancelDescriptor(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d, other := e.open(driver.Config{}), e.open(driver.Config{})
		in, _ := e.pipe()
		a, _ := e.sockets()
		read := func(d *driver.Driver, fd int) *driver.Pending[[]byte] {
			return driver.Submit(d, ops.ReadAt(fd, make([]byte, 8), -1))
		}
		mine, foreign, unrelated := read(d, in), read(other, in), read(d, a)
		poll := driver.Submit(other, ops.PollAdd(in, unix.POLLIN))
		d.CancelDescriptor(in, false, func() bool { return false })
		driver.CancelEverywhere(in, func() bool { return false })
		d.CancelDescriptor(in, true, func() bool { return true }) // a place in the ring's table is something else
		pending(e, mine)
		pending(e, foreign)
		d.CancelDescriptor(in, false, func() bool { return true })
		if r := result(e, mine); r.Err != syscall.ECANCELED {
			e.Error(r.Err)
		}
		pending(e, foreign)
		driver.CancelEverywhere(in, func() bool { return true })
		if r := result(e, foreign); r.Err != syscall.ECANCELED {
			e.Error(r.Err)
		}
		if r := result(e, poll); r.Err != syscall.ECANCELED {
			e.Error(r.Err)
		}
		pending(e, unrelated)
		unrelated.Cancel()
		result(e, unrelated)
	})
}

// One cancellation is enough for more operations than the ring takes cancellations at a time.
func TestCancelDescriptorOfMany(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		const reads = 150
		d := e.open(driver.Config{Entries: 4, InFlight: 256})
		in, _ := e.pipe()
		all := make([]*driver.Pending[[]byte], reads)
		for i := range all {
			all[i] = driver.Submit(d, ops.ReadAt(in, make([]byte, 1), -1))
		}
		pending(e, all[reads-1])
		d.CancelDescriptor(in, false, func() bool { return true })
		for i, p := range all {
			if r := result(e, p); r.Err != syscall.ECANCELED {
				e.Fatalf("read %d: %+v", i, r)
			}
		}
	})
}

// Cancellation of everything spares nothing but the driver.
func TestCancelAny(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{Entries: 8, InFlight: 16})
		if e.sim != nil {
			e.sim.Change(func(c *ring.SimConfig) { c.Races = 0 })
		}
		r, _ := e.pipe()
		for range size(10, 2000) {
			var all []*driver.Pending[[]byte]
			for range 1 + e.rng.IntN(30) {
				all = append(all, driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1)))
			}
			timer, poll := driver.Submit(d, ops.Timeout(time.Hour)), driver.Submit(d, ops.PollAdd(r, unix.POLLIN))
			if r := do(e, d, ops.CancelAny()); r.Err != nil && r.Err != syscall.ENOENT {
				e.Fatalf("cancellation: %+v", r)
			}
			for _, p := range all {
				if r := result(e, p); r.Err != syscall.ECANCELED {
					e.Fatalf("read: %+v", r)
				}
			}
			for _, p := range []*driver.Pending[struct{}]{timer, poll} {
				if r := result(e, p); r.Err != syscall.ECANCELED {
					e.Fatalf("%+v", r)
				}
			}
			time.Sleep(time.Duration(e.rng.IntN(300)) * time.Microsecond)
			must(e, d, ops.Nop())
		}
	})
}

// The way to close a descriptor without anything reaching its successor: stop using it, cancel, wait for everything, close.
func TestDescriptorReuse(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{Entries: 8, InFlight: 16})
		e.together(4, func(i int) {
			rng := e.random(i)
			for round := range size(100, 10_000) {
				tag := byte(1 + rng.IntN(255))
				var p [2]int
				if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
					e.Error(err)
					return
				}
				var writes []*driver.Pending[[]byte]
				var reads []*driver.Pending[[]byte]
				for range 1 + rng.IntN(12) {
					if rng.IntN(3) == 0 {
						b := make([]byte, 64)
						for i := range b {
							b[i] = tag
						}
						writes = append(writes, driver.Submit(d, ops.WriteAt(p[1], b, -1)))
					} else {
						reads = append(reads, driver.Submit(d, ops.ReadAt(p[0], make([]byte, 64), -1)))
					}
				}
				spin(time.Duration(rng.IntN(50)) * time.Microsecond)
				for _, fd := range p {
					<-driver.Submit(d, ops.CancelFD(fd)).Done()
				}
				for _, w := range writes {
					if r := <-w.Done(); r.Err != syscall.ECANCELED && (r.Err != nil || r.N != 64) {
						e.Errorf("round %d: write: %+v", round, r)
					}
				}
				for _, w := range reads {
					r := <-w.Done()
					if r.Err != syscall.ECANCELED && (r.Err != nil || r.N == 0) {
						e.Errorf("round %d: read: %d, %v", round, r.N, r.Err)
					}
					for _, b := range r.Buf[:r.N] {
						if b != tag {
							e.Errorf("round %d: a byte of %d among those of %d", round, b, tag)
							break
						}
					}
				}
				unix.Close(p[0])
				unix.Close(p[1])
			}
		})
	})
}

// fifo makes a named pipe, which to open for reading waits for a writer when a worker thread does it, as with O_CREAT.
func (e *rig) fifo() (dir int, name string) {
	e.Helper()
	where := e.TempDir()
	name = "fifo"
	if err := unix.Mkfifo(filepath.Join(where, name), 0o600); err != nil {
		e.Fatal(err)
	}
	return e.keep(unix.Open(where, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)), name
}

// A user's cancellation by descriptor finds operations on that descriptor, not those on names below it. They can be cancelled
// afterwards as if nothing had been, and the end of the driver finds them.
func TestCancelFDOfDirectory(t *testing.T) {
	on(t, []way{onUring, onLocked, onFaults}, func(e *rig) {
		for _, how := range []string{"cancel", "close"} {
			d := e.open(driver.Config{})
			dir, name := e.fifo()
			open := driver.Submit(d, ops.Openat(dir, name, unix.O_RDONLY|unix.O_CREAT, 0o600))
			pending(e, open)
			do(e, d, ops.CancelFD(dir))
			pending(e, open)
			want := error(syscall.ECANCELED)
			if how == "cancel" {
				open.Cancel()
			} else {
				e.shut(d)
				want = driver.ErrClosed
			}
			if r := result(e, open); r.Err != want && !driver.IsCanceled(r.Err) {
				e.Errorf("%s: %+v", how, r)
			}
		}
	})
}

// What a cancellation by descriptor does not find has not been asked to end: it goes on where a thread of the kernel was to perform it from the
// start, and is repeated if the kernel interrupts it by itself.
func TestCancelFDSparesNames(t *testing.T) {
	on(t, []way{onUring, onLocked}, func(e *rig) {
		for _, flags := range []uint8{0, ops.Async} {
			d := e.open(driver.Config{Entries: 8})
			dir, name := e.fifo()
			o := ops.Openat(dir, name, unix.O_RDONLY|unix.O_CREAT, 0o600)
			o.Flags |= flags
			open := driver.Submit(d, o)
			pending(e, open)
			do(e, d, ops.CancelFD(dir))
			pending(e, open)
			repeated := d.Stats().Repeated
			e.eventually("the open is interrupted", func() bool {
				for i := range uint64(8 * 16) { // its user data, generation and slot, is one of these
					do(e, d, ops.CancelData(i%8<<32|i/8))
				}
				select {
				case r := <-open.Done():
					e.Fatalf("flags %#x: ended early: %+v", flags, r)
				default:
				}
				return d.Stats().Repeated > repeated
			})
			pending(e, open)
			open.Cancel()
			if r := result(e, open); !driver.IsCanceled(r.Err) {
				e.Errorf("flags %#x: %+v", flags, r)
			}
		}
	})
}
