package driver_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/internal/testenv"
	"uringo/ops"
)

// The tests of this package run at one of two sizes: as they are, or with URINGO_NIGHTLY=1 as long as it takes to trust the
// driver. URINGO_ENGINE=uring or portable leaves out what does not run on that engine, URINGO_SEED=n repeats a failure.

func TestMain(m *testing.M) {
	testenv.OpenNetpoller()
	debug.SetTraceback("all") // who waits for what, when a test hangs
	os.Exit(testenv.KernelContent(m.Run))
}

// size is how often a test does what it does.
func size(commit, nightly int) int {
	if os.Getenv("URINGO_NIGHTLY") != "" {
		return nightly
	}
	return commit
}

// rig is one way to run a driver. The same test on another rig must not be able to tell the difference.
type rig struct {
	*testing.T
	name string
	seed uint64
	rng  *rand.Rand

	make  func(*rig, driver.Config) (*driver.Driver, error)
	sim   *ring.Sim    // of the latest driver, if a model stands behind it
	fault *ring.Faults // the same, if faults do

	drivers []*driver.Driver
	fds     []int
	stale   bool // completions of no operation are expected
}

// A way makes rigs.
type way struct {
	name   string
	engine driver.Engine // what it needs
	make   func(*rig, driver.Config) (*driver.Driver, error)
}

// idle is a guest with nothing to do: it makes a driver that is locked to its thread.
type idle struct{}

func (idle) Run()        {}
func (idle) Ready() bool { return false }

var (
	onUring = way{"uring", driver.Uring, func(_ *rig, cfg driver.Config) (*driver.Driver, error) {
		cfg.Engine = driver.Uring
		return driver.Open(cfg)
	}}
	onPortable = way{"portable", driver.Portable, func(_ *rig, cfg driver.Config) (*driver.Driver, error) {
		cfg.Engine = driver.Portable
		return driver.Open(cfg)
	}}
	onLocked = way{"locked", driver.Uring, func(_ *rig, cfg driver.Config) (*driver.Driver, error) {
		cfg.Engine = driver.Uring
		return driver.OpenGuest(cfg, idle{})
	}}
	onLockedPortable = way{"locked portable", driver.Portable, func(_ *rig, cfg driver.Config) (*driver.Driver, error) {
		cfg.Engine = driver.Portable
		return driver.OpenGuest(cfg, idle{})
	}}

	// A kernel that fails one enter of five, and takes only part of what it is given in another.
	onFaults = way{"faults", driver.Uring, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
		return e.behind(ring.Linux(), ring.FaultConfig{EnterFails: 0.2, Limit: 0.2}, cfg)
	}}
	onPortableFaults = way{"portable faults", driver.Portable, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
		return e.behind(ring.NewPortable(ops.Calls(), 64), ring.FaultConfig{EnterFails: 0.2, Limit: 0.2}, cfg)
	}}

	// A model of the kernel that works on real descriptors, in any order, late, in part, and with completions of nothing.
	onSim = way{"sim", driver.Auto, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
		e.stale = true
		return e.model(ring.SimConfig{Calls: ops.Calls(), Delay: 5, Partial: 0.2, EnterFails: 0.1, Early: 0.1, Bogus: 0.05,
			Races: 0.3, Start: 1<<32 - 8}, cfg)
	}}

	engines    = []way{onUring, onPortable, onLocked}
	everywhere = []way{onUring, onPortable, onLocked, onLockedPortable, onFaults, onPortableFaults, onSim}
)

// behind opens a driver on faults before a kernel. They are e.fault until the next.
func (e *rig) behind(k ring.Kernel, faults ring.FaultConfig, cfg driver.Config) (*driver.Driver, error) {
	e.fault = ring.NewFaults(k, e.rng.Uint64(), faults)
	cfg.Engine = driver.Uring
	return driver.Open(driver.OnKernel(cfg, e.fault))
}

// model opens a driver on a model of the kernel, which is e.sim until the next.
func (e *rig) model(sim ring.SimConfig, cfg driver.Config) (*driver.Driver, error) {
	sim.Seed = e.rng.Uint64()
	e.sim = ring.NewSim(sim)
	cfg.Engine = driver.Uring
	return driver.Open(driver.OnKernel(cfg, e.sim))
}

// on runs a test in each of the ways, and sees that neither goroutines nor descriptors are left over.
func on(t *testing.T, ways []way, test func(e *rig)) {
	t.Helper()
	for _, w := range ways {
		if !engineWanted(t, w.engine) {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			goroutines := goleak.IgnoreCurrent()
			before := testenv.Descriptors(t)
			e := &rig{T: t, name: w.name, seed: testenv.Seed(t, rand.Uint64()), make: w.make}
			e.rng = rand.New(rand.NewPCG(e.seed, 0))
			t.Cleanup(func() { // after those of the test
				e.close()
				sameDescriptors(t, before)
				testenv.NoGoroutines(t, goroutines)
			})
			test(e)
		})
	}
}

// engineWanted reports whether the environment lets a test run that needs an engine.
func engineWanted(t *testing.T, engine driver.Engine) bool {
	t.Helper()
	only, err := driver.ParseEngine(os.Getenv(driver.EngineVar))
	if os.Getenv(driver.EngineVar) != "" && err != nil {
		t.Fatal(err)
	}
	return only == driver.Auto || engine == driver.Auto || only == engine
}

// random returns a source for one goroutine of the test.
func (e *rig) random(i int) *rand.Rand { return rand.New(rand.NewPCG(e.seed, uint64(i)+1)) }

// open starts a driver, which the end of the test closes.
func (e *rig) open(cfg driver.Config) *driver.Driver {
	e.Helper()
	d, err := e.make(e, cfg)
	return e.opened(d, err)
}

