package bench

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"uringo/driver"
	"uringo/executor"
)

// executors are all ways to run tasks, by the names that the benchmarks show.
var executors = []struct {
	name string
	make func(tasks int) executor.Executor
}{
	{"goroutines", func(int) executor.Executor { return executor.Goroutines() }},
	{"pool", executor.Pool},
	{"workers1", func(int) executor.Executor { return executor.Workers(1) }},
	{"workers4", func(int) executor.Executor { return executor.Workers(4) }},
	{"local", func(int) executor.Executor { return executor.Local() }},
}

// A step is one operation of one task.
type step func(ctx context.Context, task int) error

// everywhere runs a benchmark on every executor with every number of tasks. Its load gets a running executor and a
// repeat, which starts the tasks and has them repeat a step until the benchmark has enough.
func everywhere(b *testing.B, tasks []int, load func(ctx context.Context, tasks int, repeat func(step) error) error) {
	for _, e := range executors {
		for _, n := range tasks {
			b.Run(fmt.Sprintf("exec=%s/tasks=%d", e.name, n), func(b *testing.B) {
				b.ReportAllocs()
				err := executor.Start(context.Background(), func(ctx context.Context) error {
					return load(ctx, n, func(s step) error { return share(ctx, b, n, s) })
				}, executor.WithExecutor(e.make(n)), executor.WithDriver(driver.Config{Entries: 1024}))
				if err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// share lets n tasks share the iterations of b.
func share(ctx context.Context, b *testing.B, n int, s step) error {
	left := iterations{b: b, tasks: n}
	handles := make([]*executor.JoinHandle[struct{}], n)
	for task := range handles {
		handles[task] = executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
			for some := left.take(); some > 0; some = left.take() {
				for range some {
					if err := s(ctx, task); err != nil {
						return struct{}{}, err
					}
				}
			}
			return struct{}{}, nil
		})
	}
	var failed error
	for _, h := range handles {
		if _, err := h.Join(ctx); err != nil && failed == nil {
			failed = err
		}
	}
	return failed
}

// iterations hands out the iterations of a benchmark. B.Loop is for one goroutine at a time, hence the lock; nobody
// waits while holding it, so a task may take it on any executor.
type iterations struct {
	mu    sync.Mutex
	b     *testing.B
	tasks int
	given int
	none  bool
}

// take returns how many iterations the caller may do next; 0 ends its task. It gives a few at a time, or tasks that
// do next to nothing would measure the lock. It gives no more than that all tasks together hold less than a
// thousandth of what was given before: the clock has stopped when the last of them are done.
func (i *iterations) take() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	few := 1 + min(i.given/(1024*i.tasks), 15)
	for got := range few {
		i.none = i.none || !i.b.Loop()
		if i.none {
			return got
		}
		i.given++
	}
	return few
}
