package driver_test

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/internal/testenv"
	"uringo/ops"
)

// threads is a kernel that remembers which threads call it.
type threads struct {
	ring.Kernel
	seen map[int]bool
}

func (k *threads) here() { k.seen[unix.Gettid()] = true }

func (k *threads) Setup(entries uint32, p *ring.Params) (int, error) {
	k.here()
	return k.Kernel.Setup(entries, p)
}

func (k *threads) Map(fd int, offset uint64, size int) ([]byte, error) {
	k.here()
	return k.Kernel.Map(fd, offset, size)
}

func (k *threads) Unmap(mem []byte) error {
	k.here()
	return k.Kernel.Unmap(mem)
}

func (k *threads) Register(fd int, op uint32, arg unsafe.Pointer, n uint32) (int, syscall.Errno) {
	k.here()
	return k.Kernel.Register(fd, op, arg, n)
}

func (k *threads) Enter(fd int, submit, minComplete, flags uint32, arg *ring.WaitArg) (int, syscall.Errno) {
	k.here()
	return k.Kernel.Enter(fd, submit, minComplete, flags, arg)
}

func (k *threads) Close(fd int) error {
	k.here()
	return k.Kernel.Close(fd)
}

// A driver that is locked to a thread makes all calls from it, from the first to the last.
func TestOneThread(t *testing.T) {
	on(t, []way{onUring}, func(e *rig) {
		for range size(10, 500) {
			k := &threads{ring.Linux(), map[int]bool{}}
			d := e.opened(driver.OpenGuest(driver.OnKernel(driver.Config{Engine: driver.Uring}, k), idle{}))
			m := newMix(e, d)
			m.play(4, 30)
			e.shut(d)
			if len(k.seen) != 1 {
				e.Errorf("threads %v", k.seen)
			}
		}
	})
}

// Threads end when goroutines that are locked to them do. What such a thread has submitted is cancelled by the kernel, and that is
// nobody's fault.
func TestThreadsEnd(t *testing.T) {
	on(t, []way{onUring, onPortable, onFaults}, func(e *rig) {
		d := e.open(driver.Config{})
		m := newMix(e, d)
		stop := make(chan struct{})
		ended := make(chan struct{})
		var n atomic.Int32
		go func() {
			defer close(ended)
			for {
				select {
				case <-stop:
					return
				default:
				}
				gone := make(chan struct{})
				go func() {
					defer close(gone)
					runtime.LockOSThread() // and never unlocked
					n.Add(1)
					runtime.Gosched()
				}()
				<-gone
			}
		}()
		r, w := e.pipe()
		var reads []*driver.Pending[[]byte]
		for range 50 {
			reads = append(reads, driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1)))
		}
		m.play(4, size(300, 20_000))
		e.eventually("threads end", func() bool { return n.Load() > 200 })
		close(stop)
		<-ended
		for range reads {
			e.write(w, []byte{1})
		}
		for _, p := range reads {
			if r := result(e, p); r.N != 1 || r.Err != nil {
				e.Errorf("read: %+v", r)
			}
		}
		e.Logf("%d threads ended, %d operations were repeated", n.Load(), d.Stats().Repeated)
	})
}

// A driver whose own thread submitted and then went to somebody who ended it.
func TestSubmittingThreadEnds(t *testing.T) {
	on(t, []way{onUring}, func(e *rig) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that goroutines meet on one thread
		r, w := e.pipe()
		repeated := uint64(0)
		for range size(10, 2000) {
			d := e.open(driver.Config{})
			p := driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
			runtime.Gosched()
			for range 3 {
				gone := make(chan struct{})
				go func() {
					defer close(gone)
					runtime.LockOSThread()
				}()
				must(e, d, ops.Nop())
				<-gone
			}
			pending(e, p)
			e.write(w, []byte{1})
			if r := result(e, p); r.N != 1 || r.Err != nil {
				e.Fatalf("%+v", r)
			}
			repeated += d.Stats().Repeated
			e.shut(d)
		}
		e.Logf("%d operations were repeated", repeated)
	})
}

// Signals interrupt every thread all the time, as the Go runtime's own and a profiler's do.
func TestSignals(t *testing.T) {
	on(t, []way{onUring, onLocked, onPortable}, func(e *rig) {
		d := e.open(driver.Config{})
		m := newMix(e, d)
		stop := testenv.Signals(e)
		m.play(4, size(200, 20_000))
		r, w := e.pipe()
		for range size(30, 2000) { // and while it waits
			p := driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
			pending(e, p)
			e.write(w, []byte{1})
			if r := result(e, p); r.N != 1 || r.Err != nil {
				e.Errorf("read: %+v", r)
			}
		}
		sent, _ := stop()
		e.Logf("%d signals", sent)
	})
}

// resident is the memory of this process, in bytes.
func resident(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip(err)
	}
	n, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return n * os.Getpagesize()
}

// A thousand drivers, one after the other, leave nothing behind.
func TestStartsAndStops(t *testing.T) {
	on(t, []way{onUring, onPortable, onLocked, onLockedPortable}, func(e *rig) {
		r, _ := e.pipe()
		cycle := func() {
			d, err := e.make(e, driver.Config{Entries: 64})
			e.opened(d, err)
			e.drivers = e.drivers[:0]
			p := driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
			must(e, d, ops.Nop())
			op := ops.Nop()
			op.Route = ops.RouteCall
			must(e, d, op)
			e.shut(d)
			result(e, p)
		}
		for range 20 {
			cycle()
		}
		runtime.GC()
		goroutines, fds, memory := goleak.IgnoreCurrent(), testenv.Descriptors(e), resident(e)
		n := size(100, 1000)
		for range n {
			cycle()
		}
		runtime.GC()
		grown := resident(e) - memory
		e.Logf("%d starts and stops: %+d KiB", n, grown>>10)
		if grown > 16<<20 {
			e.Errorf("%d MiB more memory", grown>>20)
		}
		sameDescriptors(e, fds)
		testenv.NoGoroutines(e, goroutines)
	})
}
