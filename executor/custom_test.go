package executor_test

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"uringo/buf"
	"uringo/driver"
	"uringo/executor"
	"uringo/internal/ring"
	"uringo/ops"
)

// hostile is an executor that does to tasks what a test wants.
type hostile struct {
	d     *driver.Driver
	n     atomic.Int32
	spawn func(n int32, run func()) error      // n counts from 0, which is the root
	wait  func(n int32, ready <-chan struct{}) // n counts from 0
	waits atomic.Int32
	open  func() error
	close func(err error) error
}

func (h *hostile) String() string { return "hostile" }

func (h *hostile) Open(cfg driver.Config) (executor.Runtime, error) {
	if h.open != nil {
		if err := h.open(); err != nil {
			return nil, err
		}
	}
	var err error
	h.d, err = driver.Open(cfg)
	return h, err
}

func (h *hostile) Driver() *driver.Driver { return h.d }

func (h *hostile) Spawn(run func()) error {
	if h.spawn != nil {
		return h.spawn(h.n.Add(1)-1, run)
	}
	go run()
	return nil
}

func (h *hostile) Wait(ready <-chan struct{}) {
	if h.wait != nil {
		h.wait(h.waits.Add(1)-1, ready)
	} else {
		<-ready
	}
}

func (h *hostile) Close(ctx context.Context) error {
	err := h.d.Close(ctx)
	if h.close != nil {
		err = h.close(err)
	}
	return err
}

// onHostile runs a test with an executor of its own on every engine. Start must return within two seconds.
func onHostile(t *testing.T, test func(w *world, h *hostile)) {
	t.Helper()
	for _, engine := range engines(t) {
		t.Run(engine.String(), func(t *testing.T) {
			clean(t)
			h := new(hostile)
			test(&world{TB: t, engine: engine, name: "hostile", make: func() executor.Executor { return h }}, h)
		})
	}
}

// quick is Start, which must return within two seconds.
func (w *world) quick(ctx context.Context, root func(ctx context.Context) error) (err error) {
	w.Helper()
	w.soon(2*time.Second, "Start", func() { err = w.start(ctx, root) })
	return err
}

// busy is a task that must not be disturbed by what happens to others.
func busy(ctx context.Context) error {
	for range 50 {
		if err := nop(ctx); err != nil {
			return err
		}
	}
	return executor.Sleep(ctx, time.Millisecond)
}

func TestExecutorThatDrops(t *testing.T) {
	onHostile(t, func(w *world, h *hostile) {
		h.spawn = func(n int32, run func()) error {
			if n < 2 {
				go run()
			}
			return nil
		}
		var left *executor.JoinHandle[struct{}]
		err := w.quick(context.Background(), func(ctx context.Context) error {
			other := executor.Go(ctx, task(busy))
			dropped := executor.Go(ctx, task(func(context.Context) error { w.Error("a dropped task ran"); return nil }))
			if _, err := other.Join(ctx); err != nil {
				return err
			}
			short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
			defer cancel()
			_, err := dropped.Join(short)
			is(w, err, context.DeadlineExceeded)
			// Abort ends it, as it ends every task that has not begun.
			dropped.Abort()
			_, err = dropped.Join(ctx)
			is(w, err, context.Canceled)
			// The end of a context does so too.
			_, err = executor.Go(short, task(nop)).Join(ctx)
			is(w, err, context.DeadlineExceeded)
			later, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
			defer cancel()
			_, err = executor.Go(later, task(nop)).Join(ctx)
			is(w, err, context.DeadlineExceeded)
			// And the end of Start.
			left = executor.Go(ctx, task(nop))
			return nil
		})
		if err != nil {
			w.Error(err)
		}
		_, err = left.Join(context.Background())
		is(w, err, context.Canceled)
	})
}

