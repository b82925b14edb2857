package executor

import (
	"context"
	"time"

	"uringo/buf"
	"uringo/driver"
)

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

type taskKey struct{}

// InTask reports whether ctx is a task, or derived from one: whether [Go] can start others with it, and is not answered by [ErrNoRuntime].
func InTask(ctx context.Context) bool { return taskOf(ctx) != nil }

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
