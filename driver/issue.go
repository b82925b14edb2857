package driver

import (
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/internal/ring"
	"uringo/ops"
)

// table is the operations that wait for a place, and those that have one: they are in the kernel's hands, or the pool's.
type table struct {
	slots    []slot          // as many as were in use at once so far
	free     []uint32        // those of them that are not
	places   int             // how many slots there may be
	queues   [shares]list    // waiting for a slot
	first    int             // whose turn it is to be looked at first
	issued   int             // operations holding a slot
	pooled   int             // of these, the ones that the pool performs
	held     [shares + 1]int // of these, those of each share, and the tied ones
	most     int             // how many takers there may be, and how many givers
	mostWait int             // how many of both
	plain    ring.SQE        // of the plain call that is being started
	plugged  int             // for a block device, and not submitted
	piece    int             // how many of those are submitted early, see unplug
}

// slot is a place in the table of operations in the kernel's hands. Its generation tells a late completion from the current one.
type slot struct {
	r      *Request
	since  int64 // when it was issued, by the driver's clock
	gen    uint32
	share  uint8
	pooled bool
}

// user_data is generation and slot; the highest bit marks the driver's own cancellation of that operation, and above the slot, for which 16
// bits do, there is a number then that tells it from an earlier one.
const (
	cancelData  = uint64(1) << 63
	cancelShift = 16
	cancelMask  = cancelData | 0xffff<<cancelShift
	genMask     = 1<<30 - 1
)

// Slots are no more than the completion queue has places.
const _ = uint(1<<cancelShift - ring.MaxCQEntries)

// Issue takes a request over directly. Only a [Guest] may call it, from Run; everybody else sends.
func (d *Driver) Issue(r *Request) {
	r.cur = r.seq
	switch {
	case r.spec.Kind == ops.KindAwait && r.cancel != r.cur:
		d.park(r) // streams end by themselves when the driver does
	case d.closing.Load() || d.broken != nil:
		d.deliver(r, 0, d.refusal())
	case r.cancel == r.cur:
		d.deliver(r, 0, syscall.ECANCELED)
	default:
		r.attempts, r.vain, r.hit, r.shut, r.ready, r.hungUp = 0, 0, false, false, 0, false
		switch {
		case r.stream != nil:
			d.arm(r)
			return
		case r.op() == ring.OpAsyncCancel:
			d.hand = r
			d.inside(func(d *Driver) { d.cancelMatching(r) })
			if d.hand == nil {
				return // a mishap, of which it was told
			}
			d.hand = nil
		}
		d.place(r)
	}
}

// Rush is Issue for a guest of which nothing else is ready: the kernel gets the request at once, if that promises something, and what
// has ended by then is told. It reports whether that was this request and nothing else, so that its task may go on as if it had not waited.
func (d *Driver) Rush(r *Request) bool {
	told := d.told
	d.Issue(r)
	if d.dashing.hope == 0 || d.until != nil || d.broken != nil || len(d.intake) > 0 {
		return false
	}
	if d.passes++; d.passes%mostRushes == 0 {
		d.tick()
		return false // to the end of the pass, for all that is done there
	}
	dashed := false
	d.inside(func(d *Driver) { dashed = d.dash() })
	return dashed && d.told == told+1 && r.state == stateIdle && len(d.flush) == 0
}

// mostRushes is in how many passes there is one whole one.
const mostRushes = 61

// refusal is the error of requests that come too late.
func (d *Driver) refusal() error {
	if d.broken != nil {
		return d.broken
	}
	return ErrClosed
}

// place issues a request, or queues it until there is room. It does not overtake what waits already: under a flood of requests that
// would never come to its turn.
func (d *Driver) place(r *Request) {
	i := shareOf(r.spec.Kind)
	if d.room() == 0 || d.queues[i].n > 0 || d.chainsWait() || !d.allows(i) || !d.write(r) {
		d.enqueue(r)
	} else if d.plugged >= d.piece {
		d.unplug()
	}
}

