package executor_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"uringo/driver"
	"uringo/executor"
)

//go:noinline
func culprit(v any) { panic(v) }

// panicked returns the PanicError that err is, whose stack must name a function.
func panicked(t testing.TB, err error, function string) *executor.PanicError {
	t.Helper()
	var p *executor.PanicError
	if !errors.As(err, &p) {
		t.Errorf("not a panic: %v", err)
		return &executor.PanicError{}
	}
	if !strings.Contains(string(p.Stack), function) || !strings.Contains(err.Error(), function) {
		t.Errorf("the stack does not name %s:\n%s", function, p.Stack)
	}
	return p
}

func TestPanics(t *testing.T) {
	everywhere(t, func(w *world) {
		core, logs := observer.New(zapcore.ErrorLevel)
		w.config.Logger = zap.New(core)
		w.ok(func(ctx context.Context) error {
			other := executor.GoHere(ctx, func(ctx context.Context) (int, error) {
				for range 50 {
					if err := nop(ctx); err != nil {
						return 0, err
					}
				}
				return 7, nil
			})
			for _, late := range []bool{false, true} {
				fails := func(v any) error {
					h := executor.GoHere(ctx, task(func(ctx context.Context) error {
						if late {
							if err := nop(ctx); err != nil {
								return err
							}
						}
						culprit(v)
						return nil
					}))
					_, err := h.Join(ctx)
					return err
				}
				err := fails("a value")
				if p := panicked(w, err, "executor_test.culprit"); p.Value != "a value" || !strings.Contains(err.Error(), "a value") {
					w.Errorf("the value is %v, the text %q", p.Value, err)
				}
				err = fails(fmt.Errorf("wrapped: %w", errTest))
				panicked(w, err, "executor_test.culprit")
				is(w, err, errTest)
				var nilPanic *runtime.PanicNilError
				if err := fails(nil); !errors.As(err, &nilPanic) {
					w.Error(err)
				}
				h := executor.Go(ctx, task(func(ctx context.Context) error {
					m := map[string]map[string]int{}["none"]
					m["key"] = 1
					return nil
				}))
				_, err = h.Join(ctx)
				panicked(w, err, "TestPanics")
				var runtimeError runtime.Error
				if !errors.As(err, &runtimeError) {
					w.Errorf("%v is no runtime.Error", err)
				}
			}
			if v, err := other.Join(ctx); v != 7 || err != nil {
				w.Errorf("the other task: %d, %v", v, err)
			}
			return nil
		})
		if n := logs.FilterMessage("task panicked").Len(); n != 8 {
			w.Errorf("%d of 8 panics were logged", n)
		}
	})
}

// A panic of the root is the error of Start, and what is left is cleaned up.
func TestRootPanics(t *testing.T) {
	everywhere(t, func(w *world) {
		err := w.run(func(ctx context.Context) error {
			executor.Go(ctx, task(forever))
			if err := nop(ctx); err != nil {
				return err
			}
			culprit(errTest)
			return nil
		})
		panicked(w, err, "executor_test.culprit")
		is(w, err, errTest)
		is(w, w.run(func(ctx context.Context) error { runtime.Goexit(); return nil }), executor.ErrGoexit)
	})
}

// Many panics in a row, and many tasks that panic while others work.
func TestPanicsInARow(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			var all []*executor.JoinHandle[int]
			for i := range rounds(1000) {
				all = append(all, executor.Go(ctx, func(ctx context.Context) (int, error) {
					if err := nop(ctx); err != nil {
						return 0, err
					}
					if i%2 == 0 {
						panic(i)
					}
					return i, nop(ctx)
				}))
			}
			for i, h := range all {
				v, err := h.Join(ctx)
				if i%2 == 1 && (v != i || err != nil) {
					w.Errorf("task %d: %d, %v", i, v, err)
				}
				if p := (*executor.PanicError)(nil); i%2 == 0 && (!errors.As(err, &p) || p.Value != i) {
					w.Errorf("task %d: %d, %v", i, v, err)
				}
			}
			return nil
		})
	})
}

//go:noinline
func leave() { runtime.Goexit() }

