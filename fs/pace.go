package fs

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/stripe"
	"uringo/ops"
)

// brisk is a route of the table only: a plain call in place, on a goroutine that others share, for as long as such calls are quick.
// What is in the kernel's caches takes two microseconds, less than handing it to anybody else. One that turns out slow, for a disk or
// a journal was in the way, has held up the others; those that follow take Call, or Ring, the longer the more often that happens.
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
	wary    atomic.Int32 // how many calls are still watched more closely
}

const (
	maxPenalty = 4096
	maxWary    = 16
)

// pace has a pacer for every opcode.
var pace [256]pacer

// onNames has the pacers of plain calls on names that are made without an operation, see package ops: an operation outlives its caller's
// frame, and these allocate nothing.
var onNames [operations]pacer

// quick reports whether the next call is expected to be quick.
func (p *pacer) quick() bool {
	return p.skip.Load() <= 0 || p.skip.Add(-1) < 0
}

// stay is a call that is made in place.
type stay struct {
	caller executor.Caller
	lane   uint          // the caller's, or the one on which there was a place for him
	shared bool          // others share the goroutine: nobody else of its worker can be in the kernel
	start  time.Duration // since epoch; 0 if the call is not timed
	waits  int64         // of the thread until then; -1 if it was not asked
}

// watched reports whether a call is to be timed. Looking at the clock twice costs a tenth of what a quick call does, so while all is well
// it is done for one of eight, on average: not for every eighth, as a program that opens, writes, closes and renames in turn would have
// the same one of these watched every time.
func (p *pacer) watched(lane uint) bool {
	return uint32(turns.Add(lane, 1))*spread < 1<<32/8 || p.wary.Load() > 0 || p.penalty.Load() > 0
}

// turns counts the calls that could have been timed.
var turns stripe.Counter

// spread has multiples, modulo 2^32, of which one of eight is small, and so evenly that in a row of calls that repeats itself, of any length
// up to 40, none goes unwatched for more than 38 times: for more than 16 if there are no more than eight. A search found it; with the golden
// section, the usual choice, it is many times that.
const spread uint32 = 499379111

// enter reports whether a call by route r is to be made in place, now; then leave has to be called after it.
func (p *pacer) enter(c executor.Caller, r Route) (s stay, ok bool) {
	if r != Inline && (r < brisk || !p.quick()) {
		return s, false
	}
	s.caller, s.lane = c, c.Lane()
	if s.shared = r >= brisk; !s.shared {
		s.lane, ok = inKernel.Enter(s.lane)
		return s, ok
	}
	if p.watched(s.lane) {
		s.start, s.waits = time.Since(epoch), -1
		if p.wary.Load() > 0 {
			s.waits = threadWaits()
		}
	}
	return s, true
}

// threadWaits returns how often the thread has had to wait for something, as opposed to waiting for a processor. getrusage(2).
func threadWaits() int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		return -1
	}
	return int64(u.Nvcsw)
}

// inPlace makes a call in place, if one by route r is to be made so now and ctx has not ended. It reports whether that settles the matter.
func (p *pacer) inPlace(ctx context.Context, c executor.Caller, r Route, call func() error) (done bool, err error) {
	s, ok := p.enter(c, r)
	if !ok {
		return false, nil
	}
	defer p.leave(ctx, s, 0)
	if err := canceled(ctx); err != nil {
		return true, err
	}
	count(ctx, s.lane, driver.RouteDirect)
	return true, call()
}

// leave ends a call that moved n bytes.
func (p *pacer) leave(ctx context.Context, s stay, n int) {
	switch {
	case !s.shared:
		inKernel.Leave(s.lane)
	case s.start == 0:
	case time.Since(epoch)-s.start < tooLong+time.Duration(n)*perByte:
		p.wasQuick()
	default:
		p.wasSlow(s)
	}
	s.caller.GiveWay(ctx, n)
}

func (p *pacer) wasQuick() {
	if n := p.penalty.Load(); n > 0 {
		p.penalty.Store(n - 1)
	}
	if n := p.wary.Load(); n > 0 {
		p.wary.Store(n - 1)
	}
}

// wasSlow tells a call that waited from one that others took the processor from: that would come to pass on any route, and on a busy
// machine it does all the time. Asking the thread costs as much as a quick call, so it is done only for a while after a slow one. A
// goroutine that has come to another thread meanwhile, as those of Local never do, counts as one that waited.
func (p *pacer) wasSlow(s stay) {
	p.wary.Store(maxWary)
	if s.waits < 0 || threadWaits() == s.waits {
		return
	}
	next := min(max(2*p.penalty.Load(), 16), maxPenalty)
	p.penalty.Store(next)
	p.skip.Store(next)
}

// onName performs an operation on a name: by now on the calling goroutine if that is its way, and else by what later makes.
func onName[T any](ctx context.Context, op Operation, remote bool, now func() error, later func() ops.Op[T]) error {
	c := executor.CallerOf(ctx)
	r := choose(c, op, Route(pins[op].Load()), remote)
	done, err := onNames[op].inPlace(ctx, c, r, now)
	if done {
		return err
	}
	return perform(ctx, c, r.instead(), remote, later()).Err
}
