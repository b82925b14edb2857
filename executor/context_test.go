package executor_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"uringo/driver"
	"uringo/executor"
	"uringo/ops"
)

// Contexts derived from the task find it, and their own end counts.
func TestDerivedContexts(t *testing.T) {
	everywhere(t, func(w *world) {
		r, _ := pipe(w)
		waits := map[string]func(ctx context.Context) error{
			"read":  func(ctx context.Context) error { _, _, err := read(ctx, r, make([]byte, 8)); return err },
			"sleep": forever,
			"event": new(executor.Event).Wait,
			"join": func(ctx context.Context) error {
				h := executor.Go(context.WithoutCancel(ctx), task(forever))
				defer h.Abort()
				_, err := h.Join(ctx)
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
		w.ok(func(ctx context.Context) error {
			for name, wait := range waits {
				fails := func(how string, ctx context.Context, targets ...error) {
					err := wait(ctx)
					for _, target := range targets {
						if !errors.Is(err, target) {
							w.Errorf("%s with %s: %v does not match %v", name, how, err, target)
						}
					}
				}
				timeout, cancel := context.WithTimeout(context.WithValue(ctx, other{}, 2), 2*time.Millisecond)
				fails("a timeout", timeout, context.DeadlineExceeded, os.ErrDeadlineExceeded)
				fails("a timeout that is over", timeout, context.DeadlineExceeded, os.ErrDeadlineExceeded)
				cancel()

				timeout, cancel = context.WithTimeoutCause(ctx, 2*time.Millisecond, errTest)
				fails("a timeout and its cause", timeout, context.DeadlineExceeded, os.ErrDeadlineExceeded, errTest)
				cancel()

				cancelled, cancel := context.WithCancel(ctx)
				time.AfterFunc(2*time.Millisecond, cancel)
				fails("a cancellation", context.WithValue(cancelled, other{}, 2), context.Canceled)
				cancel()

				caused, cause := context.WithCancelCause(ctx)
				time.AfterFunc(2*time.Millisecond, func() { cause(errTest) })
				fails("a cause", caused, context.Canceled, errTest)

				unrelated, cancel := context.WithTimeout(context.Background(), 2*time.Millisecond)
				if name == "sleep" || name == "event" {
					fails("a context of nobody", unrelated, context.DeadlineExceeded, os.ErrDeadlineExceeded)
				}
				cancel()

				// The task itself goes on.
				if err := nop(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func TestWithoutCancel(t *testing.T) {
	everywhere(t, func(w *world) {
		rd, wr := pipe(w)
		w.ok(func(ctx context.Context) error {
			begun := new(executor.Event)
			h := executor.Go(ctx, func(ctx context.Context) (string, error) {
				begun.Set()
				// Nothing ends this context, and the task is found through it all the same.
				ctx = context.WithoutCancel(ctx)
				if !executor.InTask(ctx) {
					w.Error("it is said to belong to no task")
				}
				if err := executor.Sleep(ctx, 5*time.Millisecond); err != nil {
					return "", err
				}
				_, buf, err := read(ctx, rd, make([]byte, 4))
				return string(buf), err
			})
			if err := begun.Wait(ctx); err != nil {
				return err
			}
			h.Abort()
			if err := executor.Sleep(ctx, 20*time.Millisecond); err != nil {
				return err
			}
			if err := write(ctx, wr, "data"); err != nil {
				return err
			}
			if v, err := h.Join(ctx); v != "data" || err != nil {
				w.Errorf("%q, %v", v, err)
			}
			return nil
		})
	})
}

// The task is a context like any other.
func TestTheTaskAsAContext(t *testing.T) {
	everywhere(t, func(w *world) {
		type key struct{}
		start, cancel := context.WithDeadline(context.WithValue(context.Background(), key{}, "of Start"), time.Now().Add(time.Hour))
		defer cancel()
		var after atomic.Int32
		err := w.runIn(start, func(ctx context.Context) error {
			want, _ := start.Deadline()
			if d, ok := ctx.Deadline(); !ok || d != want {
				w.Errorf("deadline %v, %v", d, ok)
			}
			if v := ctx.Value(key{}); v != "of Start" {
				w.Errorf("value %v", v)
			}
			if d, err := driver.FromContext(context.WithValue(ctx, other{}, 2)); d == nil || err != nil {
				w.Errorf("driver: %v, %v", d, err)
			}
			if s := fmt.Sprint(context.WithValue(ctx, other{}, 2)); s == "" {
				w.Error("no text")
			}
			done := ctx.Done()
			if done == nil || done != ctx.Done() || ctx.Err() != nil || context.Cause(ctx) != nil {
				w.Error("a running task's context has ended")
			}

			// A child sees what its starter's context carried, and its deadline.
			short, cancel := context.WithTimeout(context.WithValue(ctx, key{}, "derived"), time.Minute)
			defer cancel()
			var child context.Context
			h := executor.Go(short, func(ctx context.Context) (int, error) {
				child = ctx
				want, _ := short.Deadline()
				if d, ok := ctx.Deadline(); !ok || d != want {
					w.Errorf("the child's deadline %v, %v", d, ok)
				}
				// Its own child does not end with that context, so it has another deadline. Values remain.
				h := executor.Go(ctx, func(ctx context.Context) (int, error) {
					want, _ := start.Deadline()
					if d, ok := ctx.Deadline(); !ok || d != want {
						w.Errorf("the grandchild's deadline %v, %v", d, ok)
					}
					if v := ctx.Value(key{}); v != "derived" {
						w.Errorf("the grandchild's value %v", v)
					}
					return 0, nil
				})
				if v := ctx.Value(key{}); v != "derived" {
					w.Errorf("the child's value %v", v)
				}
				context.AfterFunc(ctx, func() { after.Add(1) })
				stop := context.AfterFunc(ctx, func() { w.Error("a stopped AfterFunc ran") })
				if !stop() || stop() {
					w.Error("stop of AfterFunc")
				}
				return h.Join(ctx)
			})
			if _, err := h.Join(ctx); err != nil {
				return err
			}
			// It ended with the task.
			select {
			case <-child.Done():
			default:
				w.Error("an ended task's context is not done")
			}
			is(w, child.Err(), context.Canceled)
			is(w, context.Cause(child), context.Canceled)
			is(w, context.Cause(context.WithValue(child, other{}, 2)), context.Canceled)
			stop := context.AfterFunc(child, func() { after.Add(1) })
			if stop() {
				w.Error("stop of an AfterFunc that ran")
			}
			return nil
		})
		if err != nil {
			w.Error(err)
		}
		await(w, "both AfterFuncs ran", func() bool { return after.Load() == 2 })
	})
}

// The cause of the end of Start's context is known in every task.
func TestCauses(t *testing.T) {
	everywhere(t, func(w *world) {
		start, cancel := context.WithCancelCause(context.Background())
		err := w.runIn(start, func(ctx context.Context) error {
			h := executor.Go(ctx, task(func(ctx context.Context) error {
				child := executor.Go(ctx, task(func(ctx context.Context) error {
					err := forever(ctx)
					is(w, context.Cause(ctx), errTest)
					is(w, context.Cause(context.WithValue(ctx, other{}, 2)), errTest)
					is(w, nop(ctx), errTest)
					derived, cancel := context.WithCancel(ctx)
					defer cancel()
					is(w, context.Cause(derived), errTest)
					return err
				}))
				if err := executor.Sleep(ctx, time.Millisecond); err != nil {
					return err
				}
				cancel(errTest)
				_, err := child.Join(context.WithoutCancel(ctx))
				is(w, err, errTest)
				is(w, err, context.Canceled)
				return nil
			}))
			_, err := h.Join(context.WithoutCancel(ctx))
			return err
		})
		if err != nil {
			w.Error(err)
		}
	})
}

// A child that is started with a context that ends by itself ends with it.
func TestChildEndsWithItsContext(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
			defer cancel()
			h := executor.Go(short, task(func(ctx context.Context) error {
				err := forever(ctx)
				is(w, ctx.Err(), context.DeadlineExceeded)
				return err
			}))
			_, err := h.Join(ctx)
			is(w, err, context.DeadlineExceeded)
			is(w, err, os.ErrDeadlineExceeded)
			return nil
		})
	})
}

// Libraries start goroutines and hand them the context they were given.
func TestErrgroupInsideATask(t *testing.T) {
	everywhere(t, func(w *world) {
		r, wr := pipe(w)
		w.ok(func(ctx context.Context) error {
			// Without Block the task holds its worker, and the operations work nevertheless.
			for i, wait := range []func(*errgroup.Group) error{
				(*errgroup.Group).Wait,
				func(g *errgroup.Group) error {
					_, err := executor.Block(ctx, func() (int, error) { return 0, g.Wait() })
					return err
				},
			} {
				if w.local && i == 0 {
					continue // the task would hold the driver itself
				}
				g, group := errgroup.WithContext(ctx)
				for range 20 {
					g.Go(func() error {
						for range 5 {
							if err := nop(group); err != nil {
								return err
							}
							if err := executor.Sleep(group, time.Microsecond); err != nil {
								return err
							}
						}
						return executor.Yield(group)
					})
				}
				if err := wait(g); err != nil {
					return err
				}

				// One fails, and the others' operations are cancelled.
				g, group = errgroup.WithContext(ctx)
				for range 5 {
					g.Go(func() error {
						_, _, err := read(group, r, make([]byte, 8))
						is(w, err, context.Canceled)
						return err
					})
				}
				g.Go(func() error { time.Sleep(2 * time.Millisecond); return errTest })
				is(w, wait(g), errTest)
			}
			return write(ctx, wr, "the pipe still works")
		})
	})
}

// Without any executor: a plain goroutine whose context carries a driver.
func TestPlainGoroutine(t *testing.T) {
	for _, engine := range engines(t) {
		t.Run(engine.String(), func(t *testing.T) {
			clean(t)
			d, err := driver.Open(driver.Config{Engine: engine})
			if err != nil {
				t.Fatal(err)
			}
			ctx := driver.NewContext(context.Background(), d)
			rd, wr := pipe(t)
			if err := write(ctx, wr, "data"); err != nil {
				t.Error(err)
			}
			if n, buf, err := read(ctx, rd, make([]byte, 8)); err != nil || string(buf[:n]) != "data" {
				t.Errorf("%q, %v", buf[:n], err)
			}
			short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
			defer cancel()
			_, buf, err := read(short, rd, make([]byte, 8))
			is(t, err, os.ErrDeadlineExceeded)
			if len(buf) != 8 {
				t.Error("the buffer did not come back")
			}
			is(t, executor.Sleep(short, time.Hour), os.ErrDeadlineExceeded)
			is(t, nop(short), os.ErrDeadlineExceeded)
			_, err = executor.Go(ctx, task(nop)).Join(ctx)
			is(t, err, executor.ErrNoRuntime)
			if !executor.CallerOf(ctx).MayBlock() {
				t.Error("a plain goroutine may not block")
			}
			if err := d.Close(context.Background()); err != nil {
				t.Error(err)
			}
			is(t, nop(ctx), driver.ErrClosed)
		})
	}
}

// A context of the driver that does not descend from the task, as connection pools use: the task waits like with its own.
func TestDriverContextInsideATask(t *testing.T) {
	everywhere(t, func(w *world) {
		rd, wr := pipe(w)
		w.ok(func(ctx context.Context) error {
			d, err := driver.FromContext(ctx)
			if err != nil {
				return err
			}
			plain := driver.NewContext(context.Background(), d)
			h := executor.GoHere(ctx, task(func(ctx context.Context) error {
				if err := executor.Yield(ctx); err != nil {
					return err
				}
				return write(ctx, wr, "data")
			}))
			// On one worker the other task must run while this one waits.
			if _, buf, err := read(plain, rd, make([]byte, 4)); err != nil || string(buf) != "data" {
				w.Errorf("%q, %v", buf, err)
			}
			if w.coop() && executor.CallerOf(plain).MayBlock() {
				w.Error("a task that shares its goroutine may block")
			}
			_, err = h.Join(context.Background())
			return err
		})
	})
}

// Results that come over a channel, from inside a task.
func TestSubmitInsideATask(t *testing.T) {
	everywhere(t, func(w *world) {
		rd, _ := pipe(w)
		w.ok(func(ctx context.Context) error {
			d, err := driver.FromContext(ctx)
			if err != nil {
				return err
			}
			// More than the driver's channel holds.
			var all []*driver.Pending[struct{}]
			for range 3000 {
				all = append(all, driver.Submit(d, ops.Nop()))
			}
			for _, p := range all {
				if r := p.Wait(ctx); r.Err != nil {
					return r.Err
				}
			}
			short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
			defer cancel()
			r := driver.Submit(d, ops.ReadAt(rd, make([]byte, 8), -1)).Wait(short)
			is(w, r.Err, os.ErrDeadlineExceeded)
			if len(r.Buf) != 8 {
				w.Error("the buffer did not come back")
			}
			return nil
		})
	})
}

// The most common slip of Go closures: a task that uses the context of the one that started it. It works as with its own.
func TestContextOfAnotherTask(t *testing.T) {
	everywhere(t, func(w *world) {
		rd, wr := pipe(w)
		w.ok(func(outer context.Context) error {
			met := new(executor.Event)
			reader := executor.GoHere(outer, func(context.Context) (string, error) {
				if err := met.Wait(outer); err != nil {
					return "", err
				}
				_, buf, err := read(outer, rd, make([]byte, 4))
				return string(buf), err
			})
			writer := executor.GoHere(outer, task(func(context.Context) error {
				if err := executor.Sleep(outer, time.Millisecond); err != nil {
					return err
				}
				met.Set()
				if err := executor.Yield(outer); err != nil {
					return err
				}
				if w.coop() && executor.CallerOf(outer).MayBlock() {
					w.Error("a task that shares its goroutine may block")
				}
				if err := write(outer, wr, "data"); err != nil {
					return err
				}
				if v, err := reader.Join(outer); v != "data" || err != nil {
					w.Errorf("%q, %v", v, err)
				}
				_, err := executor.Block(outer, func() (int, error) { time.Sleep(time.Millisecond); return 0, nil })
				return err
			}))
			_, err := writer.Join(outer)
			return err
		})
	})
}

// The borrowed context's end ends the wait, and the borrower's own does not.
func TestEndsOfABorrowedContext(t *testing.T) {
	everywhere(t, func(w *world) {
		r, _ := pipe(w)
		w.ok(func(ctx context.Context) error {
			lent := make(chan context.Context, 1)
			lender := executor.GoHere(ctx, task(func(ctx context.Context) error {
				lent <- ctx
				return forever(ctx)
			}))
			for len(lent) == 0 { // a task may not wait for a channel, and on a slow machine a short sleep is over at once
				if err := executor.Yield(ctx); err != nil {
					return err
				}
			}
			borrowed := <-lent
			var all []*executor.JoinHandle[struct{}]
			for _, wait := range []func(ctx context.Context) error{
				forever,
				func(ctx context.Context) error { _, _, err := read(ctx, r, make([]byte, 8)); return err },
			} {
				if w.name == "pool" && len(all) == 1 {
					break // each keeps its place, and the root needs one of the two
				}
				all = append(all, executor.GoHere(ctx, task(func(ctx context.Context) error {
					is(w, wait(borrowed), context.Canceled)
					return nop(ctx)
				})))
			}
			if err := executor.Sleep(ctx, 5*time.Millisecond); err != nil {
				return err
			}
			lender.Abort()
			for _, h := range all {
				if _, err := h.Join(ctx); err != nil {
					w.Error(err)
				}
			}
			_, err := lender.Join(ctx)
			is(w, err, context.Canceled)
			return nil
		})
	})
}

// mixed is a context of a type that no library knows: it ends with its channel.
type mixed struct {
	context.Context
	done chan struct{}
}

func (m mixed) Done() <-chan struct{} { return m.done }

func (m mixed) Err() error {
	select {
	case <-m.done:
		return context.Canceled
	default:
		return nil
	}
}

func TestContextOfAnUnknownType(t *testing.T) {
	everywhere(t, func(w *world) {
		r, wr := pipe(w)
		w.ok(func(ctx context.Context) error {
			for _, wait := range []func(ctx context.Context) error{
				forever,
				new(executor.Event).Wait,
				func(ctx context.Context) error { _, _, err := read(ctx, r, make([]byte, 8)); return err },
				func(ctx context.Context) error {
					_, err := executor.Go(ctx, task(forever)).Join(context.WithoutCancel(ctx))
					return err
				},
			} {
				m := mixed{ctx, make(chan struct{})}
				if err := nop(m); err != nil {
					return err
				}
				time.AfterFunc(2*time.Millisecond, func() { close(m.done) })
				is(w, wait(m), context.Canceled)
				is(w, wait(m), context.Canceled)
				is(w, nop(m), context.Canceled)
				// Values only: the end is the task's.
				if err := nop(context.WithValue(ctx, m, 1)); err != nil {
					return err
				}
			}
			return write(ctx, wr, "data")
		})
	})
}

// A task that is started with a context which ends with its starter, and no sooner, does not end with the starter's deadline, and names none.
func TestDeadlineOfTheStarter(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			short, cancel := context.WithDeadline(ctx, time.Now().Add(time.Hour))
			defer cancel()
			_, err := executor.Go(short, task(func(starter context.Context) error {
				if _, ok := starter.Deadline(); !ok {
					w.Error("the starter has no deadline")
				}
				type key struct{}
				for what, with := range map[string]context.Context{"its own": starter, "derived": context.WithValue(starter, key{}, 1)} {
					_, err := executor.Go(with, task(func(ctx context.Context) error {
						if d, ok := ctx.Deadline(); ok {
							w.Errorf("%s: a deadline at %v", what, d)
						}
						if ctx.Value(key{}) != with.Value(key{}) {
							w.Errorf("%s: the value is %v", what, ctx.Value(key{}))
						}
						// What it starts in turn has none either.
						_, err := executor.Go(ctx, task(func(ctx context.Context) error {
							if d, ok := ctx.Deadline(); ok || ctx.Value(key{}) != with.Value(key{}) {
								w.Errorf("%s, once more: %v, %v, %v", what, d, ok, ctx.Value(key{}))
							}
							return nil
						})).Join(ctx)
						return err
					})).Join(starter)
					if err != nil {
						return err
					}
				}
				return nil
			})).Join(ctx)
			return err
		})
	})
}
