package driver

import (
	"io"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
	"uringo/ops"
)

// This file is the driver's half of a [Stream]: an operation that completes many times (a shot), is submitted again when the kernel has
// ended it, and rests while nobody wants more. All of it is the driver goroutine's, except wake.

// A source is what makes one kind of stream differ from another.
type source interface {
	// round returns what to submit next, or why nothing can be submitted now: then it wakes the request up when it can.
	round(r *Request) (ops.Spec, hold)

	// items adds what a completion brought to the stream. end says that it was the end of all, and no item.
	items(s *stream, res int32, flags uint32) (end bool)

	// lost takes over what came with a completion that brought no item.
	lost(flags uint32)

	// drop gives back an item that nobody will take.
	drop(it item)

	// meaning says what an error means. If it is silent, readers are not told.
	meaning(err error) (f fate, silent bool)

	// ended is told when the kernel has nothing of the stream any more, and drained, in any goroutine, when the reader has not either.
	ended()
	drained()
}

// hold is why an operation does not go on.
type hold uint8

const (
	goOn    hold = iota
	tooMany      // items that nobody has taken
	starved      // no buffer is free
)

// fate is what an error means to a stream.
type fate uint8

const (
	fatal   fate = iota
	passing      // it goes on after a pause
	hungry       // it goes on when a buffer is free
)

// more handles a completion that others of the same operation follow.
func (d *Driver) more(r *Request, c *ring.CQE) {
	s := r.stream
	if s == nil {
		r.early, r.hasEarly = c.Res, true
		if c.Res >= 0 { // else it may be tried again
			r.spec.Performed()
		}
		return
	}
	r.attempts = 0
	s.src.items(s, c.Res, c.Flags)
	if s.crowded && !r.pausing && r.cancel != r.cur && s.full() {
		r.pausing = true
		d.cancelIssued(r)
	}
}

// settle decides what becomes of a stream when the kernel is done with one submission of it.
func (d *Driver) settle(r *Request, c *ring.CQE) {
	r.touch.takeBack()
	r.pausing = false
	polled := r.ready != 0
	r.ready = 0
	if polled {
		r.hungUp = hungUp(c)
	}
	switch {
	case c.Res < 0:
		d.settleError(r, c)
	case polled:
		d.arm(r)
	default:
		r.attempts = 0
		d.hand = r
		end := r.stream.src.items(r.stream, c.Res, c.Flags)
		d.hand = nil
		if end {
			d.deliver(r, 0, io.EOF)
		} else {
			d.arm(r)
		}
	}
}

func (d *Driver) settleError(r *Request, c *ring.CQE) {
	s := r.stream
	s.src.lost(c.Flags)
	err := d.meant(r, ops.Errno(c.Res))
	what, silent := s.src.meaning(err)
	switch {
	case ops.Interrupted(c.Res), err == syscall.ECANCELED:
		d.arm(r) // if nobody wanted it to end: see again
	case err == syscall.EINVAL && !r.single:
		r.single = true // an old kernel, if nothing else is wrong: that will show
		d.arm(r)
	case err == syscall.EAGAIN:
		if d.stopped(r) {
			return
		}
		switch res, ended := r.end(); {
		case !ended:
			r.ready = unix.POLLIN
			d.requeue(r)
		case res < 0:
			d.deliver(r, 0, ops.Errno(res))
		default:
			d.deliver(r, 0, io.EOF)
		}
	case what == fatal:
		d.deliver(r, 0, err)
	case d.stopped(r):
	default:
		r.attempts = min(r.attempts+1, maxAttempts)
		if what == hungry { // others took what was free: there is more than one buffer's worth of readers
			d.stats.Starved++
			if r.attempts == 1 {
				d.arm(r)
			} else {
				d.rest(r, 5*time.Millisecond)
			}
			return
		}
		if !silent {
			d.hand = r
			s.push(item{err: err})
			d.hand = nil
		}
		d.rest(r, min(5*time.Millisecond<<min(r.attempts-1, 7), 500*time.Millisecond))
	}
}

// stopped ends a stream that is not to go on, and reports whether that is so.
func (d *Driver) stopped(r *Request) bool {
	switch {
	case d.closing.Load():
		d.deliver(r, 0, d.refusal())
	case r.cancel == r.cur || r.hit:
		d.deliver(r, 0, syscall.ECANCELED)
	default:
		return false
	}
	return true
}

// arm submits the next round of a stream, or leaves it until somebody takes its items or gives back a buffer.
func (d *Driver) arm(r *Request) {
	if d.stopped(r) {
		return
	}
	why := tooMany
	var spec ops.Spec
	if !r.stream.holdBack() {
		spec, why = r.stream.src.round(r)
	}
	if why != goOn {
		r.state = stateDelayed
		d.delayed[r] = struct{}{}
		return
	}
	r.spec = spec
	r.touch.takeBack()
	r.touch.handOver(&r.spec, nil)
	d.enqueue(r) // making room for it now might reap within a reap
}

// rest arms a stream, or issues another request, after a pause.
func (d *Driver) rest(r *Request, pause time.Duration) {
	r.state = stateDelayed
	d.delayed[r] = struct{}{}
	time.AfterFunc(pause, func() { d.later(func() { d.undelay(r) }) })
}

// wake arms a stream that was left until now. It may be called from anywhere, and does not wait for the driver.
func (d *Driver) wake(r *Request) {
	d.woken.put(r)
	d.Poke()
}

// armWoken arms those.
func (d *Driver) armWoken() { d.woken.each(func(r **Request) { d.undelay(*r) }) }

// park keeps the request of somebody who waits for a stream until that has something.
func (d *Driver) park(r *Request) {
	s, ok := r.spec.Awaited().(*stream)
	switch {
	case !ok:
		d.deliver(r, 0, syscall.EINVAL)
	case s.d != d:
		d.deliver(r, 0, errOtherDriver)
	case s.something():
		d.deliver(r, 0, nil)
	case d.ended: // the stream is being refused, maybe on another goroutine, which must not find a task of the guest here
		d.deliver(r, 0, d.refusal())
	default:
		r.state = stateParked
		s.readers.push(r)
	}
}

// unpark takes it back.
func (d *Driver) unpark(r *Request) { r.spec.Awaited().(*stream).readers.remove(r) }
