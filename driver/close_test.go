package driver_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/ops"
)

// The end of a driver with everything in flight that there is, and more coming all the time. It is asked for by several at once, and
// again. Everybody gets a result, and nobody waits for what does not end by itself.
func TestCloseUnderLoad(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		file := e.file(make([]byte, 1<<20))
		dir, fifo := e.fifo()
		a, b := e.sockets()
		full := e.fullPipe()
		idle, _ := e.pipe()
		for round := range size(12, 1000) {
			_ = unix.Fadvise(file, 0, 0, unix.FADV_DONTNEED)
			d := e.open(driver.Config{Entries: 4 << e.rng.IntN(6), InFlight: []uint32{0, 128}[e.rng.IntN(2)]})
			kinds := []func(*rand.Rand) func() error{
				waits(d, func(*rand.Rand) ops.Op[[]byte] { return ops.ReadAt(idle, make([]byte, 64), -1) }),
				waits(d, func(*rand.Rand) ops.Op[[]byte] {
					op := ops.ReadAt(a, make([]byte, 64), -1)
					op.Flags |= ops.Async
					return op
				}),
				waits(d, func(*rand.Rand) ops.Op[struct{}] { return ops.PollAdd(b, unix.POLLIN) }),
				waits(d, func(*rand.Rand) ops.Op[struct{}] { return ops.Timeout(time.Hour) }),
				waits(d, func(*rand.Rand) ops.Op[[]byte] { return ops.WriteAt(full, make([]byte, 64), -1) }),
				ends(d, func(rng *rand.Rand) ops.Op[[]byte] {
					return ops.ReadAt(file, make([]byte, block), int64(rng.IntN(256))*block)
				}),
				ends(d, func(*rand.Rand) ops.Op[struct{}] { return ops.Fsync(file) }),
				ends(d, func(*rand.Rand) ops.Op[struct{}] { return ops.Nop() }),
				ends(d, func(*rand.Rand) ops.Op[*unix.Statx_t] {
					op := ops.Statx(dir, "", unix.AT_EMPTY_PATH, unix.STATX_SIZE, new(unix.Statx_t))
					op.Route = ops.RouteCall
					return op
				}),
			}
			if e.name == "uring" || e.name == "locked" || e.name == "faults" {
				// A plain call could not be stopped.
				kinds = append(kinds, waits(d, func(*rand.Rand) ops.Op[struct{}] {
					return ops.Openat(dir, fifo, unix.O_RDONLY|unix.O_CREAT, 0o600)
				}))
			}
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() { // goes on until it is told that there is no more to be had
					rng := e.random(1000*round + i)
					for closed := false; !closed; {
						var pending []func() error
						for range 1 + rng.IntN(20) {
							pending = append(pending, kinds[rng.IntN(len(kinds))](rng))
						}
						for _, wait := range pending {
							switch err := wait(); {
							case err == driver.ErrClosed:
								closed = true
							case err != nil && err != syscall.ECANCELED: // asked for above
								e.Errorf("%v", err)
							}
						}
					}
				})
			}
			time.Sleep(time.Duration(e.rng.IntN(2000)) * time.Microsecond)
			for range 3 {
				all.Go(func() { e.shut(d) })
			}
			e.shut(d)
			e.shut(d)
			e.soon("somebody who submits", all.Wait)
		}
		// Nothing of it is left at the sockets: they close when they are closed.
		unix.Close(e.replace(&a))
		if n, err := plain(b).Read(make([]byte, 1)); n != 0 || err == nil {
			e.Errorf("the other end reads %d, %v", n, err)
		}
	})
}

// waits begins an operation that does not end by itself.
func waits[T any](d *driver.Driver, op func(*rand.Rand) ops.Op[T]) func(*rand.Rand) func() error {
	return func(rng *rand.Rand) func() error {
		p := driver.Submit(d, op(rng))
		if rng.IntN(2) == 0 {
			p.Cancel() // so that a good part of them is over some time
		} else {
			time.AfterFunc(time.Millisecond, p.Cancel)
		}
		return func() error {
			r := <-p.Done()
			if r.Err == nil {
				return fmt.Errorf("ended with %d", r.N)
			}
			return r.Err
		}
	}
}

