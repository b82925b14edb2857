package executor

import (
	"context"
	"fmt"
	"sync"

	"uringo/driver"
)

// Semaphore bounds how much of something is in use at a time. Tasks of every executor wait for their share without holding their worker, and
// goroutines that are no tasks wait as well. It serves in the order of asking: who asks for much is not overtaken by those who ask for little.
type Semaphore struct {
	size int64
	gate gate
}

// NewSemaphore returns a semaphore of which n may be in use at a time.
func NewSemaphore(n int64) *Semaphore { return &Semaphore{size: n} }

// Acquire waits until n of it are free and takes them, or returns the error of ctx if that ends first, and takes nothing. An n that is negative, or
// more than there ever is, is an error at once.
func (s *Semaphore) Acquire(ctx context.Context, n int64) error {
	if n < 0 || n > s.size {
		return fmt.Errorf("uringo: Acquire of %d from a Semaphore of %d", n, s.size)
	}
	return s.gate.enter(ctx, n, s.size)
}

// TryAcquire takes n if they are free and nobody waits, and reports whether that was so. It never waits.
func (s *Semaphore) TryAcquire(n int64) bool { return n >= 0 && s.gate.try(n, s.size) }

// Release gives n back. It never waits, and anybody may call it. To give back more than is in use is a mistake, and panics.
func (s *Semaphore) Release(n int64) {
	if n < 0 || !s.gate.leave(n, s.size, s.size) {
		panic("uringo: Release of more than was acquired from a Semaphore")
	}
}

// gate lets so many in at a time, in the order in which they came. Size is the same in all calls.
type gate struct {
	mu   sync.Mutex
	in   int64
	line line[int64] // of how many each wants
}

func (g *gate) enter(ctx context.Context, n, size int64) error {
	if ctx.Err() != nil {
		return driver.Canceled(ctx)
	}
	g.mu.Lock()
	if g.free(n, size) {
		g.in += n
		g.mu.Unlock()
		return nil
	}
	return g.line.wait(ctx, &g.mu, &waiter[int64]{what: n}, func(came bool) {
		if !came {
			n = 0
		}
		g.leave(n, size, size) // also with nothing: those behind may want less
	})
}

func (g *gate) try(n, size int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	ok := g.free(n, size)
	if ok {
		g.in += n
	}
	return ok
}

// leave is false, and changes nothing, if less is in, or more than most.
func (g *gate) leave(n, size, most int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n > g.in || g.in > most {
		return false
	}
	g.in -= n
	g.admit(size)
	return true
}

// free reports whether n more may come in now. The lock is held, as in admit.
func (g *gate) free(n, size int64) bool { return g.line.head == nil && n <= size-g.in }

// admit lets those in who are next and find room.
func (g *gate) admit(size int64) {
	for g.line.head != nil && g.line.head.what <= size-g.in {
		w := g.line.pop()
		g.in += w.what
		w.over.Set()
	}
}
