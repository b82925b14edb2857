package driver

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/internal/ring"
	"uringo/ops"
)

// maxAttempts bounds how often an operation is repeated after an answer that only means "try again".
const maxAttempts = 100

// Send hands over a request, or several linked by Next, in one message. It never waits for the kernel. Each of them is told
// its end through its Waiter, also when the driver is closed.
func (d *Driver) Send(r *Request) {
	if d.spilled.some.Load() && d.spills() {
		d.spill(r) // behind what it has sent before
		return
	}
	select {
	case d.intake <- r:
	default:
		switch {
		case d.spills():
			d.spill(r)
			return
		case d.OnDriver():
			d.takeIn() // from a guest: nobody else could make room
			d.accept(r)
			return
		}
		d.intake <- r
	}
	d.nudge()
}

// spills reports whether the caller must not wait until there is room in the channel.
func (d *Driver) spills() bool {
	return d.telling.Load() > 0 || // maybe it is a function that the driver calls, and waits for
		!d.OnDriver() && onSomeDriver() // another's guest: the two could wait for each other
}

// tellUser calls a function of the user's, who is told something and may send what comes next. It is called by the driver goroutine, or by
// who empties the channel of a driver that has ended; or it is no driver's matter, and d is nil.
func (d *Driver) tellUser(f func()) {
	if d == nil {
		f()
		return
	}
	d.telling.Add(1)
	defer d.telling.Add(-1)
	f()
}

// spill is Send for those who must not wait until there is room in the channel.
func (d *Driver) spill(r *Request) {
	d.spilled.put(r)
	d.Poke()
}

// nudge makes sure that somebody looks at what was just put into the channel.
func (d *Driver) nudge() {
	switch d.status.Load() {
	case asleep:
		// Of all that send while the driver sleeps, one wakes it.
		if d.status.CompareAndSwap(asleep, awake) {
			d.ring.Wake()
		}
	case dead:
		d.sweep()
		select {
		case d.after <- struct{}{}:
		default:
		}
	}
}

// do has f called on the driver goroutine. If the driver is gone, f is not called and do returns false.
func (d *Driver) do(f func()) bool {
	if d.status.Load() == dead {
		return false
	}
	ran := make(chan bool, 1)
	d.Send(&Request{control: func() { f(); ran <- true }, waiter: swept(func() { ran <- false })})
	return <-ran
}

// doInside is do, for callers that may run on the driver goroutine.
func (d *Driver) doInside(f func()) bool {
	if d.OnDriver() {
		f()
		return true
	}
	return d.do(f)
}

// later has f called on the driver goroutine, some time, unless the driver ends first. It never waits: who calls it may hold a lock that
// the driver's guest needs.
func (d *Driver) later(f func()) {
	if d.status.Load() == dead {
		return
	}
	r := &Request{control: f, waiter: swept(func() {})}
	select {
	case d.intake <- r:
		d.nudge()
	default:
		d.spill(r)
	}
}

// swept is the waiter of a control message: told when the message found nobody.
type swept func()

func (s swept) Complete(*Request) { s() }

// sweep fails what is in the channel of a driver that has ended. Whoever put something there calls it, and leaves it to another who is at it
// already: that may be the caller itself, who was told of an end and sends what comes next.
func (d *Driver) sweep() {
	for (len(d.intake) > 0 || d.spilled.some.Load()) && d.sweeping.TryLock() {
		d.sweepLocked()
	}
}

// sweepLocked is sweep for who holds its lock, and unlocks it.
func (d *Driver) sweepLocked() {
	defer d.sweeping.Unlock()
	for {
		select {
		case r := <-d.intake:
			d.refuse(r)
			continue
		default:
		}
		spilled := d.spilled.take()
		for _, r := range spilled {
			d.refuse(r)
		}
		if len(spilled) == 0 {
			return
		}
	}
}

// refuse fails a message that came too late.
func (d *Driver) refuse(r *Request) {
	for r != nil {
		next := r.Next
		r.Next = nil
		if r.waiter != nil {
			r.touch.takeBack()
			r.n, r.err = 0, d.refusal()
			r.waiter.Complete(r)
		}
		r = next
	}
	d.tell()
}

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
		r.attempts, r.hit, r.shut, r.ready, r.hungUp = 0, false, false, 0, false
		switch {
		case r.stream != nil:
			d.arm(r)
			return
		case r.op() == ring.OpAsyncCancel:
			d.cancelMatching(r)
		}
		d.place(r)
	}
}

