package driver_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/internal/testenv"
	"uringo/ops"
)

const block = 4096

// collectOften makes the garbage collector run all the time until the returned function is called.
func collectOften() func() {
	old := debug.SetGCPercent(1)
	return func() { debug.SetGCPercent(old) }
}

// holder keeps blocks filled with a tag, the newest ones, and looks whether anybody writes to them.
type holder struct {
	blocks [32][]byte
	next   int
}

func (h *holder) check() error {
	for _, b := range h.blocks {
		if len(b) > 0 && bytes.Count(b, b[:1]) != len(b) {
			return fmt.Errorf("a block of %d has been written to", b[0])
		}
	}
	return nil
}

// fill allocates a block, which may be where memory was that the kernel still writes to, if somebody gave that away.
func (h *holder) fill(tag byte) error {
	b := make([]byte, block)
	for i := range b {
		b[i] = tag
	}
	old := &h.blocks[h.next%len(h.blocks)]
	h.next++
	err := error(nil)
	if len(*old) > 0 && bytes.Count(*old, (*old)[:1]) != len(*old) {
		err = fmt.Errorf("a block of %d has been written to", (*old)[0])
	}
	*old = b
	return err
}

// swallowing is a way to run a driver on a kernel that mostly answers a cancellation with "too late", and goes on.
func swallowing(name string, engine driver.Engine, k func() ring.Kernel) way {
	return way{name, engine, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
		return e.behind(k(), ring.FaultConfig{
			Inject: 0.8, Results: []int32{-int32(syscall.EALREADY)},
			Match: func(s *ring.SQE) bool { return s.Op == ring.OpAsyncCancel },
		}, cfg)
	}}
}

// swallowCancels has every cancellation fail from now on.
func (e *rig) swallowCancels() {
	e.Helper()
	if !e.fault.CanInject() {
		e.Skip("the kernel injects no results")
	}
	e.fault.Set(ring.FaultConfig{Inject: 1, Results: []int32{-int32(syscall.EALREADY)},
		Match: func(s *ring.SQE) bool { return s.Op == ring.OpAsyncCancel }})
}

var abandoning = []way{
	swallowing("uring that cancels late", driver.Uring, ring.Linux),
	swallowing("portable that cancels late", driver.Portable, kernels()["portable"]),
}

// TestGiveUp is about callers that give up before the kernel does, and use memory at once. Nothing may appear in it.
func TestGiveUp(t *testing.T) {
	for _, c := range []struct {
		name  string
		grace time.Duration
		ways  []way
	}{
		{"wait for the kernel", 0, engines},
		{"hardly wait", time.Nanosecond, append(abandoning, engines...)},
		{"wait a little", 300 * time.Microsecond, abandoning},
	} {
		t.Run(c.name, func(t *testing.T) {
			on(t, c.ways, func(e *rig) {
				defer collectOften()()
				d := e.open(driver.Config{CancelGrace: c.grace})
				const callers = 4
				var got, cancelled, abandoned atomic.Int32
				e.together(callers, func(i int) {
					e.giveUp(d, i, size(500, 20_000), c.grace == 0, &got, &cancelled, &abandoned)
				})
				e.Logf("%d delivered, %d cancelled, %d abandoned", got.Load(), cancelled.Load(), abandoned.Load())
				if s := d.Stats(); s.Abandoned != uint64(abandoned.Load()) {
					e.Errorf("%d abandoned, says the driver", s.Abandoned)
				}
			})
		})
	}
}

