package driver

import (
	"cmp"
	"syscall"
	"time"

	"uringo/internal/ring"
	"uringo/ops"
)

// maxAttempts bounds how often an operation is repeated after an answer that only means "try again".
const maxAttempts = 100

// complete handles one completion.
func (d *Driver) complete(c *ring.CQE, pooled bool) {
	if c.UserData&cancelData != 0 {
		if data := c.UserData &^ cancelMask; d.cancelOut[data] == c.UserData {
			delete(d.cancelOut, data)
			d.stats.CancelAnswers++
			if c.Res < 0 {
				d.insist(data)
			}
			return
		}
	}
	i := uint32(c.UserData)
	if uint64(i) >= uint64(len(d.slots)) || d.slots[i].r == nil || d.slots[i].gen != uint32(c.UserData>>32) || d.slots[i].pooled != pooled {
		d.stats.Stale++
		d.log.Warn("completion of no operation", zapUserData(c.UserData), zapResult(c.Res))
		return
	}
	r := d.slots[i].r
	if c.Flags&ring.CQEMore != 0 {
		d.more(r, c)
		return
	}
	k := r.spec.Kind
	d.slots[i].r = nil
	d.slots[i].gen = (d.slots[i].gen + 1) & genMask
	d.free = append(d.free, i)
	d.issued--
	d.held[d.slots[i].share]--
	if pooled {
		d.pooled--
	}
	d.stats.complete(k.Code)
	if r.unsent {
		c.Res = -int32(syscall.ECANCELED) // an entry that does nothing stood for it
	}
	performed := c.Res >= 0 && r.ready == 0
	if k.Direct && r.ready == 0 {
		d.files.settle(&r.spec, performed)
	}
	if k.Fixed != 0 {
		r.touch.takeBack() // the memory may have its next owner at once
		r.spec.Unpin(r.state == stateAbandoned)
	}
	if r.hasEarly {
		r.hasEarly = false
		r.spec.Notified(c.Res)
		c.Res = r.early
	}
	if r.chain != nil {
		d.judged = r.chain
	}
	if r.state == stateAbandoned {
		r.touch.takeBack()
		if r.chain == nil {
			r.state = stateIdle
		}
		switch {
		case r.stream != nil:
			r.stream.abandoned(c, r.ready != 0)
		case r.ready == 0: // else it was the descriptor that we waited for
			r.spec.Discard(c.Res)
		}
		switch {
		case performed && k.Direct && k.Code != ring.OpClose && !d.closing.Load(): // else the table goes with the ring
			d.discardDirect(r.spec.PlaceOf(c.Res), r.spec.Release)
		case r.spec.Release != nil:
			r.spec.Release()
		}
		d.stats.AbandonedDone++
		switch res, c := c.Res, r.chain; {
		case c == nil:
		case c.flying > 0: // it goes on with its segment
			d.answered(r, res)
		default:
			d.letGo(c, r, res)
		}
		return
	}
	if r.chain != nil && d.answered(r, c.Res) {
		return
	}
	if r.stream != nil {
		d.settle(r, c)
		return
	}
	if c.Res == -int32(syscall.EAGAIN) && r.ready == 0 {
		if res, ended := r.end(); ended {
			c.Res = res
		}
	}
	if c.Res < 0 && d.refused(r, c.Res) {
		return
	}
	if c.Res >= 0 && (r.ready != 0 || r.spec.InVain(c.Res)) {
		poll := r.readiness()
		inVain := r.ready == 0 || poll.InVain(c.Res)
		inTable := r.spec.Flags&ops.Direct != 0
		switch {
		case !inVain:
			r.ready, r.hungUp = 0, hungUp(c) // no longer to be waited for
		case inTable: // of which plain calls know no places
		case r.ready == 0:
			r.spec.Route = ops.RouteCall
		default:
			r.ready |= plainly
		}
		switch {
		case r.cancel == r.cur || r.hit || r.shut:
			d.refused(r, -int32(syscall.ECANCELED))
		case inVain && inTable:
			r.attempts = min(r.attempts+1, maxAttempts-1)
			d.pause(r)
		default:
			d.requeue(r)
		}
		return
	}
	n, err := d.outcome(r, c.Res)
	d.deliver(r, n, err)
}

// outcome is what the maker of an operation gets to know of its result.
func (d *Driver) outcome(r *Request, res int32) (int, error) {
	n, err := r.spec.Finish(res)
	return n, d.meant(r, err)
}

// meant is what an error means: with EINVAL the kernel also refuses an entry whose personality was closed before the kernel took it.
func (d *Driver) meant(r *Request, err error) error {
	if err == syscall.EINVAL && r.spec.As != nil {
		return cmp.Or(d.mayAct(r.spec.As), err)
	}
	return err
}

