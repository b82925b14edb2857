package executor_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"uringo/executor"
)

// What is put is taken once, in order, through queues of any size, by tasks and by goroutines.
func TestQueueInOrder(t *testing.T) {
	everywhere(t, func(w *world) {
		const n = 300
		give := func(ctx context.Context, q *executor.Queue[int]) error {
			defer q.Close()
			for i := range n {
				if err := q.Put(ctx, i); err != nil {
					return err
				}
			}
			return nil
		}
		take := func(ctx context.Context, q *executor.Queue[int]) error {
			want := 0
			for v, err := range q.All(ctx) {
				if err != nil {
					return err
				}
				if v != want {
					w.Errorf("took %d instead of %d", v, want)
				}
				want++
			}
			if want != n {
				w.Errorf("took %d values of %d", want, n)
			}
			return nil
		}
		type side func(context.Context, *executor.Queue[int]) error
		within := func(ctx context.Context, q *executor.Queue[int], f side) func() error {
			h := executor.Go(ctx, task(func(ctx context.Context) error { return f(ctx, q) }))
			return func() error { _, err := h.Join(ctx); return err }
		}
		without := func(ctx context.Context, q *executor.Queue[int], f side) func() error {
			done := make(chan error, 1)
			go func() { done <- f(context.Background(), q) }()
			return func() error {
				_, err := executor.Block(ctx, func() (struct{}, error) { return struct{}{}, <-done })
				return err
			}
		}
		w.ok(func(ctx context.Context) error {
			for _, size := range []int{0, 1, 3, 1000} {
				for _, ends := range [][2]func(context.Context, *executor.Queue[int], side) func() error{
					{within, within}, {within, without}, {without, within},
				} {
					q := executor.NewQueue[int](size)
					giver := ends[0](ctx, q, give)
					taker := ends[1](ctx, q, take)
					if err := giver(); err != nil {
						return err
					}
					if err := taker(); err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
}

// A closed queue takes nothing more and keeps what is in it; those who wait are told.
func TestQueueClose(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			q := executor.NewQueue[string](2)
			is(w, q.Put(ctx, "a"), nil)
			is(w, q.TryPut("b"), nil)
			is(w, q.TryPut("c"), executor.ErrQueueFull)
			giver := executor.Go(ctx, task(func(ctx context.Context) error { return q.Put(ctx, "d") }))
			if err := until(ctx, func() bool { g, _ := q.Waiting(); return g == 1 }); err != nil {
				return err
			}
			q.Close()
			q.Close()
			_, err := giver.Join(ctx)
			is(w, err, executor.ErrQueueClosed)
			is(w, q.Put(ctx, "e"), executor.ErrQueueClosed)
			is(w, q.TryPut("e"), executor.ErrQueueClosed)
			if n := q.Len(); n != 2 {
				w.Errorf("%d values are left", n)
			}
			if v, err := q.TryTake(); v != "a" || err != nil {
				w.Errorf("took %q, %v", v, err)
			}
			if v, err := q.Take(ctx); v != "b" || err != nil {
				w.Errorf("took %q, %v", v, err)
			}
			_, err = q.TryTake()
			is(w, err, executor.ErrQueueClosed)
			_, err = q.Take(ctx)
			is(w, err, executor.ErrQueueClosed)

			empty := executor.NewQueue[string](0)
			_, err = empty.TryTake()
			is(w, err, executor.ErrQueueEmpty)
			is(w, empty.TryPut("f"), executor.ErrQueueFull)
			taker := executor.Go(ctx, empty.Take)
			if err := until(ctx, func() bool { _, n := empty.Waiting(); return n == 1 }); err != nil {
				return err
			}
			is(w, empty.TryPut("g"), nil)
			if v, err := taker.Join(ctx); v != "g" || err != nil {
				w.Errorf("took %q, %v", v, err)
			}
			taker = executor.Go(ctx, empty.Take)
			if err := until(ctx, func() bool { _, n := empty.Waiting(); return n == 1 }); err != nil {
				return err
			}
			empty.Close()
			_, err = taker.Join(ctx)
			is(w, err, executor.ErrQueueClosed)
			return nil
		})
	})
}

// Who waits is served in the order of asking, and who gives up puts nothing in and takes nothing out.
func TestQueueGivingUp(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			q := executor.NewQueue[int](1)
			is(w, q.Put(ctx, 0), nil)
			givers := make([]*executor.JoinHandle[struct{}], 5)
			for i := range givers {
				givers[i] = executor.Go(ctx, task(func(ctx context.Context) error { return q.Put(ctx, 1+i) }))
				if err := until(ctx, func() bool { g, _ := q.Waiting(); return g == 1+i }); err != nil {
					return err
				}
			}
			givers[2].Abort()
			_, err := givers[2].Join(ctx)
			is(w, err, context.Canceled)
			for _, want := range []int{0, 1, 2, 4, 5} {
				if v, err := q.Take(ctx); v != want || err != nil {
					w.Errorf("took %d, %v instead of %d", v, err, want)
				}
			}

			takers := make([]*executor.JoinHandle[int], 3)
			for i := range takers {
				takers[i] = executor.Go(ctx, q.Take)
				if err := until(ctx, func() bool { _, n := q.Waiting(); return n == 1+i }); err != nil {
					return err
				}
			}
			takers[0].Abort()
			_, err = takers[0].Join(ctx)
			is(w, err, context.Canceled)
			for i, h := range takers[1:] {
				is(w, q.TryPut(i), nil)
				if v, err := h.Join(ctx); v != i || err != nil {
					w.Errorf("took %d, %v instead of %d", v, err, i)
				}
			}

			ended, cancel := context.WithCancel(ctx)
			cancel()
			is(w, q.Put(ended, 7), context.Canceled)
			is(w, q.Put(ctx, 8), nil)
			_, err = q.Take(ended)
			is(w, err, context.Canceled)
			errs := 0
			for v, err := range q.All(ended) {
				if errs++; v != 0 || err == nil {
					w.Errorf("%d, %v from a context that has ended", v, err)
				}
			}
			if v, err := q.Take(ctx); v != 8 || err != nil || errs != 1 {
				w.Errorf("took %d, %v; %d errors", v, err, errs)
			}
			return nil
		})
	})
}

