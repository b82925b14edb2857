package driver

import (
	"sync"
	"sync/atomic"
)

// pile is what others leave for the driver goroutine where they must not wait for room in its channel. Who has put something there pokes.
type pile[T any] struct {
	some  atomic.Bool // there is something
	mu    sync.Mutex
	list  []T
	spare []T // the driver goroutine's own: a list that is empty again
}

// put adds v, and reports whether it lies there alone.
func (p *pile[T]) put(v T) (first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = append(p.list, v)
	p.some.Store(true)
	return len(p.list) == 1
}

// take returns what is there. The driver goroutine gives the list back when it is through with it.
func (p *pile[T]) take() []T {
	if !p.some.Load() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.list
	p.list, p.spare = p.spare, nil
	p.some.Store(false)
	return list
}

// giveBack keeps the memory of a list for what comes next.
func (p *pile[T]) giveBack(list []T) {
	clear(list)
	p.spare = list[:0]
}
