package executor_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"uringo/executor"
)

// Wait returns when all tasks have ended, also those that others of the group have started, and nothing is kept of them.
func TestGroup(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			g := executor.NewGroup(ctx)
			is(w, g.Wait(ctx), nil)
			var ended atomic.Int32
			for range 20 {
				g.Go(func(ctx context.Context) error {
					g.Go(func(ctx context.Context) error {
						defer ended.Add(1)
						return nop(ctx)
					})
					defer ended.Add(1)
					return executor.Yield(ctx)
				})
			}
			is(w, g.Wait(ctx), nil)
			if n := ended.Load(); n != 40 {
				w.Errorf("%d tasks of 40 had ended", n)
			}
			if n := g.Kept(); n != 0 {
				w.Errorf("%d tasks are kept", n)
			}

			// Again, and from outside.
			g.Go(nop)
			_, err := executor.Block(ctx, func() (int, error) { return 0, g.Wait(context.Background()) })
			return err
		})
	})
}

// The first task that fails, in whatever way, cancels the others, and those to come do not run.
func TestGroupFails(t *testing.T) {
	everywhere(t, func(w *world) {
		for _, fail := range []struct {
			f    func(context.Context) error
			want error
		}{
			{func(context.Context) error { return errTest }, errTest},
			{func(context.Context) error { panic(errTest) }, errTest},
			{func(context.Context) error { runtime.Goexit(); return nil }, executor.ErrGoexit},
		} {
			w.ok(func(ctx context.Context) error {
				g := executor.NewGroup(ctx)
				for range 5 {
					g.Go(forever)
				}
				g.Go(fail.f)
				is(w, g.Wait(ctx), fail.want)
				g.Go(func(context.Context) error { w.Error("a task of a group that has failed ran"); return nil })
				is(w, g.Wait(ctx), fail.want)
				if n := g.Kept(); n != 0 {
					w.Errorf("%d tasks are kept", n)
				}
				return ctx.Err() // the group's end is not that of who made it
			})
		}
	})
}

// A wait that ends early leaves the tasks alone, until they are cancelled.
func TestGroupCancel(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			g := executor.NewGroup(ctx)
			var begun executor.Event
			g.Go(func(ctx context.Context) error { begun.Set(); return forever(ctx) })
			if err := begun.Wait(ctx); err != nil {
				return err
			}
			short, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			is(w, g.Wait(short), context.DeadlineExceeded)
			if n := g.Kept(); n != 1 {
				w.Errorf("%d tasks are left", n)
			}
			g.Cancel()
			g.Cancel()
			is(w, g.Wait(ctx), context.Canceled)

			cancelled := executor.NewGroup(ctx)
			cancelled.Cancel()
			is(w, cancelled.Wait(ctx), nil)
			cancelled.Go(func(context.Context) error { w.Error("a task of a cancelled group ran"); return nil })
			is(w, cancelled.Wait(ctx), context.Canceled)
			return nil
		})
	})
}

// The tasks of a group end with the context that it was made with, and outside of tasks there are none.
func TestGroupContext(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			short, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			g := executor.NewGroup(short)
			g.Go(forever)
			is(w, g.Wait(ctx), context.DeadlineExceeded)
			return nil
		})
		g := executor.NewGroup(context.Background())
		g.Go(nop)
		is(w, g.Wait(context.Background()), executor.ErrNoRuntime)
	})
}

// An iterator inside a task of Local cannot wait for the tasks of its thread, and is told so.
func TestGroupInsideAnIterator(t *testing.T) {
	where(t, func(w *world) bool { return w.local }, func(w *world) {
		w.ok(func(ctx context.Context) error {
			g := executor.NewGroup(ctx)
			g.Go(nop)
			is(w, inside(1, func() error { return g.Wait(ctx) }), executor.ErrNested)
			return g.Wait(ctx)
		})
	})
}

// A task that a runtime loses or refuses is no task that a group waits for when it has been cancelled.
func TestGroupOnHostile(t *testing.T) {
	onHostile(t, func(w *world, h *hostile) {
		h.spawn = func(n int32, run func()) error {
			switch {
			case n == 0:
				go run()
			case n%3 == 1:
				run()
			case n == 8:
				return errTest
			}
			return nil // and others never run
		}
		is(w, w.quick(context.Background(), func(ctx context.Context) error {
			g := executor.NewGroup(ctx)
			for range 7 {
				g.Go(nop)
			}
			short, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			is(w, g.Wait(short), context.DeadlineExceeded)
			g.Go(nop) // which is refused
			is(w, g.Wait(ctx), errTest)
			if n := g.Kept(); n != 0 {
				w.Errorf("%d tasks are kept", n)
			}
			return nil
		}), nil)
	})
}