// unplug submits what is queued for a block device as soon as it is as much as all that went to it before in this pass: the kernel holds such
// requests back until the end of the submission, and the device would have nothing to do until the last of them is prepared. So it begins with
// few, and there are few more submissions than one. An answer that says anything will say it again at the end of the pass.
func (d *Driver) unplug() {
	d.plugged, d.piece = 0, 2*d.piece
	_ = d.ring.Submit()
	if len(d.uncut) > 0 {
		d.mend()
	}
}

// leastPiece is how many are worth a submission.
const leastPiece = 2

// enqueue has a request issued when its turn comes.
func (d *Driver) enqueue(r *Request) {
	r.state = stateQueued
	d.queues[shareOf(r.spec.Kind)].push(r)
}

// The places for operations are shared out, so that those that may wait for ever always leave some to those who end their wait: takers to
// givers and the other way round, and both to others.
const (
	takers = iota // wait until somebody brings something
	givers        // wait until somebody takes something
	others        // do not wait for anybody
	shares
	tied = shares // in the kernel, in a chain with one that waits: they may wait for whomever it does
)

func shareOf(k *ops.Kind) int {
	switch {
	case k.Waits:
		return takers
	case k.Gives:
		return givers
	}
	return others
}

// allows reports whether the shares leave a place to one more operation.
func (d *Driver) allows(i int) bool {
	return i == others || d.held[i]+d.held[tied] < d.most && d.waiting() < d.mostWait
}

// waiting returns how many places are held by operations that may wait for somebody.
func (d *Driver) waiting() int { return d.held[takers] + d.held[givers] + d.held[tied] }

// write gives a request a slot and writes its entry. From here on the kernel owns the operation's memory. It reports false,
// with nothing done, if the submission queue is full. To make room there is not for here: who is told of an end meanwhile may make a mistake,
// and the request would be in nobody's hands.
func (d *Driver) write(r *Request) bool {
	k := r.spec.Kind
	if r.spec.OnTable() {
		if err := d.admit(&r.spec); err != nil {
			d.deliver(r, 0, err)
			return true
		}
	}
	if r.spec.As != nil {
		if err := d.mayAct(r.spec.As); err != nil {
			d.deliver(r, 0, err)
			return true
		}
	}
	if k.Fixed != 0 && !r.spec.Pin() {
		d.deliver(r, 0, buf.ErrReleased)
		return true
	}
	if d.byCall(r) {
		d.call(r)
		return true
	}
	e := d.ring.Next()
	if e == nil {
		if k.Fixed != 0 {
			r.spec.Unpin(false)
		}
		return false
	}
	if r.ready != 0 {
		r.awaitReady(e)
	} else {
		d.describe(&r.spec, e)
		if k.Plugs {
			d.plugged++
		}
	}
	e.Flags &^= ring.SQELink | ring.SQEHardlink // nobody ties himself to whoever comes next
	e.UserData = d.occupy(r, shareOf(k), false)
	return true
}

// describe fills an entry, with what the ring can do better than a plain call.
func (d *Driver) describe(s *ops.Spec, e *ring.SQE) {
	k := s.Kind
	s.Prepare(e)
	if s.PollFirst && d.ring.PollFirst(k.Code) {
		e.IoPrio |= k.PollFirst
	}
	if d.engine == Uring && s.Loses() {
		e.OpFlags |= unix.MSG_DONTWAIT // waiting is ours: see again
		e.IoPrio = 0
	}
	if k.Fixed != 0 {
		d.fix(s, e)
	}
}

// byCall reports whether what a request needs next, its operation or its descriptor's readiness, is a plain call's to bring about.
func (d *Driver) byCall(r *Request) bool {
	if r.ready != 0 {
		return r.ready&plainly != 0 || !d.ring.Supports(ring.OpPollAdd)
	}
	return d.apart(&r.spec) || !d.ring.Supports(r.spec.Kind.Code)
}

// apart reports whether an operation is better off as a plain call than in the ring.
func (d *Driver) apart(s *ops.Spec) bool {
	return d.engine == Uring && (s.Route == ops.RouteCall || s.Kind.Holds && !s.OnTable())
}

// plainly, among the events to wait for, has a plain call do that: the ring's was in vain.
const plainly = 1 << 31

