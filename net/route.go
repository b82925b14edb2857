package net

import (
	"context"
	"sync/atomic"
	"syscall"

	"uringo/driver"
	"uringo/executor"
	"uringo/ops"
)

// Operation is a kind of work for which a [Route] is chosen.
type Operation uint8

// The operations.
const (
	OpRead   Operation = iota // receiving
	OpWrite                   // sending
	OpAccept                  // Accept
	operations
)

// Route is a way to perform an operation.
type Route uint8

const (
	// Auto is the best one known, see table.
	Auto Route = iota
	// Inline tries a plain system call that does not wait, on the caller's own goroutine; what would have to wait takes the ring.
	Inline
	// Ring is io_uring, or what stands in for it.
	Ring
)

// String returns the route's name.
func (r Route) String() string { return [...]string{"auto", "inline", "ring"}[r] }

// table is what Auto means. thread is for callers that have a goroutine to themselves: handing an operation to the driver and back
// costs them a few times what a plain call does, also a vain one. shared is for coroutines, which share one call of the ring with
// others: there a vain attempt is a loss, but most sends have room.
var table = [operations]struct{ thread, shared Route }{
	OpRead:   {Inline, Ring},
	OpWrite:  {Inline, Inline},
	OpAccept: {Inline, Ring},
}

// pins are the choices of [Pin].
var pins [operations]atomic.Uint32

// Pin has the operations of one kind take one route from now on, everywhere in the program, and returns the one it replaces. Auto
// undoes it. It is for measuring.
func Pin(op Operation, r Route) (old Route) { return Route(pins[op].Swap(uint32(r))) }

// choose returns the route of an operation: pinned, or from the table.
func choose(ctx context.Context, op Operation) Route {
	if r := Route(pins[op].Load()); r != Auto {
		return r
	}
	if executor.MayBlock(ctx) {
		return table[op].thread
	}
	return table[op].shared
}

// onRing performs an operation by the ring. If the caller is let go while the kernel still has what was given to it, free is called later.
func onRing[T any](ctx context.Context, o ops.Op[T], free func()) (int, error) {
	o.Release = free
	res := executor.Do(ctx, o)
	return res.N, res.Err
}

// try performs an operation at once if it is one to be tried. EAGAIN means that the ring has to.
func (s *socket) try(ctx context.Context, op Operation, f func() (int, error)) (int, error) {
	if ctx.Err() != nil {
		return 0, driver.Canceled(ctx)
	}
	if choose(ctx, op) != Inline {
		return 0, syscall.EAGAIN
	}
	n, err := f()
	if err == nil {
		s.h.CountTry()
		if s.h.Budget.Spend(n) {
			_ = executor.Yield(ctx) // if ctx has ended, the next operation will say so
		}
	}
	return n, err
}
