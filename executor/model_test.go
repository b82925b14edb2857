package executor_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	"uringo/executor"
	"uringo/internal/testenv"
)

// asker is a goroutine that waits in a line, or has waited.
type asker[T any] struct {
	what   T // that it asks for, or brings, or is to get
	takes  bool
	got    T
	cancel context.CancelFunc
	over   bool
	err    error
}

// ask starts one.
func ask[T any](what T, wait func(ctx context.Context, a *asker[T]) error) *asker[T] {
	ctx, cancel := context.WithCancel(context.Background())
	a := &asker[T]{what: what, cancel: cancel}
	go func() {
		a.err = wait(ctx, a)
		a.over = true
		cancel()
	}()
	return a
}

// settled fails the test unless a has come to an end with err, or, with nothing, still waits.
func (a *asker[T]) settled(t *testing.T, err ...error) {
	t.Helper()
	if a.over != (len(err) > 0) {
		t.Errorf("who asked for %v is done: %v", a.what, a.over)
	} else if a.over && !errors.Is(a.err, err[0]) {
		t.Errorf("who asked for %v got %v, not %v", a.what, a.err, err[0])
	}
}

// leaveLine takes a out of a line.
func leaveLine[T any](line []*asker[T], a *asker[T]) []*asker[T] {
	return slices.DeleteFunc(line, func(b *asker[T]) bool { return a == b })
}

// giveUp lets those go who still wait when a test has failed.
func giveUp[T any](all []*asker[T]) {
	for _, a := range all {
		a.cancel()
	}
}

// counted is a lock of which there is a number, as they all are.
type counted struct {
	size    int64
	wants   []int64 // how much may be asked for
	acquire func(ctx context.Context, n int64) error
	try     func(n int64) bool
	release func(n int64)
	waiting func() int
}

func countedLocks() map[string]counted {
	const writer = 1 << 40
	var m executor.Mutex
	var rw executor.RWMutex
	s := executor.NewSemaphore(5)
	return map[string]counted{
		"Mutex": {1, []int64{1}, func(ctx context.Context, _ int64) error { return m.Lock(ctx) },
			func(int64) bool { return m.TryLock() }, func(int64) { m.Unlock() }, m.Waiting},
		"Semaphore": {5, []int64{0, 1, 1, 2, 3, 5}, s.Acquire, s.TryAcquire, s.Release, s.Waiting},
		"RWMutex": {writer, []int64{1, 1, 1, writer}, func(ctx context.Context, n int64) error {
			if n == writer {
				return rw.Lock(ctx)
			}
			return rw.RLock(ctx)
		}, func(n int64) bool {
			if n == writer {
				return rw.TryLock()
			}
			return rw.TryRLock()
		}, func(n int64) {
			if n == writer {
				rw.Unlock()
			} else {
				rw.RUnlock()
			}
		}, rw.Waiting},
	}
}

// One step after the other, locks do what a list of who has them and a list of who waits say.
func TestLocksAsModelled(t *testing.T) {
	seed := testenv.Seed(t, rand.Uint64())
	for name := range countedLocks() {
		t.Run(name, func(t *testing.T) {
			for round := range uint64(rounds(1000)) {
				synctest.Test(t, func(t *testing.T) { lockAsModelled(t, countedLocks()[name], rand.New(rand.NewPCG(seed, round))) })
				if t.Failed() {
					return
				}
			}
		})
	}
}

func lockAsModelled(t *testing.T, l counted, rng *rand.Rand) {
	var all, line []*asker[int64]
	defer func() { giveUp(all) }()
	var has []int64
	in := int64(0)
	fits := func(n int64) bool { return len(line) == 0 && n <= l.size-in }
	enter := func(n int64) { in += n; has = append(has, n) }
	admit := func() {
		for len(line) > 0 && line[0].what <= l.size-in {
			enter(line[0].what)
			line[0].settled(t, nil)
			line = line[1:]
		}
	}
	for step := 0; step < 60 || len(has)+len(line) > 0; step++ {
		n := l.wants[rng.IntN(len(l.wants))]
		do := rng.IntN(5)
		if step >= 60 {
			do = 3 + rng.IntN(2) // to the end
		}
		switch {
		case do < 2:
			fit := fits(n)
			a := ask(n, func(ctx context.Context, a *asker[int64]) error { return l.acquire(ctx, a.what) })
			all = append(all, a)
			synctest.Wait()
			if fit {
				enter(n)
				a.settled(t, nil)
			} else {
				line = append(line, a)
			}
		case do == 2:
			if fit := fits(n); l.try(n) != fit {
				t.Errorf("to try for %d beside %v, where %d wait: not %v", n, has, len(line), fit)
			} else if fit {
				enter(n)
			}
		case do == 3 && len(line) > 0:
			a := line[rng.IntN(len(line))]
			a.cancel()
			synctest.Wait()
			a.settled(t, context.Canceled)
			line = leaveLine(line, a)
			admit()
		case do == 4 && len(has) > 0:
			i := rng.IntN(len(has))
			l.release(has[i])
			synctest.Wait()
			in -= has[i]
			has = slices.Delete(has, i, i+1)
			admit()
		}
		for _, a := range line {
			a.settled(t)
		}
		if l.waiting() != len(line) {
			t.Errorf("%d wait instead of %d", l.waiting(), len(line))
		}
		if t.Failed() {
			return
		}
	}
}

