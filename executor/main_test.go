package executor_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/ring"
	"uringo/internal/testenv"
	"uringo/ops"
)

// roleVar names what a re-executed test binary is to do instead of testing; see the subprocess tests.
const roleVar = "URINGO_EXECUTOR_TEST_ROLE"

// roles are programs that a test runs in a process of their own, because they end it or need the race detector.
var roles = map[string]func(args []string){}

// exhaustive asks for the full figures of the long tests, for a nightly run; without it they do a tenth or less.
var exhaustive = os.Getenv(nightlyVar) != ""

const nightlyVar = "URINGO_NIGHTLY"

// rounds returns n, or less of it in an ordinary run.
func rounds(n int) int {
	if exhaustive {
		return n
	}
	if raceEnabled {
		return max(n/50, 1)
	}
	return max(n/10, 1)
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		name, args, _ := strings.Cut(role, " ")
		roles[name](strings.Fields(args))
		return
	}
	// The netpoller opens its descriptors at the first use, and keeps them.
	r, w, err := os.Pipe()
	if err == nil {
		r.Close()
		w.Close()
	}
	goleak.VerifyTestMain(m)
}

// world is an executor on an engine.
type world struct {
	testing.TB
	name    string
	make    func() executor.Executor
	engine  driver.Engine
	workers int  // goroutines that run tasks; 0 if every task has its own
	local   bool // tasks run on the driver's goroutine
	config  driver.Config
}

// coop reports whether tasks share goroutines, so that one that blocks holds up others.
func (w *world) coop() bool { return w.workers > 0 }

// one reports whether all tasks share one goroutine.
func (w *world) one() bool { return w.workers == 1 }

func worlds() []world {
	return []world{
		{name: "goroutines", make: executor.Goroutines},
		{name: "pool", make: func() executor.Executor { return executor.Pool(2) }},
		{name: "worker", make: func() executor.Executor { return executor.Workers(1) }, workers: 1},
		{name: "workers", make: func() executor.Executor { return executor.Workers(3) }, workers: 3},
		{name: "local", make: executor.Local, workers: 1, local: true},
		{name: "outside", make: func() executor.Executor { return outside{runners: 2} }},
	}
}

// engines returns those that this system has, or the one that the environment asks for.
func engines(t testing.TB) []driver.Engine {
	t.Helper()
	if s := os.Getenv(driver.EngineVar); s != "" {
		e, err := driver.ParseEngine(s)
		if err != nil {
			t.Fatal(err)
		}
		if e != driver.Auto {
			return []driver.Engine{e}
		}
	}
	d, err := driver.Open(driver.Config{Engine: driver.Uring})
	if errors.Is(err, ring.ErrUnavailable) {
		t.Logf("io_uring is not available: %v", err)
		return []driver.Engine{driver.Portable}
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	return []driver.Engine{driver.Uring, driver.Portable}
}

// everywhere runs a test on every executor on every engine. Afterwards goroutines and descriptors are as they were.
func everywhere(t *testing.T, test func(w *world)) {
	t.Helper()
	where(t, func(*world) bool { return true }, test)
}

// cooperative runs a test where tasks share goroutines.
func cooperative(t *testing.T, test func(w *world)) {
	t.Helper()
	where(t, (*world).coop, test)
}

func where(t *testing.T, which func(*world) bool, test func(w *world)) {
	t.Helper()
	for _, engine := range engines(t) {
		for _, w := range worlds() {
			if !which(&w) {
				continue
			}
			t.Run(w.name+"/"+engine.String(), func(t *testing.T) {
				w.TB, w.engine = t, engine
				clean(t)
				test(&w)
			})
		}
	}
}

// clean fails the test if it leaves goroutines or descriptors behind.
func clean(t testing.TB) {
	t.Helper()
	before := testenv.Descriptors(t)
	goroutines := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		if t.Failed() {
			return // what is left over is part of the failure
		}
		testenv.NoGoroutines(t, goroutines)
		var after map[string]string
		for range 100 {
			if after = testenv.Descriptors(t); maps.Equal(before, after) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("descriptors before and after differ:\n%v\n%v", before, after)
	})
}

// patience is how long anything may take before it counts as hanging.
const patience = 20 * time.Second

