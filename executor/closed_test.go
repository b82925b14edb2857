package executor_test

import (
	"context"
	"sync"
	"testing"

	"uringo/driver"
	"uringo/executor"
	"uringo/ops"
)

// Somebody closes the driver under the tasks: their operations fail, and they go on to their ends, with all that needs no driver.
func TestDriverClosedUnderTasks(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			d, err := driver.FromContext(ctx)
			if err != nil {
				return err
			}
			waiting := executor.Go(ctx, func(ctx context.Context) (int, error) {
				for {
					if err := nop(ctx); err != nil {
						return 0, err
					}
				}
			})
			var closed executor.Event
			go func() {
				if err := d.Close(context.Background()); err != nil {
					w.Errorf("Close: %v", err)
				}
				closed.Set()
			}()
			if err := closed.Wait(ctx); err != nil {
				return err
			}
			_, err = waiting.Join(ctx)
			is(w, err, driver.ErrClosed)
			for range 200 {
				is(w, nop(ctx), driver.ErrClosed)
				is(w, executor.Do(driver.NewContext(context.Background(), d), ops.Nop()).Err, driver.ErrClosed)
			}
			if v, err := executor.Go(ctx, func(ctx context.Context) (int, error) { return 7, executor.Yield(ctx) }).Join(ctx); v != 7 || err != nil {
				w.Errorf("a task after the end: %d, %v", v, err)
			}
			d.Stats()
			return nil
		})
	})
}

// A runtime is closed by several at once, and again.
func TestRuntimeClosedTwice(t *testing.T) {
	everywhere(t, func(w *world) {
		cfg := w.config
		cfg.Engine = w.engine
		rt, err := w.make().Open(cfg)
		if err != nil {
			w.Fatal(err)
		}
		w.soon(patience, "Close", func() {
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					if err := rt.Close(context.Background()); err != nil {
						w.Errorf("Close: %v", err)
					}
				})
			}
			all.Wait()
			if err := rt.Close(context.Background()); err != nil {
				w.Errorf("Close once more: %v", err)
			}
		})
	})
}