// ends begins an operation that ends.
func ends[T any](d *driver.Driver, op func(*rand.Rand) ops.Op[T]) func(*rand.Rand) func() error {
	return func(rng *rand.Rand) func() error {
		p := driver.Submit(d, op(rng))
		return func() error {
			err := (<-p.Done()).Err
			if err == syscall.ECANCELED {
				return errors.New("cancelled, and nobody asked for it")
			}
			return err
		}
	}
}

// fullPipe returns the writing end of a pipe that has no room.
func (e *rig) fullPipe() int {
	e.Helper()
	_, w := e.pipe()
	if err := unix.SetNonblock(w, true); err != nil {
		e.Fatal(err)
	}
	for b := make([]byte, block); ; {
		if _, err := unix.Write(w, b); err != nil {
			break
		}
	}
	if err := unix.SetNonblock(w, false); err != nil {
		e.Fatal(err)
	}
	return w
}

// A driver that is closed without having done anything, or while it is being used for the first time.
func TestCloseAtOnce(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		for i := range size(20, 1000) {
			d := e.open(driver.Config{})
			var nop *driver.Pending[struct{}]
			if i%2 == 0 {
				nop = driver.Submit(d, ops.Nop())
			}
			e.shut(d)
			if nop != nil {
				if r := result(e, nop); r.Err != nil && r.Err != driver.ErrClosed {
					e.Error(r.Err)
				}
			}
		}
	})
}

// deafness is that of a kernel that never cancels anything.
var deafness = ring.FaultConfig{Inject: 1, Results: []int32{-int32(syscall.EALREADY)},
	Match: func(s *ring.SQE) bool { return s.Op == ring.OpAsyncCancel }}

// deaf are ways to run a driver on such a kernel.
func deaf() []way {
	ways := []way{{"sim", driver.Auto, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
		return e.behind(ring.NewSim(ring.SimConfig{Seed: e.rng.Uint64(), Calls: ops.Calls(), Delay: 3}), deafness, cfg)
	}}}
	for name, k := range kernels() {
		engine, _ := driver.ParseEngine(name)
		ways = append(ways, way{name, engine, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
			return e.behind(k(), deafness, cfg)
		}})
	}
	return ways
}

// TestCloseStuck closes a driver with an operation that will not end. That returns in time and tells which one; whoever waits for it
// is let go without the buffer, which stays where it is. When it does end, so does the driver.
func TestCloseStuck(t *testing.T) {
	on(t, deaf(), func(e *rig) {
		core, logs := observer.New(zapcore.WarnLevel)
		opening := time.Now()
		d := e.open(driver.WithPatience(driver.Config{Logger: zap.New(core)}, time.Hour)) // what ends Close is the answer
		if !e.fault.CanInject() {
			e.Skip("needs IORING_NOP_INJECT_RESULT (Linux 6.10)")
		}
		r, w := e.pipe()
		buf, gone := watched(block)
		stuck := driver.Submit(d, ops.ReadAt(r, buf, -1))
		buf = nil
		timer := driver.Submit(d, ops.Timeout(time.Hour))
		pending(e, stuck)
		begun := time.Now()
		time.Sleep(300 * time.Millisecond) // an age to be told

		reason := errors.New("enough of it")
		ctx, cancel := context.WithCancelCause(context.Background())
		defer cancel(nil)
		closed := make(chan error, 1)
		go func() { closed <- d.Close(ctx) }()
		e.eventually("it closes", func() bool { return do(e, d, ops.Nop()).Err == driver.ErrClosed })
		pending(e, stuck)
		select {
		case err := <-closed:
			e.Fatalf("close does not wait: %v", err)
		default:
		}
		least := time.Since(begun)
		cancel(reason)
		var err error
		e.soon("Close", func() { err = <-closed })
		most := time.Since(opening)
		if !errors.Is(err, reason) {
			e.Errorf("close: %v", err)
		}
		e.tells(err, "read", r, least, most)
		if got := result(e, stuck); got.Err != driver.ErrAbandoned || got.Buf != nil {
			e.Errorf("stuck: %+v", got)
		}
		if got := result(e, timer); got.Err != driver.ErrAbandoned {
			e.Errorf("timer: %+v", got)
		}
		if logs.FilterMessageSnippet("closed with operations").Len() != 1 {
			e.Errorf("log: %v", logs.All())
		}

		// Again, and others that do not know.
		over, cancel2 := context.WithCancel(context.Background())
		cancel2()
		if err := d.Close(over); !errors.Is(err, context.Canceled) {
			e.Errorf("close again: %v", err)
		}
		if got := do(e, d, ops.Nop()); got.Err != driver.ErrClosed {
			e.Errorf("closing: %+v", got)
		}
		if s := d.Stats(); s.InFlight != 2 || s.Abandoned != 2 {
			e.Errorf("%+v", s)
		}
		for range 3 {
			runtime.GC()
		}
		if gone.Load() {
			e.Error("the kernel's memory is gone")
		}
		if logs.FilterMessageSnippet("closed with operations").Len() != 1 {
			e.Errorf("log: %v", logs.All())
		}

		e.write(w, []byte("late"))
		e.fault.Set(ring.FaultConfig{}) // the timer can be cancelled now
		e.shut(d)
		if s := d.Stats(); s.AbandonedDone != 2 || s.InFlight != 0 {
			e.Errorf("%+v", s)
		}
		runtime.KeepAlive(stuck)
	})
}

