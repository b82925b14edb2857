package driver

import (
	"syscall"
	"time"

	"uringo/internal/ring"
)

// Cancel asks the kernel to end the use seq of r. It does not wait: the operation's own completion is its only outcome, and
// what it had done by then is delivered. A use that has ended, or that has not been sent and never will be, is left alone.
func (d *Driver) Cancel(r *Request, seq Seq) {
	d.later(func() { d.cancel(r, uint64(seq)) })
}

// cancel is Cancel on the driver goroutine.
func (d *Driver) cancel(r *Request, seq uint64) {
	if r.seq.Load() != seq || r.cancelSeq == seq {
		return
	}
	r.cancelSeq = seq
	d.stats.Cancelled++
	switch r.state {
	case stateQueued:
		d.queueOf(r).remove(r)
		d.deliver(r, -int32(syscall.ECANCELED), nil)
	case stateDelayed:
		delete(d.delayed, r)
		d.deliver(r, -int32(syscall.ECANCELED), nil)
	case stateIssued:
		d.cancelIssued(r)
		if d.cfg.CancelGrace > 0 {
			time.AfterFunc(d.cfg.CancelGrace, func() { d.later(func() { d.abandon(r, seq) }) })
		}
	}
	// stateIdle: not here yet. cancelSeq stops it when it comes.
}

func (d *Driver) cancelIssued(r *Request) {
	if s := &d.slots[r.slot]; s.pooled {
		d.pool.Cancel(&ring.SQE{Op: ring.OpAsyncCancel, Addr: s.userData(r.slot)})
		return
	}
	if !d.writeCancel(r) {
		d.cancels = append(d.cancels, r)
	}
}

// writeCancel queues the cancellation of an issued request, if there is room for it in both queues.
func (d *Driver) writeCancel(r *Request) bool {
	s := &d.slots[r.slot]
	if s.r != r {
		return true // ended meanwhile
	}
	if d.cancelOut >= int(d.ring.CQEntries())-len(d.slots)-1 {
		return false
	}
	e := d.ring.Next()
	if e == nil {
		return false
	}
	e.Op = ring.OpAsyncCancel
	e.FD = -1
	e.Addr = s.userData(r.slot)
	e.UserData = cancelData
	d.cancelOut++
	return true
}

// cancelMatching prepares for a cancellation that a user submits as an operation: requests that it will hit must be known as
// cancelled, and the kernel does not see those in our queues or in the pool.
func (d *Driver) cancelMatching(c *Request) {
	var e ring.SQE
	c.spec.Prepare(&e)
	if e.OpFlags&(ring.CancelFD|ring.CancelAny) == 0 {
		return
	}
	hit := func(r *Request) bool {
		return r != c && (e.OpFlags&ring.CancelAny != 0 || r.spec.FD == e.FD && r.op() != ring.OpAsyncCancel)
	}
	for i := range d.slots {
		if r := d.slots[i].r; r != nil && r.state == stateIssued && hit(r) {
			r.cancelSeq = r.seq.Load()
			if d.slots[i].pooled {
				d.cancelIssued(r)
			}
		}
	}
	for _, l := range []*list{&d.queue, &d.waiting} {
		for r := l.head; r != nil; {
			next := r.Next
			if hit(r) {
				d.cancel(r, r.seq.Load())
			}
			r = next
		}
	}
	for r := range d.delayed {
		if hit(r) {
			d.cancel(r, r.seq.Load())
		}
	}
}

// abandon lets the caller of a cancelled operation go. The driver keeps the request until its completion.
func (d *Driver) abandon(r *Request, seq uint64) {
	if r.seq.Load() != seq || r.state != stateIssued {
		return
	}
	d.stats.Abandoned++
	r.state = stateAbandoned
	r.outcome = ErrAbandoned
	r.waiter.Complete(r)
}
