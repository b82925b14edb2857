package driver

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
	"uringo/ops"
)

// cancelling is what was cancelled and has not ended, and what waits for another reason.
type cancelling struct {
	cancels   []*Request // issued, to be cancelled as soon as there is room
	delayed   map[*Request]struct{}
	cancelOut map[uint64]uint64 // user data of cancellations in the ring, by that of the operation
	cancelNo  uint16
}

// Cancel asks the kernel to end the use seq of r. It does not wait: the operation's own completion is its only outcome, and
// what it had done by then is delivered. A use that has ended, or that has not been sent and never will be, is left alone.
func (d *Driver) Cancel(r *Request, seq Seq) {
	d.later(func() { d.CancelNow(r, seq) })
}

// CancelNow is Cancel for a [Guest], on the driver goroutine.
func (d *Driver) CancelNow(r *Request, seq Seq) {
	if seq == 0 {
		return // names no use
	}
	if r.cur != seq {
		// Not here yet: it will find itself cancelled. Or gone already, and then it must not stand in for a later one.
		if r.cur == 0 && (r.cancel == 0 || int32(seq-r.cancel) > 0) {
			r.cancel = seq
		}
		return
	}
	if r.cancel == seq {
		return
	}
	r.cancel = seq
	d.stats.Cancelled++
	switch r.state {
	case stateQueued:
		d.queues[shareOf(r.spec.Kind)].remove(r)
		d.deliver(r, 0, syscall.ECANCELED)
	case stateDelayed:
		delete(d.delayed, r)
		d.deliver(r, 0, syscall.ECANCELED)
	case stateParked:
		d.unpark(r)
		d.deliver(r, 0, syscall.ECANCELED)
	case stateIssued:
		r.attempts = 0 // of cancelling it, from now on
		d.cancelIssued(r)
		if d.cfg.CancelGrace > 0 && !r.spec.Patient {
			time.AfterFunc(d.cfg.CancelGrace, func() { d.later(func() { d.abandon(r, seq) }) })
		}
	}
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
	if _, out := d.cancelOut[s.userData(r.slot)]; out {
		return true // on its way; if it fails, it is repeated
	}
	if len(d.cancelOut) >= d.cancelMax() {
		return false
	}
	e := d.ring.Next()
	if e == nil {
		return false
	}
	e.Op = ring.OpAsyncCancel
	e.FD = -1
	e.Addr = s.userData(r.slot)
	d.cancelNo++
	e.UserData = e.Addr | cancelData | uint64(d.cancelNo)<<cancelShift
	d.cancelOut[e.Addr] = e.UserData
	return true
}

// cancelMax is how many cancellations the completion queue has room for.
func (d *Driver) cancelMax() int { return int(d.ring.CQEntries()) - d.places - 1 }

// insist cancels an operation again that a cancellation failed to end, after a while. "Too late to stop it" need not be true: a worker
// thread that has tried a request in vain leaves it waiting for readiness, and then nothing but a cancellation ends it.
func (d *Driver) insist(data uint64) {
	r := d.slots[uint32(data)].r
	if r == nil || d.slots[r.slot].userData(r.slot) != data || r.hasEarly {
		return // ended, or has a result and only waits for the kernel to let go of the memory
	}
	delay := time.Millisecond << min(r.attempts, 10)
	if r.attempts < maxAttempts {
		r.attempts++
	}
	time.AfterFunc(delay, func() {
		d.later(func() {
			if s := &d.slots[r.slot]; s.r == r && s.userData(r.slot) == data {
				d.cancelIssued(r)
			}
		})
	})
}

// cancelMatching prepares for a cancellation that a user submits as an operation: requests that it will hit must be known as
// cancelled, and the kernel does not see those in our queues or in the pool.
func (d *Driver) cancelMatching(c *Request) {
	var e ring.SQE
	c.spec.Prepare(&e)
	if e.OpFlags&(ring.CancelFD|ring.CancelAny) == 0 {
		return
	}
	direct := e.OpFlags&ring.CancelFDFixed != 0
	if e.OpFlags&ring.CancelFD != 0 && !direct {
		if _, err := unix.FcntlInt(uintptr(e.FD), unix.F_GETFD, 0); err != nil {
			return // the kernel will say so, and cancel nothing
		}
	}
	hit := func(r *Request) bool {
		if r == c || c.chain != nil && r.chain == c.chain {
			return false // what is behind it is to come after it
		}
		return e.OpFlags&ring.CancelAny != 0 ||
			r.spec.FD == e.FD && r.op() != ring.OpAsyncCancel && !r.op().OnName() && (r.spec.Flags&ops.Direct != 0) == direct
	}
	d.cancelThose(hit, false)
}

