package executor_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"uringo/executor"
)

// Tasks of one worker never run at the same time: they share data without locks. The race detector watches.
func TestTasksOfOneWorkerShareData(t *testing.T) {
	cooperative(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			shared := 0
			perTask := 20
			var all []*executor.JoinHandle[struct{}]
			for range 10 {
				all = append(all, executor.GoHere(ctx, task(func(ctx context.Context) error {
					inner := executor.GoHere(ctx, task(func(ctx context.Context) error { shared++; return nop(ctx) }))
					for i := range perTask {
						shared++
						var err error
						switch i % 3 {
						case 0:
							err = nop(ctx)
						case 1:
							err = executor.Yield(ctx)
						case 2:
							err = executor.Sleep(ctx, time.Microsecond)
						}
						if err != nil {
							return err
						}
					}
					_, err := inner.Join(ctx)
					return err
				})))
			}
			for _, h := range all {
				if _, err := h.Join(ctx); err != nil {
					return err
				}
			}
			if want := 10 * (perTask + 1); shared != want {
				return fmt.Errorf("counted %d of %d", shared, want)
			}
			return nil
		})
	})
}

// Go spreads tasks over the workers: as many as there are can meet although each holds its worker.
func TestWorkersSpread(t *testing.T) {
	cooperative(t, func(w *world) {
		if w.one() {
			return
		}
		w.ok(func(ctx context.Context) error {
			var meeting sync.WaitGroup
			meeting.Add(w.workers)
			var all []*executor.JoinHandle[struct{}]
			for range w.workers {
				all = append(all, executor.Go(ctx, task(func(context.Context) error {
					meeting.Done()
					meeting.Wait()
					return nil
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

// What GoHere starts takes no worker's turn: a server whose every task starts one beside itself would not spread otherwise.
func TestGoHereTakesNoTurn(t *testing.T) {
	cooperative(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			lanes := make(map[uint]bool)
			for range w.workers {
				lane, err := executor.Go(ctx, func(ctx context.Context) (uint, error) {
					for range w.workers - 1 {
						if _, err := executor.GoHere(ctx, task(nop)).Join(ctx); err != nil {
							return 0, err
						}
					}
					return executor.CallerOf(ctx).Lane(), nil
				}).Join(ctx)
				if err != nil {
					return err
				}
				lanes[lane] = true
			}
			if len(lanes) != w.workers {
				w.Errorf("tasks ran on %d workers of %d", len(lanes), w.workers)
			}
			return nil
		})
	})
}

// gauge knows how many are in it at once, at most.
type gauge struct{ now, most atomic.Int32 }

func (g *gauge) in() {
	n := g.now.Add(1)
	for m := g.most.Load(); n > m && !g.most.CompareAndSwap(m, n); m = g.most.Load() {
	}
}

func (g *gauge) out() { g.now.Add(-1) }

func TestPoolIsBounded(t *testing.T) {
	for _, engine := range engines(t) {
		for _, n := range []int{1, 3} {
			t.Run(fmt.Sprint(n, "/", engine), func(t *testing.T) {
				clean(t)
				w := &world{TB: t, engine: engine, make: func() executor.Executor { return executor.Pool(n) }}
				w.ok(func(ctx context.Context) error {
					var g gauge
					var all []*executor.JoinHandle[struct{}]
					for range 30 {
						all = append(all, executor.Go(ctx, task(func(ctx context.Context) error {
							g.in()
							defer g.out()
							for range 5 {
								if err := nop(ctx); err != nil {
									return err
								}
								time.Sleep(100 * time.Microsecond)
							}
							return nil
						})))
					}
					for _, h := range all {
						if _, err := h.Join(ctx); err != nil {
							return err
						}
					}
					if got := g.most.Load(); got > int32(n) || n > 1 && got < 2 {
						t.Errorf("%d tasks at once", got)
					}
					return nil
				})
			})
		}
	}
}

// A task of a pool that waits for another task, an event, the clock or blocking code lends its place.
func TestPoolLendsPlaces(t *testing.T) {
	for _, engine := range engines(t) {
		t.Run(engine.String(), func(t *testing.T) {
			clean(t)
			w := &world{TB: t, engine: engine, make: func() executor.Executor { return executor.Pool(1) }}
			w.ok(func(ctx context.Context) error {
				var deep func(left int) func(ctx context.Context) (int, error)
				deep = func(left int) func(ctx context.Context) (int, error) {
					return func(ctx context.Context) (int, error) {
						if left == 0 {
							return 0, nil
						}
						n, err := executor.Go(ctx, deep(left-1)).Join(ctx)
						return n + 1, err
					}
				}
				if n, err := executor.Go(ctx, deep(20)).Join(ctx); n != 20 || err != nil {
					t.Errorf("%d, %v", n, err)
				}

				const others = 20
				met := new(executor.Event)
				var asleep, inside atomic.Int32
				together := make(chan struct{})
				var all []*executor.JoinHandle[struct{}]
				for range others {
					all = append(all, executor.Go(ctx, task(func(ctx context.Context) error {
						if err := met.Wait(ctx); err != nil {
							return err
						}
						// None goes on before all are here.
						asleep.Add(1)
						for begin := time.Now(); asleep.Load() < others; {
							if err := executor.Sleep(ctx, time.Millisecond); err != nil {
								return err
							}
							if time.Since(begin) > patience/2 {
								return fmt.Errorf("%d of %d sleep at once", asleep.Load(), others)
							}
						}
						_, err := executor.Block(ctx, func() (int, error) {
							if inside.Add(1) == others {
								close(together)
							}
							select {
							case <-together:
								return 0, nil
							case <-time.After(patience / 2):
								return 0, fmt.Errorf("%d of %d are in blocking code at once", inside.Load(), others)
							}
						})
						return err
					})))
				}
				all = append(all, executor.Go(ctx, task(func(context.Context) error { met.Set(); return nil })))
				for _, h := range all {
					if _, err := h.Join(ctx); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}

// Goroutines to whom a task of a pool lent its context have no place of their own to lend.
func TestPoolWithForeignGoroutines(t *testing.T) {
	for _, engine := range engines(t) {
		t.Run(engine.String(), func(t *testing.T) {
			clean(t)
			w := &world{TB: t, engine: engine, make: func() executor.Executor { return executor.Pool(1) }}
			w.ok(func(ctx context.Context) error {
				var g gauge
				var all []*executor.JoinHandle[struct{}]
				for range 5 {
					all = append(all, executor.Go(ctx, task(func(ctx context.Context) error {
						g.in()
						defer g.out()
						var others sync.WaitGroup
						for range 10 {
							others.Go(func() {
								if err := executor.Sleep(ctx, time.Millisecond); err != nil {
									t.Error(err)
								}
								if err := nop(ctx); err != nil {
									t.Error(err)
								}
								if _, err := executor.Block(ctx, func() (int, error) { return 0, nil }); err != nil {
									t.Error(err)
								}
							})
						}
						others.Wait()
						return nil
					})))
				}
				for _, h := range all {
					if _, err := h.Join(ctx); err != nil {
						return err
					}
				}
				if got := g.most.Load(); got > 1 {
					t.Errorf("%d tasks at once", got)
				}
				return nil
			})
		})
	}
}

// Company tells a task that is alone from one of many that are ready together.
func TestCompany(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			if n := executor.CallerOf(ctx).Company(); n != 1 {
				w.Errorf("alone: %d", n)
			}
			const tasks = 10
			var all []*executor.JoinHandle[struct{}]
			for range tasks {
				all = append(all, executor.GoHere(ctx, task(func(ctx context.Context) error {
					want := 1
					if w.coop() {
						want = tasks
					}
					// The context of somebody else, as pools use, changes nothing.
					for _, c := range []context.Context{ctx, context.Background()} {
						if n := executor.CallerOf(c).Company(); n != want {
							w.Errorf("in company: %d, not %d", n, want)
						}
					}
					return nil
				})))
			}
			return joinAll(ctx, all...)
		})
	})
}

// Those who step back run after all that is ready, a few in each round, and all come to their turn.
func TestStepBack(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			executor.StepBack(ctx) // alone
			const behind, times = 20, 10
			var rounds, most, now int // of the polite one; unsynchronised where tasks share a goroutine
			var left atomic.Int32
			left.Store(behind)
			var all []*executor.JoinHandle[struct{}]
			for range behind {
				all = append(all, executor.GoHere(ctx, task(func(ctx context.Context) error {
					defer left.Add(-1)
					for range times {
						executor.StepBack(ctx)
						if w.coop() {
							now++
							most = max(most, now)
						}
						executor.CallerOf(ctx).GiveWay(ctx, 200<<10) // less than a share
					}
					return nil
				})))
			}
			all = append(all, executor.GoHere(ctx, task(func(ctx context.Context) error {
				for left.Load() > 0 {
					rounds++
					now = 0
					if err := executor.Yield(ctx); err != nil {
						return err
					}
				}
				return nil
			})))
			err := joinAll(ctx, all...)
			// Two are as much as a round may have. When all began they had not stepped back yet.
			if w.coop() && (most > 2 || rounds < behind*times/2) {
				w.Errorf("%d who stepped back ran in one round, and all in %d", most, rounds)
			}
			return err
		})
	})
}

// A task that stepped back is woken, aborted and ended like any other.
func TestStepBackEnds(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			var woken executor.Event
			h := executor.GoHere(ctx, task(func(ctx context.Context) error {
				for ctx.Err() == nil {
					executor.StepBack(ctx)
					woken.Set()
				}
				executor.StepBack(ctx)
				return ctx.Err()
			}))
			if err := woken.Wait(ctx); err != nil {
				return err
			}
			h.Abort()
			_, err := h.Join(ctx)
			if !errors.Is(err, context.Canceled) {
				return fmt.Errorf("ended with %w", err)
			}
			return nil
		})
	})
}
