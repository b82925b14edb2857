package executor_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"uringo/driver"
	"uringo/executor"
	"uringo/ops"
)

func TestGoAndJoin(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			for _, start := range []func(context.Context, func(context.Context) (string, error)) *executor.JoinHandle[string]{
				executor.Go[string], executor.GoHere[string]} {
				h := start(ctx, func(ctx context.Context) (string, error) {
					if err := nop(ctx); err != nil {
						return "", err
					}
					return "value", errTest
				})
				for range 2 {
					if v, err := h.Join(ctx); v != "value" || err != errTest {
						w.Errorf("Join: %q, %v", v, err)
					}
				}
			}
			return nil
		})
	})
}

func TestJoinFromSeveralTasks(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			begin := new(executor.Event)
			h := executor.Go(ctx, func(ctx context.Context) (int, error) { return 7, begin.Wait(ctx) })
			var all []*executor.JoinHandle[int]
			for range 20 {
				all = append(all, executor.Go(ctx, func(ctx context.Context) (int, error) { return h.Join(ctx) }))
			}
			if err := executor.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
			begin.Set()
			for _, j := range all {
				if v, err := j.Join(ctx); v != 7 || err != nil {
					w.Errorf("Join: %d, %v", v, err)
				}
			}
			return nil
		})
	})
}

// Join's context is the caller's: when it ends, the task goes on.
func TestJoinGivesUp(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			proceed := new(executor.Event)
			h := executor.Go(ctx, func(ctx context.Context) (int, error) { return 7, proceed.Wait(ctx) })
			short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
			defer cancel()
			v, err := h.Join(short)
			is(w, err, context.DeadlineExceeded)
			if v != 0 {
				w.Errorf("the value of a failed Join is %d", v)
			}
			_, err = h.Join(short)
			is(w, err, context.DeadlineExceeded)
			proceed.Set()
			if v, err = h.Join(ctx); v != 7 || err != nil {
				w.Errorf("Join: %d, %v", v, err)
			}
			// What has ended can be joined with any context.
			if v, err = h.Join(short); v != 7 || err != nil {
				w.Errorf("Join of an ended task: %d, %v", v, err)
			}
			return nil
		})
	})
}

// Join works from goroutines that are no tasks.
func TestJoinFromOutside(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			h := executor.Go(ctx, func(ctx context.Context) (int, error) { return 7, executor.Sleep(ctx, 5*time.Millisecond) })
			joined := new(executor.Event)
			var all sync.WaitGroup
			for _, ctx := range []context.Context{ctx, context.Background()} {
				all.Go(func() {
					if v, err := h.Join(ctx); v != 7 || err != nil {
						w.Errorf("Join: %d, %v", v, err)
					}
				})
			}
			go func() { all.Wait(); joined.Set() }()
			return joined.Wait(ctx)
		})
	})
}

func TestAbortBeforeTheFirstRun(t *testing.T) {
	everywhere(t, func(w *world) {
		if w.name == "goroutines" {
			return // begins at once
		}
		w.ok(func(ctx context.Context) error {
			// Take every place that the task could run in: the root has one of the two.
			release := make(chan struct{})
			blockers := 0
			var all []*executor.JoinHandle[struct{}]
			if !w.coop() {
				blockers = 1
				busy := make(chan struct{})
				all = append(all, executor.Go(ctx, task(func(context.Context) error { close(busy); <-release; return nil })))
				<-busy
			}
			for range 10 {
				h := executor.GoHere(ctx, task(func(context.Context) error { w.Error("an aborted task ran"); return nil }))
				h.Abort()
				h.Abort()
				all = append(all, h)
			}
			close(release)
			for i, h := range all {
				_, err := h.Join(ctx)
				if i < blockers {
					if err != nil {
						w.Error(err)
					}
					continue
				}
				is(w, err, context.Canceled)
			}
			return nil
		})
	})
}