func TestExecutorThatDropsTheRoot(t *testing.T) {
	onHostile(t, func(w *world, h *hostile) {
		h.spawn = func(int32, func()) error { return nil }
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		err := w.quick(ctx, func(context.Context) error { w.Error("the root ran"); return nil })
		is(w, err, context.DeadlineExceeded)
	})
}

// A task that is dropped while everything ends.
func TestExecutorThatDropsAtTheEnd(t *testing.T) {
	onHostile(t, func(w *world, h *hostile) {
		h.spawn = func(n int32, run func()) error {
			if n < 2 {
				go run()
			}
			return nil
		}
		err := w.quick(context.Background(), func(ctx context.Context) error {
			begun := new(executor.Event)
			executor.Go(ctx, task(func(ctx context.Context) error {
				begun.Set()
				_ = forever(ctx)
				_, err := executor.Go(ctx, task(nop)).Join(context.WithoutCancel(ctx))
				is(w, err, context.Canceled)
				_, err = executor.Go(context.WithoutCancel(ctx), task(nop)).Join(context.WithoutCancel(ctx))
				is(w, err, context.Canceled)
				return nil
			}))
			return begun.Wait(ctx)
		})
		if err != nil {
			w.Error(err)
		}
	})
}

func TestExecutorThatRefuses(t *testing.T) {
	onHostile(t, func(w *world, h *hostile) {
		h.spawn = func(n int32, run func()) error {
			if n > 1 {
				return errTest
			}
			go run()
			return nil
		}
		err := w.quick(context.Background(), func(ctx context.Context) error {
			other := executor.Go(ctx, task(busy))
			for range 3 {
				refused := executor.Go(ctx, task(func(context.Context) error { w.Error("a refused task ran"); return nil }))
				_, err := refused.Join(ctx)
				is(w, err, errTest)
				if !strings.Contains(err.Error(), "refused") {
					w.Errorf("%v", err)
				}
			}
			_, err := other.Join(ctx)
			return err
		})
		if err != nil {
			w.Error(err)
		}
		h.spawn = func(int32, func()) error { return errTest }
		is(w, w.quick(context.Background(), nop), errTest)
	})
}

func TestExecutorThatPanics(t *testing.T) {
	onHostile(t, func(w *world, h *hostile) {
		h.spawn = func(n int32, run func()) error {
			switch {
			case n > 1 && n%2 == 0:
				culprit(errTest)
			case n > 1:
				go run()
				culprit("too late: the task runs")
			}
			go run()
			return nil
		}
		err := w.quick(context.Background(), func(ctx context.Context) error {
			other := executor.Go(ctx, task(busy))
			for range 3 {
				_, err := executor.Go(ctx, task(nop)).Join(ctx)
				panicked(w, err, "executor_test.culprit")
				is(w, err, errTest)
				if _, err := executor.Go(ctx, func(ctx context.Context) (int, error) { return 7, nop(ctx) }).Join(ctx); err != nil {
					panicked(w, err, "executor_test.culprit") // what came first
				}
			}
			_, err := other.Join(ctx)
			return err
		})
		if err != nil {
			w.Error(err)
		}
		h.spawn = func(int32, func()) error { culprit(errTest); return nil }
		err = w.quick(context.Background(), nop)
		panicked(w, err, "executor_test.culprit")
		is(w, err, errTest)
	})
}

// One Spawn that blocks holds up the one who called it.
func TestExecutorThatBlocks(t *testing.T) {
	onHostile(t, func(w *world, h *hostile) {
		release, blocked := make(chan struct{}), make(chan struct{})
		h.spawn = func(n int32, run func()) error {
			if n == 2 {
				close(blocked)
				<-release
			}
			go run()
			return nil
		}
		err := w.quick(context.Background(), func(ctx context.Context) error {
			held := executor.Go(ctx, func(ctx context.Context) (int, error) {
				return executor.Go(ctx, func(ctx context.Context) (int, error) { return 7, nop(ctx) }).Join(ctx)
			})
			<-blocked
			for range 3 {
				if _, err := executor.Go(ctx, task(busy)).Join(ctx); err != nil {
					return err
				}
			}
			close(release)
			if v, err := held.Join(ctx); v != 7 || err != nil {
				w.Errorf("%d, %v", v, err)
			}
			return nil
		})
		if err != nil {
			w.Error(err)
		}
	})
}

