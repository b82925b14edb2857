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

// each calls f with what is there, and returns how much that was. Driver goroutine only.
func (p *pile[T]) each(f func(*T)) int {
	list := p.take()
	for i := range list {
		f(&list[i])
	}
	if len(list) > 0 {
		p.giveBack(list)
	}
	return len(list)
}

// take returns what is there.
func (p *pile[T]) take() []T {
	if !p.some.Load() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.some.Store(false)
	return p.swap()
}

// borrow is take, but as far as others can see there is something until giveBack, which is due if some is true.
func (p *pile[T]) borrow() (list []T, some bool) {
	if !p.some.Load() {
		return nil, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.swap(), true
}

// swap returns the list and leaves an empty one.
func (p *pile[T]) swap() []T {
	list := p.list
	p.list, p.spare = p.spare, nil
	return list
}

// giveBack keeps the memory of a list for what comes next.
func (p *pile[T]) giveBack(list []T) {
	clear(list)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spare = list[:0]
	p.some.Store(len(p.list) > 0)
}
