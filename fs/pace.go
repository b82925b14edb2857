package fs

import (
	"context"
	"sync/atomic"
	"time"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/handle"
)

// brisk is a route of the table only: a plain call in place, on a goroutine that others share, for as long as such calls are quick.
// What is in the kernel's caches takes two microseconds, less than handing it to anybody else. One that turns out slow, for a disk or
// a journal was in the way, has held up the others once; those that follow take Call, or Ring, the longer the more often that happens.
const (
	brisk Route = 4 + iota
	briskOrRing
)

// tooLong is how long a call may take without counting as slow: what handing it over would cost, a few times. For every byte that it
// moves it may take perByte more: who else moves it takes as long, and on one processor nobody gains.
const (
	tooLong = 200 * time.Microsecond
	perByte = time.Nanosecond
)

// pacer decides for one kind of call.
type pacer struct {
	skip    atomic.Int32 // how many calls are still to take another route
	penalty atomic.Int32 // how many the next slow one costs
	budget  handle.Budget
}

const maxPenalty = 4096

// pace has a pacer for every opcode.
var pace [256]pacer

// onNames has the pacers of plain calls on names that are made without an operation, see package ops: an operation outlives its caller's
// frame, and these allocate nothing.
var onNames [operations]pacer

// quick reports whether the next call is expected to be quick.
func (p *pacer) quick() bool {
	return p.skip.Load() <= 0 || p.skip.Add(-1) < 0
}

// enter reports whether a call by route r is to be made in place, now; then leave has to be called after it.
func (p *pacer) enter(r Route) (start time.Time, ok bool) {
	if r != Inline && (r < brisk || !p.quick()) || !inKernel.enter() {
		return start, false
	}
	if r >= brisk {
		start = time.Now()
	}
	return start, true
}

// inPlace makes a call in place, if one by route r is to be made so now and ctx has not ended. It reports whether that settles the matter.
func (p *pacer) inPlace(ctx context.Context, r Route, call func() error) (done bool, err error) {
	start, ok := p.enter(r)
	if !ok {
		return false, nil
	}
	defer p.leave(ctx, start, 0)
	if err := canceled(ctx); err != nil {
		return true, err
	}
	count(ctx, driver.RouteDirect)
	return true, call()
}

// leave ends a call that moved n bytes.
func (p *pacer) leave(ctx context.Context, start time.Time, n int) {
	inKernel.leave()
	if !start.IsZero() {
		p.took(ctx, time.Since(start), n)
	}
}

// took takes note of a call that was made. Now and then it lets the other tasks of the caller's worker run: a task whose calls are all
// quick would never wait for anything.
func (p *pacer) took(ctx context.Context, d time.Duration, n int) {
	if p.budget.Spend(n) {
		_ = executor.Yield(ctx) // if ctx has ended, the next operation will say so
	}
	if d < tooLong+time.Duration(n)*perByte {
		if n := p.penalty.Load(); n > 0 {
			p.penalty.Store(n - 1)
		}
		return
	}
	next := min(max(2*p.penalty.Load(), 16), maxPenalty)
	p.penalty.Store(next)
	p.skip.Store(next)
}
