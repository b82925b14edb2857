package executor_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/ring"
	"uringo/internal/testenv"
	"uringo/ops"
)

// The ring fails in a way that cannot be mended: everybody is told, and Start returns.
func TestBrokenDriver(t *testing.T) {
	everywhere(t, func(w *world) {
		m := &testenv.Mortal{Kernel: ring.Linux()}
		if w.engine == driver.Portable {
			m.Kernel = ring.NewPortable(ops.Calls(), 16)
		}
		w.engine = driver.Uring
		w.config = driver.OnKernel(driver.Config{}, m)
		rd, _ := pipe(w)
		var told atomic.Int32
		var err error
		w.soon(5*time.Second, "Start", func() {
			err = w.start(context.Background(), func(ctx context.Context) error {
				fails := func(err error) error {
					if err == nil {
						return nil
					}
					is(w, err, driver.ErrBroken, driver.ErrAbandoned)
					told.Add(1)
					return nil
				}
				d, err := driver.FromContext(ctx)
				if err != nil {
					return err
				}
				var all []*executor.JoinHandle[struct{}]
				n := 5
				if w.name == "pool" || w.name == "outside" {
					n = 1
				}
				for range n {
					all = append(all, executor.Go(ctx, task(func(ctx context.Context) error {
						_, buf, err := read(ctx, rd, make([]byte, 8))
						if errors.Is(err, driver.ErrAbandoned) && buf != nil {
							w.Error("the buffer of an abandoned read came back")
						}
						return fails(err)
					})))
					for d.Stats().InFlightBy["read"] < len(all) {
						if err := nop(ctx); err != nil {
							return err
						}
					}
				}
				m.Kill()
				err = nil
				for range 1000 {
					if err = nop(ctx); err != nil {
						break
					}
				}
				is(w, err, driver.ErrBroken, driver.ErrAbandoned)
				// It stays so, for every way of asking.
				is(w, nop(ctx), driver.ErrBroken)
				is(w, inside(1, func() error { return nop(ctx) }), driver.ErrBroken)
				_, buf, err := read(ctx, rd, make([]byte, 8))
				is(w, err, driver.ErrBroken)
				if len(buf) != 8 {
					w.Error("the buffer did not come back")
				}
				foreign := make(chan error)
				go func() { foreign <- nop(ctx) }()
				_, err = executor.Block(ctx, func() (int, error) { return 0, <-foreign })
				is(w, err, driver.ErrBroken)

				// Tasks go on, and end.
				for range 20 {
					h := executor.Go(ctx, task(func(ctx context.Context) error { return nop(ctx) }))
					_, err := h.Join(ctx)
					is(w, err, driver.ErrBroken)
				}
				if err := executor.Sleep(ctx, time.Millisecond); err != nil {
					return err
				}
				if err := executor.Yield(ctx); err != nil {
					return err
				}
				executor.Go(ctx, task(forever))
				for _, h := range all {
					if _, err := h.Join(ctx); err != nil {
						return err
					}
				}
				if int(told.Load()) != n {
					w.Errorf("%d of %d were told", told.Load(), n)
				}
				return errTest
			})
		})
		is(w, err, errTest)
		is(w, err, driver.ErrBroken)
		m.Bury(w)
	})
}