// refused handles what is special about an operation that ended with an error. It reports false if nothing is.
func (d *Driver) refused(r *Request, res int32) bool { return d.halted(r, res) || d.again(r, res) }

// halted ends an operation that somebody has asked to end, if its error says no more than that, and reports whether that is so. It does not if
// what was interrupted has been done all the same: who is told that it has not would do it.
func (d *Driver) halted(r *Request, res int32) bool {
	switch stopped := r.stopped(res); {
	case stopped && r.shut:
		d.deliver(r, 0, ErrClosed)
	case stopped && (r.cancel == r.cur || r.hit):
		d.deliver(r, 0, syscall.ECANCELED) // under whatever name the kernel says it
	case stopped && r.chain != nil && d.closing.Load():
		d.deliver(r, 0, d.refusal()) // its answer came before the end, and the rest of its segment behind it
	default:
		return false
	}
	return true
}

// stopped reports whether a result says no more than that the operation has not been done, for now.
func (r *Request) stopped(res int32) bool {
	return ops.Interrupted(res) && !r.spec.Kind.Once || res == -int32(syscall.ECANCELED) || res == -int32(syscall.EAGAIN) && !r.spec.NoWait() ||
		r.spec.Ready(res) != 0
}

// again repeats an operation whose answer means that it has not been done: interrupted, or refused for now. A cancellation
// that nobody asked for is one too: the kernel cancels what a thread submitted when that thread ends, and threads are the Go
// runtime's to end.
func (d *Driver) again(r *Request, res int32) bool {
	if r.cancel == r.cur || r.hit || d.closing.Load() || r.attempts >= maxAttempts {
		return false
	}
	switch {
	case ops.Interrupted(res) && !r.spec.Kind.Once, res == -int32(syscall.ECANCELED):
		r.attempts++
		d.requeue(r)
		return true
	case r.spec.Ready(res) != 0 && (res != -int32(syscall.EAGAIN) || r.vain < mostVain):
		r.vain++
		// The kernel does not wait for readiness with this descriptor, but for the descriptor's readiness. Afterwards there is no more to wait
		// for: whoever asked to all the same would hear EAGAIN again and again of what cannot be waited with and is always ready, a regular file.
		r.ready, r.spec.PollFirst = r.spec.Ready(res), false
		d.requeue(r)
		return true
	case res == -int32(syscall.EAGAIN) && r.spec.Route != ops.RouteCall && !r.spec.OnTable() && r.spec.Refused():
		r.spec.Route = ops.RouteCall
		d.requeue(r)
		return true
	case res == -int32(syscall.EAGAIN) && !r.spec.NoWait():
		r.vain = 0
		// Some file systems answer so to a blocking request when the machine is short of something.
		if r.attempts++; r.spec.Kind.Ready != nil {
			r.attempts = min(r.attempts, maxAttempts-1) // it is the peer that keeps us waiting, not a shortage
		}
		d.pause(r)
		return true
	}
	return false
}

// mostVain is how often an operation is tried at once when its descriptor was ready, before it pauses: there is readiness that is not about what it
// wants, such as room in the socket when the peer's queue is full.
const mostVain = 8

// pause has an operation issued once more after a while, which is longer after more attempts.
func (d *Driver) pause(r *Request) {
	d.stats.Repeated++
	d.rest(r, min(50*time.Microsecond<<min(r.attempts, 8), 10*time.Millisecond))
}

// requeue has an operation issued once more, by way of the queue: making room for it now would reap within a reap.
func (d *Driver) requeue(r *Request) {
	d.stats.Repeated++
	d.enqueue(r)
}

func (d *Driver) undelay(r *Request) {
	if _, ok := d.delayed[r]; !ok {
		return
	}
	delete(d.delayed, r)
	if r.stream != nil {
		d.arm(r)
		return
	}
	d.place(r)
}

// deliver ends a request that the kernel does not own.
func (d *Driver) deliver(r *Request, n int, err error) {
	c := r.chain
	well := err == nil
	if c != nil {
		well = well && !r.spec.Short(int32(n))
		n += r.done
		d.judged, r.chain = c, nil
	}
	r.touch.takeBack()
	r.state, r.cur, r.cancel = stateIdle, 0, 0
	r.n, r.err = n, err
	d.tellEnd(r)
	if c != nil {
		d.passed(c, well)
	}
}

// tellEnd tells whoever waits for a request that it has ended.
func (d *Driver) tellEnd(r *Request) {
	d.told++
	r.waiter.Complete(r)
}