// readiness returns an operation that completes when the descriptor is ready.
func (r *Request) readiness() ops.Spec {
	events := r.ready &^ plainly
	if events&unix.POLLIN != 0 {
		events |= unix.POLLRDHUP
	}
	poll := ops.PollAdd(int(r.spec.FD), events)
	poll.Flags = r.spec.Flags & ops.Direct
	return poll.Spec
}

// awaitReady fills an entry with that.
func (r *Request) awaitReady(e *ring.SQE) {
	poll := r.readiness()
	poll.Prepare(e)
}

// hungUp reports whether a descriptor that is ready will have nothing more to receive than it has.
func hungUp(c *ring.CQE) bool { return c.Res > 0 && c.Res&unix.POLLRDHUP != 0 }

// end returns the result of an operation that is refused as there is nothing now, though its descriptor hung up, if it has come to the end: see
// [ops.Spec.End].
func (r *Request) end() (res int32, ended bool) {
	if !r.hungUp || r.spec.Flags&ops.Direct != 0 { // what is in the table does not end so
		return 0, false
	}
	return r.spec.End()
}

// call has a request performed as a plain call.
func (d *Driver) call(r *Request) {
	e := &d.plain // the pool copies it
	*e = ring.SQE{}
	if r.ready != 0 {
		r.awaitReady(e)
	} else {
		r.spec.Prepare(e)
	}
	e.UserData = d.occupy(r, shareOf(r.spec.Kind), true)
	d.pooled++
	d.stats.Calls++
	d.pool.Start(e)
}

// occupy puts a request into a free slot, which is one of a share's, and returns the user data that stands for it.
func (d *Driver) occupy(r *Request, share int, pooled bool) uint64 {
	i := uint32(len(d.slots))
	if n := len(d.free); n > 0 {
		i, d.free = d.free[n-1], d.free[:n-1]
	} else {
		d.slots = append(d.slots, slot{})
	}
	s := &d.slots[i]
	s.r, s.share, s.pooled = r, uint8(share), pooled
	s.since = d.clock
	r.slot, r.state = i, stateIssued
	d.issued++
	d.held[share]++
	if r.ready == 0 { // else it is the descriptor that we wait for
		d.files.promise(&r.spec)
	}
	d.stats.submit(r.op())
	return s.userData(i)
}

// room returns how many slots are free.
func (d *Driver) room() int { return len(d.free) + d.places - len(d.slots) }

func (s *slot) userData(i uint32) uint64 { return uint64(s.gen)<<32 | uint64(i) }

// fill issues what waits, cancellations first, as far as there is room.
func (d *Driver) fill() {
	for len(d.cancels) > 0 {
		r := d.cancels[len(d.cancels)-1]
		if (r.cancel == r.cur || r.hit || r.pausing) && r.state >= stateIssued && !d.writeCancel(r) {
			break
		}
		d.cancels[len(d.cancels)-1] = nil // or its memory would stay with us
		d.cancels = d.cancels[:len(d.cancels)-1]
	}
	if d.fillChains(); d.chainsWait() {
		return
	}
	d.first = (d.first + 1) % shares // or one share's flood would leave nothing to the next
	for k := range d.queues {
		i := (d.first + k) % shares
		for d.due(i) {
			if !d.unqueue(&d.queues[i]) {
				return
			}
		}
	}
}

// due reports whether there is room for the first of a queue.
func (d *Driver) due(i int) bool {
	return d.queues[i].n > 0 && d.room() > 0 && d.allows(i)
}

// fillable reports whether something waits for nothing but an entry in the submission queue.
func (d *Driver) fillable() bool {
	return len(d.cancels) > 0 && len(d.cancelOut) < d.cancelMax() || d.chainFits() ||
		!d.chainsWait() && (d.due(takers) || d.due(givers) || d.due(others))
}

// unqueue issues the first of a queue. It is false if the kernel takes nothing now.
func (d *Driver) unqueue(l *list) bool {
	if d.ring.Space() == 0 {
		if d.submit(); d.ring.Space() == 0 {
			return false
		}
	}
	if r := l.pop(); r != nil { // what completed just now may have told somebody who cancels
		if d.write(r); d.plugged >= d.piece {
			d.unplug()
		}
	}
	return true
}
