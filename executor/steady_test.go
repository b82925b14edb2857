package executor_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/testenv"
)

// allocations returns how many allocations one of many calls of f makes.
func allocations(f func() error) (float64, error) {
	const n = 2000
	for range n / 4 {
		if err := f(); err != nil {
			return 0, err
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		if err := f(); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / n, nil
}

// An operation allocates nothing, once the pools are warm.
func TestOperationsDoNotAllocate(t *testing.T) {
	if raceEnabled || pureGo {
		t.Skip("the race detector allocates, and so does finding out who one is without assembly")
	}
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			defer debug.SetGCPercent(debug.SetGCPercent(-1)) // what empties pools
			d, err := driver.FromContext(ctx)
			if err != nil {
				return err
			}
			value := context.WithValue(ctx, other{}, 2)
			plain := driver.NewContext(context.Background(), d)
			for _, c := range []struct {
				name string
				f    func() error
			}{
				{"the task's own context", func() error { return nop(ctx) }},
				{"a context with a value", func() error { return nop(value) }},
				{"another task's or no task's", func() error { return nop(plain) }},
				{"Yield", func() error { return executor.Yield(ctx) }},
			} {
				n, err := allocations(c.f)
				if err != nil {
					return err
				}
				if n > 0.02 {
					w.Errorf("%s: %.2f allocations for each operation", c.name, n)
				}
			}
			n, err := executor.Block(ctx, func() (float64, error) { return allocations(func() error { return nop(ctx) }) })
			if n > 0.02 {
				w.Errorf("a foreign goroutine: %.2f allocations for each operation", n)
			}
			return err
		})
	})
}

// Many tasks at once do not allocate for their operations either.
func TestManyTasksDoNotAllocate(t *testing.T) {
	if raceEnabled || pureGo {
		t.Skip("the race detector allocates, and so does finding out who one is without assembly")
	}
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			defer debug.SetGCPercent(debug.SetGCPercent(-1))
			const tasks, each = 32, 500
			var before, after runtime.MemStats
			round := func() error {
				var all [tasks]*executor.JoinHandle[struct{}]
				for i := range all {
					all[i] = executor.Go(ctx, task(func(ctx context.Context) error {
						for range each {
							if err := nop(ctx); err != nil {
								return err
							}
						}
						return nil
					}))
				}
				for _, h := range all {
					if _, err := h.Join(ctx); err != nil {
						return err
					}
				}
				return nil
			}
			if err := round(); err != nil {
				return err
			}
			runtime.ReadMemStats(&before)
			if err := round(); err != nil {
				return err
			}
			runtime.ReadMemStats(&after)
			// What is left is the tasks themselves.
			if n := float64(after.Mallocs-before.Mallocs) / tasks; n > 60 {
				w.Errorf("%.0f allocations for a task of %d operations", n, each)
			}
			return nil
		})
	})
}

// residentPages returns the resident memory of the process, in MiB.
func residentMiB(t testing.TB) int {
	t.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	fields := bytes.Fields(statm)
	n, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n * os.Getpagesize() >> 20
}

// Starting and stopping a thousand times leaves nothing behind.
func TestStartAndStop(t *testing.T) {
	everywhere(t, func(w *world) {
		w.config.Entries = 8
		cycle := func() error {
			return w.start(context.Background(), func(ctx context.Context) error {
				h := executor.Go(ctx, task(nop))
				executor.Go(ctx, task(forever))
				_, err := h.Join(ctx)
				return err
			})
		}
		cycles := func(n int) {
			w.soon(2*patience, "starting and stopping", func() {
				for range n {
					if err := cycle(); err != nil {
						w.Error(err)
						return
					}
				}
			})
		}
		n := 1000
		if raceEnabled || !exhaustive {
			n = 200
		}
		cycles(n / 10)
		memory, goroutines, fds := residentMiB(w), runtime.NumGoroutine(), len(testenv.Descriptors(w))
		cycles(n)
		await(w, "goroutines back", func() bool { return runtime.NumGoroutine() <= goroutines })
		await(w, "descriptors back", func() bool { return len(testenv.Descriptors(w)) <= fds })
		if now := residentMiB(w); now > memory+16 {
			w.Errorf("resident memory grew from %d to %d MiB", memory, now)
		}
	})
}

// Tasks that come and go in one Start leave nothing behind either.
func TestTasksComeAndGo(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			batch := func() error {
				var all [100]*executor.JoinHandle[[]byte]
				for i := range all {
					all[i] = executor.Go(ctx, func(ctx context.Context) ([]byte, error) {
						return make([]byte, 1<<10), executor.Sleep(ctx, time.Microsecond)
					})
				}
				for _, h := range all {
					if _, err := h.Join(ctx); err != nil {
						return err
					}
				}
				return nil
			}
			live := func() uint64 {
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return m.HeapAlloc
			}
			if err := batch(); err != nil {
				return err
			}
			before, goroutines := live(), runtime.NumGoroutine()
			for range rounds(500) {
				if err := batch(); err != nil {
					return err
				}
			}
			if after := live(); after > before+1<<20 {
				return fmt.Errorf("the heap grew from %d to %d", before, after)
			}
			if n := runtime.NumGoroutine(); n > goroutines+110 {
				return fmt.Errorf("%d goroutines, %d before", n, goroutines)
			}
			return nil
		})
	})
}
