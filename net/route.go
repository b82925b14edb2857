package net

import (
	"context"
	"sync/atomic"
	"syscall"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/handle"
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
	// Auto is the fastest one that is known for the kind of operation and of caller; ARCHITECTURE.md, Routes, tells how it is chosen.
	Auto Route = iota
	// Inline tries a plain system call that does not wait, on the caller's own goroutine; what would have to wait takes the ring.
	Inline
	// Ring is io_uring, or what stands in for it.
	Ring
)

// String returns the route's name.
func (r Route) String() string { return [...]string{"auto", "inline", "ring"}[r] }

// sociable is a route of the table only: Ring for a task whose worker has many others to run, Inline for one that has not.
const sociable Route = 3

// table is what Auto means, for callers on ground of each kind. Who has a goroutine to himself pays a few times what a plain call costs
// for handing an operation to the driver and back. On the driver's own thread the ring costs no system call of its own, so there a
// plain one is never ahead. A worker hands over what a round of its tasks submits in one message: that pays when it is long, and if the
// worker is the only one. Of several the driver would do the work one after the other, which they can do side by side.
var table = [operations][4]Route{
	OpRead:   {Inline, Ring, Ring, Ring},
	OpWrite:  {Inline, sociable, Ring, Inline},
	OpAccept: {Inline, Ring, Ring, Ring},
}

// company is how many tasks have to run in a worker's round for the ring to be ahead of a plain call each.
const company = 8

// pins are the choices of [Pin].
var pins [operations]atomic.Uint32

// Pin has the operations of one kind take one route from now on, everywhere in the program, and returns the one it replaces. Auto
// undoes it. It is for measuring.
func Pin(op Operation, r Route) (old Route) { return Route(pins[op].Swap(uint32(r))) }

// choose returns the route of an operation: pinned, or from the table. The portable engine has no ring to gain by: there, the attempt of
// what mostly succeeds saves handing it over.
func (s *socket) choose(c executor.Caller, op Operation) Route {
	if r := Route(pins[op].Load()); r != Auto {
		return r
	}
	r := table[op][c.Ground()]
	switch {
	case op == OpWrite && s.h.Driver.Engine() == driver.Portable:
		return Inline
	case r != sociable:
		return r
	case c.Company() >= company:
		return Ring
	}
	return Inline
}

// onRing performs an operation by the ring. If the caller is let go while the kernel still has what was given to it, free is called later.
func onRing[T any](ctx context.Context, o ops.Op[T], free func()) (int, error) {
	o.Release, o.Patient = free, patient(ctx)
	return executor.Perform(ctx, &o.Spec)
}

// byRing is onRing for an operation on the socket.
func byRing[T any](ctx context.Context, s *socket, o ops.Op[T], free func()) (int, error) {
	if err := s.direct(ctx, &o.Spec); err != nil {
		return 0, err
	}
	return onRing(ctx, o, free)
}

// direct has an operation look for the socket where it is: in the table of its driver's ring, or among the descriptors of the process.
func (s *socket) direct(ctx context.Context, o *ops.Spec) error {
	if !s.h.InTable() {
		return nil
	}
	o.Flags |= ops.Direct
	return s.sameDriver(ctx)
}

// perform is byRing with a reference of its own.
func perform[T any](ctx context.Context, s *socket, o ops.Op[T]) (int, error) {
	if !s.h.Acquire() {
		return 0, ErrClosed
	}
	n, err := byRing(ctx, s, o, s.h.Free)
	return n, s.h.Settle(err, ErrClosed)
}

// patient reports whether ctx is that of a caller who stays. The calls of the standard library's shapes, which work under deadlines, always do.
func patient(ctx context.Context) bool {
	_, shaped := ctx.(*untilDeadline)
	return shaped || handle.Stays(ctx)
}

// toEnd is onRing for a caller who stays. lost says that he was let go all the same, as the driver has failed or been given up, and has waited:
// what the operation did is not known then, and the error is that of ctx.
func toEnd[T any](ctx context.Context, d *driver.Driver, o ops.Op[T]) (n int, err error, lost bool) {
	var gone executor.Event
	n, err = onRing(handle.Stay(ctx), o, gone.Set)
	if !handle.Abandoned(err) {
		return n, err, false
	}
	_ = gone.Wait(background(d)) // which never ends early
	return n, driver.Canceled(ctx), true
}

// try performs an operation at once if it is one to be tried. EAGAIN means that the ring has to.
func (s *socket) try(ctx context.Context, op Operation, f func() (int, error)) (int, error) {
	if ctx.Err() != nil {
		return 0, driver.Canceled(ctx)
	}
	if s.h.InTable() {
		return 0, syscall.EAGAIN // no call finds it there
	}
	c := executor.CallerOf(ctx)
	if s.choose(c, op) != Inline {
		return 0, syscall.EAGAIN
	}
	n, err := f()
	if err == nil {
		s.countTry(ctx, c, n)
	}
	return n, err
}

// hope is how promising it is to try something. Who answers one request after the other finds nothing when it looks for the next one, and
// looking costs a system call each time.
type hope struct{ n atomic.Int32 } // from 0 on, failures until it is lost; below, how many attempts were spared since

const (
	fullHope = 4
	tryAgain = 16 // without hope, one in so many is made all the same
)

// any reports whether to try.
func (h *hope) any() bool { return h.n.Load() >= 0 || h.n.Add(-1) < -tryAgain }

// learn takes the outcome of an attempt. Of several at a time it does not matter whose counts.
func (h *hope) learn(found bool) {
	switch n := h.n.Load(); {
	case found:
		if n != fullHope {
			h.n.Store(fullHope)
		}
	case n > 0:
		h.n.Store(n - 1)
	default:
		h.n.Store(-1)
	}
}

// countTry accounts for a call that moved n bytes without waiting.
func (s *socket) countTry(ctx context.Context, c executor.Caller, n int) {
	s.countInline(c)
	c.GiveWay(ctx, n)
}

func (s *socket) countInline(c executor.Caller) {
	s.h.Driver.CountRoute(driver.RouteInline, c.Lane())
}