func (e *rig) opened(d *driver.Driver, err error) *driver.Driver {
	e.Helper()
	if err != nil {
		if noUring(err) {
			e.Skipf("needs io_uring: %v", err)
		}
		if errors.Is(err, syscall.ENOMEM) && os.Getuid() != 0 {
			e.Skipf("needs more memory to lock: %v", err)
		}
		e.Fatal(err)
	}
	e.drivers = append(e.drivers, d)
	return d
}

func noUring(err error) bool { return strings.Contains(err.Error(), ring.ErrUnavailable.Error()) }

// close ends what the test opened, drivers before descriptors.
func (e *rig) close() {
	for _, d := range e.drivers {
		e.shut(d)
	}
	for _, fd := range e.fds {
		_ = unix.Close(fd)
	}
	if e.sim != nil {
		if err := e.sim.Err(); err != nil {
			e.Errorf("rules broken: %v", err)
		}
	}
}

// shut closes a driver and checks its books.
func (e *rig) shut(d *driver.Driver) {
	e.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	start := time.Now()
	if err := d.Close(ctx); err != nil {
		e.Errorf("close: %v", err)
		return
	}
	if took := time.Since(start); took > patience/2 {
		e.Errorf("close took %v", took)
	}
	e.balanced(d)
}

// balanced checks the counters of a driver that has nothing left to do.
func (e *rig) balanced(d *driver.Driver) {
	e.Helper()
	s := d.Stats()
	if s.Submitted != s.Completed || s.InFlight != 0 || s.Queued != 0 || len(s.InFlightBy) != 0 || s.Abandoned != s.AbandonedDone {
		e.Errorf("the books do not balance: %+v", s)
	}
	if s.Stale > 0 && !e.stale {
		e.Errorf("%d completions of no operation", s.Stale)
	}
}

// patience is how long a test waits for what should take no time at all, on a machine that does other things too.
const patience = 20 * time.Second

// result waits for an operation.
func result[T any](e *rig, p *driver.Pending[T]) ops.Result[T] {
	e.Helper()
	select {
	case r, ok := <-p.Done():
		if !ok {
			e.Error("a second receive, and no result")
		}
		return r
	case <-time.After(patience):
	}
	panic("an operation has no result") // on whichever goroutine
}

// do performs an operation.
func do[T any](e *rig, d *driver.Driver, op ops.Op[T]) ops.Result[T] {
	e.Helper()
	return result(e, driver.Submit(d, op))
}

// must performs an operation that is to succeed.
func must[T any](e *rig, d *driver.Driver, op ops.Op[T]) int {
	e.Helper()
	r := do(e, d, op)
	if r.Err != nil {
		e.Fatalf("%s: %v", op.Kind.Name, r.Err)
	}
	return r.N
}

// pending sees that the driver has taken in an operation, and that it does not end by itself.
func pending[T any](e *rig, p *driver.Pending[T]) {
	e.Helper()
	p.Driver().Stats() // asked for in the channel behind the operation
	select {
	case r := <-p.Done():
		e.Fatalf("ended early: %+v", r)
	case <-time.After(5 * time.Millisecond):
	}
}

// nop returns a no-operation and what it returns: n, if the kernel can be told to.
func (e *rig) nop(n int) (ops.Op[struct{}], int) {
	k := ring.Linux()
	switch {
	case e.sim != nil:
		k = e.sim
	case strings.Contains(e.name, "portable"):
		k = ring.NewPortable(ops.Calls(), 1)
	}
	if !ring.NewFaults(k, 0, ring.FaultConfig{}).CanInject() {
		n = 0 // before IORING_NOP_INJECT_RESULT (Linux 6.10)
	}
	return ops.NopResult(int32(n)), n
}

// keep has descriptors closed at the end of the test, after the driver.
func (e *rig) keep(fd int, err error) int {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
	e.fds = append(e.fds, fd)
	return fd
}

// pipe returns the reading and the writing end of a pipe.
func (e *rig) pipe() (r, w int) {
	e.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		e.Fatal(err)
	}
	return e.keep(p[0], nil), e.keep(p[1], nil)
}

// sockets returns the two ends of a connection.
func (e *rig) sockets() (a, b int) {
	e.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	return e.keep(p[0], err), e.keep(p[1], err)
}

// file returns a descriptor of a new file with the given content.
func (e *rig) file(content []byte) int {
	e.Helper()
	name := filepath.Join(e.TempDir(), "file")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		e.Fatal(err)
	}
	return e.keep(unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0))
}

// write puts bytes into a pipe or a socket, with a plain call.
func (e *rig) write(fd int, b []byte) {
	e.Helper()
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			e.Errorf("write: %v", err)
			return
		}
		b = b[n:]
	}
}

// together runs f on n goroutines and waits for them. A test that hangs says where.
func (e *rig) together(n int, f func(i int)) {
	e.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// eventually waits until something is so.
func (e *rig) eventually(what string, so func() bool) {
	e.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			e.Fatalf("in vain: %s", what)
		}
	}
}

// emptied waits until a pipe has nothing any more, as somebody has read it.
func (e *rig) emptied(what string, r int) {
	e.Helper()
	e.eventually(what, func() bool {
		left, err := unix.IoctlGetInt(r, unix.TIOCINQ)
		return left == 0 && err == nil
	})
}

// sameDescriptors compares what is open with what was. The kernel may take a moment to close.
func sameDescriptors(t testing.TB, before map[string]string) {
	t.Helper()
	var now map[string]string
	for range 200 {
		if now = testenv.Descriptors(t); maps.Equal(now, before) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("descriptors before and after differ:\n%v\n%v", before, now)
}