//go:noinline
func nested(depth int) {
	defer func() { _ = depth }()
	if depth == 0 {
		leave()
	}
	nested(depth - 1)
}

// A task may end its goroutine, as t.FailNow does, at any moment: that ends this task alone.
func TestGoexit(t *testing.T) {
	everywhere(t, func(w *world) {
		exits := map[string]func(ctx context.Context) error{
			"at once":      func(context.Context) error { leave(); return nil },
			"after a wait": func(ctx context.Context) error { _ = nop(ctx); leave(); return nil },
			"after a yield": func(ctx context.Context) error {
				_ = executor.Yield(ctx)
				leave()
				return nil
			},
			"nested": func(ctx context.Context) error { nested(50); return nil },
			"while panicking": func(ctx context.Context) error {
				defer leave()
				panic("never seen")
			},
			"in an iterator": func(ctx context.Context) error {
				next, stop := iter.Pull(func(yield func(int) bool) { leave() })
				defer stop()
				next()
				return nil
			},
			"from FailNow": func(ctx context.Context) error {
				new(fakeT).FailNow()
				return nil
			},
			"with work in its deferred functions": func(ctx context.Context) error {
				defer func() {
					if err := nop(ctx); err != nil {
						w.Error(err)
					}
					if err := executor.Sleep(ctx, time.Microsecond); err != nil {
						w.Error(err)
					}
				}()
				leave()
				return nil
			},
		}
		w.ok(func(ctx context.Context) error {
			other := executor.GoHere(ctx, func(ctx context.Context) (int, error) {
				for range 50 {
					if err := nop(ctx); err != nil {
						return 0, err
					}
				}
				return 7, nil
			})
			for name, exit := range exits {
				before := executor.GoHere(ctx, task(nop))
				h := executor.GoHere(ctx, task(exit))
				after := executor.GoHere(ctx, task(nop))
				if _, err := h.Join(ctx); !errors.Is(err, executor.ErrGoexit) {
					w.Errorf("%s: %v", name, err)
				}
				if _, err := before.Join(ctx); err != nil {
					w.Error(err)
				}
				if _, err := after.Join(ctx); err != nil {
					w.Error(err)
				}
			}
			if v, err := other.Join(ctx); v != 7 || err != nil {
				w.Errorf("the other task: %d, %v", v, err)
			}
			return nil
		})
	})
}

// fakeT is as much of a testing.T as FailNow needs.
type fakeT struct{}

func (*fakeT) FailNow() { runtime.Goexit() }

// Many in a row, mixed with panics and with work, must not use anything up. On Local the thread stays the same.
func TestGoexitInARow(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			d, err := driver.FromContext(ctx)
			if err != nil {
				return err
			}
			before := runtime.NumGoroutine()
			for i := range rounds(5000) {
				h := executor.Go(ctx, task(func(ctx context.Context) error {
					if w.local && !d.OnDriver() {
						return errors.New("not on the driver's thread")
					}
					if i%3 == 0 {
						if err := nop(ctx); err != nil {
							return err
						}
					}
					if i%5 == 0 {
						panic(i)
					}
					leave()
					return nil
				}))
				_, err := h.Join(ctx)
				var p *executor.PanicError
				if i%5 == 0 && errors.As(err, &p) && p.Value == i {
					continue
				}
				if i%5 == 0 || !errors.Is(err, executor.ErrGoexit) {
					return fmt.Errorf("task %d: %w", i, err)
				}
			}
			for range 1000 { // let those that are about to end do so
				if runtime.NumGoroutine() <= before+10 {
					return nil
				}
				if err := executor.Sleep(ctx, time.Millisecond); err != nil {
					return err
				}
			}
			return fmt.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		})
	})
}