// run is Start on this world. It ends the test if Start does not return.
func (w *world) run(root func(ctx context.Context) error, opts ...executor.Option) error {
	w.Helper()
	return w.runIn(context.Background(), root, opts...)
}

func (w *world) runIn(ctx context.Context, root func(ctx context.Context) error, opts ...executor.Option) error {
	w.Helper()
	var err error
	w.soon(patience, "Start", func() { err = w.start(ctx, root, opts...) })
	return err
}

// start is Start on this world and nothing more.
func (w *world) start(ctx context.Context, root func(ctx context.Context) error, opts ...executor.Option) error {
	cfg := w.config
	cfg.Engine = w.engine
	return executor.Start(ctx, root, append([]executor.Option{executor.WithExecutor(w.make()), executor.WithDriver(cfg)}, opts...)...)
}

// ok is run for a root that must succeed.
func (w *world) ok(root func(ctx context.Context) error, opts ...executor.Option) {
	w.Helper()
	if err := w.run(root, opts...); err != nil {
		w.Errorf("Start: %v", err)
	}
}

// soon calls f and ends the test with all stacks if that takes longer than limit, on a machine that is never late.
func (w *world) soon(limit time.Duration, what string, f func()) {
	w.Helper()
	soon(w.TB, limit, what, f)
}

// both starts two runtimes that have to do with each other, and sees that they end.
func (w *world) both(side func(i int) func(ctx context.Context) error) {
	w.Helper()
	w.soon(patience, "one of two runtimes", func() {
		var both sync.WaitGroup
		for i := range 2 {
			both.Go(func() {
				if err := w.start(context.Background(), side(i)); err != nil {
					w.Errorf("Start: %v", err)
				}
			})
		}
		both.Wait()
	})
}

func soon(t testing.TB, limit time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	for left := limit; left > 0; { // once more as long as the machine was late meanwhile
		delays := testenv.Delays()
		select {
		case <-done:
			delays()
			return
		case <-time.After(left):
			left = delays()
		}
	}
	t.Fatalf("%s did not return within %v\n\n%s", what, limit, stacks())
}

// stacks returns the stacks of all goroutines.
func stacks() []byte {
	for buf := make([]byte, 1<<18); ; buf = make([]byte, 2*len(buf)) {
		if n := runtime.Stack(buf, true); n < len(buf) || n >= 1<<24 {
			return buf[:n]
		}
	}
}

// await waits for a condition that somebody else brings about.
func await(t testing.TB, what string, ready func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ready(); time.Sleep(200 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s\n\n%s", what, stacks())
		}
	}
}

// pipe returns a pipe that ends with the test.
func pipe(t testing.TB) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return p[0], p[1]
}

// pipes is pipe for tests in which a driver may hold the pipe for longer than the test's body: call close at the right moment.
type pipes struct {
	mu  sync.Mutex
	fds []int
}

func (p *pipes) open() (r, w int, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return 0, 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fds = append(p.fds, fds[:]...)
	return fds[0], fds[1], nil
}

func (p *pipes) close() {
	for _, fd := range p.fds {
		unix.Close(fd)
	}
}

// nop performs an operation that does nothing.
func nop(ctx context.Context) error { return executor.Do(ctx, ops.Nop()).Err }

// read reads once from a pipe.
func read(ctx context.Context, fd int, buf []byte) (int, []byte, error) {
	r := executor.Do(ctx, ops.ReadAt(fd, buf, -1))
	return r.N, r.Buf, r.Err
}

// write writes to a pipe.
func write(ctx context.Context, fd int, s string) error {
	r := executor.Do(ctx, ops.WriteAt(fd, []byte(s), -1))
	if r.Err == nil && r.N != len(s) {
		return fmt.Errorf("wrote %d of %d", r.N, len(s))
	}
	return r.Err
}

// task is what Go takes, for tasks without a result.
func task(f func(ctx context.Context) error) func(ctx context.Context) (struct{}, error) {
	return func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) }
}

// forever waits until ctx ends.
func forever(ctx context.Context) error { return executor.Sleep(ctx, time.Hour) }

// is fails the test unless err matches one of the targets.
func is(t testing.TB, err error, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if errors.Is(err, target) {
			return
		}
	}
	t.Errorf("error is %v; want one of %v", err, targets)
}

// other is a key for values of contexts.
type other struct{}