// One step after the other, a queue does what three lists say.
func TestQueueAsModelled(t *testing.T) {
	seed := testenv.Seed(t, rand.Uint64())
	for size := range 4 {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			for round := range uint64(rounds(1000)) {
				synctest.Test(t, func(t *testing.T) { queueAsModelled(t, size, rand.New(rand.NewPCG(seed, round))) })
				if t.Failed() {
					return
				}
			}
		})
	}
}

func queueAsModelled(t *testing.T, size int, rng *rand.Rand) {
	q := executor.NewQueue[int](size)
	var vals []int
	var givers, takers []*asker[int]
	closed := false
	put := func(v int) error {
		switch {
		case closed:
			return executor.ErrQueueClosed
		case len(takers) > 0:
			takers[0].what = v // to be compared with what it took
			takers = takers[1:]
		case len(vals) < size:
			vals = append(vals, v)
		default:
			return executor.ErrQueueFull
		}
		return nil
	}
	take := func() (v int, err error) {
		all := slices.Clone(vals)
		for _, a := range givers {
			all = append(all, a.what)
		}
		switch {
		case len(all) > 0:
			if len(givers) > 0 {
				givers = givers[1:]
			}
			vals = all[1 : len(all)-len(givers)]
			return all[0], nil
		case closed:
			return 0, executor.ErrQueueClosed
		}
		return 0, executor.ErrQueueEmpty
	}
	var asked []*asker[int]
	defer func() { giveUp(asked) }()
	expected := map[*asker[int]]error{} // of those who got one
	for step := range 80 {
		do := rng.IntN(9)
		if step == 79 {
			do = 9
		}
		switch {
		case do < 2:
			a := ask(step, func(ctx context.Context, a *asker[int]) error { return q.Put(ctx, a.what) })
			asked = append(asked, a)
			if err := put(step); err == executor.ErrQueueFull {
				givers = append(givers, a)
			} else {
				expected[a] = err
			}
		case do < 4:
			a := ask(0, func(ctx context.Context, a *asker[int]) (err error) {
				a.got, err = q.Take(ctx)
				return err
			})
			a.takes = true
			asked = append(asked, a)
			if v, err := take(); err == executor.ErrQueueEmpty {
				takers = append(takers, a)
			} else {
				a.what, expected[a] = v, err
			}
		case do == 4:
			if err, want := q.TryPut(step), put(step); err != want {
				t.Errorf("TryPut: %v, not %v", err, want)
			}
		case do == 5:
			v, err := q.TryTake()
			if want, wantErr := take(); v != want || err != wantErr {
				t.Errorf("TryTake: %d, %v, not %d, %v", v, err, want, wantErr)
			}
		case do < 8 && len(givers)+len(takers) > 0:
			waiting := slices.Concat(givers, takers)
			a := waiting[rng.IntN(len(waiting))]
			a.cancel()
			givers, takers = leaveLine(givers, a), leaveLine(takers, a)
			expected[a] = context.Canceled
		case do == 8 && rng.IntN(6) == 0 || do == 9:
			q.Close()
			closed = true
			for _, a := range slices.Concat(givers, takers) {
				expected[a] = executor.ErrQueueClosed
			}
			givers, takers = nil, nil
		}
		synctest.Wait()
		for _, a := range asked {
			if slices.Contains(givers, a) || slices.Contains(takers, a) {
				a.settled(t)
			} else {
				a.settled(t, expected[a])
			}
			if a.takes && a.over && a.err == nil && a.got != a.what {
				t.Errorf("took %d instead of %d", a.got, a.what)
			}
		}
		if g, n := q.Waiting(); g != len(givers) || n != len(takers) || q.Len() != len(vals) {
			t.Errorf("%d and %d wait, and there are %d; not %d, %d, %d", g, n, q.Len(), len(givers), len(takers), len(vals))
		}
		if t.Failed() {
			return
		}
	}
}
