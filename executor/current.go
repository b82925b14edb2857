package executor

import (
	"sync"
	"sync/atomic"
)

// coroutines knows those of all homes by the identity of their goroutine.
var coroutines struct {
	sync.RWMutex
	by map[uintptr]*coroutine
	n  atomic.Int32
}

// current returns the task of the calling goroutine if that is a coroutine of this package, and nil otherwise. It is for callers
// whose context does not tell: a task that uses the context of another, or one that belongs to no task.
func current() *task {
	if coroutines.n.Load() == 0 {
		return nil
	}
	coroutines.RLock()
	co := coroutines.by[getg()]
	coroutines.RUnlock()
	if co == nil {
		return nil
	}
	return co.running
}

// enlist makes current know the calling goroutine as co, until the returned function is called.
func (co *coroutine) enlist() (delist func()) {
	g := getg()
	coroutines.Lock()
	defer coroutines.Unlock()
	if coroutines.by == nil {
		coroutines.by = make(map[uintptr]*coroutine)
	}
	coroutines.by[g] = co
	coroutines.n.Add(1)
	return func() {
		coroutines.Lock()
		defer coroutines.Unlock()
		delete(coroutines.by, g)
		coroutines.n.Add(-1)
	}
}
