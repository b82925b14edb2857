package executor

import (
	"context"
	"math"
	"sync"
	"sync/atomic"

	"uringo/driver"
)

// Mutex is a lock that a task may keep over calls which let other tasks run, such as those of packages fs and net. Who waits for it does not
// hold its worker, and is served in the order of asking. The zero Mutex is unlocked. It must not be copied after its first use.
//
// What is done in moments and without such calls is better guarded by a sync.Mutex, which costs less; tasks of one worker that share data among
// themselves need neither.
type Mutex struct {
	state atomic.Uint32
	mu    sync.Mutex
	line  line[struct{}]
}

// The states of a Mutex. Only under its lock does it become wanted, or stop to be.
const (
	free   uint32 = iota
	locked        // and nobody waits
	wanted        // locked, and who unlocks has to look who waits
)

// Lock waits until the mutex is the caller's, or returns the error of ctx if that ends first.
func (m *Mutex) Lock(ctx context.Context) error {
	if ctx.Err() != nil {
		return driver.Canceled(ctx)
	}
	if m.state.CompareAndSwap(free, locked) {
		return nil
	}
	m.mu.Lock()
	if m.state.Swap(wanted) == free { // just now; then nobody waits
		m.state.Store(locked)
		m.mu.Unlock()
		return nil
	}
	return m.line.wait(ctx, &m.mu, new(waiter[struct{}]), func(came bool) {
		if came {
			m.Unlock()
		}
	})
}

// TryLock takes the mutex if it is free, and reports whether it was. It never waits.
func (m *Mutex) TryLock() bool { return m.state.CompareAndSwap(free, locked) }

// Unlock gives the mutex to who waits longest, or else frees it. It never waits; another task may call it than the one that has locked. To unlock
// what is not locked is a mistake, and panics.
func (m *Mutex) Unlock() {
	if !m.state.CompareAndSwap(locked, free) {
		m.pass()
	}
}

// pass is Unlock where somebody waits, or has waited and given up.
func (m *Mutex) pass() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.Load() == free {
		panic("uringo: Unlock of an unlocked Mutex")
	}
	w := m.line.pop()
	if w == nil {
		m.state.Store(free)
		return
	}
	if m.line.head == nil {
		m.state.Store(locked)
	}
	w.over.Set()
}

// RWMutex is a [Mutex] that readers share. A reader who comes after a waiting writer waits for that, so no stream of readers keeps a writer out;
// and a reader must not lock once more what it has. The zero RWMutex is unlocked. It must not be copied after its first use.
type RWMutex struct{ gate gate }

// everybody is what a writer takes: all that readers have one of each.
const everybody = math.MaxInt64

// Lock waits until the mutex is the caller's alone, or returns the error of ctx if that ends first.
func (m *RWMutex) Lock(ctx context.Context) error { return m.gate.enter(ctx, everybody, everybody) }

// TryLock takes the mutex if nobody has it, and reports whether that was so. It never waits.
func (m *RWMutex) TryLock() bool { return m.gate.try(everybody, everybody) }

// Unlock is what a writer calls when it is done. It never waits. To unlock what is not locked is a mistake, and panics.
func (m *RWMutex) Unlock() {
	if !m.gate.leave(everybody, everybody, everybody) {
		panic("uringo: Unlock of an RWMutex that is not locked for writing")
	}
}

// RLock waits until no writer has the mutex, or waits for it longer, or returns the error of ctx if that ends first.
func (m *RWMutex) RLock(ctx context.Context) error { return m.gate.enter(ctx, 1, everybody) }

// TryRLock is RLock if that needs no waiting, and reports whether it was. It never waits.
func (m *RWMutex) TryRLock() bool { return m.gate.try(1, everybody) }

// RUnlock is what a reader calls when it is done. It never waits. To unlock what is not locked is a mistake, and panics.
func (m *RWMutex) RUnlock() {
	if !m.gate.leave(1, everybody, everybody-1) {
		panic("uringo: RUnlock of an RWMutex that is not locked for reading")
	}
}