func TestExecutorThatRunsInline(t *testing.T) {
	onHostile(t, func(w *world, h *hostile) {
		h.spawn = func(_ int32, run func()) error { run(); return nil }
		rd, wr := pipe(w)
		err := w.quick(context.Background(), func(ctx context.Context) error {
			var deep func(ctx context.Context, left int) (int, error)
			deep = func(ctx context.Context, left int) (int, error) {
				if left == 0 {
					return 0, busy(ctx)
				}
				n, err := executor.Go(ctx, func(ctx context.Context) (int, error) { return deep(ctx, left-1) }).Join(ctx)
				if err := echo(ctx, rd, wr, n); err != nil { // the outer task is itself again
					return 0, err
				}
				return n + 1, err
			}
			if n, err := deep(ctx, 10); n != 10 || err != nil {
				w.Errorf("%d, %v", n, err)
			}
			_, err := executor.Go(ctx, task(func(context.Context) error { culprit(errTest); return nil })).Join(ctx)
			panicked(w, err, "executor_test.culprit")
			return nop(ctx)
		})
		if err != nil {
			w.Error(err)
		}
	})
}

// A task that ends its goroutine, run inline, takes those along on whose stack it is. Nothing is lost for the rest.
func TestInlineGoexit(t *testing.T) {
	onHostile(t, func(w *world, h *hostile) {
		h.spawn = func(n int32, run func()) error {
			if n == 0 || n == 1 {
				go run()
			} else {
				run()
			}
			return nil
		}
		err := w.quick(context.Background(), func(ctx context.Context) error {
			h := executor.Go(ctx, task(func(ctx context.Context) error {
				executor.Go(ctx, task(func(context.Context) error { leave(); return nil }))
				return nil
			}))
			_, err := h.Join(ctx)
			is(w, err, executor.ErrGoexit)
			return nop(ctx)
		})
		if err != nil {
			w.Error(err)
		}
	})
}

// If that stack is Start's own, Start does not return, but leaves nothing behind.
func TestInlineGoexitOfTheRoot(t *testing.T) {
	onHostile(t, func(w *world, h *hostile) {
		h.spawn = func(_ int32, run func()) error { run(); return nil }
		err := w.quick(context.Background(), func(ctx context.Context) error {
			executor.Go(ctx, task(nop))
			leave()
			return nil
		})
		if err != nil {
			w.Error(err)
		}
	})
}

