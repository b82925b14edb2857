package executor_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/ops"
)

var errTest = errors.New("a test's own error")

func TestStartReturnsTheRootsError(t *testing.T) {
	everywhere(t, func(w *world) {
		for _, want := range []error{nil, errTest} {
			if err := w.run(func(context.Context) error { return want }); err != want {
				w.Errorf("Start returned %#v, the root returned %#v", err, want)
			}
		}
	})
}

func TestStartWithAnEndedContext(t *testing.T) {
	everywhere(t, func(w *world) {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(errTest)
		err := w.runIn(ctx, func(context.Context) error { w.Error("the root ran"); return nil })
		is(w, err, errTest)
		is(w, err, context.Canceled) // as if it had ended while the root ran
	})
}

func TestStartIsCancelled(t *testing.T) {
	everywhere(t, func(w *world) {
		r, _ := pipe(w)
		roots := map[string]func(ctx context.Context) error{
			"sleep": forever,
			"read":  func(ctx context.Context) error { _, _, err := read(ctx, r, make([]byte, 8)); return err },
			"event": func(ctx context.Context) error { return new(executor.Event).Wait(ctx) },
			"join": func(ctx context.Context) error {
				_, err := executor.Go(ctx, task(forever)).Join(ctx)
				return err
			},
			"yield": func(ctx context.Context) error {
				for {
					if err := executor.Yield(ctx); err != nil {
						return err
					}
				}
			},
		}
		for name, root := range roots {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(10*time.Millisecond, cancel)
			var err error
			w.soon(2*time.Second, name, func() { err = w.start(ctx, root) })
			is(w, err, context.Canceled)
			cancel()
		}
	})
}

func TestStartRefusesNonsense(t *testing.T) {
	clean(t)
	root := func(context.Context) error { t.Error("the root ran"); return nil }
	for _, c := range []struct {
		text string
		opt  executor.Option
	}{
		{"Workers(0)", executor.WithExecutor(executor.Workers(0))},
		{"Workers(-1)", executor.WithExecutor(executor.Workers(-1))},
		{"Pool(0)", executor.WithExecutor(executor.Pool(0))},
		{"WithExecutor(nil)", executor.WithExecutor(nil)},
		{"an Option that is nil", nil},
		{"no Runtime", executor.WithExecutor(hollow{})},
		{"Entries", executor.WithDriver(driver.Config{Entries: 1 << 30})},
		{"CancelGrace", executor.WithDriver(driver.Config{CancelGrace: -1})},
	} {
		err := executor.Start(context.Background(), root, c.opt)
		if err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("Start with a bad %s: %v", c.text, err)
		}
	}
}

// hollow is an executor that opens nothing.
type hollow struct{}

func (hollow) Open(driver.Config) (executor.Runtime, error) { return nil, nil }
func (hollow) String() string                               { return "hollow" }

