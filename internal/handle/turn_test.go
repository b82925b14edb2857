package handle_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/handle"
)

func executors() []executor.Executor {
	return []executor.Executor{executor.Goroutines(), executor.Pool(4), executor.Workers(1), executor.Workers(3), executor.Local()}
}

func start(t *testing.T, e executor.Executor, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := executor.Start(ctx, f, executor.WithExecutor(e), executor.WithDriver(driver.Config{Engine: driver.Portable})); err != nil {
		t.Error(err)
	}
}

// TestTurnIsOnes has many tasks take turns and some of them give up: never two have it, and it is never lost.
func TestTurnIsOnes(t *testing.T) {
	for _, e := range executors() {
		t.Run(e.String(), func(t *testing.T) {
			start(t, e, func(ctx context.Context) error {
				var turn handle.Turn
				var inside, passed, gaveUp atomic.Int32
				var all []*executor.JoinHandle[struct{}]
				for i := range uint64(16) {
					all = append(all, executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
						rng := rand.New(rand.NewPCG(i, 1))
						for range 200 {
							impatient, cancel := context.WithTimeout(ctx, time.Duration(rng.IntN(200))*time.Microsecond)
							if rng.IntN(2) == 0 {
								cancel()
								impatient, cancel = context.WithCancel(ctx)
							}
							err := turn.Take(impatient)
							cancel()
							switch {
							case err == nil:
							case errors.Is(err, os.ErrDeadlineExceeded):
								gaveUp.Add(1)
								continue
							default:
								return struct{}{}, err
							}
							if n := inside.Add(1); n != 1 {
								t.Errorf("%d have the turn", n)
							}
							if rng.IntN(4) == 0 {
								if err := executor.Yield(ctx); err != nil {
									t.Error(err)
								}
							}
							inside.Add(-1)
							passed.Add(1)
							turn.Give()
						}
						return struct{}{}, nil
					}))
				}
				for _, h := range all {
					if _, err := h.Join(ctx); err != nil {
						t.Error(err)
					}
				}
				if passed.Load()+gaveUp.Load() != 16*200 || passed.Load() < 16*200/4 {
					t.Errorf("%d had their turn and %d gave up, of %d", passed.Load(), gaveUp.Load(), 16*200)
				}
				if err := turn.Take(ctx); err != nil { // it is free at the end
					t.Error(err)
				}
				return nil
			})
		})
	}
}

// TestTurnInOrder has tasks come one after the other: so they have their turn, without those who gave up.
func TestTurnInOrder(t *testing.T) {
	for _, e := range executors() {
		if e.String() == "pool(4)" {
			continue // the others wait for a place, in no order
		}
		t.Run(e.String(), func(t *testing.T) {
			start(t, e, func(ctx context.Context) error {
				var turn handle.Turn
				if err := turn.Take(ctx); err != nil {
					return err
				}
				var all []*executor.JoinHandle[struct{}]
				var order []int // under the turn
				for i := range 9 {
					before := turn.Waiting()
					h := executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
						if err := turn.Take(ctx); err != nil {
							return struct{}{}, err
						}
						order = append(order, i)
						turn.Give()
						return struct{}{}, nil
					})
					for turn.Waiting() == before {
						if err := executor.Yield(ctx); err != nil {
							return err
						}
					}
					if i%3 == 1 {
						h.Abort()
						if _, err := h.Join(ctx); !errors.Is(err, context.Canceled) {
							t.Errorf("aborted: %v", err)
						}
						continue
					}
					all = append(all, h)
				}
				turn.Give()
				for _, h := range all {
					if _, err := h.Join(ctx); err != nil {
						t.Error(err)
					}
				}
				if len(order) != 6 {
					t.Errorf("%v had their turn", order)
				}
				for i, who := range order {
					if i > 0 && who <= order[i-1] {
						t.Errorf("order %v", order)
					}
				}
				return nil
			})
		})
	}
}
