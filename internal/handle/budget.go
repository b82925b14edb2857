package handle

import "sync/atomic"

// Budget makes coroutines that never wait give way from time to time, so that operations that succeed at once do not starve the other
// tasks of a worker.
type Budget struct{ spent atomic.Uint32 }

const maxSpent = 64 // operations, or as many pages

// Spend accounts for an operation that moved n bytes without waiting. It reports whether the budget is spent: then it is new.
func (b *Budget) Spend(n int) bool {
	if b.spent.Add(1+uint32(n>>12)) < maxSpent {
		return false
	}
	b.spent.Store(0)
	return true
}
