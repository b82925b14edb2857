package executor_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"uringo/executor"
	"uringo/ops"
)

// until lets others run until something is so.
func until(ctx context.Context, so func() bool) error {
	for !so() {
		if err := executor.Sleep(ctx, 100*time.Microsecond); err != nil {
			return err
		}
	}
	return nil
}

// A mutex is kept over operations, which let other tasks of the worker run, by tasks and goroutines alike.
func TestMutexExcludes(t *testing.T) {
	everywhere(t, func(w *world) {
		var m executor.Mutex
		inside, total := 0, 0 // the race detector sees to it that the mutex guards them
		turn := func(ctx context.Context, pause func() error) error {
			if err := m.Lock(ctx); err != nil {
				return err
			}
			defer m.Unlock()
			if inside++; inside != 1 {
				w.Errorf("%d have locked it", inside)
			}
			err := pause()
			inside--
			total++
			return err
		}
		const members, turns = 8, 20
		w.ok(func(ctx context.Context) error {
			var all []*executor.JoinHandle[struct{}]
			for range members {
				all = append(all, executor.Go(ctx, task(func(ctx context.Context) error {
					for range turns {
						if err := turn(ctx, func() error { return executor.Do(ctx, ops.Nop()).Err }); err != nil {
							return err
						}
					}
					return nil
				})))
			}
			var plain sync.WaitGroup
			for range members {
				plain.Go(func() {
					for range turns {
						if err := turn(context.Background(), func() error { runtime.Gosched(); return nil }); err != nil {
							w.Error(err)
						}
					}
				})
			}
			_, err := executor.Block(ctx, func() (struct{}, error) { plain.Wait(); return struct{}{}, nil })
			return errors.Join(err, joinAll(ctx, all...))
		})
		if total != 2*members*turns {
			w.Errorf("%d turns of %d", total, 2*members*turns)
		}
		if !m.TryLock() || m.TryLock() {
			t.Error("it is not free, or not locked")
		}
	})
}

// Those who wait are served in order, and who gives up leaves the others their places.
func TestMutexOrder(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			var m executor.Mutex
			if err := m.Lock(ctx); err != nil {
				return err
			}
			var order []int
			var all []*executor.JoinHandle[struct{}]
			for i := range 6 {
				h := executor.Go(ctx, task(func(ctx context.Context) error {
					err := m.Lock(ctx)
					if i == 2 {
						is(w, err, context.Canceled)
						return nil
					}
					if err != nil {
						return err
					}
					order = append(order, i)
					m.Unlock()
					return nil
				}))
				all = append(all, h)
				if err := until(ctx, func() bool { return m.Waiting() == i+1 }); err != nil {
					return err
				}
			}
			all[2].Abort()
			if err := until(ctx, func() bool { return m.Waiting() == 5 }); err != nil {
				return err
			}
			if m.TryLock() {
				w.Error("TryLock overtook those who wait")
			}
			m.Unlock()
			if _, err := all[5].Join(ctx); err != nil {
				return err
			}
			if want := []int{0, 1, 3, 4, 5}; !slices.Equal(order, want) {
				w.Errorf("served %v, not %v", order, want)
			}
			return joinAll(ctx, all...)
		})
	})
}

// lastMoment is a context that has something happen when it is first found to have ended.
type lastMoment struct {
	context.Context
	happen func()
}

func (c *lastMoment) Err() error {
	err := c.Context.Err()
	if err != nil && c.happen != nil {
		happen := c.happen
		c.happen = nil
		happen()
	}
	return err
}

// atTheLastMoment has what somebody waits for happen when he has just found that his context has ended: he has it, whoever he is.
func atTheLastMoment(ctx context.Context, w *world, prepare func() (waits func() bool, happen func(), wait func(ctx context.Context) error)) {
	w.Helper()
	for whose, parent := range map[string]context.Context{"a task's": ctx, "nobody's": context.Background()} {
		for who, does := range map[string]func(wait func() error) error{
			"a task":      func(wait func() error) error { return wait() },
			"an iterator": func(wait func() error) error { return inside(1, wait) },
			"a goroutine": func(wait func() error) error {
				_, err := executor.Block(ctx, func() (struct{}, error) { return struct{}{}, wait() })
				return err
			},
		} {
			waits, happen, wait := prepare()
			ending, cancel := context.WithCancel(parent)
			var canceller sync.WaitGroup
			canceller.Go(func() { // an iterator holds its worker
				for !waits() && ending.Err() == nil {
					time.Sleep(100 * time.Microsecond)
				}
				cancel()
			})
			err := does(func() error { return wait(&lastMoment{ending, happen}) })
			cancel()
			canceller.Wait()
			if err != nil {
				w.Errorf("%s, with %s context: %v", who, whose, err)
			}
		}
	}
}

