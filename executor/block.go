package executor

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"

	"uringo/driver"
)

// Block runs fn, which may block on anything, on a goroutine of its own while the task waits. It returns when fn has returned: a
// ctx that ends meanwhile does not interrupt fn. At most 512 of the tasks of one Start run theirs at once; one that still waits for its turn when
// ctx ends does not run. A panic in fn is an error, as in a task.
//
// Within fn, Block needs no turn of its own: the inner function has that of the outer one, which waits for it. A goroutine that fn starts
// has none, so fn should not wait for what such a one, or a task, does in Block: 512 that did so would wait for ever.
func Block[T any](ctx context.Context, fn func() (T, error)) (T, error) {
	var value T
	t := taskOf(ctx)
	if ctx.Err() != nil {
		return value, driver.Canceled(ctx)
	}
	err := ErrGoexit
	var e Event
	within := t != nil && t.scope.turns.mine()
	go func() {
		defer e.Set()
		if t != nil {
			end := t.scope.turns.begin(ctx, within)
			if end == nil {
				err = driver.Canceled(ctx)
				return
			}
			defer end()
		}
		defer recoverInto(&err)
		value, err = fn()
	}()
	_ = e.Wait(context.WithoutCancel(ctx))
	return value, err
}

// maxBlocking bounds the goroutines that Block has at work, and so the threads they may hold.
const maxBlocking = 512

// turns are those of a scope's functions in Block. Of the ones within another, which waits, all have one together.
type turns struct {
	free *semaphore.Weighted

	mu  sync.Mutex
	who map[uintptr]struct{} // goroutines that have one, by identity
}

func newTurns() turns {
	return turns{free: semaphore.NewWeighted(maxBlocking), who: make(map[uintptr]struct{})}
}

// mine reports whether the calling goroutine has a turn.
func (s *turns) mine() bool {
	g := getg()
	s.mu.Lock()
	defer s.mu.Unlock()
	_, mine := s.who[g]
	return mine
}

// begin gives the calling goroutine a turn, until end is called: that of a goroutine that waits for it, if there is one, and otherwise its own as
// soon as one is free. If ctx ends before that, end is nil.
func (s *turns) begin(ctx context.Context, within bool) (end func()) {
	if !within && s.free.Acquire(ctx, 1) != nil {
		return nil
	}
	g := getg()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.who[g] = struct{}{}
	return func() {
		s.mu.Lock()
		delete(s.who, g)
		s.mu.Unlock()
		if !within {
			s.free.Release(1)
		}
	}
}
