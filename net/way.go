package net

import (
	"context"
	"sync"

	"uringo/internal/handle"
)

// wayIn is what those have in common who send to a socket and would not learn that it is closed: they wait somewhere else, or the kernel does not tell
// them.
type wayIn struct {
	mu     sync.Mutex
	ends   map[*context.CancelCauseFunc]struct{} // of their contexts
	closed error                                 // why there are no more
}

// ways returns the socket's way in.
func (s *socket) ways() *wayIn {
	if w := s.way.Load(); w != nil {
		return w
	}
	s.way.CompareAndSwap(nil, &wayIn{ends: make(map[*context.CancelCauseFunc]struct{})})
	return s.way.Load()
}

// enter returns a context for somebody who sends to s: it ends with ctx, and when s is closed. leave is called afterwards, with the error of what was
// done under it, and returns that under the name of the reason.
func (s *socket) enter(ctx context.Context) (under context.Context, leave func(error) error) {
	under, end := context.WithCancelCause(ctx)
	w := s.ways()
	w.mu.Lock()
	w.ends[&end] = struct{}{}
	closed := w.closed
	w.mu.Unlock()
	if s.h.Closing() { // bar may have come before
		closed = ErrClosed
	}
	if closed != nil {
		end(closed)
	}
	return under, func(err error) error {
		w.mu.Lock()
		delete(w.ends, &end)
		w.mu.Unlock()
		cause := context.Cause(under)
		end(nil)
		if err != nil && cause != nil && ctx.Err() == nil && !handle.Abandoned(err) {
			return s.fail("write", "send", cause)
		}
		return err
	}
}

// bar ends what goes on under the contexts of enter, with an error, and what begins.
func (w *wayIn) bar(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = err
	for end := range w.ends {
		(*end)(err)
	}
}

// bar is that of the way in of a socket that is being closed, if there is one. Who begins sees that by himself.
func (s *socket) bar() {
	if w := s.way.Load(); w != nil {
		w.bar(ErrClosed)
	}
}