// tells sees that an error of Close names an operation, and an age of it that lies between two bounds.
func (e *rig) tells(closed error, what string, fd int, least, most time.Duration) {
	e.Helper()
	age := regexp.MustCompile(fmt.Sprintf(`%s on fd %d for (\S+?)[,\n]`, what, fd)).FindStringSubmatch(fmt.Sprint(closed) + "\n")
	if age == nil {
		e.Fatalf("close: %v", closed)
	}
	const slack = 5 * time.Millisecond // it is rounded, and the clocks of a virtual machine's processors are not quite one
	if got, err := time.ParseDuration(age[1]); err != nil || got < least-slack || got > most+slack {
		e.Errorf("%s: not between %v and %v", age[0], least, most)
	}
}

// The same with a plain call that hangs, and brings a descriptor when it is too late.
func TestCloseStuckCall(t *testing.T) {
	on(t, []way{onUring, onPortable, onLocked, onLockedPortable}, func(e *rig) {
		d := e.open(driver.WithPatience(driver.Config{}, time.Hour)) // what ends Close is the answer
		// Somebody has a lease on the file: who opens it has to wait until it is given up.
		name := filepath.Join(e.TempDir(), "leased")
		lease := e.keep(unix.Open(name, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600))
		if _, err := unix.FcntlInt(uintptr(lease), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
			e.Skipf("needs leases: %v", err)
		}
		op := ops.Openat(unix.AT_FDCWD, name, unix.O_RDONLY, 0)
		op.Route = ops.RouteCall
		stuck := driver.Submit(d, op)
		pending(e, stuck)
		e.eventually("it has begun, and the lease is being broken", func() bool {
			kind, err := unix.FcntlInt(uintptr(lease), unix.F_GETLEASE, 0)
			return err != nil || kind != unix.F_WRLCK
		})
		stuck.Cancel()
		pending(e, stuck)
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if err := d.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || !regexp.MustCompile(`openat on fd -100 for [\d.]+m?s`).MatchString(fmt.Sprint(err)) {
			e.Errorf("close: %v", err)
		}
		if r := result(e, stuck); r.Err != driver.ErrAbandoned {
			e.Errorf("%+v", r)
		}
		if _, err := unix.FcntlInt(uintptr(lease), unix.F_SETLEASE, unix.F_UNLCK); err != nil {
			e.Error(err)
		}
		e.shut(d) // the descriptor is closed, or it will be found in the end
	})
}

