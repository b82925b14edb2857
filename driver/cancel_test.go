package driver_test

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/internal/testenv"
	"uringo/ops"
)

// spin passes up to the given time without leaving the processor, as sleeping for less than it takes to sleep is not possible.
func spin(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
	}
}

// target is an operation to be cancelled, and what it may return if it is not.
type target struct {
	name  string
	start func() (cancel func(), end func() (n int, err error))
	n     func(int) bool
}

func startOf[T any](d *driver.Driver, op func() ops.Op[T]) func() (func(), func() (int, error)) {
	return func() (func(), func() (int, error)) {
		p := driver.Submit(d, op())
		return p.Cancel, func() (int, error) {
			select {
			case r := <-p.Done():
				return r.N, r.Err
			case <-time.After(patience):
				return -1, errHangs
			}
		}
	}
}

var errHangs = errors.New("does not end")

// Whenever the cancellation comes, queued, issued, under way or over, once or twice: the outcome is the operation's own, or ECANCELED.
func TestCancelRaces(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		// Few places, so that much of it is still queued.
		d := e.open(driver.Config{Entries: 8, InFlight: 16})
		idle, _ := e.pipe()
		busy, feed := e.pipe()
		a, b := e.sockets()
		fed, feeds := e.sockets()
		alone, _ := e.listener()
		visited, where := e.listener()
		var visitors atomic.Int32
		dir := e.TempDir()
		zero := func(n int) bool { return n == 0 }
		one := func(n int) bool { return n == 1 }
		never := func(int) bool { return false }
		targets := []target{
			{"read of nothing", startOf(d, func() ops.Op[[]byte] { return ops.ReadAt(idle, make([]byte, 1), -1) }), never},
			{"vectored read of nothing", startOf(d, func() ops.Op[[][]byte] { return ops.ReadvAt(idle, [][]byte{make([]byte, 1)}, -1) }), never},
			{"read", startOf(d, func() ops.Op[[]byte] { return ops.ReadAt(busy, make([]byte, 1), -1) }), one},
			{"read by a worker", startOf(d, func() ops.Op[[]byte] {
				op := ops.ReadAt(idle, make([]byte, 1), -1)
				op.Flags |= ops.Async
				return op
			}), never},
			{"socket read by a worker", startOf(d, func() ops.Op[[]byte] {
				op := ops.ReadAt(a, make([]byte, 1), -1)
				op.Flags |= ops.Async
				return op
			}), never},
			{"receive of nothing", startOf(d, func() ops.Op[[]byte] { return ops.Recv(a, make([]byte, 1), 0) }), never},
			{"receive", startOf(d, func() ops.Op[[]byte] { return ops.Recv(fed, make([]byte, 1), 0) }), one},
			{"accept of nobody", startOf(d, func() ops.Op[struct{}] { return ops.Accept(alone, unix.SOCK_CLOEXEC) }), never},
			{"accept", startOf(d, func() ops.Op[struct{}] { return ops.Accept(visited, unix.SOCK_CLOEXEC) }), func(n int) bool {
				visitors.Add(-1)
				return unix.Close(n) == nil
			}},
			{"poll", startOf(d, func() ops.Op[struct{}] { return ops.PollAdd(a, unix.POLLIN) }), never},
			{"write", startOf(d, func() ops.Op[[]byte] { return ops.WriteAt(a, make([]byte, 1), -1) }), one},
			{"timeout", startOf(d, func() ops.Op[struct{}] { return ops.Timeout(time.Hour) }), never},
			{"short timeout", startOf(d, func() ops.Op[struct{}] { return ops.Timeout(30 * time.Microsecond) }), zero},
			{"nop", startOf(d, ops.Nop), zero},
			{"statx", startOf(d, func() ops.Op[*unix.Statx_t] {
				return ops.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_SIZE, new(unix.Statx_t))
			}), zero},
			{"plain call", startOf(d, func() ops.Op[*unix.Statx_t] {
				op := ops.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_SIZE, new(unix.Statx_t))
				op.Route = ops.RouteCall
				return op
			}), zero},
			{"open", startOf(d, func() ops.Op[struct{}] { return ops.Openat(unix.AT_FDCWD, dir, unix.O_RDONLY, 0) }), func(n int) bool {
				return unix.Close(n) == nil
			}},
		}
		stop := make(chan struct{})
		var feeder sync.WaitGroup
		feeder.Go(func() { // keeps some bytes coming in one pipe, and takes what comes out of the socket
			buf := make([]byte, 4096)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if n, err := unix.IoctlGetInt(busy, unix.TIOCINQ); err == nil && n < 100 {
					e.write(feed, make([]byte, 1))
				}
				_, _, _ = unix.Recvfrom(b, buf, unix.MSG_DONTWAIT)
				if n, err := unix.IoctlGetInt(fed, unix.TIOCINQ); err == nil && n < 100 {
					e.write(feeds, make([]byte, 1))
				}
				if visitors.Load() < 50 {
					visitors.Add(1)
					unix.Close(e.dial(where))
				}
				time.Sleep(20 * time.Microsecond)
			}
		})
		var cancelled, ended [32]int
		var mu sync.Mutex
		e.together(8, func(i int) {
			rng := e.random(i)
			for range size(250, 20_000) { // a million in all
				k := rng.IntN(len(targets))
				cancel, end := targets[k].start()
				switch rng.IntN(4) {
				case 0:
				case 1:
					runtime.Gosched()
				default:
					spin(time.Duration(rng.IntN(100)) * time.Microsecond)
				}
				cancel()
				if rng.IntN(2) == 0 {
					cancel()
				}
				n, err := end()
				if err != syscall.ECANCELED && (err != nil || !targets[k].n(n)) {
					e.Errorf("%s: %d, %v", targets[k].name, n, err)
					if err == errHangs {
						e.Errorf("%+v", d.Stats())
					}
				}
				mu.Lock()
				if err == nil {
					ended[k]++
				} else {
					cancelled[k]++
				}
				mu.Unlock()
			}
		})
		close(stop)
		feeder.Wait()
		for k := range targets {
			e.Logf("%s: %d cancelled, %d not", targets[k].name, cancelled[k], ended[k])
		}
	})
}

