package notify

import (
	"sync"
	"sync/atomic"
)

// Ending is the part of a context that ends once, by itself and not with another one: all of it but its values. A context of the standard
// library costs a map entry or a goroutine for every operation under it, and whoever makes one for every task pays for that too.
type Ending struct {
	over atomic.Bool // err is set
	err  error       // from then on it stays what it is

	mu       sync.Mutex
	done     chan struct{} // made by the first Done
	after    map[*func()]struct{}
	watchers List
}

// End ends the context with err. It reports whether this call did.
func (e *Ending) End(err error) bool {
	e.mu.Lock()
	if e.err != nil {
		e.mu.Unlock()
		return false
	}
	e.err = err
	e.over.Store(true)
	e.watchers.Tell()
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

// Over reports whether the context has ended, at the price of a load.
func (e *Ending) Over() bool { return e.over.Load() }

// Err is that of context.Context.
func (e *Ending) Err() error {
	if !e.over.Load() {
		return nil
	}
	return e.err
}

// Done is that of context.Context.
func (e *Ending) Done() <-chan struct{} {
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

// AfterFunc is looked for by context.AfterFunc and by contexts derived from this one.
func (e *Ending) AfterFunc(f func()) (stop func() bool) {
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

// Watch implements [Context].
func (e *Ending) Watch(w *Watcher) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return false
	}
	e.watchers.Add(w)
	return true
}

// Unwatch implements [Context].
func (e *Ending) Unwatch(w *Watcher) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.watchers.Remove(w)
}
