package executor_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/testenv"
)

// echo sends a number through a pipe and checks that it comes back.
func echo(ctx context.Context, rd, wr, i int) error {
	want := strconv.Itoa(i)
	if err := write(ctx, wr, want); err != nil {
		return err
	}
	n, buf, err := read(ctx, rd, make([]byte, 20))
	if err == nil && string(buf[:n]) != want {
		return fmt.Errorf("read %q, want %q", buf[:n], want)
	}
	return err
}

// Goroutines use a task's context while it runs, while it waits and when it has ended. Nobody gets another's result.
func TestForeignGoroutines(t *testing.T) {
	everywhere(t, func(w *world) {
		var p pipes
		defer p.close()
		var foreign sync.WaitGroup
		var ended atomic.Bool
		w.ok(func(ctx context.Context) error {
			var working atomic.Int32
			h := executor.Go(ctx, task(func(ctx context.Context) error {
				for range 100 {
					rd, wr, err := p.open()
					if err != nil {
						return err
					}
					working.Add(1)
					foreign.Go(func() {
						for i := range rounds(1000) {
							if err := echo(ctx, rd, wr, i); err != nil {
								w.Error(err)
							}
						}
						working.Add(-1)
						for !ended.Load() {
							if err := nop(ctx); err != nil {
								is(w, err, context.Canceled, driver.ErrClosed)
							}
							time.Sleep(50 * time.Microsecond)
						}
						is(w, echo(ctx, rd, wr, 0), context.Canceled)
						last := echo(context.WithoutCancel(ctx), rd, wr, 0)
						if last != nil {
							is(w, last, driver.ErrClosed)
						}
					})
				}
				rd, wr, err := p.open()
				if err != nil {
					return err
				}
				for i := 0; working.Load() > 0; i++ {
					if err := echo(ctx, rd, wr, i); err != nil {
						return err
					}
					if i%10 == 0 {
						if err := executor.Sleep(ctx, 100*time.Microsecond); err != nil {
							return err
						}
					}
				}
				return nil
			}))
			if _, err := h.Join(ctx); err != nil {
				return err
			}
			ended.Store(true)
			return executor.Sleep(ctx, time.Millisecond)
		})
		w.soon(patience, "the goroutines", foreign.Wait)
	})
}

// numbers is an iterator that performs operations.
func numbers(ctx context.Context, rd, wr int) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := range 3 {
			if !yield(i, echo(ctx, rd, wr, i)) {
				return
			}
		}
	}
}

// through passes a sequence through a coroutine of its own.
func through[A, B any](seq iter.Seq2[A, B]) iter.Seq2[A, B] {
	return func(yield func(A, B) bool) {
		next, stop := iter.Pull2(seq)
		defer stop()
		for a, b, ok := next(); ok; a, b, ok = next() {
			if !yield(a, b) {
				return
			}
		}
	}
}

// inside calls f on a coroutine inside the task, as deep as wanted.
func inside(depth int, f func() error) (err error) {
	next, stop := iter.Pull(func(yield func(error) bool) {
		if depth > 1 {
			yield(inside(depth-1, f))
		} else {
			yield(f())
		}
	})
	defer stop()
	err, _ = next()
	return err
}

// A coroutine inside the task is not the task, and waits all the same.
func TestIteratorInsideATask(t *testing.T) {
	everywhere(t, func(w *world) {
		rd, wr := pipe(w)
		w.ok(func(ctx context.Context) error {
			other := executor.GoHere(ctx, task(func(ctx context.Context) error {
				for range 20 {
					if err := nop(ctx); err != nil {
						return err
					}
				}
				return nil
			}))
			for depth := range 3 {
				seq := numbers(ctx, rd, wr)
				for range depth {
					seq = through(seq)
				}
				seen := 0
				for i, err := range seq {
					if err != nil || i != seen {
						return fmt.Errorf("depth %d: number %d, %w", depth, i, err)
					}
					seen++
					if err := nop(ctx); err != nil { // between, the task itself
						return err
					}
				}
				if seen != 3 {
					w.Errorf("depth %d: %d numbers", depth, seen)
				}
			}
			for depth := 1; depth <= 3; depth++ {
				err := inside(depth, func() error {
					if err := executor.Sleep(ctx, time.Millisecond); err != nil {
						return err
					}
					if err := executor.Yield(ctx); err != nil {
						return err
					}
					if v, err := executor.Block(ctx, func() (int, error) { time.Sleep(time.Millisecond); return 7, nil }); v != 7 || err != nil {
						return fmt.Errorf("Block: %d, %w", v, err)
					}
					var e executor.Event
					time.AfterFunc(time.Millisecond, e.Set)
					if err := e.Wait(ctx); err != nil {
						return err
					}
					if w.local && executor.CallerOf(ctx).MayBlock() {
						return errors.New("an iterator on the driver's thread may block")
					}
					derived, cancel := context.WithTimeout(ctx, 2*time.Millisecond)
					defer cancel()
					_, buf, err := read(derived, rd, make([]byte, 8))
					is(w, err, os.ErrDeadlineExceeded)
					if len(buf) != 8 {
						w.Error("the buffer did not come back")
					}
					is(w, executor.Sleep(derived, time.Hour), os.ErrDeadlineExceeded)
					d, err := driver.FromContext(ctx)
					if err != nil {
						return err
					}
					return errors.Join(nop(ctx), nop(context.WithoutCancel(ctx)), nop(driver.NewContext(context.Background(), d)))
				})
				if err != nil {
					return fmt.Errorf("depth %d: %w", depth, err)
				}
			}
			_, err := other.Join(ctx)
			return err
		})
	})
}

