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

// Iterators of two runtimes wait for each other's drivers while somebody closes both.
func TestDriversClosedUnderIterators(t *testing.T) {
	everywhere(t, func(w *world) {
		var drivers [2]*driver.Driver
		var here, refused, both sync.WaitGroup
		here.Add(2)
		refused.Add(2)
		side := func(i int) func(ctx context.Context) error {
			return func(ctx context.Context) (err error) {
				if drivers[i], err = driver.FromContext(ctx); err != nil {
					return err
				}
				next, stop := iter.Pull(func(yield func(int) bool) {
					n, err := executor.Block(ctx, func() (int, error) {
						here.Done()
						here.Wait()
						both.Go(func() {
							if err := drivers[i].Close(context.Background()); err != nil {
								w.Errorf("Close: %v", err)
							}
						})
						for driver.Submit(drivers[i], ops.Nop()).Wait(context.Background()).Err == nil {
						}
						refused.Done()
						refused.Wait()
						for range 3 { // each takes a pass, so after the second there is nothing to make one for
							drivers[1-i].Stats()
						}
						return 7, nil
					})
					if err != nil {
						w.Errorf("Block: %v", err)
					}
					yield(n)
				})
				defer stop()
				if n, _ := next(); n != 7 {
					w.Errorf("the iterator yields %d", n)
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

// closeUnder closes the driver of the calling task, which goes on.
func closeUnder(ctx context.Context) (*driver.Driver, error) {
	d, err := driver.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	_, err = executor.Block(ctx, func() (int, error) { return 0, d.Close(context.Background()) })
	return d, err
}

// Others submit chains to a driver that was closed under its tasks, which go on meanwhile.
func TestChainsToAClosedDriver(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			d, err := closeUnder(ctx)
			if err != nil {
				return err
			}
			var sent executor.Event
			go func() {
				defer sent.Set()
				for range 100 {
					var c driver.Chain
					p, q := driver.Link(&c, ops.Nop()), driver.Link(&c, ops.Nop())
					if err := c.Submit(d); err != nil {
						w.Error(err)
					}
					is(w, p.Wait(context.Background()).Err, driver.ErrClosed)
					is(w, q.Wait(context.Background()).Err, driver.ErrClosed)
				}
			}()
			for !sent.IsSet() {
				is(w, nop(ctx), driver.ErrClosed)
			}
			return nil
		})
	})
}

// On a driver that somebody has closed, an iterator cannot wait for a task of its thread either, and is told so.
func TestJoinInsideAnIteratorAfterClose(t *testing.T) {
	where(t, func(w *world) bool { return w.local }, func(w *world) {
		w.ok(func(ctx context.Context) error {
			if _, err := closeUnder(ctx); err != nil {
				return err
			}
			h := executor.Go(ctx, func(ctx context.Context) (int, error) { return 7, executor.Yield(ctx) })
			for _, with := range []context.Context{ctx, context.WithoutCancel(ctx), context.Background()} {
				err := inside(1, func() error { _, err := h.Join(with); return err })
				is(w, err, executor.ErrNested)
			}
			if v, err := h.Join(ctx); v != 7 || err != nil {
				w.Errorf("%d, %v", v, err)
			}
			return nil
		})
	})
}

// Iterators of two runtimes close each other's drivers.
func TestIteratorsCloseEachOther(t *testing.T) {
	everywhere(t, func(w *world) {
		ways := map[string]func(ctx context.Context, d *driver.Driver) error{
			"Close": func(_ context.Context, d *driver.Driver) error { return d.Close(context.Background()) },
			"in Block": func(ctx context.Context, d *driver.Driver) error {
				_, err := executor.Block(ctx, func() (int, error) { return 0, d.Close(context.Background()) })
				return err
			},
		}
		for what, end := range ways {
			var drivers [2]*driver.Driver
			var here sync.WaitGroup
			here.Add(2)
			w.both(func(i int) func(ctx context.Context) error {
				return func(ctx context.Context) (err error) {
					if drivers[i], err = driver.FromContext(ctx); err != nil {
						return err
					}
					here.Done()
					here.Wait()
					beside := executor.GoHere(ctx, func(ctx context.Context) (int, error) { return 7, executor.Yield(ctx) })
					if err := inside(2, func() error { return end(ctx, drivers[1-i]) }); err != nil {
						w.Errorf("%s: %v", what, err)
					}
					if v, err := beside.Join(ctx); v != 7 || err != nil {
						w.Errorf("%s: a task beside it: %d, %v", what, v, err)
					}
					err = nop(ctx)
					for err == nil { // until the other has closed this one
						err = nop(ctx)
					}
					is(w, err, driver.ErrClosed)
					return nil
				}
			})
		}
	})
}

// A task of Local begins a stream on its closed driver while somebody else is at refusing requests: nobody touches its runtime meanwhile.
func TestStreamOnAClosedDriver(t *testing.T) {
	where(t, func(w *world) bool { return w.local }, func(w *world) {
		fd, _ := pipe(w)
		w.ok(func(ctx context.Context) error {
			d, err := closeUnder(ctx)
			if err != nil {
				return err
			}
			var refusing executor.Event
			goOn, over := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(over)
				var c driver.Chain
				driver.Link(&c, ops.Nop()).OnEnd(func(ops.Result[struct{}]) { refusing.Set(); <-goOn })
				if err := c.Submit(d); err != nil {
					w.Error(err)
				}
			}()
			if err := refusing.Wait(ctx); err != nil {
				return err
			}
			s := driver.SubmitMulti(d, ops.AcceptMulti(fd, 0))
			_, err = executor.Next(ctx, s)
			is(w, err, driver.ErrClosed)
			close(goOn)
			<-over
			is(w, s.Err(), driver.ErrClosed)
			return nil
		})
	})
}