func TestAbortWhileWaiting(t *testing.T) {
	everywhere(t, func(w *world) {
		r, _ := pipe(w)
		never := new(executor.Event)
		for name, wait := range map[string]func(ctx context.Context) error{
			"sleep":   forever,
			"event":   never.Wait,
			"read":    func(ctx context.Context) error { _, _, err := read(ctx, r, make([]byte, 8)); return err },
			"timeout": func(ctx context.Context) error { return executor.Do(ctx, ops.Timeout(time.Hour)).Err },
			"poll":    func(ctx context.Context) error { return executor.Do(ctx, ops.PollAdd(r, 1)).Err },
			"join": func(ctx context.Context) error {
				h := executor.Go(ctx, task(never.Wait))
				defer h.Abort()
				_, err := h.Join(ctx)
				return err
			},
			"derived": func(ctx context.Context) error {
				ctx, cancel := context.WithTimeout(context.WithValue(ctx, other{}, 2), time.Hour)
				defer cancel()
				_, _, err := read(ctx, r, make([]byte, 8))
				return err
			},
			"yield": func(ctx context.Context) error {
				for {
					if err := executor.Yield(ctx); err != nil {
						return err
					}
				}
			},
		} {
			w.ok(func(ctx context.Context) error {
				begun := new(executor.Event)
				h := executor.Go(ctx, task(func(ctx context.Context) error {
					begun.Set()
					err := wait(ctx)
					// It stays cancelled.
					is(w, nop(ctx), context.Canceled)
					is(w, forever(ctx), context.Canceled)
					return err
				}))
				other := executor.Go(ctx, task(func(ctx context.Context) error { return executor.Sleep(ctx, 5*time.Millisecond) }))
				if err := begun.Wait(ctx); err != nil {
					return err
				}
				if err := executor.Sleep(ctx, time.Millisecond); err != nil {
					return err
				}
				h.Abort()
				h.Abort()
				if _, err := h.Join(ctx); !errors.Is(err, context.Canceled) {
					w.Errorf("%s: %v", name, err)
				}
				_, err := other.Join(ctx)
				return err
			})
		}
	})
}

func TestAbortAfterTheEnd(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			h := executor.Go(ctx, func(context.Context) (int, error) { return 7, nil })
			if _, err := h.Join(ctx); err != nil {
				return err
			}
			h.Abort()
			if v, err := h.Join(ctx); v != 7 || err != nil {
				w.Errorf("Join after Abort of an ended task: %d, %v", v, err)
			}
			return nil
		})
	})
}

// Abort is no error of its own: a task that succeeds in spite of it has succeeded.
func TestAbortIgnored(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			begun := new(executor.Event)
			h := executor.Go(ctx, func(ctx context.Context) (int, error) {
				begun.Set()
				_ = forever(ctx)
				return 7, nil
			})
			if err := begun.Wait(ctx); err != nil {
				return err
			}
			h.Abort()
			if v, err := h.Join(ctx); v != 7 || err != nil {
				w.Errorf("Join: %d, %v", v, err)
			}
			return nil
		})
	})
}

// Abort at every moment of a task's life: it ends with its value or as cancelled.
func TestAbortRaces(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			for i := range rounds(2000) {
				h := executor.Go(ctx, func(ctx context.Context) (int, error) {
					for range 3 {
						if err := nop(ctx); err != nil {
							return 0, err
						}
					}
					return 7, nil
				})
				aborted := make(chan struct{})
				go func() {
					for range i % 50 * 20 {
						runtime.Gosched()
					}
					h.Abort()
					close(aborted)
				}()
				v, err := h.Join(ctx)
				if err == nil && v != 7 || err != nil && (v != 0 || !errors.Is(err, context.Canceled)) {
					w.Errorf("Join: %d, %v", v, err)
				}
				<-aborted
			}
			return nil
		})
	})
}

func TestChildOutlivesItsParent(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			proceed := new(executor.Event)
			parent := executor.Go(ctx, func(ctx context.Context) (*executor.JoinHandle[int], error) {
				ctx = context.WithValue(ctx, other{}, "inherited")
				return executor.Go(ctx, func(ctx context.Context) (int, error) {
					if err := proceed.Wait(ctx); err != nil {
						return 0, err
					}
					if v := ctx.Value(other{}); v != "inherited" {
						w.Errorf("the child's context has %v", v)
					}
					return 7, nop(ctx)
				}), nil
			})
			child, err := parent.Join(ctx)
			if err != nil {
				return err
			}
			parent.Abort()
			proceed.Set()
			if v, err := child.Join(ctx); v != 7 || err != nil {
				w.Errorf("the child returned %d, %v", v, err)
			}
			return nil
		})
	})
}

