package executor_test

import (
	"context"
	"iter"
	"sync"
	"testing"
	"time"

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

// Somebody closes the driver while an iterator inside a task waits for something else. That has not happened by it.
func TestDriverClosedUnderIterator(t *testing.T) {
	const pause = 100 * time.Millisecond
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			d, err := driver.FromContext(ctx)
			if err != nil {
				return err
			}
			closing := time.AfterFunc(pause/4, func() {
				if err := d.Close(context.Background()); err != nil {
					w.Errorf("Close: %v", err)
				}
			})
			defer closing.Stop()
			next, stop := iter.Pull(func(yield func(error) bool) {
				began := time.Now()
				v, err := executor.Block(ctx, func() (int, error) { time.Sleep(pause); return 7, nil })
				if took := time.Since(began); v != 7 || err != nil || took < pause {
					w.Errorf("Block: %d, %v after %v", v, err, took)
				}
				began = time.Now()
				err = executor.Sleep(ctx, pause)
				if took := time.Since(began); took < pause {
					w.Errorf("Sleep took %v", took)
				}
				yield(err)
			})
			defer stop()
			err, _ = next()
			return err
		})
	})
}