// CancelDescriptor cancels what d has in hand on a descriptor, or on a place of its ring's table if direct is set, for whoever is about to
// close it. When d comes to it, it asks held whether the number is the caller's still: if not, it does nothing, so that no operation of the
// next owner is hit. It does not wait, and lets no caller go before the kernel does.
func (d *Driver) CancelDescriptor(fd int, direct bool, held func() bool) {
	d.later(func() {
		if held() {
			d.cancelThose(func(r *Request) bool {
				return r.spec.FD == int32(fd) && r.op() != ring.OpAsyncCancel && (r.spec.Flags&ops.Direct != 0) == direct
			}, true)
		}
	})
}

// CancelEverywhere is [Driver.CancelDescriptor] on every driver of the process: tasks of several may use one descriptor.
func CancelEverywhere(fd int, held func() bool) {
	running.Lock()
	all := slices.Collect(maps.Keys(running.drivers))
	running.Unlock()
	for _, d := range all {
		d.CancelDescriptor(fd, false, held)
	}
}

// running are the drivers that have not ended.
var running = struct {
	sync.Mutex
	drivers map[*Driver]struct{}
	guests  atomic.Int32 // how many of them have one
}{drivers: make(map[*Driver]struct{})}

func (d *Driver) enlist() {
	running.Lock()
	defer running.Unlock()
	running.drivers[d] = struct{}{}
	if d.guest != nil {
		running.guests.Add(1)
	}
}

func (d *Driver) delist() {
	running.Lock()
	defer running.Unlock()
	delete(running.drivers, d)
	if d.guest != nil {
		running.guests.Add(-1)
	}
}

// otherHere returns the driver on whose thread the caller runs, if there is one and it is not d, which may be nil.
func (d *Driver) otherHere() *Driver {
	if n := running.guests.Load(); n == 0 || n == 1 && d != nil && d.guest != nil {
		return nil // without a system call
	}
	running.Lock()
	defer running.Unlock()
	tid := gettid() // not before: who waits for the lock may go on on another thread, and a new driver have come to this one
	for other := range running.drivers {
		if other.tid == tid && other != d {
			return other
		}
	}
	return nil
}

// host returns the driver whose guest calls, if there is one and it is not d. While the guest waits for d, that driver is to go on (Pump): d's
// guest may wait for it. It is nil for functions that the driver calls in the middle of a pass.
func (d *Driver) host() *Driver {
	if h := d.otherHere(); h != nil && h.visiting && !h.within {
		return h
	}
	return nil
}

// Here returns the driver whose guest calls, or nil. Who is to wait there has it go on meanwhile, see [Driver.Attend].
func Here() *Driver { return (*Driver)(nil).host() }

// OnOther reports whether the guest of another driver calls. It is quicker than [Here] where d has the only guest.
func (d *Driver) OnOther() bool { return d.host() != nil }

// cancelThose cancels requests, one by one or, where the kernel has them, by a request of the user that follows.
func (d *Driver) cancelThose(hit func(*Request) bool, each bool) {
	d.cancelBehind(hit)
	for i := range d.slots {
		if r := d.slots[i].r; r != nil && r.state == stateIssued && hit(r) {
			r.hit = true
			if each || d.slots[i].pooled || r.spec.Flags&ops.Async != 0 {
				d.cancelIssued(r) // the pool is not the kernel's; workers may need it twice, see insist
			}
		}
	}
	for i := range d.queues {
		for r := d.queues[i].head; r != nil; {
			next := r.Next
			if hit(r) {
				d.CancelNow(r, r.cur)
			}
			r = next
		}
	}
	for r := range d.delayed {
		if hit(r) {
			d.CancelNow(r, r.cur)
		}
	}
}

// cancelBehind cancels those whose turn in a chain has not come.
func (d *Driver) cancelBehind(hit func(*Request) bool) {
	var last *chain // many of a chain come one after the other
	behind := func(r *Request) {
		if r == nil || r.chain == nil || r.chain == last {
			return
		}
		last = r.chain
		for _, r := range last.reqs {
			if r.state == stateLinked && hit(r) {
				d.CancelNow(r, r.cur)
			}
		}
	}
	for _, c := range d.chains {
		behind(c.reqs[c.next])
	}
	for i := range d.slots {
		behind(d.slots[i].r)
	}
	for i := range d.queues {
		for r := d.queues[i].head; r != nil; r = r.Next {
			behind(r)
		}
	}
	for r := range d.delayed {
		behind(r)
	}
}

// abandon lets the caller of a cancelled operation go. The driver keeps the request until its completion.
func (d *Driver) abandon(r *Request, seq Seq) {
	if r.cur != seq || r.state != stateIssued {
		return
	}
	d.stats.Abandoned++
	r.state = stateAbandoned
	r.n, r.err = 0, ErrAbandoned
	d.tellEnd(r)
}