// What came through just when somebody had given up has come through.
func TestQueueAtTheLastMoment(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			type wait = func(ctx context.Context) error
			atTheLastMoment(ctx, w, func() (func() bool, func(), wait) {
				q := executor.NewQueue[int](0)
				return func() bool { _, n := q.Waiting(); return n == 1 }, func() { is(w, q.TryPut(7), nil) }, func(ctx context.Context) error {
					v, err := q.Take(ctx)
					if v != 7 {
						w.Errorf("took %d", v)
					}
					return err
				}
			})
			gives := func(q *executor.Queue[int]) func() bool { return func() bool { n, _ := q.Waiting(); return n == 1 } }
			atTheLastMoment(ctx, w, func() (func() bool, func(), wait) {
				q := executor.NewQueue[int](0)
				return gives(q), func() {
					if v, err := q.TryTake(); v != 8 || err != nil {
						w.Errorf("took %d, %v", v, err)
					}
				}, func(ctx context.Context) error { return q.Put(ctx, 8) }
			})
			atTheLastMoment(ctx, w, func() (func() bool, func(), wait) {
				q := executor.NewQueue[int](0)
				return gives(q), q.Close, func(ctx context.Context) error {
					is(w, q.Put(ctx, 9), executor.ErrQueueClosed)
					return nil
				}
			})
			return nil
		})
	})
}

// However tasks give up, each value that was put is taken once, and those of one giver in their order by whoever takes them.
func TestQueueRandom(t *testing.T) {
	everywhere(t, func(w *world) {
		const givers, takers = 5, 4
		each := rounds(3000)
		seed := rand.Uint64()
		var mu sync.Mutex
		var taken [givers][]bool
		for i := range taken {
			taken[i] = make([]bool, each)
		}
		var left atomic.Int32
		left.Store(givers)
		w.ok(func(ctx context.Context) error {
			q := executor.NewQueue[[2]int](rand.New(rand.NewPCG(seed, 99)).IntN(4))
			var all []*executor.JoinHandle[struct{}]
			impatient := func(ctx context.Context, rng *rand.Rand) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, time.Duration(rng.IntN(200))*time.Microsecond)
			}
			for i := range givers {
				all = append(all, executor.Go(ctx, task(func(ctx context.Context) error {
					defer func() {
						if left.Add(-1) == 0 {
							q.Close()
						}
					}()
					rng := rand.New(rand.NewPCG(seed, uint64(i)))
					for k := 0; k < each; {
						short, cancel := impatient(ctx, rng)
						err := q.Put(short, [2]int{i, k})
						cancel()
						if err == nil {
							k++
							continue
						}
						is(w, err, context.DeadlineExceeded)
					}
					return nil
				})))
			}
			for i := range takers {
				all = append(all, executor.Go(ctx, task(func(ctx context.Context) error {
					rng := rand.New(rand.NewPCG(seed, uint64(givers+i)))
					var last [givers]int
					for {
						short, cancel := impatient(ctx, rng)
						v, err := q.Take(short)
						cancel()
						switch err {
						case nil:
						case executor.ErrQueueClosed:
							return nil
						default:
							is(w, err, context.DeadlineExceeded)
							continue
						}
						if v[1] < last[v[0]] {
							w.Errorf("took %v after %d", v, last[v[0]])
						}
						last[v[0]] = v[1]
						mu.Lock()
						if taken[v[0]][v[1]] {
							w.Errorf("took %v twice", v)
						}
						taken[v[0]][v[1]] = true
						mu.Unlock()
					}
				})))
			}
			return joinAll(ctx, all...)
		})
		for i, one := range taken {
			if k := slices.Index(one, false); k >= 0 {
				w.Errorf("value %d of giver %d was lost", k, i)
			}
		}
		if w.Failed() {
			w.Logf("seed %d", seed)
		}
	})
}

// Two tasks whose queue never makes them wait leave the others of their worker their turns.
func TestQueueLeavesOthersTheirTurns(t *testing.T) {
	cooperative(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			q := executor.NewQueue[int](10)
			var over atomic.Bool
			busy := executor.GoHere(ctx, task(func(ctx context.Context) error {
				for !over.Load() {
					if err := q.Put(ctx, 1); err != nil {
						return err
					}
					if _, err := q.Take(ctx); err != nil {
						return err
					}
				}
				return nil
			}))
			other := executor.GoHere(ctx, task(func(context.Context) error { over.Store(true); return nil }))
			return joinAll(ctx, busy, other)
		})
	})
}

// What was taken is the taker's alone: the queue keeps no reference to it.
func TestQueueForgets(t *testing.T) {
	q := executor.NewQueue[*int](4)
	for range 3 { // around the ring
		for i := range 3 {
			if err := q.TryPut(&i); err != nil {
				t.Fatal(err)
			}
		}
		for want := range 3 {
			if v, err := q.TryTake(); err != nil || *v != want {
				t.Fatalf("took %v, %v", v, err)
			}
		}
	}
	for i, v := range q.Ring() {
		if v != nil {
			t.Errorf("place %d still refers to %d", i, *v)
		}
	}
}

func TestQueueOfLessThanNothing(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	executor.NewQueue[int](-1)
}
