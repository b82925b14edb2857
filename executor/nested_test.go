package executor_test

import (
	"context"
	"errors"
	"iter"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/ops"
)

// A task that starts another runtime holds its worker, but not its driver: tasks in there use that with the context of the outer task, cancel what
// they do there, ask it, and close it.
func TestStartInsideATask(t *testing.T) {
	inners := worlds()
	everywhere(t, func(w *world) {
		for i := range inners {
			inner := inners[i].make()
			w.ok(func(ctx context.Context) error {
				return inStart(ctx, w.engine, inner)
			})
			w.ok(func(ctx context.Context) error { // and one inside of a task
				next, stop := iter.Pull(func(yield func(error) bool) { yield(inStart(ctx, w.engine, inner)) })
				defer stop()
				err, _ := next()
				return err
			})
		}
	})
}

// inStart starts a runtime inside a task, and uses the task's driver there.
func inStart(outer context.Context, engine driver.Engine, inner executor.Executor) error {
	d, err := driver.FromContext(outer)
	if err != nil {
		return err
	}
	return executor.Start(outer, func(ctx context.Context) error {
		if err := nop(outer); err != nil {
			return err
		}
		if r := executor.Await(ctx, driver.Submit(d, ops.Nop())); r.Err != nil {
			return r.Err
		}
		d.Stats()
		if _, err := executor.Block(outer, func() (int, error) { return 0, nop(outer) }); err != nil {
			return err
		}
		short, cancel := context.WithTimeout(outer, time.Millisecond)
		defer cancel()
		if r := executor.Do(short, ops.Timeout(time.Hour)); !errors.Is(r.Err, context.DeadlineExceeded) {
			return errors.Join(errTest, r.Err)
		}
		// One that is left to the end waits for the outer driver, too.
		executor.Go(ctx, task(func(own context.Context) error {
			cancelled, cancel := context.WithCancel(outer)
			defer cancel()
			defer context.AfterFunc(own, cancel)()
			return executor.Do(cancelled, ops.Timeout(time.Hour)).Err
		}))
		for d.Stats().InFlight == 0 {
			if err := executor.Sleep(ctx, 100*time.Microsecond); err != nil {
				return err
			}
		}
		return nil
	}, executor.WithExecutor(inner), executor.WithDriver(driver.Config{Engine: engine, Entries: 8}))
}

// What was started inside a task may close the task's driver: the runtime goes on without.
func TestStartInsideATaskClosesItsDriver(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(outer context.Context) error {
			d, err := driver.FromContext(outer)
			if err != nil {
				return err
			}
			err = executor.Start(outer, func(context.Context) error { return d.Close(context.Background()) },
				executor.WithDriver(driver.Config{Engine: w.engine, Entries: 8}))
			if r := executor.Do(outer, ops.Nop()); !errors.Is(r.Err, driver.ErrClosed) {
				w.Errorf("afterwards: %v", r.Err)
			}
			return err
		})
	})
}

// A task that is in Start holds its worker, but not what other tasks of that have submitted.
func TestStartInsideATaskSendsWhatOthersSubmitted(t *testing.T) {
	everywhere(t, func(w *world) {
		for _, lent := range []bool{true, false} {
			w.ok(func(outer context.Context) error {
				var p [2]int
				if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
					return err
				}
				defer unix.Close(p[0])
				defer unix.Close(p[1])
				writer := executor.GoHere(outer, func(ctx context.Context) (int, error) {
					return executor.Do(ctx, ops.WriteAt(p[1], []byte{1}, -1)).N, nil
				})
				reader := executor.GoHere(outer, task(func(ctx context.Context) error {
					if !lent {
						ctx = context.Background()
					}
					return w.start(ctx, func(ctx context.Context) error {
						return executor.Do(ctx, ops.ReadAt(p[0], make([]byte, 1), -1)).Err
					})
				}))
				_, err := reader.Join(outer)
				if n, err := writer.Join(outer); n != 1 || err != nil {
					w.Errorf("wrote %d, %v", n, err)
				}
				return err
			})
		}
	})
}
