package handle

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"uringo/executor"
)

// Turn lets one task at a time pass, in the order of coming. It is a mutex that tasks of every executor can wait for. The zero Turn
// is free.
type Turn struct {
	state atomic.Uint32
	mu    sync.Mutex
	queue []*executor.Event
}

// The states of a Turn. Only under its mutex does it become wanted, or stop to be.
const (
	free   uint32 = iota
	taken         // and nobody waits
	wanted        // taken, and who gives it has to look into the queue
)

// Take waits for its turn. It returns the error of ctx if that ends first.
func (t *Turn) Take(ctx context.Context) error {
	if t.state.CompareAndSwap(free, taken) {
		return nil
	}
	return t.wait(ctx)
}

func (t *Turn) wait(ctx context.Context) error {
	t.mu.Lock()
	if t.state.Swap(wanted) == free { // just now; then nobody waits
		t.state.Store(taken)
		t.mu.Unlock()
		return nil
	}
	e := new(executor.Event)
	t.queue = append(t.queue, e)
	t.mu.Unlock()
	ours := false
	defer func() {
		if !ours { // also if an executor of the user's makes a mistake
			t.leave(e)
		}
	}()
	err := e.Wait(ctx)
	ours = err == nil
	return err
}

// leave ends a wait. If the turn comes in the same moment, it passes that on.
func (t *Turn) leave(e *executor.Event) {
	t.mu.Lock()
	i := slices.Index(t.queue, e)
	if i >= 0 {
		t.queue = slices.Delete(t.queue, i, i+1)
	}
	t.mu.Unlock()
	if i < 0 {
		t.Give()
	}
}

// Give passes the turn on.
func (t *Turn) Give() {
	if !t.state.CompareAndSwap(taken, free) {
		t.pass()
	}
}

// pass gives the turn to who has waited longest.
func (t *Turn) pass() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 { // who waited has given up
		t.state.Store(free)
		return
	}
	next := t.queue[0]
	if t.queue = t.queue[1:]; len(t.queue) == 0 {
		t.state.Store(taken)
	}
	next.Set()
}
