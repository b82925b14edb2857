package executor_test

import (
	"context"
	"errors"
	"sync"
	"testing"

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
		var both sync.WaitGroup
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
		w.soon(patience, "one of two runtimes", func() {
			for i := range 2 {
				both.Go(func() {
					if err := w.start(context.Background(), side(i)); err != nil {
						w.Errorf("Start: %v", err)
					}
				})
			}
			both.Wait()
		})
	})
}