// The age of an operation counts from its own beginning, not from that of an older neighbour.
func TestCloseTellsAge(t *testing.T) {
	on(t, deaf(), func(e *rig) {
		opening := time.Now()
		d := e.open(driver.WithPatience(driver.Config{}, time.Hour)) // what ends Close is the answer
		if !e.fault.CanInject() {
			e.Skip("needs IORING_NOP_INJECT_RESULT (Linux 6.10)")
		}
		r, w := e.pipe()
		old := driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
		pending(e, old)
		oldest := time.Now()
		time.Sleep(100 * time.Millisecond)                                // what the two are apart
		e.eventually("it waits", func() bool { return driver.Asleep(d) }) // and looks at the clock when it is woken
		between := time.Now()
		young := driver.Submit(d, ops.PollAdd(r, unix.POLLIN))
		pending(e, young)
		youngest := time.Now()
		ctx, cancel := context.WithCancel(context.Background())
		ofOld, ofYoung := time.Since(oldest), time.Since(youngest)
		cancel()
		var err error
		e.soon("Close", func() { err = d.Close(ctx) })
		e.tells(err, "read", r, ofOld, time.Since(opening))
		e.tells(err, "poll_add", r, ofYoung, time.Since(between))
		result(e, old)
		result(e, young)
		e.write(w, []byte("x"))
		e.fault.Set(ring.FaultConfig{})
	})
}

// A driver that does not take the time to close is not waited for.
func TestCloseOfBusyGuest(t *testing.T) {
	on(t, []way{onUring, onPortable}, func(e *rig) {
		g := &holding{hold: make(chan struct{})}
		engine, _ := driver.ParseEngine(e.name)
		d := e.opened(driver.OpenGuest(driver.Config{Engine: engine}, g))
		g.busy.Store(true)
		d.Poke()
		e.eventually("the guest runs", func() bool { return g.inside.Load() })
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		var err error
		e.soon("Close", func() { err = d.Close(ctx) })
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "does not answer") {
			e.Errorf("close: %v", err)
		}
		g.busy.Store(false)
		close(g.hold)
	})
}

// holding is a guest that takes its time.
type holding struct {
	busy, inside atomic.Bool
	hold         chan struct{}
	then         func()
}

func (g *holding) Run() {
	if g.busy.Load() {
		g.inside.Store(true)
		if g.then != nil {
			g.busy.Store(false)
			g.then()
			return
		}
		<-g.hold
	}
}

func (g *holding) Ready() bool { return false }

// A driver cannot wait for its own end.
func TestCloseByGuest(t *testing.T) {
	on(t, []way{onUring, onPortable}, func(e *rig) {
		g := new(holding)
		errs := make(chan error, 1)
		var d *driver.Driver
		g.then = func() {
			if !d.OnDriver() {
				e.Error("the guest is on the driver's thread")
			}
			d.Stats()
			errs <- d.Close(context.Background())
		}
		engine, _ := driver.ParseEngine(e.name)
		d = e.opened(driver.OpenGuest(driver.Config{Engine: engine}, g))
		g.busy.Store(true)
		d.Poke()
		if err := <-errs; err == nil {
			e.Error("it could")
		}
		must(e, d, ops.Nop())
	})
}

// The thread of a driver that has ended belongs to others, who are not the driver.
func TestThreadAfterClose(t *testing.T) {
	on(t, []way{onLocked, onLockedPortable}, func(e *rig) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		for range size(15, 2000) {
			d := e.open(driver.Config{})
			must(e, d, ops.Nop())
			e.shut(d)
			e.together(4, func(int) {
				if d.OnDriver() {
					e.Error("taken for the driver")
				}
				e.shut(d)
				d.Stats()
			})
		}
	})
}

// Senders who meet the end of a driver all get an answer.
func TestCloseRace(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		for range size(30, 5000) {
			d := e.open(driver.Config{Entries: 8})
			var wg sync.WaitGroup
			begin := make(chan struct{})
			for range 8 {
				wg.Go(func() {
					<-begin
					for range 20 {
						p := driver.Submit(d, ops.Nop())
						p.Cancel()
						d.Poke()
						if r := <-p.Done(); r.Err != nil && r.Err != driver.ErrClosed && r.Err != syscall.ECANCELED {
							e.Error(r.Err)
						}
						d.Stats()
					}
				})
			}
			wg.Go(func() {
				<-begin
				spin(time.Duration(e.rng.IntN(300)) * time.Microsecond)
				e.shut(d)
			})
			close(begin)
			wg.Wait()
		}
	})
}