// giveUp is one caller. What it reads is a stream of numbers, which it checks for gaps unless abandoned reads may take some.
func (e *rig) giveUp(d *driver.Driver, i, rounds int, whole bool, got, cancelled, abandoned *atomic.Int32) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		e.Error(err)
		return
	}
	in, out := p[0], p[1]
	if err := unix.SetsockoptInt(out, unix.SOL_SOCKET, unix.SO_SNDBUF, block); err != nil {
		e.Error(err)
	}
	stop := make(chan struct{})
	var peer sync.WaitGroup
	peer.Go(func() {
		rng := e.random(100 + i)
		b := make([]byte, block)
		for n := uint64(0); ; {
			for off := 0; off < len(b); off += 8 {
				binary.LittleEndian.PutUint64(b[off:], n)
				n++
			}
			select {
			case <-stop:
				return
			default:
			}
			if err := sendAll(out, b, stop); err != nil {
				return
			}
			time.Sleep(time.Duration(rng.IntN(200)) * time.Microsecond)
		}
	})
	rng := e.random(i)
	var held holder
	next := uint64(0)
	for round := range rounds {
		buf := make([]byte, block)
		pend := driver.Submit(d, ops.ReadAt(in, buf, -1))
		var r ops.Result[[]byte]
		if rng.IntN(2) == 0 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rng.IntN(200))*time.Microsecond)
			r = pend.Wait(ctx)
			cancel()
		} else {
			spin(time.Duration(rng.IntN(100)) * time.Microsecond)
			pend.Cancel()
			r = <-pend.Done()
		}
		if err := held.fill(byte(1 + rng.IntN(255))); err != nil {
			e.Errorf("caller %d, round %d: %v", i, round, err)
		}
		switch {
		case r.Err == nil && r.N > 0 && r.N%8 == 0 && &r.Buf[0] == &buf[0]:
			got.Add(1)
			for off := 0; off < r.N; off += 8 {
				n := binary.LittleEndian.Uint64(r.Buf[off:])
				if off == 0 && !whole {
					next = n
				}
				if n != next {
					e.Errorf("caller %d, round %d: number %d where %d is due", i, round, n, next)
					next = n
				}
				next++
			}
		case errors.Is(r.Err, driver.ErrAbandoned) && r.N == 0 && r.Buf == nil:
			abandoned.Add(1)
		case (errors.Is(r.Err, context.DeadlineExceeded) || driver.IsCanceled(r.Err)) && r.N == 0 && &r.Buf[0] == &buf[0]:
			cancelled.Add(1)
		default:
			e.Errorf("caller %d, round %d: %d, %v", i, round, r.N, r.Err)
		}
	}
	close(stop)
	peer.Wait()
	unix.Close(out) // reads that are left end
	e.eventually("what was abandoned ends", func() bool { s := d.Stats(); return s.Abandoned == s.AbandonedDone })
	if err := held.check(); err != nil {
		e.Errorf("caller %d: %v", i, err)
	}
	unix.Close(in)
}

// sendAll writes all of b to a socket, unless it is told to stop.
func sendAll(fd int, b []byte, stop <-chan struct{}) error {
	for len(b) > 0 {
		n, err := unix.SendmsgN(fd, b, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch err {
		case nil:
			b = b[n:]
		case syscall.EAGAIN:
			select {
			case <-stop:
				return err
			case <-time.After(20 * time.Microsecond):
			}
		case syscall.EINTR:
		default:
			return err
		}
	}
	return nil
}

// deep makes the stack grow by a megabyte.
func deep(n int, then func()) byte {
	var frame [1024]byte
	if n == 0 {
		then()
		return frame[0]
	}
	frame[n%len(frame)] = byte(n)
	return deep(n-1, then) + frame[n%len(frame)]
}

// watched returns a buffer and whether it has been collected.
func watched(n int) ([]byte, *atomic.Bool) {
	gone := new(atomic.Bool)
	b := make([]byte, n)
	runtime.AddCleanup(&b[0], func(g *atomic.Bool) { g.Store(true) }, gone)
	return b, gone
}

// Memory lives as long as its operation and no longer, whether anybody waits or not.
func TestMemoryLives(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{Entries: 4})
		r, w := e.pipe()
		// More than fit into the queues, so that some wait in the driver.
		const n = 40
		var gone []*atomic.Bool
		for range n {
			func() {
				b, g := watched(1 << 16)
				gone = append(gone, g)
				driver.Submit(d, ops.ReadAt(r, b, -1))
			}()
		}
		e.eventually("all are there", func() bool { s := d.Stats(); return s.InFlight+s.Queued == n })
		for range 5 {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
		for i, g := range gone {
			if g.Load() {
				e.Fatalf("buffer %d is gone, and the kernel still has it", i)
			}
		}
		e.write(w, make([]byte, n)) // each takes at least one
		e.eventually("some end", func() bool { return d.Stats().Completed > 0 })
		unix.Close(e.replace(&w))
		e.eventually("all end", func() bool { s := d.Stats(); return s.InFlight+s.Queued == 0 })
		e.collected(gone, "after the end of their operations")
	})
}