func TestTheDefaultIsOneWorker(t *testing.T) {
	clean(t)
	err := executor.Start(context.Background(), func(ctx context.Context) error {
		shared, all := 0, make([]*executor.JoinHandle[struct{}], 20)
		for i := range all {
			all[i] = executor.Go(ctx, task(func(ctx context.Context) error {
				for range 10 {
					shared++
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
		if shared != 200 {
			return fmt.Errorf("counted %d of 200", shared)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestExecutorsHaveNames(t *testing.T) {
	for want, e := range map[string]executor.Executor{
		"goroutines": executor.Goroutines(), "pool(3)": executor.Pool(3), "workers(2)": executor.Workers(2), "local": executor.Local(),
	} {
		if e.String() != want {
			t.Errorf("%q is called %q", want, e)
		}
	}
}

// When the root returns, what is left is cancelled and waited for, whatever it does.
func TestStructuredEnd(t *testing.T) {
	everywhere(t, func(w *world) {
		var begun, ended atomic.Int32
		r, _ := pipe(w)
		never := new(executor.Event)
		kinds := []func(ctx context.Context) error{
			forever,
			never.Wait,
			func(ctx context.Context) error { _, _, err := read(ctx, r, make([]byte, 8)); return err },
			func(ctx context.Context) error { return executor.Do(ctx, ops.Timeout(time.Hour)).Err },
			func(ctx context.Context) error {
				_, err := executor.Go(ctx, task(forever)).Join(ctx)
				return err
			},
			func(ctx context.Context) error {
				for {
					if err := nop(ctx); err != nil {
						return err
					}
				}
			},
			func(ctx context.Context) error {
				for {
					if err := executor.Yield(ctx); err != nil {
						return err
					}
				}
			},
			func(ctx context.Context) error {
				ctx, cancel := context.WithTimeout(ctx, time.Hour)
				defer cancel()
				_, _, err := read(ctx, r, make([]byte, 8))
				return err
			},
			func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			},
		}
		if w.coop() {
			kinds = kinds[:len(kinds)-1] // the last one holds its worker
		}
		var err error
		var elapsed time.Duration
		w.soon(patience, "Start", func() {
			var end time.Time
			delays := func() time.Duration { return 0 }
			err = w.start(context.Background(), func(ctx context.Context) error {
				for i := range 5 * len(kinds) {
					executor.Go(ctx, task(func(ctx context.Context) error {
						begun.Add(1)
						defer ended.Add(1)
						err := kinds[i%len(kinds)](ctx)
						is(w, err, context.Canceled)
						return err
					}))
				}
				if w.coop() {
					for begun.Load() < int32(5*len(kinds)) { // all of them get their turn
						if err := executor.Sleep(ctx, time.Millisecond); err != nil {
							return err
						}
					}
				} else {
					time.Sleep(20 * time.Millisecond) // a place lent to tasks that keep it would not come back
				}
				end, delays = time.Now(), testenv.Delays()
				return nil
			})
			elapsed = time.Since(end) - delays() // on a machine that is never late
		})
		if err != nil {
			w.Error(err)
		}
		if elapsed > 2*time.Second {
			w.Errorf("the end took %v", elapsed)
		}
		if begun.Load() != ended.Load() {
			w.Errorf("%d tasks began, %d ended", begun.Load(), ended.Load())
		}
	})
}

// Start does not return before a task that insists on finishing its work.
func TestTheEndWaitsForUninterruptedWork(t *testing.T) {
	everywhere(t, func(w *world) {
		rd, wr := pipe(w)
		var finished atomic.Bool
		w.ok(func(ctx context.Context) error {
			begun := new(executor.Event)
			executor.Go(ctx, task(func(ctx context.Context) error {
				begun.Set()
				err := forever(ctx)
				is(w, err, context.Canceled)
				last := context.WithoutCancel(ctx)
				if err := write(last, wr, "last words"); err != nil {
					w.Error(err)
				}
				if err := executor.Sleep(last, 20*time.Millisecond); err != nil {
					w.Error(err)
				}
				if _, err := executor.Block(last, func() (int, error) { time.Sleep(20 * time.Millisecond); return 0, nil }); err != nil {
					w.Error(err)
				}
				_, buf, err := read(last, rd, make([]byte, 10))
				if err != nil || string(buf) != "last words" {
					w.Errorf("%q, %v", buf, err)
				}
				finished.Store(true)
				return nil
			}))
			return begun.Wait(ctx)
		})
		if !finished.Load() {
			w.Error("Start returned before the task had ended")
		}
	})
}

// Tasks that are started while everything ends do not run, and whoever joins them is told.
func TestTasksStartedDuringTheEnd(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			begun := new(executor.Event)
			executor.Go(ctx, task(func(ctx context.Context) error {
				begun.Set()
				is(w, forever(ctx), context.Canceled)
				for _, ctx := range []context.Context{ctx, context.WithoutCancel(ctx)} {
					for range 20 {
						h := executor.Go(ctx, task(func(context.Context) error { w.Error("a task began after the end"); return nil }))
						_, err := h.Join(context.WithoutCancel(ctx))
						is(w, err, context.Canceled)
					}
				}
				return nil
			}))
			return begun.Wait(ctx)
		})
	})
}

// A context that somebody kept beyond its Start is useless, not dangerous.
func TestContextAfterTheEnd(t *testing.T) {
	everywhere(t, func(w *world) {
		r, _ := pipe(w)
		var root, child context.Context
		var handle *executor.JoinHandle[int]
		w.ok(func(ctx context.Context) error {
			root = ctx
			handle = executor.Go(ctx, func(ctx context.Context) (int, error) { child = ctx; return 7, nil })
			_, err := handle.Join(ctx)
			return err
		})
		w.soon(2*time.Second, "use of a context after the end", func() {
			for _, ctx := range []context.Context{root, child} {
				is(w, nop(ctx), context.Canceled)
				is(w, executor.Sleep(ctx, time.Hour), context.Canceled)
				is(w, executor.Yield(ctx), context.Canceled)
				is(w, new(executor.Event).Wait(ctx), context.Canceled)
				_, err := executor.Block(ctx, func() (int, error) { w.Error("Block ran"); return 0, nil })
				is(w, err, context.Canceled)
				for _, ctx := range []context.Context{ctx, context.WithoutCancel(ctx)} {
					for _, start := range []func(context.Context, func(context.Context) (int, error)) *executor.JoinHandle[int]{
						executor.Go[int], executor.GoHere[int]} {
						h := start(ctx, func(context.Context) (int, error) { w.Error("a task ran"); return 0, nil })
						_, err := h.Join(context.Background())
						is(w, err, executor.ErrStopped)
						h.Abort()
					}
				}
				ctx = context.WithoutCancel(ctx)
				is(w, nop(ctx), driver.ErrClosed)
				_, buf, err := read(ctx, r, make([]byte, 8))
				is(w, err, driver.ErrClosed)
				if len(buf) != 8 {
					w.Error("the buffer did not come back")
				}
				if err := executor.Sleep(ctx, time.Millisecond); err != nil {
					w.Error(err)
				}
				if err := executor.Yield(ctx); err != nil {
					w.Error(err)
				}
			}
			if v, err := handle.Join(context.Background()); v != 7 || err != nil {
				w.Errorf("Join after the end: %d, %v", v, err)
			}
			handle.Abort()
		})
	})
}

// One Executor serves any number of Starts, also at the same time and inside each other.
func TestStartsBesideEachOther(t *testing.T) {
	everywhere(t, func(w *world) {
		exec := w.make()
		start := func(ctx context.Context, root func(context.Context) error) error {
			return executor.Start(ctx, root, executor.WithExecutor(exec), executor.WithDriver(driver.Config{Engine: w.engine, Entries: 8}))
		}
		w.soon(patience, "several Starts", func() {
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					err := start(context.Background(), func(ctx context.Context) error {
						h := executor.Go(ctx, task(nop))
						_, err := h.Join(ctx)
						return errors.Join(err, nop(ctx))
					})
					if err != nil {
						w.Error(err)
					}
				})
			}
			all.Wait()
			err := start(context.Background(), func(outer context.Context) error {
				err := start(outer, func(inner context.Context) error {
					d1, err1 := driver.FromContext(outer)
					d2, err2 := driver.FromContext(inner)
					if err1 != nil || err2 != nil || d1 == d2 {
						w.Errorf("the drivers of two Starts: %p %v, %p %v", d1, err1, d2, err2)
					}
					return errors.Join(nop(inner), nop(inner))
				})
				return errors.Join(err, nop(outer))
			})
			if err != nil {
				w.Error(err)
			}
		})
	})
}

// The inner Start ends with the task that called it.
func TestStartInsideAnAbortedTask(t *testing.T) {
	everywhere(t, func(w *world) {
		if w.one() {
			return // the inner Start holds the worker, so nobody there could abort it
		}
		w.ok(func(ctx context.Context) error {
			begun := make(chan struct{})
			h := executor.Go(ctx, task(func(ctx context.Context) error {
				return w.start(ctx, func(ctx context.Context) error {
					close(begun)
					return forever(ctx)
				})
			}))
			<-begun
			h.Abort()
			_, err := h.Join(ctx)
			is(w, err, context.Canceled)
			return nil
		})
	})
}

// The end of very many tasks takes no longer than their beginning.
func TestEndOfACrowd(t *testing.T) {
	everywhere(t, func(w *world) {
		n := 10_000
		if raceEnabled {
			n = 1000
		}
		if exhaustive {
			n *= 10
		}
		var begin, end time.Time
		delays := func() time.Duration { return 0 }
		w.ok(func(ctx context.Context) error {
			begin = time.Now()
			var waiting atomic.Int32
			for range n {
				executor.Go(ctx, task(func(ctx context.Context) error {
					waiting.Add(1)
					return forever(ctx)
				}))
			}
			for int(waiting.Load()) < n {
				if err := executor.Sleep(ctx, time.Millisecond); err != nil {
					return err
				}
			}
			end, delays = time.Now(), testenv.Delays()
			return nil
		})
		took, late := time.Since(end), delays()
		if limit := 10*end.Sub(begin) + time.Second; took-late > limit {
			w.Errorf("the end of %d tasks took %v, their beginning %v, on a machine that was %v late", n, took, end.Sub(begin), late)
		}
	})
}

// Something happens after all who waited for it are gone.
func TestWakeAfterTheEnd(t *testing.T) {
	everywhere(t, func(w *world) {
		for i := range rounds(200) {
			var e executor.Event
			var set sync.WaitGroup
			w.ok(func(ctx context.Context) error {
				for range 5 {
					executor.Go(ctx, task(e.Wait))
				}
				if i%2 == 0 {
					set.Go(e.Set)
				}
				return executor.Yield(ctx)
			})
			e.Set()
			set.Wait()
		}
	})
}

// Many more operations than the ring holds: they wait for a place, in turns, and those that are to wake them get through.
func TestMoreOperationsThanTheRingHolds(t *testing.T) {
	everywhere(t, func(w *world) {
		w.config.Entries, w.config.InFlight = 4, 16
		rd, wr := pipe(w)
		for _, abort := range []bool{false, true} {
			w.ok(func(ctx context.Context) error {
				var all []*executor.JoinHandle[struct{}]
				for range 600 {
					all = append(all, executor.Go(ctx, task(func(ctx context.Context) error {
						n, buf, err := read(ctx, rd, make([]byte, 8))
						if err == nil && (n != 8 || string(buf) != "12345678") {
							w.Errorf("read %q", buf[:n])
						}
						return err
					})))
				}
				for range 50 {
					if err := nop(ctx); err != nil {
						return err
					}
				}
				for _, h := range all {
					if abort {
						h.Abort()
					} else if err := write(ctx, wr, "12345678"); err != nil {
						return err
					}
				}
				for _, h := range all {
					_, err := h.Join(ctx)
					if abort {
						is(w, err, context.Canceled)
					} else if err != nil {
						return err
					}
				}
				return nil
			})
		}
	})
}
