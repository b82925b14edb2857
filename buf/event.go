package buf

import (
	"context"
	"errors"
	"sync"
)

// Event is something that happens once. A task can wait for it in the way of its executor, without holding its worker.
type Event interface {
	// Set makes it happen. Any goroutine may call it, and it never blocks.
	Set()
	// Wait returns nil when it has happened, or an error when ctx ends first.
	Wait(ctx context.Context) error
}

type eventKey struct{}

// EventKey is the key under which the context of a task answers Value with a func() [Event] that makes events its executor knows how to
// wait for. Contexts without one are those of goroutines, which may block.
var EventKey any = eventKey{}

func newEvent(ctx context.Context) Event {
	if make, ok := ctx.Value(EventKey).(func() Event); ok {
		return make()
	}
	return &goroutineEvent{done: make(chan struct{})}
}

// goroutineEvent is an event for goroutines.
type goroutineEvent struct {
	once sync.Once
	done chan struct{}
}

func (e *goroutineEvent) Set() { e.once.Do(func() { close(e.done) }) }

func (e *goroutineEvent) Wait(ctx context.Context) error {
	select {
	case <-e.done:
		return nil
	case <-ctx.Done():
		return canceled(ctx)
	}
}

// canceled returns why ctx has ended: its cause, and its error if that does not say it. Tasks are told the same.
func canceled(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == err {
		return err
	}
	return errors.Join(err, cause)
}