// replace forgets a descriptor that the test closes itself.
func (e *rig) replace(fd *int) int {
	for i, f := range e.fds {
		if f == *fd {
			e.fds = append(e.fds[:i], e.fds[i+1:]...)
			break
		}
	}
	return *fd
}

func (e *rig) collected(gone []*atomic.Bool, when string) {
	e.Helper()
	e.eventually("memory is collected "+when, func() bool {
		runtime.GC()
		for _, g := range gone {
			if !g.Load() {
				return false
			}
		}
		return true
	})
}

// A storm of cancellations leaves no memory behind.
func TestCancelledMemoryGoes(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{Entries: 4})
		r, _ := e.pipe()
		var gone []*atomic.Bool
		func() {
			var reads []*driver.Pending[[]byte]
			for range 100 {
				b, g := watched(1 << 14)
				gone = append(gone, g)
				reads = append(reads, driver.Submit(d, ops.ReadAt(r, b, -1)))
			}
			e.eventually("all are there", func() bool { s := d.Stats(); return s.InFlight+s.Queued == len(reads) })
			for _, p := range reads {
				p.Cancel()
			}
			for _, p := range reads {
				if r := result(e, p); r.Err != syscall.ECANCELED {
					e.Errorf("%+v", r)
				}
			}
		}()
		e.collected(gone, "after cancellation")
	})
}

// Abandoned memory stays as long as the kernel has it, and goes then; so does what the operation created.
func TestAbandonedMemory(t *testing.T) {
	on(t, abandoning, func(e *rig) {
		d := e.open(driver.Config{CancelGrace: time.Nanosecond})
		e.swallowCancels()
		r, w := e.pipe()
		var gone *atomic.Bool
		var released atomic.Int32
		func() {
			var b []byte
			b, gone = watched(1 << 16)
			op := ops.ReadAt(r, b, -1)
			op.Release = func() { released.Add(1) }
			p := driver.Submit(d, op)
			pending(e, p)
			p.Cancel()
			if got := result(e, p); got.Err != driver.ErrAbandoned || got.Buf != nil {
				e.Fatalf("%+v", got)
			}
		}()
		for range 5 {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
		if gone.Load() || released.Load() != 0 {
			e.Fatal("the kernel still has it, and nobody else does")
		}
		if s := d.Stats(); s.Abandoned != 1 || s.AbandonedDone != 0 || s.InFlight != 1 {
			e.Errorf("%+v", s)
		}
		e.write(w, []byte("late"))
		e.eventually("it ends", func() bool { return d.Stats().AbandonedDone == 1 })
		e.collected([]*atomic.Bool{gone}, "after the kernel is done with it")
		if released.Load() != 1 {
			e.Errorf("released %d times", released.Load())
		}
		e.fault.Set(ring.FaultConfig{})
		op := ops.ReadAt(r, make([]byte, 1), -1)
		op.Release = func() { released.Add(1) }
		p := driver.Submit(d, op)
		e.write(w, []byte{1})
		if got := result(e, p); got.N != 1 || got.Err != nil || released.Load() != 1 {
			e.Errorf("delivered, and released: %+v", got)
		}
	})
}

// A descriptor that an abandoned open brings is closed.
func TestAbandonedOpen(t *testing.T) {
	on(t, abandoning[:1], func(e *rig) {
		d := e.open(driver.Config{CancelGrace: time.Nanosecond})
		e.swallowCancels()
		dir, name := e.fifo()
		const n = 4 // not more than there are workers
		for i := range n {
			e.eventually("an open is abandoned", func() bool {
				p := driver.Submit(d, ops.Openat(dir, name, unix.O_RDONLY|unix.O_CREAT, 0o600))
				pending(e, p)
				p.Cancel()
				got := result(e, p)
				if got.Err != driver.ErrAbandoned && got.Err != syscall.ECANCELED { // interrupted just then, as by a stop of the process
					e.Fatalf("open %d: %+v", i, got)
				}
				return got.Err == driver.ErrAbandoned
			})
		}
		before := testenv.Files(e.T)
		w, err := unix.Openat(dir, name, unix.O_RDWR|unix.O_CLOEXEC, 0) // waits for nobody, as they may all have been interrupted
		if err != nil {
			e.Fatal(err)
		}
		e.eventually("the opens end", func() bool { return d.Stats().AbandonedDone == n })
		unix.Close(w)
		e.eventually("what they brought is closed", func() bool { return maps.Equal(testenv.Files(e.T), before) })
		e.fault.Set(ring.FaultConfig{})
	})
}

// A large read of a file that nobody waits for, and the end of the driver.
func TestReadAbandonedAtEnd(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		name := filepath.Join(e.TempDir(), "file")
		if err := os.WriteFile(name, make([]byte, 8<<20), 0o600); err != nil {
			e.Fatal(err)
		}
		direct, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
		if err != nil {
			e.Logf("without O_DIRECT: %v", err)
			direct, err = unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		fd := e.keep(direct, err)
		for range size(2, 200) {
			d := e.open(driver.Config{})
			var gone []*atomic.Bool
			func() {
				for i := range 8 {
					b, g := watched(64<<10 + block)
					gone = append(gone, g)
					pad := -int(uintptr(unsafe.Pointer(&b[0]))) & (block - 1)
					driver.Submit(d, ops.ReadAt(fd, b[pad:pad+64<<10], int64(i)<<20))
				}
			}()
			e.shut(d)
			e.collected(gone, "after the end of the driver")
		}
	})
}