// Rush is Issue for a guest of which nothing else is ready: the kernel gets the request at once, if that promises something, and what
// has ended by then is told. It reports whether that was this request and nothing else, so that its task may go on as if it had not waited.
func (d *Driver) Rush(r *Request) bool {
	told := d.told
	d.Issue(r)
	if d.hope == 0 || d.until != nil || d.broken != nil || len(d.intake) > 0 {
		return false
	}
	if d.passes++; d.passes%dashEvery == 0 {
		d.tick()
		return false // to the end of the pass, for all that is done there
	}
	dashed := false
	d.inside(func(d *Driver) { dashed = d.dash() })
	return dashed && d.told == told+1 && r.state == stateIdle && len(d.flush) == 0
}

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
	if d.room() == 0 || d.queueOf(r).n > 0 || d.chainsWait() || r.spec.Kind.Waits && d.waits >= d.waitMax || !d.write(r) {
		if d.broken != nil {
			d.deliver(r, 0, d.broken)
			return
		}
		r.state = stateQueued
		d.queueOf(r).push(r)
	}
}

func (d *Driver) queueOf(r *Request) *list {
	if r.spec.Kind.Waits {
		return &d.waiting
	}
	return &d.queue
}

// write gives a request a slot and writes its entry. From here on the kernel owns the operation's memory. It reports false,
// with nothing done, if the submission queue is full.
func (d *Driver) write(r *Request) bool {
	k := r.spec.Kind
	if r.spec.OnTable() {
		if err := d.admit(&r.spec); err != nil {
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
		d.enter(d.ring.Submit())
		if e = d.ring.Next(); e == nil {
			if k.Fixed != 0 {
				r.spec.Unpin(false)
			}
			return false
		}
	}
	if r.ready != 0 {
		r.awaitReady(e)
	} else {
		d.describe(&r.spec, e)
	}
	e.Flags &^= ring.SQELink | ring.SQEHardlink // nobody ties himself to whoever comes next
	e.UserData = d.occupy(r, false)
	return true
}

// describe fills an entry, with what the ring can do better than a plain call.
func (d *Driver) describe(s *ops.Spec, e *ring.SQE) {
	k := s.Kind
	s.Prepare(e)
	if s.PollFirst && d.ring.PollFirst(k.Code) {
		e.IoPrio |= k.PollFirst
	}
	if k.Fixed != 0 {
		d.fix(s, e)
	}
}

// byCall reports whether what a request needs next, its operation or its descriptor's readiness, is a plain call's to bring about.
func (d *Driver) byCall(r *Request) bool {
	if r.ready != 0 {
		return !d.ring.Supports(ring.OpPollAdd)
	}
	return r.spec.Route == ops.RouteCall && d.engine == Uring || !d.ring.Supports(r.spec.Kind.Code)
}

// awaitReady fills an entry that completes when the descriptor is ready.
func (r *Request) awaitReady(e *ring.SQE) {
	events := r.ready
	if events&unix.POLLIN != 0 {
		events |= unix.POLLRDHUP
	}
	poll := ops.PollAdd(int(r.spec.FD), events)
	poll.Flags = r.spec.Flags & ops.Direct
	poll.Prepare(e)
}

// hungUp reports whether a descriptor that is ready will have nothing more to receive than it has.
func hungUp(c *ring.CQE) bool { return c.Res > 0 && c.Res&unix.POLLRDHUP != 0 }

// receives reports whether an operation that is refused, though its descriptor is ready, means the end by that if nothing more can come: a
// socket for datagrams that was shut down for receiving is ready for ever, and has nothing for those who do not wait.
func receives(s *ops.Spec) bool {
	switch s.Kind.Code {
	case ring.OpRecv, ring.OpRecvmsg, ring.OpRead:
		return true
	}
	return false
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
	e.UserData = d.occupy(r, true)
	d.pooled++
	d.stats.Calls++
	d.pool.Start(e)
}

// occupy puts a request into a free slot and returns the user data that stands for it.
func (d *Driver) occupy(r *Request, pooled bool) uint64 {
	i := uint32(len(d.slots))
	if n := len(d.free); n > 0 {
		i, d.free = d.free[n-1], d.free[:n-1]
	} else {
		d.slots = append(d.slots, slot{})
	}
	s := &d.slots[i]
	s.r, s.pooled = r, pooled
	s.since = d.clock
	r.slot, r.state = i, stateIssued
	d.issued++
	if r.spec.Kind.Waits {
		d.waits++
	}
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
	for d.waiting.n > 0 && d.room() > 0 && d.waits < d.waitMax {
		if !d.unqueue(&d.waiting) {
			return
		}
	}
	for d.queue.n > 0 && d.room() > 0 {
		if !d.unqueue(&d.queue) {
			return
		}
	}
}

// fillable reports whether something waits for nothing but an entry in the submission queue.
func (d *Driver) fillable() bool {
	return len(d.cancels) > 0 && len(d.cancelOut) < d.cancelMax() || d.chainFits() ||
		d.room() > 0 && !d.chainsWait() && (d.queue.n > 0 || d.waiting.n > 0 && d.waits < d.waitMax)
}

func (d *Driver) unqueue(l *list) bool {
	r := l.pop()
	if d.write(r) {
		return true
	}
	if d.broken != nil {
		d.deliver(r, 0, d.broken)
		return false
	}
	// The kernel takes nothing now. Back to the front, so that the order stays.
	r.Next = l.head
	if l.head != nil {
		l.head.prev = r
	} else {
		l.tail = r
	}
	l.head = r
	l.n++
	return false
}

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
	if k.Waits {
		d.waits--
	}
	if pooled {
		d.pooled--
	}
	d.stats.complete(k.Code)
	performed := c.Res >= 0 && !r.unsent && r.ready == 0
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
	if r.state == stateAbandoned {
		r.touch.takeBack()
		r.state = stateIdle
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
		case c.flying > 0:
			r.state = stateAbandoned // until its segment is back
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
	if c.Res == -int32(syscall.EAGAIN) && r.hungUp && r.ready == 0 && receives(&r.spec) {
		c.Res = 0
	}
	if c.Res < 0 && d.refused(r, c.Res) {
		return
	}
	if r.ready != 0 && c.Res >= 0 {
		r.ready, r.hungUp = 0, hungUp(c) // no longer to be waited for
		if r.cancel == r.cur || r.hit || r.shut {
			d.refused(r, -int32(syscall.ECANCELED))
			return
		}
		d.requeue(r)
		return
	}
	n, err := r.spec.Finish(c.Res)
	d.deliver(r, n, err)
}

// refused handles what is special about an operation that ended with an error. It reports false if nothing is.
func (d *Driver) refused(r *Request, res int32) bool {
	stopped := ops.Interrupted(res) || res == -int32(syscall.ECANCELED) || res == -int32(syscall.EAGAIN) && !r.spec.NoWait() ||
		r.spec.Ready(res) != 0
	switch {
	case stopped && r.shut:
		d.deliver(r, 0, ErrClosed)
	case stopped && (r.cancel == r.cur || r.hit):
		d.deliver(r, 0, syscall.ECANCELED) // under whatever name the kernel says it
	default:
		return d.again(r, res)
	}
	return true
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
	case r.spec.Ready(res) != 0:
		// The kernel does not wait for readiness with this descriptor, but for the descriptor's readiness.
		r.ready = r.spec.Ready(res)
		d.requeue(r)
		return true
	case res == -int32(syscall.EAGAIN) && !r.spec.NoWait():
		// Some file systems answer so to a blocking request when the machine is short of something.
		if r.attempts++; r.spec.Kind.Ready != nil {
			r.attempts = min(r.attempts, maxAttempts-1) // it is the peer that keeps us waiting, not a shortage
		}
		d.stats.Repeated++
		r.state = stateDelayed
		d.delayed[r] = struct{}{}
		delay := min(50*time.Microsecond<<min(r.attempts, 8), 10*time.Millisecond)
		time.AfterFunc(delay, func() { d.later(func() { d.undelay(r) }) })
		return true
	}
	return false
}

// requeue has an operation issued once more, by way of the queue: making room for it now would reap within a reap.
func (d *Driver) requeue(r *Request) {
	d.stats.Repeated++
	r.state = stateQueued
	d.queueOf(r).push(r)
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
		r.chain = nil
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
	if r.sent {
		d.outside++
	}
	r.waiter.Complete(r)
}
