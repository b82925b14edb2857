package executor

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"uringo/driver"
)

// Event is something that happens once. Tasks of every executor can wait for it without holding their worker, and anybody can
// make it happen. The zero Event has not happened.
type Event struct {
	set     atomic.Bool
	mu      sync.Mutex
	waiters []unparker
}

// unparker is something that waits and looks again when told to.
type unparker interface{ unpark() }

// Set makes the event happen. Further calls do nothing.
func (e *Event) Set() {
	e.mu.Lock()
	e.set.Store(true)
	waiters := e.waiters
	e.waiters = nil
	e.mu.Unlock()
	for _, w := range waiters {
		w.unpark()
	}
}

// IsSet reports whether the event has happened.
func (e *Event) IsSet() bool { return e.set.Load() }

// Wait returns nil once the event has happened, or the error of ctx if that ends first.
func (e *Event) Wait(ctx context.Context) error { return e.wait(ctx, nil) }

// wait is Wait; by is the task whose work makes the event happen, if it is known.
func (e *Event) wait(ctx context.Context, by *task) error {
	if e.set.Load() {
		return nil
	}
	if ctx.Err() != nil {
		return driver.Canceled(ctx)
	}
	t := taskOf(ctx)
	if t == nil || !t.here() {
		c := current()
		if c == nil {
			return e.waitElsewhere(ctx, t, by)
		}
		t = c // with the context of another task, or of none
	}
	if t.home == nil {
		return e.waitOnGoroutine(ctx, t)
	}
	if !e.add(t) {
		return nil
	}
	if ctx.Done() != t.Done() && ctx.Done() != nil {
		stop := context.AfterFunc(ctx, t.unpark)
		defer stop()
	}
	for !e.set.Load() {
		if ctx.Err() != nil {
			e.drop(t)
			return driver.Canceled(ctx)
		}
		t.pause()
	}
	return nil
}

// waitElsewhere waits for somebody who is no task, but may be a coroutine inside one, with whatever context.
func (e *Event) waitElsewhere(ctx context.Context, t *task, by *task) error {
	if by != nil && by.homeIsHere() {
		return ErrNested // it does not run meanwhile
	}
	if t != nil && t.home != nil {
		t.home.flush()
		if t.homeIsHere() {
			return e.waitPumping(ctx, t.scope.d)
		}
	}
	if d := driver.Here(); d != nil {
		return e.waitPumping(ctx, d)
	}
	return e.waitOnChannel(ctx)
}

// waitOnGoroutine waits on a task that is a goroutine, the way its runtime wants. The channel is this wait's own, as the task
// may have lent its context to other goroutines.
func (e *Event) waitOnGoroutine(ctx context.Context, t *task) error {
	w := signal(make(chan struct{}, 1))
	if !e.add(w) {
		return nil
	}
	stop := context.AfterFunc(ctx, w.unpark)
	defer stop()
	for !e.set.Load() {
		if ctx.Err() != nil {
			e.drop(w)
			return driver.Canceled(ctx)
		}
		t.scope.rt.Wait(w)
	}
	return nil
}

func (e *Event) waitOnChannel(ctx context.Context) error {
	w := signal(make(chan struct{}, 1))
	if !e.add(w) {
		return nil
	}
	select {
	case <-w:
		return nil
	case <-ctx.Done():
		e.drop(w)
		return driver.Canceled(ctx)
	}
}

// waitPumping waits on the driver's own thread, outside of its task. Tasks of that thread do not run meanwhile; others are answered, and the
// driver ends when somebody closes it: what is waited for may need that.
func (e *Event) waitPumping(ctx context.Context, d *driver.Driver) error {
	w := poker{d}
	if !e.add(w) {
		return nil
	}
	stop := context.AfterFunc(ctx, w.unpark)
	defer stop()
	d.Attend(func() bool { return e.set.Load() || ctx.Err() != nil })
	if e.set.Load() {
		return nil
	}
	e.drop(w)
	return driver.Canceled(ctx)
}

// add registers a waiter, unless the event has happened.
func (e *Event) add(w unparker) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.set.Load() {
		return false
	}
	e.waiters = append(e.waiters, w)
	return true
}

func (e *Event) drop(w unparker) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := slices.Index(e.waiters, w); i >= 0 {
		e.waiters = slices.Delete(e.waiters, i, i+1)
	}
}

// channel returns a channel that is closed when the event happens.
func (e *Event) channel() <-chan struct{} {
	c := make(closer)
	if !e.add(c) {
		c.unpark()
	}
	return c
}

type signal chan struct{}

func (s signal) unpark() {
	select {
	case s <- struct{}{}:
	default:
	}
}

type closer chan struct{}

func (c closer) unpark() { close(c) }

type poker struct{ d *driver.Driver }

func (p poker) unpark() { p.d.Poke() }

// Sleep waits for d, and returns nil, or until ctx ends, and returns its error. With a d that is not positive it is [Yield].
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return Yield(ctx)
	}
	var e Event
	timer := time.AfterFunc(d, e.Set)
	defer timer.Stop()
	return e.Wait(ctx)
}
