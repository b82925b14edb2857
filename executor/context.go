package executor

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"uringo/buf"
	"uringo/driver"
)

// ending is the part of a task that makes it a context: it ends once, with an error. It does what a context of the standard
// library would, without one being made for every task, and its state is one load away.
type ending struct {
	over atomic.Bool // err is set

	mu    sync.Mutex
	err   error
	done  chan struct{} // made by the first Done
	after map[*func()]struct{}
}

// end ends the context. It reports whether this call did.
func (e *ending) end(err error) bool {
	e.mu.Lock()
	if e.err != nil {
		e.mu.Unlock()
		return false
	}
	e.err = err
	e.over.Store(true)
	if e.done != nil {
		close(e.done)
	}
	after := e.after
	e.after = nil
	e.mu.Unlock()
	for f := range after {
		go (*f)()
	}
	return true
}

// Done returns a channel that is closed when the task is cancelled or has ended.
func (t *task) Done() <-chan struct{} {
	e := &t.ending
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.done == nil {
		e.done = make(chan struct{})
		if e.err != nil {
			close(e.done)
		}
	}
	return e.done
}

// Err returns nil until the task is cancelled or has ended.
func (t *task) Err() error {
	if !t.ending.over.Load() {
		return nil
	}
	t.ending.mu.Lock()
	defer t.ending.mu.Unlock()
	return t.ending.err
}

// Deadline returns the earlier one of Start's context and of the context that the task was started with.
func (t *task) Deadline() (time.Time, bool) {
	a, ok := t.scope.ctx.Deadline()
	if b, also := t.values.Deadline(); also && (!ok || b.Before(a)) {
		return b, true
	}
	return a, ok
}

// Value finds the task, its driver, and what the context carried that the task was started with.
func (t *task) Value(key any) any {
	switch key {
	case taskKey{}:
		return t
	case driver.ContextKey:
		return t.scope.d
	case buf.EventKey:
		return newEvent
	}
	if v := t.values.Value(key); v != nil {
		return v
	}
	return t.scope.ctx.Value(key) // for context.Cause: values may have lost it with its end
}

// newEvent makes an event for buffer pools, on which tasks wait like on any other.
func newEvent() buf.Event { return new(Event) }

// String describes the task in the text of derived contexts.
func (t *task) String() string { return "uringo task" }

// AfterFunc is looked for by context.AfterFunc and by contexts derived from the task.
func (t *task) AfterFunc(f func()) (stop func() bool) {
	e := &t.ending
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		go f()
		return func() bool { return false }
	}
	if e.after == nil {
		e.after = make(map[*func()]struct{})
	}
	e.after[&f] = struct{}{}
	return func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		_, waiting := e.after[&f]
		delete(e.after, &f)
		return waiting
	}
}

type taskKey struct{}

// taskOf returns the task that ctx is or descends from, or nil.
func taskOf(ctx context.Context) *task {
	if t, ok := ctx.(*task); ok {
		return t
	}
	t, _ := ctx.Value(taskKey{}).(*task)
	return t
}

// plain reports whether ctx ends exactly when the task does.
func (t *task) plain(ctx context.Context) bool {
	return ctx == context.Context(t) || ctx.Done() == t.Done()
}