// A lock that came just when its taker had given up is locked, and not lost.
func TestLocksAtTheLastMoment(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			for name := range countedLocks() {
				atTheLastMoment(ctx, w, func() (waits func() bool, happen func(), wait func(ctx context.Context) error) {
					l := countedLocks()[name]
					if !l.try(l.size) {
						w.Errorf("%s: not free", name)
					}
					return func() bool { return l.waiting() == 1 }, func() { l.release(l.size) }, func(ctx context.Context) error {
						if err := l.acquire(ctx, l.size); err != nil {
							return fmt.Errorf("%s: %w", name, err)
						}
						if l.try(1) {
							w.Errorf("%s: who was given it does not have it", name)
						}
						l.release(l.size)
						return nil
					}
				})
			}
			return nil
		})
	})
}

// The end of Start ends the waits for what nobody gives back, those of goroutines with a task's context as well, and nobody stays in line.
func TestLocksAtTheEndOfStart(t *testing.T) {
	everywhere(t, func(w *world) {
		for name, l := range countedLocks() {
			if !l.try(l.size) {
				w.Errorf("%s: not free", name)
			}
			var goroutine sync.WaitGroup
			w.ok(func(ctx context.Context) error {
				waits := func(ctx context.Context) error {
					is(w, l.acquire(ctx, 1), context.Canceled)
					return nil
				}
				executor.Go(ctx, task(waits))
				goroutine.Go(func() { _ = waits(ctx) })
				return until(ctx, func() bool { return l.waiting() == 2 })
			})
			goroutine.Wait()
			if n := l.waiting(); n != 0 {
				w.Errorf("%s: %d wait still", name, n)
			}
		}
	})
}

// An ended context locks nothing, free or not.
func TestMutexEndedContext(t *testing.T) {
	var m executor.Mutex
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	is(t, m.Lock(ended), context.Canceled)
	if !m.TryLock() {
		t.Fatal("it was locked all the same")
	}
	is(t, m.Lock(ended), context.Canceled)
	m.Unlock()
	if !m.TryLock() {
		t.Fatal("it was locked all the same")
	}
}

// However tasks give up, never two have it, and in the end it is free.
func TestMutexRandom(t *testing.T) {
	everywhere(t, func(w *world) {
		var m executor.Mutex
		var inside atomic.Int32
		seed := rand.Uint64()
		w.ok(func(ctx context.Context) error {
			all := make([]*executor.JoinHandle[struct{}], 16)
			for i := range all {
				all[i] = executor.Go(ctx, task(func(ctx context.Context) error {
					rng := rand.New(rand.NewPCG(seed, uint64(i)))
					for range rounds(2000) {
						short, cancel := context.WithTimeout(ctx, time.Duration(rng.IntN(200))*time.Microsecond)
						err := m.Lock(short)
						cancel()
						if err != nil {
							is(w, err, context.DeadlineExceeded)
							continue
						}
						if n := inside.Add(1); n != 1 {
							w.Errorf("%d have it", n)
						}
						if rng.IntN(4) == 0 {
							_ = executor.Yield(ctx)
						}
						inside.Add(-1)
						m.Unlock()
					}
					return nil
				}))
			}
			return joinAll(ctx, all...)
		})
		if m.Waiting() != 0 || !m.TryLock() || w.Failed() {
			w.Errorf("%d wait when all have ended, or it is not free (seed %d)", m.Waiting(), seed)
		}
	})
}

// A writer is alone, readers are together, and no reader overtakes a writer who waits.
func TestRWMutex(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			var m executor.RWMutex
			for range 2 {
				if err := m.RLock(ctx); err != nil {
					return err
				}
			}
			if m.TryLock() || !m.TryRLock() {
				w.Error("readers let a writer in, or not each other")
			}
			m.RUnlock()
			var wrote atomic.Bool
			writer := executor.Go(ctx, task(func(ctx context.Context) error {
				if err := m.Lock(ctx); err != nil {
					return err
				}
				if m.TryRLock() || m.TryLock() {
					w.Error("a writer is not alone")
				}
				wrote.Store(true)
				m.Unlock()
				return nil
			}))
			if err := until(ctx, func() bool { return m.Waiting() == 1 }); err != nil {
				return err
			}
			if m.TryRLock() {
				w.Error("a reader overtook a writer")
			}
			reader := executor.Go(ctx, task(func(ctx context.Context) error {
				if err := m.RLock(ctx); err != nil {
					return err
				}
				defer m.RUnlock()
				if !wrote.Load() {
					w.Error("a reader who came later was served first")
				}
				return nil
			}))
			if err := until(ctx, func() bool { return m.Waiting() == 2 }); err != nil {
				return err
			}
			m.RUnlock()
			m.RUnlock()
			return joinAll(ctx, writer, reader)
		})
	})
}