// Six hundred writes that nobody waits for.
func TestWritesNobodyWaitsFor(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{Entries: 256, InFlight: 256})
		fd := e.file(nil)
		for i := range 600 {
			driver.Submit(d, ops.WriteAt(fd, []byte{byte(i), byte(i >> 8)}, int64(2*i)))
		}
		e.eventually("all are written", func() bool { s := d.Stats(); return s.Completed-s.Repeated == 600 })
		buf := make([]byte, 1201)
		if n, err := unix.Pread(fd, buf, 0); n != 1200 || err != nil {
			e.Fatal(n, err)
		}
		for i := range 600 {
			if buf[2*i] != byte(i) || buf[2*i+1] != byte(i>>8) {
				e.Fatalf("write %d is not there", i)
			}
		}
	})
}

// A result that nobody takes holds nobody up.
func TestResultsNobodyTakes(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{Entries: 8, InFlight: 16})
		var ignored []<-chan ops.Result[struct{}]
		for range size(2000, 100_000) {
			ignored = append(ignored, driver.Submit(d, ops.Nop()).Done())
		}
		for range 100 {
			must(e, d, ops.Nop())
		}
		if s := d.Stats(); s.InFlight+s.Queued != 0 {
			e.Errorf("places are still taken: %+v", s)
		}
		for _, c := range ignored {
			if len(c) != 1 {
				e.Fatal("a result that is not there")
			}
		}
	})
}

// TestOwnershipIsEnforced runs a program with the race detector: it reports whoever touches memory in flight, and nobody else.
func TestOwnershipIsEnforced(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	gotool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("needs the go command")
	}
	program := filepath.Join(t.TempDir(), "owner")
	if out, err := exec.Command(gotool, "build", "-race", "-o", program, "./testdata/owner").CombinedOutput(); err != nil {
		if raceEnabled {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Skipf("needs the race detector: %v\n%s", err, out)
	}
	wrong := []string{"read, touched before", "read, looked at", "read, written to", "write, written to", "vectored read, looked at",
		"statx, looked at", "cancelled read, looked at", "chunk, looked at after Release"}
	on(t, []way{onUring, onPortable}, func(e *rig) {
		engine := e.name
		for _, how := range append(wrong, "right") {
			cmd := exec.Command(program, how, engine)
			cmd.Env = testenv.Environ()
			out, err := cmd.CombinedOutput()
			raced := strings.Contains(string(out), "WARNING: DATA RACE")
			switch {
			case how == "right" && (raced || err != nil):
				e.Errorf("%s: %v\n%s", how, err, out)
			case how != "right" && (!raced || err == nil):
				e.Errorf("%s: not reported: %v\n%s", how, err, out)
			}
		}
	})
}
