package executor_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/ops"
)

// life is a random program of tasks.
type life struct {
	*world
	events [8]executor.Event
	rd, wr int

	mu    sync.Mutex
	tasks []*mortalTask
}

// mortalTask is one of its tasks, and how that says it ends.
type mortalTask struct {
	h    *executor.JoinHandle[int]
	end  atomic.Int32
	seed uint64
}

// How a task can end.
const (
	neverBegan int32 = iota
	stillAlive
	withValue
	withError
	withPanic
	withGoexit
)

// spawn starts a random task.
func (l *life) spawn(ctx context.Context, seed uint64, depth int) *mortalTask {
	t := &mortalTask{seed: seed}
	start := executor.Go[int]
	if seed%3 == 0 {
		start = executor.GoHere
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tasks = append(l.tasks, t)
	t.h = start(ctx, func(ctx context.Context) (int, error) {
		t.end.Store(stillAlive)
		rng := rand.New(rand.NewPCG(seed, 1))
		err := l.live(ctx, rng, depth)
		end := withValue + rng.Int32N(4)
		t.end.Store(end)
		switch end {
		case withError:
			return 0, errors.Join(errTest, err)
		case withPanic:
			defer executor.StepBack(ctx)
			panic(seed)
		case withGoexit:
			defer executor.StepBack(ctx)
			leave()
		}
		return int(seed >> 1), nil
	})
	return t
}

// live performs random steps and returns the last error that is more than the end of a context.
func (l *life) live(ctx context.Context, rng *rand.Rand, depth int) error {
	var odd error
	for range rng.IntN(8) {
		if err := l.step(ctx, rng, depth); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, os.ErrDeadlineExceeded) {
			odd = err
			l.Errorf("an unexpected end: %v", err)
		}
	}
	return odd
}

func (l *life) step(ctx context.Context, rng *rand.Rand, depth int) error {
	short := time.Duration(rng.IntN(100)) * time.Microsecond
	event := &l.events[rng.IntN(len(l.events))]
	switch rng.IntN(16) {
	case 0, 1, 2:
		return nop(ctx)
	case 3:
		return executor.Yield(ctx)
	case 4:
		return executor.Sleep(ctx, short)
	case 5:
		event.Set()
	case 6:
		ctx, cancel := context.WithTimeout(ctx, short)
		defer cancel()
		return event.Wait(ctx)
	case 7:
		ctx, cancel := context.WithTimeout(ctx, short)
		defer cancel()
		_, buf, err := read(ctx, l.rd, make([]byte, 4))
		if len(buf) != 4 {
			return fmt.Errorf("the buffer is %d long", len(buf))
		}
		return err
	case 8:
		_, err := executor.Block(ctx, func() (int, error) { time.Sleep(short / 4); return 0, nil })
		return err
	case 9:
		return inside(1+rng.IntN(2), func() error { return errors.Join(nop(ctx), executor.Sleep(ctx, short/4)) })
	case 10:
		return executor.Do(ctx, ops.Timeout(short)).Err
	case 11:
		done := make(chan error, 1)
		go func() { done <- errors.Join(nop(ctx), executor.Yield(ctx)) }()
		_, err := executor.Block(context.WithoutCancel(ctx), func() (int, error) { return 0, <-done })
		return err
	case 12:
		l.mu.Lock()
		victim := l.tasks[rng.IntN(len(l.tasks))]
		l.mu.Unlock()
		if rng.IntN(3) == 0 {
			victim.h.Abort()
		}
	case 13:
		if depth == 0 {
			return nil
		}
		child := l.spawn(ctx, rng.Uint64(), depth-1)
		if rng.IntN(2) == 0 {
			ctx, cancel := context.WithTimeout(ctx, 10*short)
			defer cancel()
			_, _ = child.h.Join(ctx) // see check
		}
	case 14:
		for range 1 + rng.IntN(4) {
			executor.StepBack(ctx)
		}
	case 15:
		for range rng.IntN(20) {
			executor.CallerOf(ctx).GiveWay(ctx, rng.IntN(512<<10))
		}
	}
	return nil
}

// check compares how a task ended with what Join says.
func (l *life) check(t *mortalTask) {
	v, err := t.h.Join(context.Background())
	var p *executor.PanicError
	ok := false
	switch t.end.Load() {
	case neverBegan:
		ok = errors.Is(err, context.Canceled)
	case withValue:
		ok = err == nil && v == int(t.seed>>1)
	case withError:
		ok = errors.Is(err, errTest)
	case withPanic:
		ok = errors.As(err, &p) && p.Value == t.seed
	case withGoexit:
		ok = errors.Is(err, executor.ErrGoexit)
	}
	if !ok {
		l.Errorf("a task that ended in way %d: %d, %v", t.end.Load(), v, err)
	}
}

// Random tasks do random things to each other until a random moment, and every one of them ends as it meant to.
func TestRandomTasks(t *testing.T) {
	seed := testenv.Seed(t, rand.Uint64())
	everywhere(t, func(w *world) {
		for round := range uint64(rounds(300)) {
			rng := rand.New(rand.NewPCG(seed, round))
			w.config.Entries = 4 << rng.IntN(4)
			l := &life{world: w}
			l.rd, l.wr = pipe(w)
			w.ok(func(ctx context.Context) error {
				for range 10 {
					l.spawn(ctx, rng.Uint64(), 2)
				}
				end := time.Duration(rng.IntN(2000)) * time.Microsecond
				if !w.coop() {
					time.Sleep(end) // in a pool the place would have to come back
					return nil
				}
				return executor.Sleep(ctx, end)
			})
			for _, t := range l.tasks {
				l.check(t)
			}
			if w.Failed() {
				return
			}
		}
	})
}
