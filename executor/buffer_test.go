package executor_test

import (
	"context"
	"testing"

	"uringo/buf"
	"uringo/executor"
)

// A task that waits for a buffer does not hold its worker: the tasks that have the buffers run on the same one.
func TestWaitForBuffer(t *testing.T) {
	everywhere(t, func(w *world) {
		pool, err := buf.NewPool(buf.PoolConfig{Classes: []buf.Class{{Size: 64, Count: 2}}})
		if err != nil {
			w.Fatal(err)
		}
		w.ok(func(ctx context.Context) error {
			var all []*executor.JoinHandle[struct{}]
			for range 50 {
				all = append(all, executor.Go(ctx, task(func(ctx context.Context) error {
					for i := range 4 {
						b, err := pool.Get(ctx, 64)
						if err != nil {
							return err
						}
						b.Bytes()[0] = byte(i)
						err = nop(ctx)
						if b.Bytes()[0] != byte(i) {
							w.Error("two have the same buffer")
						}
						b.Release()
						if err != nil {
							return err
						}
					}
					return nil
				})))
			}
			return joinAll(ctx, all...)
		})
		if err := pool.Close(); err != nil {
			w.Error(err)
		}
	})
}

// A wait for a buffer ends with the task, or with the context it is given.
func TestWaitForBufferCancelled(t *testing.T) {
	everywhere(t, func(w *world) {
		pool, err := buf.NewPool(buf.PoolConfig{Classes: []buf.Class{{Size: 64, Count: 1}}})
		if err != nil {
			w.Fatal(err)
		}
		w.ok(func(ctx context.Context) error {
			b, err := pool.Get(ctx, 1)
			if err != nil {
				return err
			}
			waiting := executor.Go(ctx, func(ctx context.Context) (*buf.Fixed, error) { return pool.Get(ctx, 1) })
			if err := executor.Yield(ctx); err != nil {
				return err
			}
			waiting.Abort()
			_, err = waiting.Join(ctx)
			is(w, err, context.Canceled)

			inner, cancel := context.WithTimeout(ctx, 1)
			defer cancel()
			_, err = pool.Get(inner, 1)
			is(w, err, context.DeadlineExceeded)
			b.Release()
			b, err = pool.Get(ctx, 1)
			if err != nil {
				return err
			}
			b.Release()
			return nil
		})
		if err := pool.Close(); err != nil {
			w.Error(err)
		}
	})
}
