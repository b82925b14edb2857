// Package stripe counts what happens on many processors at once. One shared number would travel between their caches at every
// change, which costs more than many a system call; here there are several, and callers say which one they take.
package stripe

import "sync/atomic"

// lanes is a power of two.
const lanes = 8

// A lane has a cache line to itself.
type lane struct {
	n atomic.Int64
	_ [56]byte
}

// Counter is a number that is changed often and looked at rarely. The zero Counter is 0.
type Counter struct{ lanes [lanes]lane }

// Add adds n, and returns what was added on that lane so far. Any number is a lane.
func (c *Counter) Add(lane uint, n int64) int64 { return c.lanes[lane%lanes].n.Add(n) }

// Load returns the sum.
func (c *Counter) Load() int64 {
	var sum int64
	for i := range c.lanes {
		sum += c.lanes[i].n.Load()
	}
	return sum
}

// Limit bounds how many are at something at a time.
type Limit struct {
	lanes [lanes]lane
	each  int64 // behind them: it is only read, and must not be in the cache line of one that is written to
}

// NewLimit returns a limit of n, a multiple of 8. Each lane has an eighth of the places.
func NewLimit(n int) *Limit { return &Limit{each: int64(n / lanes)} }

// Enter takes a place on the lane, or on another if that is full; ok is false if all are. Whoever got one calls Leave with the lane that
// it is on.
func (l *Limit) Enter(lane uint) (on uint, ok bool) {
	for range lanes {
		n := &l.lanes[lane%lanes].n
		if n.Add(1) <= l.each {
			return lane, true
		}
		n.Add(-1)
		lane++
	}
	return lane, false
}

// Leave gives the place back.
func (l *Limit) Leave(on uint) { l.lanes[on%lanes].n.Add(-1) }
