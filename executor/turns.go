package executor

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

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