// The iterator waits for what another task of the same worker has submitted, but which has not left for the driver yet.
func TestIteratorWaitsForAQueuedOperation(t *testing.T) {
	everywhere(t, func(w *world) {
		var p pipes
		defer p.close()
		w.ok(func(ctx context.Context) error {
			for depth := 1; depth <= 2; depth++ {
				rd, wr, err := p.open()
				if err != nil {
					return err
				}
				writer := executor.GoHere(ctx, task(func(ctx context.Context) error { return write(ctx, wr, "data") }))
				reader := executor.GoHere(ctx, func(ctx context.Context) (string, error) {
					var got []byte
					err := inside(depth, func() (err error) {
						_, got, err = read(ctx, rd, make([]byte, 4))
						return err
					})
					return string(got), err
				})
				if v, err := reader.Join(ctx); v != "data" || err != nil {
					w.Errorf("%q, %v", v, err)
				}
				if _, err := writer.Join(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// The task is aborted while it waits in an iterator.
func TestAbortInsideAnIterator(t *testing.T) {
	everywhere(t, func(w *world) {
		rd, _ := pipe(w)
		never := new(executor.Event)
		w.ok(func(ctx context.Context) error {
			for _, wait := range []func(ctx context.Context) error{
				forever,
				never.Wait,
				func(ctx context.Context) error { _, _, err := read(ctx, rd, make([]byte, 8)); return err },
			} {
				for depth := 1; depth <= 2; depth++ {
					begun := make(chan struct{})
					h := executor.GoHere(ctx, task(func(ctx context.Context) error {
						close(begun)
						err := inside(depth, func() error { return wait(ctx) })
						is(w, err, context.Canceled)
						is(w, nop(ctx), context.Canceled)
						return nop(context.WithoutCancel(ctx))
					}))
					go func() {
						<-begun
						time.Sleep(2 * time.Millisecond)
						h.Abort()
					}()
					if _, err := h.Join(ctx); err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
}

// Start ends while a task waits in an iterator.
func TestEndInsideAnIterator(t *testing.T) {
	everywhere(t, func(w *world) {
		rd, _ := pipe(w)
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(5*time.Millisecond, cancel)
		var err error
		w.soon(2*time.Second, "Start", func() {
			err = w.start(ctx, func(ctx context.Context) error {
				executor.Go(ctx, task(forever))
				return inside(2, func() error { _, _, err := read(ctx, rd, make([]byte, 8)); return err })
			})
		})
		is(w, err, context.Canceled)
	})
}

// Joining from an iterator: on Local the other task could not run, and the error says so. On Workers it can be a wait for ever, like
// any Go primitive that waits for another task of the same worker; the context ends it.
func TestJoinInsideAnIterator(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			ended := executor.GoHere(ctx, func(ctx context.Context) (int, error) { return 7, nil })
			if _, err := ended.Join(ctx); err != nil {
				return err
			}
			if err := inside(1, func() error { _, err := ended.Join(ctx); return err }); err != nil {
				w.Errorf("joining an ended task: %v", err)
			}
			h := executor.GoHere(ctx, func(ctx context.Context) (int, error) { return 7, nop(ctx) })
			with := ctx
			if w.coop() && !w.local { // or it waits for ever
				short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
				defer cancel()
				with = short
			}
			err := inside(2, func() error { _, err := h.Join(with); return err })
			switch {
			case w.local:
				is(w, err, executor.ErrNested)
			case w.coop():
				is(w, err, context.DeadlineExceeded)
			case err != nil:
				w.Error(err)
			}
			if v, err := h.Join(ctx); v != 7 || err != nil {
				w.Errorf("%d, %v", v, err)
			}
			// A task can be started from there.
			var started *executor.JoinHandle[int]
			_ = inside(2, func() error {
				started = executor.GoHere(ctx, func(ctx context.Context) (int, error) { return 8, nop(ctx) })
				return nil
			})
			if v, err := started.Join(ctx); v != 8 || err != nil {
				w.Errorf("%d, %v", v, err)
			}
			return nil
		})
	})
}

// Many tasks of one worker wait in iterators, in turns.
func TestIteratorsBesideEachOther(t *testing.T) {
	everywhere(t, func(w *world) {
		var p pipes
		defer p.close()
		w.ok(func(ctx context.Context) error {
			var all []*executor.JoinHandle[struct{}]
			for range 20 {
				rd, wr, err := p.open()
				if err != nil {
					return err
				}
				all = append(all, executor.Go(ctx, task(func(ctx context.Context) error {
					for range 3 {
						for i, err := range through(through(numbers(ctx, rd, wr))) {
							if err != nil {
								return err
							}
							if i == 1 {
								if err := executor.Yield(ctx); err != nil {
									return err
								}
							}
						}
					}
					return echo(ctx, rd, wr, 0)
				})))
			}
			for _, h := range all {
				if _, err := h.Join(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// On Local all tasks run on one thread, the driver's, for good. Foreign goroutines do not.
func TestLocalThread(t *testing.T) {
	where(t, func(w *world) bool { return w.local }, func(w *world) {
		w.ok(func(ctx context.Context) error {
			tid := unix.Gettid()
			var all []*executor.JoinHandle[struct{}]
			for range 20 {
				all = append(all, executor.Go(ctx, task(func(ctx context.Context) error {
					for range 10 {
						if got := unix.Gettid(); got != tid {
							return fmt.Errorf("on thread %d, not %d", got, tid)
						}
						if err := nop(ctx); err != nil {
							return err
						}
						if err := executor.Sleep(ctx, time.Microsecond); err != nil {
							return err
						}
					}
					return inside(1, func() error {
						err := nop(ctx)
						if got := unix.Gettid(); got != tid {
							return fmt.Errorf("on thread %d, not %d", got, tid)
						}
						return err
					})
				})))
			}
			for _, h := range all {
				if _, err := h.Join(ctx); err != nil {
					return err
				}
			}
			other, err := executor.Block(ctx, func() (int, error) { return unix.Gettid(), nil })
			if other == tid {
				w.Error("Block runs on the driver's thread")
			}
			return err
		})
	})
}

// The next task on the same coroutine uses the context of one that has ended there: it is not mistaken for that one.
func TestRecycledCoroutine(t *testing.T) {
	everywhere(t, func(w *world) {
		rd, wr := pipe(w)
		w.ok(func(ctx context.Context) error {
			old := make(chan context.Context, 1)
			h := executor.GoHere(ctx, task(func(ctx context.Context) error { old <- ctx; return nop(ctx) }))
			if _, err := h.Join(ctx); err != nil {
				return err
			}
			ended := <-old
			for range 10 {
				met := new(executor.Event)
				h := executor.GoHere(ctx, task(func(ctx context.Context) error {
					is(w, nop(ended), context.Canceled)
					late := context.WithoutCancel(ended)
					if err := met.Wait(late); err != nil {
						return err
					}
					n, buf, err := read(late, rd, make([]byte, 8))
					if err != nil || string(buf[:n]) != "data" {
						w.Errorf("%q, %v", buf[:n], err)
					}
					if err := executor.Yield(late); err != nil {
						return err
					}
					return errors.Join(nop(late), executor.Sleep(late, time.Microsecond), nop(ctx))
				}))
				// On one worker this has to run while the other one waits.
				partner := executor.GoHere(ctx, task(func(ctx context.Context) error {
					met.Set()
					if err := executor.Yield(ctx); err != nil {
						return err
					}
					return write(ctx, wr, "data")
				}))
				if _, err := h.Join(ctx); err != nil {
					return err
				}
				if _, err := partner.Join(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func init() {
	roles["locked"] = func(args []string) {
		w := worldNamed(args[0])
		err := w.start(context.Background(), func(ctx context.Context) error {
			runtime.LockOSThread()
			return nop(ctx)
		})
		fmt.Println("Start returned", err)
	}
}

// worldNamed returns the world of a subprocess test.
func worldNamed(name string) *world {
	for _, w := range worlds() {
		if w.name == name {
			return &w
		}
	}
	panic("no world named " + name)
}

// rerun returns the command that runs this test binary in a role.
func rerun(t testing.TB, ctx context.Context, role string, env ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = testenv.Environ(append(env, roleVar+"="+role)...)
	return cmd
}

// Nothing can catch a task that locks its thread and waits. What the documentation says about it is true: Go ends the process, and
// says why.
func TestLockedThreadEndsTheProcess(t *testing.T) {
	for _, w := range worlds() {
		if !w.coop() {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			out, err := rerun(t, ctx, "locked "+w.name).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "OS thread locking must match locking at coroutine creation") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