// Many tasks of many groups fail and are cancelled at any moment; who waits hears of it.
func TestGroupRaces(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			for i := range rounds(30) {
				g := executor.NewGroup(ctx)
				for j := range 10 {
					g.Go(func(ctx context.Context) error {
						g.Go(nop)
						switch (i + j) % 10 {
						case 0:
							return errTest
						case 1:
							if i%2 == 0 {
								g.Cancel()
							}
						case 2:
							return forever(ctx)
						}
						return executor.Yield(ctx)
					})
				}
				if err := g.Wait(ctx); !errors.Is(err, errTest) && !errors.Is(err, context.Canceled) {
					w.Errorf("round %d: %v", i, err)
				}
				if n := g.Kept(); n != 0 {
					w.Errorf("%d tasks are kept", n)
				}
			}
			return nil
		})
	})
}

// A task that its runtime runs then and there, and that ends the goroutine of who started it, has ended all the same.
func TestGroupTaskThatTakesItsStarterAlong(t *testing.T) {
	onHostile(t, func(w *world, h *hostile) {
		h.spawn = func(n int32, run func()) error {
			if n < 2 {
				go run()
			} else {
				run()
			}
			return nil
		}
		is(w, w.quick(context.Background(), func(ctx context.Context) error {
			g := executor.NewGroup(ctx)
			g.Go(func(context.Context) error {
				g.Go(func(context.Context) error { runtime.Goexit(); return nil })
				return nil
			})
			is(w, g.Wait(ctx), executor.ErrGoexit)
			return nil
		}), nil)
	})
}

// Who has learned from Wait that a task has failed, as early as can be, starts nothing more.
func TestGroupThatHasFailedTakesNoMore(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			ended, cancel := context.WithCancel(context.Background())
			cancel()
			var ran atomic.Int32
			for range 5 {
				g := executor.NewGroup(ctx)
				var begin executor.Event
				g.Go(func(ctx context.Context) error { is(w, begin.Wait(ctx), nil); return errTest })
				_, err := executor.Block(ctx, func() (struct{}, error) {
					var askers sync.WaitGroup
					for range 16 { // so many that who has given up the group's lock waits for it
						askers.Go(func() {
							begin.Set()
							for i := 1; g.Wait(ended) != errTest; i++ {
								if i%1000 == 0 {
									runtime.Gosched() // on one processor, the task is to get it soon
								}
							}
							g.Go(func(context.Context) error { ran.Add(1); return nil })
						})
					}
					askers.Wait()
					return struct{}{}, nil
				})
				if err != nil {
					return err
				}
				is(w, g.Wait(ctx), errTest)
			}
			if n := ran.Load(); n > 0 {
				w.Errorf("%d tasks ran", n)
			}
			return nil
		})
	})
}

// A group inside a group outlives the task that made it, unless it was made with a context that ends with the task.
func TestGroupInsideAGroup(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			outer := executor.NewGroup(ctx)
			var detached, attached *executor.Group
			var made executor.Event
			outer.Go(func(ctx context.Context) error {
				derived, cancel := context.WithCancel(ctx)
				defer cancel()
				detached, attached = executor.NewGroup(ctx), executor.NewGroup(derived)
				detached.Go(forever)
				attached.Go(forever)
				made.Set()
				return attached.Wait(ctx)
			})
			is(w, made.Wait(ctx), nil)
			outer.Cancel()
			is(w, outer.Wait(ctx), context.Canceled)
			is(w, attached.Wait(ctx), context.Canceled)
			if n := detached.Kept(); n != 1 {
				w.Errorf("%d tasks are left", n)
			}
			detached.Cancel()
			is(w, detached.Wait(ctx), context.Canceled)
			return nil
		})
	})
}

// A group that NewGroup has not made says so.
func TestGroupOfNothing(t *testing.T) {
	var g executor.Group
	is(t, g.Wait(context.Background()), nil)
	g.Cancel()
	defer func() {
		if s, _ := recover().(string); !strings.Contains(s, "NewGroup") {
			t.Errorf("the panic is %q", s)
		}
	}()
	g.Go(nop)
}

// A goroutine waits for a group to which tasks are just being added.
func TestGroupWaitBesideGo(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			g := executor.NewGroup(ctx)
			_, err := executor.Block(ctx, func() (struct{}, error) {
				var adders sync.WaitGroup
				for range 2 {
					adders.Go(func() {
						for range rounds(2000) {
							g.Go(nop)
						}
					})
				}
				var waiter sync.WaitGroup
				var added atomic.Bool
				waiter.Go(func() {
					for !added.Load() {
						is(w, g.Wait(context.Background()), nil)
					}
				})
				adders.Wait()
				added.Store(true)
				waiter.Wait()
				return struct{}{}, nil
			})
			return err
		})
	})
}
