package net_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"uringo/driver"
	"uringo/executor"
)

func TestMain(m *testing.M) {
	openNetpoller()
	os.Exit(m.Run())
}

// openNetpoller has the runtime open the descriptors that it keeps, so that no test is blamed for them.
func openNetpoller() {
	r, w, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	_ = r.SetReadDeadline(time.Now())
	r.Close()
	w.Close()
}

// engines returns what performs operations in these tests: both engines, or the one that the environment names.
func engines(tb testing.TB) []driver.Engine {
	tb.Helper()
	if name := os.Getenv(driver.EngineVar); name != "" {
		e, err := driver.ParseEngine(name)
		if err != nil {
			tb.Fatal(err)
		}
		return []driver.Engine{e}
	}
	return []driver.Engine{driver.Uring, driver.Portable}
}

func executors() []executor.Executor {
	return []executor.Executor{executor.Goroutines(), executor.Pool(8), executor.Workers(1), executor.Workers(2), executor.Local()}
}

// each runs test as the root task of every executor on every engine, and on a plain goroutine whose context carries a driver, and sees
// that neither goroutines nor descriptors are left over. A test must not end its task with t.Fatal, which would leave out what it
// deferred to after a wait: it says t.Error and returns.
func each(t *testing.T, test func(t *testing.T, ctx context.Context)) {
	t.Helper()
	for _, engine := range engines(t) {
		for _, e := range executors() {
			t.Run(fmt.Sprintf("%v/%v", engine, e), func(t *testing.T) {
				run(t, e, driver.Config{Engine: engine}, test)
			})
		}
		t.Run(fmt.Sprintf("%v/plain", engine), func(t *testing.T) {
			plain(t, driver.Config{Engine: engine}, test)
		})
	}
}

func run(t *testing.T, e executor.Executor, cfg driver.Config, test func(t *testing.T, ctx context.Context)) {
	t.Helper()
	leakless(t, func(ctx context.Context) error {
		return executor.Start(ctx, func(ctx context.Context) error {
			test(t, ctx)
			return nil
		}, executor.WithExecutor(e), executor.WithDriver(cfg))
	})
}

// plain runs test on a goroutine with a driver of its own.
func plain(t *testing.T, cfg driver.Config, test func(t *testing.T, ctx context.Context)) {
	t.Helper()
	leakless(t, func(ctx context.Context) error {
		d, err := driver.Open(cfg)
		if err != nil {
			return err
		}
		test(t, context.WithValue(driver.NewContext(ctx, d), plainKey{}, true))
		return d.Close(ctx)
	})
}

func leakless(t *testing.T, f func(ctx context.Context) error) {
	t.Helper()
	before := descriptors(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := f(ctx); err != nil {
		t.Error(err)
	}
	if err := goleak.Find(goleak.IgnoreTopFunction("testing.(*T).Run"), goleak.IgnoreTopFunction("testing.tRunner.func1")); err != nil {
		t.Error(err)
	}
	leakCheck(t, before)
}

// descriptors returns the open descriptors of the process and what they are.
func descriptors(t *testing.T) map[string]string {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	open := make(map[string]string, len(list))
	for _, e := range list {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.Contains(to, "/fd") { // without the one that reads the list
			open[e.Name()] = to
		}
	}
	return open
}

func leakCheck(t *testing.T, before map[string]string) {
	t.Helper()
	var left []string
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		left = left[:0]
		for fd, to := range descriptors(t) {
			if before[fd] != to && !strings.HasPrefix(to, "anon_inode:[event") { // Go's own poller
				left = append(left, fd+" -> "+to)
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("descriptors left open: %v", left)
			return
		}
		runtime.GC()
	}
}

// together runs functions at the same time, as tasks where there are tasks and as goroutines otherwise, and returns their errors.
func together(ctx context.Context, fs ...func(ctx context.Context) error) error {
	errs := make([]error, len(fs))
	wait := make([]func(), len(fs))
	for i, f := range fs {
		wait[i] = start(ctx, func(ctx context.Context) { errs[i] = f(ctx) })
	}
	for _, w := range wait {
		w()
	}
	return errors.Join(errs...)
}

// start starts a function beside the caller, and returns one that waits for it.
func start(ctx context.Context, f func(ctx context.Context)) (wait func()) {
	var ended executor.Event
	g := func(ctx context.Context) (struct{}, error) {
		defer ended.Set()
		f(ctx)
		return struct{}{}, nil
	}
	if ctx.Value(plainKey{}) != nil {
		go g(ctx)
	} else {
		executor.Go(ctx, g)
	}
	return func() { _ = ended.Wait(context.WithoutCancel(ctx)) }
}

// plainKey marks a context that belongs to no task.
type plainKey struct{}