// A crowd that is parked when others leave.
func TestGoexitInACrowd(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			var all []*executor.JoinHandle[int]
			go1 := new(executor.Event)
			for i := range 200 {
				all = append(all, executor.Go(ctx, func(ctx context.Context) (int, error) {
					if err := go1.Wait(ctx); err != nil {
						return 0, err
					}
					for range i % 4 {
						if err := nop(ctx); err != nil {
							return 0, err
						}
					}
					if i%3 == 0 {
						leave()
					}
					return i, nop(ctx)
				}))
			}
			if err := executor.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
			go1.Set()
			for i, h := range all {
				v, err := h.Join(ctx)
				if i%3 == 0 {
					is(w, err, executor.ErrGoexit)
				} else if v != i || err != nil {
					w.Errorf("task %d: %d, %v", i, v, err)
				}
			}
			return nil
		})
	})
}

// A task that ended its goroutine is no stalled one.
func TestGoexitIsNoStall(t *testing.T) {
	cooperative(t, func(w *world) {
		core, logs := observer.New(zapcore.WarnLevel)
		w.config.Logger = zap.New(core)
		for try := 1; ; try++ {
			w.ok(func(ctx context.Context) error {
				_, err := executor.GoHere(ctx, task(func(context.Context) error { leave(); return nil })).Join(ctx)
				is(w, err, executor.ErrGoexit)
				return executor.Sleep(ctx, 50*time.Millisecond)
			}, executor.WithStallAfter(10*time.Millisecond))
			reports := logs.FilterMessage("a task holds its worker").TakeAll()
			if len(reports) == 0 {
				return
			}
			if try == 20 { // on a busy machine a task that only waits for its processor is reported, too
				w.Errorf("%d stalls reported each time: %v", len(reports), reports)
				return
			}
			logs.TakeAll()
		}
	})
}

// A nil pointer that has become an error is asked nothing: its methods would panic, where nobody ends the task any more.
func TestErrorThatIsANilPointer(t *testing.T) {
	everywhere(t, func(w *world) {
		none := error((*os.PathError)(nil))
		root := errors.New("only the root's")
		err := w.run(func(ctx context.Context) error {
			if _, err := executor.Go(ctx, task(func(context.Context) error { return none })).Join(ctx); err != none {
				w.Error("the error is another")
			}
			// And as the reason why a task does not begin, or does not wait.
			sub, cancel := context.WithCancelCause(ctx)
			cancel(none)
			if _, err := executor.Go(sub, task(nop)).Join(ctx); !errors.Is(err, context.Canceled) {
				w.Error("a task ran under a context that had ended")
			}
			if _, err := executor.Block(sub, func() (int, error) { return 0, nil }); !errors.Is(err, context.Canceled) {
				w.Error("Block under a context that had ended")
			}
			return root
		})
		if err != root {
			w.Errorf("Start: %v", err)
		}
	})
}

// A logger that panics in its turn, as one of a test that has ended does, or ends the goroutine, keeps no task from ending.
func TestLoggerThatPanics(t *testing.T) {
	for name, f := range map[string]func(){"panic": func() { culprit("by the logger") }, "Goexit": leave} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(w *world) {
				core, _ := observer.New(zapcore.ErrorLevel)
				w.config.Logger = zap.New(zapcore.RegisterHooks(core, func(zapcore.Entry) error { f(); return nil }))
				w.ok(func(ctx context.Context) error {
					_, err := executor.Go(ctx, task(func(context.Context) error { culprit(errTest); return nil })).Join(ctx)
					panicked(w, err, "executor_test.culprit")
					is(w, err, errTest)
					return nil
				})
			})
		})
	}
}

// A panic is reported once, however many tasks hand its error on.
func TestPanicIsReportedOnce(t *testing.T) {
	everywhere(t, func(w *world) {
		core, logs := observer.New(zapcore.ErrorLevel)
		w.config.Logger = zap.New(core)
		err := w.run(func(ctx context.Context) error {
			_, err := executor.Go(ctx, task(func(ctx context.Context) error {
				_, err := executor.Go(ctx, task(func(context.Context) error { culprit(errTest); return nil })).Join(ctx)
				return err
			})).Join(ctx)
			return fmt.Errorf("handed on: %w", err)
		})
		panicked(w, err, "executor_test.culprit")
		if n := logs.FilterMessage("task panicked").Len(); n != 1 {
			w.Errorf("reported %d times", n)
		}
	})
}