func TestExecutorThatRunsTwice(t *testing.T) {
	onHostile(t, func(w *world, h *hostile) {
		var runs sync.WaitGroup
		h.spawn = func(_ int32, run func()) error {
			for range 3 {
				runs.Go(run)
			}
			return nil
		}
		var ran atomic.Int32
		err := w.quick(context.Background(), func(ctx context.Context) error {
			for range 20 {
				if _, err := executor.Go(ctx, task(func(ctx context.Context) error { ran.Add(1); return nop(ctx) })).Join(ctx); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || ran.Load() != 20 {
			w.Errorf("%v; 20 tasks ran %d times", err, ran.Load())
		}
		runs.Wait()
	})
}

// A run that comes long after Start has returned finds nothing to do.
func TestExecutorThatRunsTooLate(t *testing.T) {
	onHostile(t, func(w *world, h *hostile) {
		var late []func()
		h.spawn = func(n int32, run func()) error {
			if n == 0 {
				go run()
			} else {
				late = append(late, run)
			}
			return nil
		}
		err := w.quick(context.Background(), func(ctx context.Context) error {
			executor.Go(ctx, task(func(context.Context) error { w.Error("a task ran after the end"); return nil }))
			return nop(ctx)
		})
		if err != nil {
			w.Error(err)
		}
		for _, run := range late {
			run()
		}
	})
}

// Whatever Wait does, an operation has ended when its task goes on: the memory is the task's again.
func TestExecutorThatDoesNotWait(t *testing.T) {
	onHostile(t, func(w *world, h *hostile) {
		rd, wr := pipe(w)
		h.wait = func(n int32, ready <-chan struct{}) {
			switch n % 3 {
			case 0:
				<-ready
			case 1: // returns at once
			case 2:
				time.Sleep(100 * time.Microsecond) // the value stays in the channel
			}
		}
		var writing sync.WaitGroup
		err := w.quick(context.Background(), func(ctx context.Context) error {
			for i := range 100 {
				writing.Go(func() {
					time.Sleep(50 * time.Microsecond)
					executor.Do(context.WithoutCancel(ctx), ops.WriteAt(wr, []byte{byte(i)}, -1))
				})
				_, buf, err := read(ctx, rd, make([]byte, 1))
				if err != nil || buf[0] != byte(i) {
					w.Errorf("read %d of %d, %v", buf[0], i, err)
				}
				if err := executor.Sleep(ctx, 10*time.Microsecond); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			w.Error(err)
		}

		writing.Wait() // the last may only now hear of it
		h.waits.Store(0)
		err = w.quick(context.Background(), func(ctx context.Context) error {
			h.wait = func(n int32, ready <-chan struct{}) {
				if n == 0 { // what is read comes only now, and who writes it is not the first to wait
					time.AfterFunc(5*time.Millisecond, func() { executor.Do(context.WithoutCancel(ctx), ops.WriteAt(wr, []byte("data"), -1)) })
					culprit(errTest)
				}
				<-ready
			}
			buf := make([]byte, 4)
			defer func() {
				if string(buf) != "data" {
					w.Errorf("the task goes on before its read has ended: %q", buf)
				}
			}()
			_, _, err := read(ctx, rd, buf)
			return err
		})
		panicked(w, err, "executor_test.culprit")
	})
}

func TestExecutorThatFails(t *testing.T) {
	onHostile(t, func(w *world, h *hostile) {
		h.close = func(err error) error { return errors.Join(err, errTest) }
		is(w, w.quick(context.Background(), nop), errTest)
		other := errors.New("of the root")
		err := w.quick(context.Background(), func(context.Context) error { return other })
		is(w, err, errTest)
		is(w, err, other)
		h.open = func() error { return errTest }
		is(w, w.quick(context.Background(), func(context.Context) error { w.Error("the root ran"); return nil }), errTest)
	})
}

// No code of tasks or executors runs on the driver's stack.
func TestDriverStack(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			var stop atomic.Bool
			var all []*executor.JoinHandle[struct{}]
			for i := range 2 {
				if w.name == "pool" && i == 1 {
					break // it keeps its place, and the root needs one of the two
				}
				all = append(all, executor.Go(ctx, task(func(ctx context.Context) error {
					for !stop.Load() {
						if err := errors.Join(nop(ctx), executor.Yield(ctx)); err != nil {
							return err
						}
					}
					return nil
				})))
			}
			checked := 0
			look := func() (int, error) {
				for g := range bytes.SplitSeq(stacks(), []byte("\n\n")) {
					if bytes.Contains(g, []byte("driver.(*Driver).life(")) {
						checked++
						if bytes.Contains(g, []byte("executor_test.")) {
							w.Errorf("a task on the driver's stack:\n%s", g)
						}
					}
				}
				return 0, nil
			}
			for range 10 {
				if _, err := look(); err != nil { // from the task itself
					return err
				}
				if _, err := executor.Block(ctx, look); err != nil {
					return err
				}
				runtime.Gosched()
			}
			stop.Store(true)
			for _, h := range all {
				if _, err := h.Join(ctx); err != nil {
					return err
				}
			}
			if checked < 20 {
				w.Errorf("the driver's stack was found %d times in 20", checked)
			}
			return nil
		})
	})
}

// A runtime may run its tasks on those of another, whose worker they hold up then.
func TestRuntimeOnWorkers(t *testing.T) {
	onHostile(t, func(w *world, h *hostile) {
		runs := make(chan func(), 1)
		h.spawn = func(_ int32, run func()) error { runs <- run; return nil }
		err := executor.Start(t.Context(), func(context.Context) error {
			ended := make(chan error)
			ground := executor.OwnGround
			go func() {
				ended <- executor.Start(t.Context(), func(ctx context.Context) error {
					ground = executor.CallerOf(ctx).Ground()
					return nil
				}, executor.WithExecutor(w.make()))
			}()
			(<-runs)()
			err := <-ended
			if ground != executor.WorkerGround {
				w.Errorf("the ground is %v", ground)
			}
			return err
		}, executor.WithExecutor(executor.Workers(1)), executor.WithDriver(driver.Config{Engine: w.engine}))
		if err != nil {
			w.Error(err)
		}
	})
}

// A runtime panics under an operation that the kernel does not let go of. The task that recovers and goes on has nothing of what the driver keeps.
func TestExecutorThatPanicsUnderAnAbandoned(t *testing.T) {
	onHostile(t, func(w *world, h *hostile) {
		inner := ring.Linux()
		if w.engine == driver.Portable {
			inner = ring.NewPortable(ops.Calls(), 16)
		}
		w.engine = driver.Uring
		w.config = driver.OnKernel(driver.Config{CancelGrace: time.Millisecond}, stubborn(inner))
		rd, wr := pipe(w)
		short, cancel := context.WithCancel(context.Background())
		defer cancel()
		h.wait = func(n int32, ready <-chan struct{}) {
			if n > 0 {
				<-ready
				return
			}
			for h.d.Stats().InFlightBy["read"] == 0 {
				runtime.Gosched()
			}
			cancel()
			panic(errTest)
		}
		w.soon(patience, "Start", func() {
			err := w.start(context.Background(), func(ctx context.Context) error {
				func() {
					defer func() {
						if p := recover(); p != errTest {
							w.Errorf("recovered: %v", p)
						}
					}()
					_, _, _ = read(withEnd{ctx, short}, rd, make([]byte, 1))
				}()
				for range 100 {
					if err := nop(ctx); err != nil {
						return err
					}
				}
				if s := h.d.Stats(); s.Abandoned != 1 || s.InFlightBy["read"] != 1 {
					w.Errorf("%+v", s)
				}
				if err := write(ctx, wr, "x"); err != nil {
					return err
				}
				for h.d.Stats().AbandonedDone == 0 { // now the kernel lets go
					if err := executor.Sleep(ctx, time.Millisecond); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				w.Error(err)
			}
		})
	})
}

// withEnd is a context that ends with another.
type withEnd struct {
	context.Context
	end context.Context
}

func (c withEnd) Done() <-chan struct{} { return c.end.Done() }
func (c withEnd) Err() error            { return c.end.Err() }

// What a runtime did not receive of an operation does not keep its task from yielding.
func TestYieldBesideWhatWasNotReceived(t *testing.T) {
	onHostile(t, func(w *world, h *hostile) {
		var told atomic.Bool
		h.wait = func(_ int32, ready <-chan struct{}) {
			if told.CompareAndSwap(false, true) {
				for len(ready) == 0 {
					runtime.Gosched()
				}
				return // it stays where it is
			}
			<-ready
		}
		err := w.quick(context.Background(), func(ctx context.Context) error {
			return errors.Join(nop(ctx), executor.Yield(ctx), executor.Yield(ctx), nop(ctx))
		})
		if err != nil {
			w.Error(err)
		}
	})
}

// Who waits in a queue and is interrupted by the executor leaves the queue: what it waited for goes to the next.
func TestExecutorThatInterruptsWhoQueues(t *testing.T) {
	for name, interrupt := range map[string]func(){"panic": func() { culprit(errTest) }, "Goexit": leave} {
		t.Run(name, func(t *testing.T) {
			onHostile(t, func(w *world, h *hostile) {
				pool, err := buf.NewPool(buf.PoolConfig{Classes: []buf.Class{{Size: 64, Count: 1}}})
				if err != nil {
					w.Fatal(err)
				}
				var next atomic.Pointer[func()]
				h.wait = func(_ int32, ready <-chan struct{}) {
					if f := next.Swap(nil); f != nil {
						(*f)()
						interrupt()
					}
					<-ready
				}
				// interrupted has a task wait for what is taken, and f happen before the interruption.
				interrupted := func(ctx context.Context, f func(), wait func(ctx context.Context) error) {
					gone := make(chan struct{})
					next.Store(&f)
					waiting := executor.Go(ctx, task(func(ctx context.Context) error {
						defer close(gone)
						return wait(ctx)
					}))
					<-gone
					_, err := waiting.Join(ctx)
					is(w, err, errTest, executor.ErrGoexit)
				}
				err = w.quick(context.Background(), func(ctx context.Context) error {
					b, err := pool.Get(ctx, 1)
					if err != nil {
						return err
					}
					nothing := func() {}
					interrupted(ctx, nothing, func(ctx context.Context) error { _, err := pool.Get(ctx, 1); return err })
					b.Release()
					if b, err = pool.TryGet(1); err != nil {
						return err
					}
					b.Release()

					for name, l := range countedLocks() {
						is(w, l.acquire(ctx, l.size), nil)
						interrupted(ctx, nothing, func(ctx context.Context) error { return l.acquire(ctx, 1) })
						l.release(l.size)
						is(w, l.acquire(ctx, l.size), nil)
						interrupted(ctx, func() { l.release(l.size) }, func(ctx context.Context) error { return l.acquire(ctx, 1) })
						if !l.try(l.size) {
							w.Errorf("%s: who has gone has it", name)
						}
					}
					s := executor.NewSemaphore(3)
					is(w, s.Acquire(ctx, 2), nil)
					interrupted(ctx, nothing, func(ctx context.Context) error { return s.Acquire(ctx, 2) })
					if !s.TryAcquire(1) {
						w.Error("who has gone keeps the others waiting")
					}

					for size := range 3 {
						q := executor.NewQueue[int](size)
						take := func(ctx context.Context) error { _, err := q.Take(ctx); return err }
						interrupted(ctx, nothing, take)
						for i := range size {
							is(w, q.TryPut(i), nil)
						}
						is(w, q.TryPut(size), executor.ErrQueueFull)
						interrupted(ctx, nothing, func(ctx context.Context) error { return q.Put(ctx, size) })
						for i := range size {
							if v, err := q.TryTake(); v != i || err != nil {
								w.Errorf("took %d, %v", v, err)
							}
						}
						_, err = q.TryTake()
						is(w, err, executor.ErrQueueEmpty)

						// What came for who has gone comes before what was put after it.
						interrupted(ctx, func() {
							for i := range 1 + size {
								is(w, q.TryPut(i), nil)
							}
						}, take)
						is(w, q.TryPut(-1), executor.ErrQueueFull)
						for i := range 1 + size {
							if v, err := q.TryTake(); v != i || err != nil {
								w.Errorf("took %d, %v instead of %d from a queue of %d", v, err, i, size)
							}
						}
						interrupted(ctx, func() { q.Close() }, take)
						_, err = q.TryTake()
						is(w, err, executor.ErrQueueClosed)
					}
					return nil
				})
				if err != nil {
					w.Error(err)
				}
				if err := pool.Close(); err != nil {
					w.Error(err)
				}
			})
		})
	}
}
