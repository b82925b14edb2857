package fs_test

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
	return []executor.Executor{executor.Goroutines(), executor.Pool(4), executor.Workers(1), executor.Workers(3), executor.Local()}
}

// each runs test as the root task of every executor on every engine, and sees that neither goroutines nor descriptors are left over.
// A test must not end its task with t.Fatal, which would leave out what it deferred to after a wait: it says t.Error and returns.
func each(t *testing.T, test func(t *testing.T, ctx context.Context)) {
	t.Helper()
	for _, engine := range engines(t) {
		for _, e := range executors() {
			t.Run(fmt.Sprintf("%v/%v", engine, e), func(t *testing.T) {
				run(t, e, driver.Config{Engine: engine}, test)
			})
		}
	}
}

func run(t *testing.T, e executor.Executor, cfg driver.Config, test func(t *testing.T, ctx context.Context)) {
	t.Helper()
	before := descriptors(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	err := executor.Start(ctx, func(ctx context.Context) error {
		test(t, ctx)
		return nil
	}, executor.WithExecutor(e), executor.WithDriver(cfg))
	if err != nil {
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

// goAll runs n tasks and waits for them. It returns the first error.
func goAll(ctx context.Context, n int, task func(ctx context.Context, i int) error) error {
	tasks := make([]*executor.JoinHandle[struct{}], n)
	for i := range tasks {
		tasks[i] = executor.Go(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, task(ctx, i) })
	}
	var errs []error
	for _, task := range tasks {
		if _, err := task.Join(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