// Tasks that each start their successor and end, for ever: nothing of the ended ones remains.
func TestRelayOfTasks(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			var collected atomic.Int64
			n := int64(rounds(20_000))
			done := new(executor.Event)
			var relay func(left int64) func(ctx context.Context) error
			relay = func(left int64) func(ctx context.Context) error {
				baton := new([64]byte)
				runtime.AddCleanup(baton, func(struct{}) { collected.Add(1) }, struct{}{})
				return func(ctx context.Context) error {
					defer runtime.KeepAlive(baton)
					if ctx.Value("missing") != nil { // looks through all ancestors, if they are kept
						return errTest
					}
					if left == 0 {
						done.Set()
						return forever(ctx)
					}
					executor.GoHere(ctx, task(relay(left-1)))
					return nil
				}
			}
			executor.Go(ctx, task(relay(n)))
			if err := done.Wait(ctx); err != nil {
				return err
			}
			for begin := time.Now(); time.Since(begin) < patience/2; time.Sleep(time.Millisecond) {
				runtime.GC()
				if collected.Load() > n*9/10 {
					return nil
				}
			}
			return fmt.Errorf("of %d ended tasks %d were collected", n, collected.Load())
		})
	})
}

func TestManyTasks(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			n := rounds(20_000)
			all := make([]*executor.JoinHandle[int], n)
			for i := range all {
				all[i] = executor.Go(ctx, func(ctx context.Context) (int, error) { return i, nop(ctx) })
			}
			for i, h := range all {
				if v, err := h.Join(ctx); v != i || err != nil {
					return fmt.Errorf("task %d: %d, %v", i, v, err)
				}
			}
			return nil
		})
	})
}

// Outside of tasks there is nothing to wait with, and the error says so.
func TestNoRuntime(t *testing.T) {
	clean(t)
	ctx := context.Background()
	if executor.InTask(ctx) {
		t.Error("the context of nobody belongs to a task")
	}
	h := executor.Go(ctx, func(context.Context) (int, error) { t.Error("a task ran"); return 0, nil })
	_, err := h.Join(ctx)
	is(t, err, executor.ErrNoRuntime)
	h.Abort()
	_, err = executor.GoHere(ctx, func(context.Context) (int, error) { t.Error("a task ran"); return 0, nil }).Join(ctx)
	is(t, err, executor.ErrNoRuntime)

	r := executor.Do(ctx, ops.ReadAt(-1, make([]byte, 3), 0))
	is(t, r.Err, driver.ErrNoDriver)
	if len(r.Buf) != 3 {
		t.Error("the buffer did not come back")
	}
	for err, text := range map[error]string{
		executor.ErrNoRuntime: "uringo: context belongs to no task: call from inside executor.Start",
		driver.ErrNoDriver:    "uringo: context carries no driver: call from a task of executor.Start, or use driver.NewContext",
	} {
		if err.Error() != text {
			t.Errorf("%q", err)
		}
	}

	// What needs neither works.
	if err := executor.Sleep(ctx, time.Millisecond); err != nil {
		t.Error(err)
	}
	if err := executor.Yield(ctx); err != nil {
		t.Error(err)
	}
	if v, err := executor.Block(ctx, func() (int, error) { return 7, nil }); v != 7 || err != nil {
		t.Errorf("Block: %d, %v", v, err)
	}
}

// An operation that cannot be prepared fails before anything else, and gives the buffer back.
func TestInvalidOperation(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			r := executor.Do(ctx, ops.Openat(-100, "zero\x00byte", 0, 0))
			if r.Err == nil {
				w.Error("a name with a zero byte was opened")
			}
			return nil
		})
	})
}

// The starter's context may end at any moment, also while the task is being started.
func TestGoWithAContextThatEnds(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			ended, cancel := context.WithCancelCause(ctx)
			cancel(errTest)
			for range rounds(500) {
				h := executor.Go(ended, task(func(context.Context) error { w.Error("a task ran on an ended context"); return nil }))
				_, err := h.Join(ctx)
				is(w, err, context.Canceled)

				ending, cancel := context.WithCancel(ctx)
				go cancel()
				h = executor.Go(ending, task(forever))
				_, err = h.Join(ctx)
				is(w, err, context.Canceled)
			}
			return nil
		})
	})
}
