package handle

import (
	"context"
	"sync"

	"uringo/executor"
)

// Turn lets one task at a time pass, in the order of coming. It is a mutex that tasks of every executor can wait for. The zero Turn
// is free.
type Turn struct {
	mu    sync.Mutex
	taken bool
	queue []*executor.Event
}

// Take waits for its turn. It returns the error of ctx if that ends first.
func (t *Turn) Take(ctx context.Context) error {
	t.mu.Lock()
	if !t.taken {
		t.taken = true
		t.mu.Unlock()
		return nil
	}
	e := new(executor.Event)
	t.queue = append(t.queue, e)
	t.mu.Unlock()
	err := e.Wait(ctx)
	if err == nil {
		return nil
	}
	t.mu.Lock()
	for i, q := range t.queue {
		if q == e {
			t.queue = append(t.queue[:i], t.queue[i+1:]...)
			t.mu.Unlock()
			return err
		}
	}
	t.mu.Unlock()
	t.Give() // our turn came in the same moment
	return err
}

// Give passes the turn on.
func (t *Turn) Give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		t.taken = false
		return
	}
	next := t.queue[0]
	t.queue = t.queue[1:]
	next.Set()
}
