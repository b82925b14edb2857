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

// Tasks of two runtimes perform operations on each other's drivers, with a context of their own and with one that a task lent them. Neither
// runtime stands still meanwhile.
func TestOnEachOthersDrivers(t *testing.T) {
	cooperative(t, func(w *world) {
		var ctxs [2]context.Context
		var started, ended [2]executor.Event
		side := func(i int) func(ctx context.Context) error {
			return func(ctx context.Context) error {
				ctxs[i] = ctx
				started[i].Set()
				if err := started[1-i].Wait(ctx); err != nil {
					return err
				}
				defer func() { ended[i].Set(); _ = ended[1-i].Wait(ctx) }()
				d, err := driver.FromContext(ctxs[1-i])
				if err != nil {
					return err
				}
				for _, theirs := range []context.Context{driver.NewContext(context.Background(), d), ctxs[1-i]} {
					for range 500 {
						if r := executor.Do(theirs, ops.Nop()); r.Err != nil {
							w.Errorf("an operation on the other's driver: %v", r.Err)
						}
					}
					// What it waits for, a task of its own worker does.
					var p [2]int
					if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
						return err
					}
					defer unix.Close(p[0])
					defer unix.Close(p[1])
					executor.GoHere(ctx, func(ctx context.Context) (int, error) {
						return executor.Do(ctx, ops.WriteAt(p[1], []byte{1}, -1)).N, nil
					})
					if r := executor.Do(theirs, ops.ReadAt(p[0], make([]byte, 1), -1)); r.N != 1 || r.Err != nil {
						w.Errorf("%+v", r)
					}
					// And it can be cancelled.
					short, cancel := context.WithCancel(theirs)
					executor.GoHere(ctx, func(context.Context) (int, error) { cancel(); return 0, nil })
					if r := executor.Do(short, ops.ReadAt(p[0], make([]byte, 1), -1)); !errors.Is(r.Err, context.Canceled) {
						w.Errorf("cancelled: %+v", r)
					}
				}
				return nil
			}
		}
		w.both(side)
	})
}

// Iterators inside tasks of two runtimes wait for each other's drivers, and for their own, with contexts that do not tell where they are.
func TestOnEachOthersDriversFromIterators(t *testing.T) {
	cooperative(t, func(w *world) {
		var ctxs [2]context.Context
		var started, ended [2]executor.Event
		side := func(i int) func(ctx context.Context) error {
			return func(ctx context.Context) error {
				ctxs[i] = ctx
				started[i].Set()
				if err := started[1-i].Wait(ctx); err != nil {
					return err
				}
				defer func() { ended[i].Set(); _ = ended[1-i].Wait(ctx) }()
				var ds [2]*driver.Driver
				for k := range ds {
					var err error
					if ds[k], err = driver.FromContext(ctxs[k]); err != nil {
						return err
					}
				}
				next, stop := iter.Pull(func(yield func(error) bool) {
					for _, theirs := range []context.Context{driver.NewContext(context.Background(), ds[1-i]), ctxs[1-i]} {
						for range 500 {
							if !yield(executor.Do(theirs, ops.Nop()).Err) {
								return
							}
						}
						short, cancel := context.WithTimeout(theirs, time.Millisecond)
						if r := executor.Do(short, ops.Timeout(time.Hour)); !errors.Is(r.Err, context.DeadlineExceeded) {
							w.Errorf("cancelled: %v", r.Err)
						}
						cancel()
					}
					for _, d := range ds {
						for range 100 {
							if !yield(executor.Await(context.Background(), driver.Submit(d, ops.Nop())).Err) {
								return
							}
						}
					}
				})
				defer stop()
				for err, ok := next(); ok; err, ok = next() {
					if err != nil {
						return err
					}
				}
				return nil
			}
		}
		w.both(side)
	})
}

// What a goroutine needs for an operation on a driver goes to no other driver as long as that has a cancellation on its way.
func TestLateCancellationBesideAnotherDriver(t *testing.T) {
	if !raceEnabled {
		t.Skip("needs a build with -race")
	}
	everywhere(t, func(w *world) {
		cfg := w.config
		cfg.Engine = w.engine
		other, err := driver.Open(cfg)
		if err != nil {
			w.Fatal(err)
		}
		defer func() {
			if err := other.Close(context.Background()); err != nil {
				w.Errorf("Close: %v", err)
			}
		}()
		w.ok(func(ctx context.Context) error {
			d, err := driver.FromContext(ctx)
			if err != nil {
				return err
			}
			for range 10 {
				if err := cancelLate(ctx, d, other); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// cancelLate has a goroutine that uses the context of a task perform an operation on d that is cancelled when it has ended and before d says so,
// and then one on another driver.
func cancelLate(ctx context.Context, d, other *driver.Driver) error {
	var p pipes
	defer p.close()
	first, feedFirst, err := p.open()
	if err != nil {
		return err
	}
	second, feedSecond, err := p.open()
	if err != nil {
		return err
	}
	lent := make(chan context.Context, 1)
	owner := executor.Go(ctx, func(ctx context.Context) (int, error) {
		lent <- ctx
		return 0, new(executor.Event).Wait(ctx)
	})
	driver.Submit(d, ops.ReadAt(first, make([]byte, 1), -1)).OnEnd(func(ops.Result[[]byte]) { owner.Abort() })
	_, err = executor.Block(ctx, func() (int, error) {
		borrowed, done := <-lent, make(chan error)
		go func() {
			if r := executor.Do(borrowed, ops.ReadAt(second, make([]byte, 1), -1)); r.Err != nil && !errors.Is(r.Err, context.Canceled) {
				done <- r.Err
				return
			}
			done <- executor.Do(driver.NewContext(context.Background(), other), ops.Nop()).Err
		}()
		for d.Stats().InFlight < 2 {
			time.Sleep(100 * time.Microsecond)
		}
		// Both end before d looks, the one behind whose end the other is cancelled first.
		holds, release := make(chan struct{}), make(chan struct{})
		d.CancelDescriptor(first, false, func() bool { close(holds); <-release; return false })
		<-holds
		for _, fd := range []int{feedFirst, feedSecond} {
			if _, err := unix.Write(fd, []byte{1}); err != nil {
				return 0, err
			}
		}
		close(release)
		return 0, <-done
	})
	return err
}