// What a stream brought goes to a reader, cancelled or not, once and in order.
func TestCancelledReadsLoseNothing(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{Entries: 8, InFlight: 16})
		for _, kind := range []string{"pipe", "socket"} {
			in, out := e.pipe()
			if kind == "socket" {
				in, out = e.sockets()
			}
			var writer sync.WaitGroup
			var sent, got atomic.Int64
			stop := make(chan struct{})
			rng := e.random(1)
			writer.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					b := make([]byte, 1+rng.IntN(20))
					for i := range b {
						b[i] = byte(int(sent.Load()) + i)
					}
					if sent.Load() < got.Load()+2048 { // or it would wait for a reader that has gone
						e.write(out, b)
						sent.Add(int64(len(b)))
					}
					spin(time.Duration(rng.IntN(60)) * time.Microsecond)
					runtime.Gosched() // on one processor the others would get a turn every ten milliseconds
				}
			})
			cancelled := 0
			take := func(r ops.Result[[]byte]) {
				switch {
				case r.Err == syscall.ECANCELED && r.N == 0:
					cancelled++
					return
				case r.Err != nil || r.N == 0:
					e.Fatalf("%s: %+v", kind, r)
				}
				for i, b := range r.Buf[:r.N] {
					if b != byte(int(got.Load())+i) {
						e.Fatalf("%s: byte %d is %d", kind, int(got.Load())+i, b)
					}
				}
				got.Add(int64(r.N))
			}
			for range size(800, 100_000) / 2 {
				buf := make([]byte, 1+e.rng.IntN(64))
				p := driver.Submit(d, ops.ReadAt(in, buf, -1))
				spin(time.Duration(e.rng.IntN([]int{1, 20, 100, 400}[e.rng.IntN(4)])) * time.Microsecond)
				p.Cancel()
				take(<-p.Done())
			}
			close(stop)
			writer.Wait()
			for got.Load() < sent.Load() {
				take(do(e, d, ops.ReadAt(in, make([]byte, 64), -1)))
			}
			e.Logf("%s: %d bytes, %d reads cancelled", kind, got.Load(), cancelled)
			p := driver.Submit(d, ops.ReadAt(in, make([]byte, 64), -1))
			pending(e, p)
			p.Cancel()
			result(e, p)
		}
	})
}