func TestUnlockOfNothing(t *testing.T) {
	var m executor.Mutex
	var rw executor.RWMutex
	var written executor.RWMutex
	s := executor.NewSemaphore(3)
	if !rw.TryRLock() || !written.TryLock() || !s.TryAcquire(2) {
		t.Fatal("not free")
	}
	for name, mistake := range map[string]func(){
		"Mutex.Unlock":           m.Unlock,
		"RWMutex.Unlock":         rw.Unlock,       // a reader has it
		"RWMutex.RUnlock":        written.RUnlock, // a writer has it
		"Semaphore.Release":      func() { s.Release(3) },
		"Semaphore.Release less": func() { s.Release(-1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s did not panic", name)
				}
			}()
			mistake()
		}()
	}
	// And nothing came of it.
	rw.RUnlock()
	written.Unlock()
	s.Release(2)
	if !m.TryLock() || !rw.TryLock() || !written.TryLock() || !s.TryAcquire(3) {
		t.Error("not free any more")
	}
}

// Who asks for much is not overtaken, and when it gives up, those behind it are served who fit.
func TestSemaphoreOrder(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			s := executor.NewSemaphore(5)
			is(w, s.Acquire(ctx, 3), nil)
			for _, n := range []int64{-1, 6} {
				if s.Acquire(ctx, n) == nil || s.TryAcquire(n) {
					w.Errorf("%d of 5 were acquired", n)
				}
			}
			much := executor.Go(ctx, task(func(ctx context.Context) error {
				is(w, s.Acquire(ctx, 4), context.Canceled)
				return nil
			}))
			if err := until(ctx, func() bool { return s.Waiting() == 1 }); err != nil {
				return err
			}
			var little []*executor.JoinHandle[struct{}]
			for i := range 3 {
				little = append(little, executor.Go(ctx, task(func(ctx context.Context) error { return s.Acquire(ctx, 1) })))
				if err := until(ctx, func() bool { return s.Waiting() == 2+i }); err != nil {
					return err
				}
			}
			if s.TryAcquire(1) {
				w.Error("one who asked for little overtook")
			}
			much.Abort()
			if err := joinAll(ctx, little[0], little[1], much); err != nil {
				return err
			}
			if s.Waiting() != 1 {
				w.Errorf("%d wait, of whom one does not fit", s.Waiting())
			}
			s.Release(3)
			_, err := little[2].Join(ctx)
			return err
		})
	})
}

// However tasks give up, what is in use is never too much, and in the end all is free.
func TestSemaphoreRandom(t *testing.T) {
	everywhere(t, func(w *world) {
		const size, members = 5, 12
		s := executor.NewSemaphore(size)
		var used, served atomic.Int64
		seed := rand.Uint64()
		w.ok(func(ctx context.Context) error {
			var all []*executor.JoinHandle[struct{}]
			for i := range members {
				all = append(all, executor.Go(ctx, task(func(ctx context.Context) error {
					rng := rand.New(rand.NewPCG(seed, uint64(i)))
					for range rounds(2000) {
						short, cancel := context.WithTimeout(ctx, time.Duration(rng.IntN(300))*time.Microsecond)
						n := rng.Int64N(size + 1)
						err := s.Acquire(short, n)
						cancel()
						if err != nil {
							is(w, err, context.DeadlineExceeded)
							continue
						}
						served.Add(1)
						if now := used.Add(n); now > size {
							w.Errorf("%d of %d are in use", now, size)
						}
						if rng.IntN(3) > 0 {
							_ = executor.Do(ctx, ops.Nop())
						}
						used.Add(-n)
						s.Release(n)
					}
					return nil
				})))
			}
			return joinAll(ctx, all...)
		})
		if w.Failed() {
			w.Logf("seed %d", seed)
		}
		if s.Waiting() != 0 || !s.TryAcquire(size) {
			w.Errorf("%d wait when all have ended, or not all is free (seed %d)", s.Waiting(), seed)
		}
		w.Logf("%d were served", served.Load())
	})
}