// A hundred thousand cancellations, more than there are places for.
func TestCancelStorm(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		n := size(2000, 100_000)
		places := []uint32{65536, 1024} // room in the kernel for all of them, or not
		if e.name == "sim" {
			places = places[1:] // the model looks at all that wait, at each step
		}
		for _, inFlight := range places {
			d := e.open(driver.Config{Entries: 64, InFlight: inFlight})
			r, w := e.pipe()
			if inFlight == 1024 {
				n = size(2000, 100_000)
			}
			reads := make([]*driver.Pending[[]byte], n)
			for i := range reads {
				reads[i] = driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
			}
			e.eventually("all are there", func() bool { s := d.Stats(); return s.InFlight+s.Queued == n })
			start, delays := time.Now(), testenv.Delays()
			must(e, d, ops.Nop()) // those who wait do not keep others out
			if took, late := time.Since(start), delays(); took-late > time.Second {
				e.Errorf("a no-operation took %v, on a machine that was %v late", took, late)
			}
			start, delays = time.Now(), testenv.Delays()
			for _, p := range reads {
				p.Cancel()
			}
			for _, p := range reads {
				if r := result(e, p); r.Err != syscall.ECANCELED {
					e.Fatal(r.Err)
				}
			}
			took, late := time.Since(start), delays()
			e.Logf("%d in flight at most: %d cancelled in %v, on a machine that was %v late", inFlight, n, took, late)
			if took-late > 5*time.Second {
				e.Errorf("that is long")
			}
			if s := d.Stats(); int(s.Cancelled) != n || s.Overflows != 0 {
				e.Errorf("%d cancelled, %d overflows", s.Cancelled, s.Overflows)
			}
			e.write(w, []byte{1})
			if r := do(e, d, ops.ReadAt(r, make([]byte, 1), -1)); r.N != 1 {
				e.Errorf("afterwards: %+v", r)
			}
		}
	})
}

// hooked is a kernel whose calls of Enter go through a function.
type hooked struct {
	ring.Kernel
	enter func(fd int, submit, minComplete, flags uint32, arg *ring.WaitArg) (int, syscall.Errno)
}

func (k *hooked) Enter(fd int, submit, minComplete, flags uint32, arg *ring.WaitArg) (int, syscall.Errno) {
	return k.enter(fd, submit, minComplete, flags, arg)
}

// kernels returns what a kernel of a test's own can be put in front of.
func kernels() map[string]func() ring.Kernel {
	return map[string]func() ring.Kernel{
		"uring":    ring.Linux,
		"portable": func() ring.Kernel { return ring.NewPortable(ops.Calls(), 16) },
	}
}

// onKernels runs a test with a driver on each kernel, with hooks in between.
func onKernels(t *testing.T, cfg driver.Config, test func(e *rig, k *hooked, open func() *driver.Driver)) {
	t.Helper()
	for name, inner := range kernels() {
		engine, _ := driver.ParseEngine(name)
		on(t, []way{{name, engine, nil}}, func(e *rig) {
			k := &hooked{Kernel: inner()}
			k.enter = k.Kernel.Enter
			test(e, k, func() *driver.Driver {
				cfg.Engine = driver.Uring
				return e.opened(driver.Open(driver.OnKernel(cfg, k)))
			})
		})
	}
}

// gate holds up a driver between an answer of the kernel and what the driver makes of it.
type gate struct {
	mu   sync.Mutex // held while closed
	seen chan struct{}
}

func (g *gate) pass() {
	if g.mu.TryLock() { // it is open: who passes is not seen
		g.mu.Unlock()
		return
	}
	select {
	case g.seen <- struct{}{}:
	default:
	}
	g.mu.Lock()
	g.mu.Unlock() //lint:ignore SA2001 to have been there is all
}

// stop has the driver stand in front of the gate, which is closed, with the completion of a read from a pipe.
func (g *gate) stop(e *rig, d *driver.Driver, r, w int) *driver.Pending[[]byte] {
	e.Helper()
	for range 100 {
		held := driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
		pending(e, held)
		for len(g.seen) > 0 { // by a driver that stood there when the gate was opened
			<-g.seen
		}
		g.mu.Lock()
		e.write(w, []byte{1})
		select {
		case <-g.seen: // something else may have woken it, such as an answer to a cancellation
			e.emptied("the read has ended", r)
			return held
		case <-held.Done(): // the driver was not waiting in the kernel yet
			g.mu.Unlock()
		}
	}
	panic("the driver does not wait in the kernel")
}

// Operations that fill the submission queue, and in the same message box a cancellation of one of them, for which there is no room.
// It must not wait for news of the others.
func TestCancelIntoFullQueue(t *testing.T) {
	onKernels(t, driver.Config{Entries: 4}, func(e *rig, k *hooked, open func() *driver.Driver) {
		g := &gate{seen: make(chan struct{}, 1)}
		inner := k.Kernel.Enter
		k.enter = func(fd int, submit, minComplete, flags uint32, arg *ring.WaitArg) (int, syscall.Errno) {
			n, errno := inner(fd, submit, minComplete, flags, arg)
			if minComplete > 0 {
				g.pass()
			}
			return n, errno
		}
		d := open()
		r, w := e.pipe()
		for range size(10, 1000) {
			held := g.stop(e, d, r, w)
			var reads []*driver.Pending[[]byte]
			for range 3 {
				reads = append(reads, driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1)))
			}
			reads[0].Cancel()
			g.mu.Unlock()
			if r := result(e, reads[0]); r.Err != syscall.ECANCELED {
				e.Fatalf("%+v", r)
			}
			result(e, held)
			for _, p := range reads[1:] {
				pending(e, p)
				p.Cancel()
				result(e, p)
			}
		}
	})
}

// The same with an operation: the kernel takes nothing for a moment, the queue is full, and then it takes everything. What waited for
// room must not be forgotten.
func TestQueuedWhileKernelWasBusy(t *testing.T) {
	onKernels(t, driver.Config{Entries: 4}, func(e *rig, k *hooked, open func() *driver.Driver) {
		g := &gate{seen: make(chan struct{}, 1)}
		inner := k.Kernel.Enter
		refuse := 0
		k.enter = func(fd int, submit, minComplete, flags uint32, arg *ring.WaitArg) (int, syscall.Errno) {
			if refuse > 0 && submit > 0 {
				refuse--
				return -1, syscall.EAGAIN
			}
			n, errno := inner(fd, submit, minComplete, flags, arg)
			if minComplete > 0 {
				g.pass()
			}
			return n, errno
		}
		d := open()
		r, w := e.pipe()
		for i := range size(10, 1000) {
			held := g.stop(e, d, r, w)
			refuse = i % 5
			var reads []*driver.Pending[[]byte]
			for range 3 {
				reads = append(reads, driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1)))
			}
			nop := driver.Submit(d, ops.Nop())
			g.mu.Unlock()
			if r := result(e, nop); r.Err != nil {
				e.Fatalf("%+v", r)
			}
			result(e, held)
			for _, p := range reads {
				pending(e, p)
				p.Cancel()
				result(e, p)
			}
		}
	})
}

// A cancellation that means a former use of a request, and comes late, takes nothing away from one that means the present use.
func TestLateCancelOfFormerUse(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		p, _ := e.pipe()
		r := new(driver.Request)
		var former driver.Seq
		for i := range size(300, 20_000) {
			w := &tally{d: d, ended: make(chan struct{}), all: 1}
			read := ops.ReadAt(p, make([]byte, 1), -1)
			seq := r.Reset(&read.Spec, w)
			if i%2 == 0 {
				d.Cancel(r, seq)
				d.Cancel(r, former)
				d.Send(r)
			} else {
				d.Send(r)
				spin(time.Duration(e.rng.IntN(30)) * time.Microsecond)
				d.Cancel(r, seq)
				d.Cancel(r, former)
			}
			select {
			case <-w.ended:
			case <-time.After(patience):
				e.Fatalf("use %d does not end", i)
			}
			if _, err := r.Outcome(); err != syscall.ECANCELED {
				e.Fatal(err)
			}
			former = seq
		}
	})
}

// What a cancellation answers is nobody's business: that there is no such operation, that it is too late, or nonsense.
func TestCancelAnswersStayInside(t *testing.T) {
	for _, answer := range []int32{-int32(syscall.ENOENT), -int32(syscall.EALREADY), -int32(syscall.EINVAL), 7} {
		t.Run(fmt.Sprint(answer), func(t *testing.T) {
			on(t, []way{onUring}, func(e *rig) {
				d := e.opened(e.behind(ring.Linux(), ring.FaultConfig{
					Inject: 1, Results: []int32{answer}, Match: func(s *ring.SQE) bool { return s.Op == ring.OpAsyncCancel },
				}, driver.Config{}))
				if !e.fault.CanInject() {
					e.Skip("needs IORING_NOP_INJECT_RESULT (Linux 6.10)")
				}
				r, w := e.pipe()
				p := driver.Submit(d, ops.ReadAt(r, make([]byte, 8), -1))
				begun := time.Now()
				p.Cancel()
				e.eventually("an answer", func() bool { n := d.Stats().CancelAnswers; return n > 1 || n == 1 && answer >= 0 })
				pending(e, p)
				time.Sleep(50 * time.Millisecond)
				// It pauses for twice as long each time, a millisecond at first.
				n := d.Stats().CancelAnswers
				if most := uint64(2 + bits.Len64(uint64(time.Since(begun).Milliseconds()))); n > most {
					e.Errorf("cancelled %d times, more than %d", n, most)
				}
				e.write(w, []byte("late"))
				if r := result(e, p); r.N != 4 || r.Err != nil || string(r.Buf[:4]) != "late" {
					e.Errorf("%+v", r)
				}
			})
		})
	}
}

// A cancellation that is repeated is told from the one before, of which an answer may come twice.
func TestCancelAgainIsAnother(t *testing.T) {
	var mu sync.Mutex
	seen := make(map[uint64]int)
	model := way{"sim", driver.Auto, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
		clear(seen)
		sim := ring.NewSim(ring.SimConfig{Calls: ops.Calls(), OnPost: func(c ring.CQE, _ bool) {
			mu.Lock()
			defer mu.Unlock()
			seen[c.UserData]++
		}})
		return e.behind(sim, ring.FaultConfig{Inject: 1, Results: []int32{-int32(syscall.EALREADY)},
			Match: func(s *ring.SQE) bool { return s.Op == ring.OpAsyncCancel }}, cfg)
	}}
	on(t, []way{model}, func(e *rig) {
		d := e.open(driver.Config{})
		r, w := e.pipe()
		p := driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
		p.Cancel()
		e.eventually("more answers", func() bool { return d.Stats().CancelAnswers > 2 })
		e.write(w, []byte{1})
		wants(e, "read", p, 1, nil)
		e.shut(d)
		mu.Lock()
		defer mu.Unlock()
		for data, n := range seen {
			if n > 1 && data != ^uint64(0) { // that is the ring's own
				e.Errorf("%d completions of %#x", n, data)
			}
		}
	})
}

// Opens that are cancelled, whatever becomes of them, leave no descriptor behind.
func TestCancelledOpens(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		name := filepath.Join(e.TempDir(), "file")
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			e.Fatal(err)
		}
		e.together(4, func(i int) {
			rng := e.random(i)
			for range size(500, 10_000) {
				flag := []int{unix.O_RDONLY, unix.O_RDWR | unix.O_CREAT, unix.O_RDWR | unix.O_TRUNC}[rng.IntN(3)]
				op := ops.Openat(unix.AT_FDCWD, name, flag, 0o600)
				if rng.IntN(3) == 0 {
					op.Route = ops.RouteCall
				}
				p := driver.Submit(d, op)
				spin(time.Duration(rng.IntN(100)) * time.Microsecond)
				p.Cancel()
				if r := <-p.Done(); r.Err == nil {
					unix.Close(r.N)
				} else if r.Err != syscall.ECANCELED {
					e.Error(r.Err)
				}
			}
		})
	})
}
