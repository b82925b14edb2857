package driver

import (
	"errors"
	"fmt"
	"syscall"

	"uringo/buf"
	"uringo/internal/rights"
	"uringo/internal/ring"
	"uringo/ops"
)

// Chain is operations that are performed one after the other. Each is added with [Link] or [HardLink], which return where its result will
// be, and [Chain.Submit] hands over all of them. A Chain is used once, by one goroutine or task. The zero Chain is empty.
//
//	var c driver.Chain
//	w := driver.Link(&c, ops.WriteAt(fd, record, off))
//	s := driver.Link(&c, ops.Fdatasync(fd))
//	if err := c.Submit(d); err != nil {
//		return err
//	}
//	err := s.Wait(ctx).Err // ECANCELED if the write failed, and w knows why
//
// An operation begins when the one before it has ended well: without an error, and having moved all that it was asked to. A transfer
// that was cut short is taken up where it stopped, by the driver, and its count is that of all parts. One that cannot go on, at the end of
// a file, has the count of what it did, and no error; but it has not ended well. When one has not, those behind it do not run, and their
// error is syscall.ECANCELED, except that the next one runs all the same if it was added with HardLink. What was done is not undone.
// Each member has its result when it has ended, also while those behind it wait.
// A member that is cancelled before its turn has its result when that comes: to end what waits for ever, cancel the one that does.
//
// The driver links the operations in the kernel (IOSQE_IO_LINK, Linux 5.3), in one submission of which the kernel gets all or nothing. Where
// a link would not hold, it waits for the result of the first operation and then goes on: behind operations of which the kernel lets a
// failure pass (fsync, fallocate, and those on names), behind a transfer that takes several, behind and before polls and plain calls, on
// an old kernel, and while so many others wait for somebody that there may never be room for all of it at once. Members with a hard link
// that was followed are not repeated after a short transfer, or after EINTR: their results are what the kernel said.
type Chain struct {
	links []linked
	hard  []bool // the link behind it holds whatever became of it
	sent  bool
}

// linked is a Pending, of whatever type.
type linked interface {
	ready(d *Driver, behind *toucher) (*Request, error)
	refuse(err error)
}

// Link adds an operation that runs if the one before it has ended well.
func Link[T any](c *Chain, op ops.Op[T]) *Pending[T] { return addLink(c, op, false) }

// HardLink adds an operation that runs when the one before it has run, whatever became of that. If an earlier failure kept that one from
// running, this does not run either.
func HardLink[T any](c *Chain, op ops.Op[T]) *Pending[T] { return addLink(c, op, true) }

func addLink[T any](c *Chain, op ops.Op[T], hard bool) *Pending[T] {
	if len(c.links) > 0 {
		c.hard[len(c.hard)-1] = hard
	}
	p := &Pending[T]{op: op}
	c.links = append(c.links, p)
	c.hard = append(c.hard, false)
	return p
}

// Errors of [Chain.Submit].
var (
	// ErrChainTooLong means that the ring has no room for the whole chain at once: Config.Entries less one, and a quarter of what may be in
	// flight, bound it.
	ErrChainTooLong = errors.New("uringo: chain is longer than the ring")

	errChainSent   = errors.New("uringo: chain was submitted before")
	errChainEnded  = fmt.Errorf("uringo: a chain of which a member was cancelled before: %w", syscall.ECANCELED)
	errChainAwaits = fmt.Errorf("uringo: a chain that waits for a stream: %w", syscall.EINVAL)
)

// Submit hands the chain to the driver and returns at once. The memory of all its operations belongs to the driver until their results are
// in. Every member gets a result, also if Submit returns an error: then it is that error, and none of them runs. An operation with invalid
// arguments is such an error, and so is one that waits for a stream ([Stream.Ready]), or that was cancelled before. The members of a chain that
// is never submitted have no result, unless they are cancelled.
func (c *Chain) Submit(d *Driver) error {
	if c.sent {
		return errChainSent
	}
	c.sent = true
	run := &chain{hard: c.hard}
	var behind *toucher
	err := d.fits(len(c.links))
	for _, l := range c.links {
		if err != nil {
			break
		}
		var r *Request
		if r, err = l.ready(d, behind); r != nil {
			r.chain, behind = run, &r.touch
			run.reqs = append(run.reqs, r)
		}
	}
	if err != nil {
		for _, r := range run.reqs {
			r.Withdraw()
		}
		for _, l := range c.links {
			l.refuse(err)
		}
		return err
	}
	if len(run.reqs) > 0 {
		d.Send(&Request{control: func() { d.begin(run) }, waiter: swept(func() { d.refuseChain(run) })})
	}
	return nil
}

// refuseChain is refuse for the members of a chain.
func (d *Driver) refuseChain(c *chain) {
	for i, r := range c.reqs {
		if r.chain = nil; i > 0 {
			c.reqs[i-1].Next = r
		}
	}
	d.refuse(c.reqs[0])
}

func (d *Driver) fits(n int) error {
	if most := min(int(d.ring.SQEntries())-1, max(1, d.places/4)); n > most {
		return fmt.Errorf("%w: %d operations, which takes %d", ErrChainTooLong, n, most)
	}
	return nil
}

func (p *Pending[T]) ready(d *Driver, behind *toucher) (*Request, error) {
	if err := p.op.Invalid(); err != nil {
		return nil, err
	}
	if p.op.Kind == ops.KindAwait {
		return nil, errChainAwaits
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return nil, errChainEnded
	}
	p.d = d
	p.seq = p.req.reset(&p.op.Spec, (*pendingWaiter[T])(p), behind)
	return &p.req, nil
}

func (p *Pending[T]) refuse(err error) { p.end(p.op.Result(0, err)) }

// chain is a Chain in the driver's hands. Its requests are in the kernel as one segment, or one of them is on its way like any other, or it
// waits for room.
type chain struct {
	reqs   []*Request
	hard   []bool
	next   int    // the first that has no result
	flying int    // how many of the segment are in the kernel still
	n      int    // the length of the segment
	at     uint32 // where it stands in the submission queue
	broken bool   // no more will run
	busy   bool   // somebody is at it already
}

// chaining is the chains that cannot go on by themselves.
type chaining struct {
	chains  []*chain // waiting for places for a whole segment
	awaited int      // how many, for the first of them; as of the last fillChains
	uncut   []*chain // with a segment of which the kernel has taken nothing yet
}

// begin takes a chain in.
func (d *Driver) begin(c *chain) {
	for _, r := range c.reqs {
		r.cur = r.seq
		r.state = stateLinked
	}
	d.goOn(c)
}

// goOn has a chain go on with its next member, by way of the queue: making room for it now could reap within a reap.
func (d *Driver) goOn(c *chain) {
	switch {
	case c.busy || c.next == len(c.reqs):
	case d.closing.Load() || d.broken != nil:
		d.endRest(c, d.refusal())
	case c.broken:
		d.endRest(c, syscall.ECANCELED)
	default:
		d.chains = append(d.chains, c)
	}
}

// endRest ends all members that are not in anybody's hands. No more will run; those that have run while others of their segment are still out have
// their own results. When somebody who is told interrupts it, fail goes on.
func (d *Driver) endRest(c *chain, err error) {
	c.busy = true
	d.judged = c
	first, end := c.next, c.next
	if c.flying > 0 {
		end += c.n
	}
	for i, r := range c.reqs {
		if r.chain != nil && (r.state == stateLinked || r.state == stateIdle) {
			n, err := 0, err
			if first <= i && i < end && r.state == stateLinked && !r.unsent && !r.stopped(r.res) {
				n, err = d.outcome(r, r.res)
			}
			r.chain = nil
			d.deliver(r, n, err)
		}
	}
	d.judged = nil
}

// fillChains gives the kernel what is next in the chains that wait, as far as there is room.
func (d *Driver) fillChains() {
	d.awaited = 0
	for range len(d.chains) {
		c := d.chains[0] // where who makes a mistake finds it
		went := d.advance(c)
		if len(d.chains) == 0 {
			return // the ring broke just now, and all have ended
		}
		if !went {
			d.awaited = d.segment(c) // places are short, or entries: it is ahead of those that came later
			return
		}
		d.chains[0] = nil // or its memory would stay with us
		d.chains = d.chains[1:]
	}
}

// endChains ends those that wait.
func (d *Driver) endChains(err error) {
	for _, c := range d.chains {
		d.endRest(c, err)
	}
	d.chains = nil
}

// advance gives the kernel what is next in a chain, as much of it as can be linked. It is false if there is no room.
func (d *Driver) advance(c *chain) bool {
	c.busy = true
	defer func() { c.busy = false }()
	for c.next < len(c.reqs) {
		r := c.reqs[c.next]
		n := d.segment(c)
		switch {
		case r.state == stateAbandoned: // when its segment came back before its turn
			d.letGo(c, r, -int32(syscall.ECANCELED))
		case c.broken || r.cancel == r.cur:
			d.deliver(r, 0, syscall.ECANCELED)
		case n == 1 || !d.mayHave(c, n): // to wait for as many could be for ever, and one by one they get there, too
			if r.op() == ring.OpAsyncCancel {
				d.cancelMatching(r)
			}
			if d.place(r); r.chain != nil {
				return true // on its way
			}
		case !d.roomFor(c, n):
			return false
		default:
			if n = d.pin(c, n); n > 0 {
				d.link(c, n)
				return true
			}
			d.deliver(r, 0, buf.ErrReleased)
		}
	}
	return true
}

// pin pins the buffers of n members, and returns how many of these may run: up to one whose buffer was released.
func (d *Driver) pin(c *chain, n int) int {
	for i, r := range c.reqs[c.next : c.next+n] {
		if r.spec.Kind.Fixed != 0 && !r.spec.Pin() {
			return i
		}
	}
	return n
}

// segment returns how many operations from the next one on can be linked.
func (d *Driver) segment(c *chain) int {
	n, fills := 0, 0
	for _, r := range c.reqs[c.next:] {
		if !d.linkable(r) {
			break
		}
		if n > 0 {
			before := &c.reqs[c.next+n-1].spec
			if !c.hard[c.next+n-1] && !before.Kind.Breaks || !before.Whole() || d.strays(c, &r.spec) {
				break
			}
		}
		if r.spec.Fills() {
			fills++
		}
		if fills > 0 && d.files.used+fills > d.files.size {
			break // see admit, which has looked at each by itself
		}
		n++
	}
	return max(n, 1)
}

// strays reports whether an operation would be performed with rights that are not its own, were it linked in a chain: the kernel takes up what is
// linked on the thread that submitted it, at any time, and one that no driver is locked to may have taken another user's for a moment. What its
// own threads perform has those of when it was submitted.
func (d *Driver) strays(c *chain, s *ops.Spec) bool {
	return d.tid == 0 && rights.Taken() && s.As == nil && s.Judged() && c.reqs[c.next].spec.Flags&ops.Async == 0
}

// linkable reports whether an operation may be part of a segment.
func (d *Driver) linkable(r *Request) bool {
	s := &r.spec
	return r.cancel != r.cur && s.Kind.Code != ring.OpAsyncCancel && s.Kind.Notify == nil && s.Kind.InVain == nil && d.ring.Supports(s.Kind.Code) &&
		!d.apart(s) && (!s.OnTable() || d.admit(s) == nil) &&
		(s.As == nil || d.mayAct(s.As) == nil)
}

// roomFor reports whether a segment can be submitted as a whole.
func (d *Driver) roomFor(c *chain, n int) bool {
	if int(d.ring.Space()) < n {
		d.submit()
	}
	return d.broken == nil && int(d.ring.Space()) >= n && d.room() >= n
}

// mayHave is allows, for a segment: whether there are places for all of it, as soon as those who wait for nobody have ended.
func (d *Driver) mayHave(c *chain, n int) bool {
	if c.share(n) == others {
		return d.waiting()+n <= d.places
	}
	all := d.held[tied] + n
	return all <= d.places/2 && max(d.held[takers], d.held[givers])+all <= d.most && d.waiting()+n <= d.mostWait
}

// share returns which places a segment takes: all of its members wait for the first one that does, and then for the next.
func (c *chain) share(n int) int {
	for _, r := range c.reqs[c.next : c.next+n] {
		if shareOf(r.spec.Kind) != others {
			return tied
		}
	}
	return others
}

// link writes the entries of a segment, for which there is room.
func (d *Driver) link(c *chain, n int) {
	c.n, c.flying, c.at = n, n, d.ring.Tail()
	share := c.share(n)
	for i, r := range c.reqs[c.next : c.next+n] {
		e := d.ring.Next()
		d.describe(&r.spec, e)
		e.Flags &^= ring.SQELink | ring.SQEHardlink
		switch {
		case i == n-1:
		case c.hard[c.next+i]:
			e.Flags |= ring.SQEHardlink
		default:
			e.Flags |= ring.SQELink
		}
		e.UserData = d.occupy(r, share, false)
	}
	d.stats.Linked += uint64(n)
	d.uncut = append(d.uncut, c)
}

// mend looks after segments of which the kernel took only a part, for want of memory. It has ended the chain there, and would take the
// rest for another, which must not run before the first has ended well: so the rest becomes entries that do nothing.
func (d *Driver) mend() {
	keep := d.uncut[:0]
	for _, c := range d.uncut {
		taken := int32(d.ring.Head() - c.at)
		if taken <= 0 {
			keep = append(keep, c) // all of it goes with the next submission
			continue
		}
		for i := int(taken); i < c.n; i++ {
			e := d.ring.At(c.at + uint32(i))
			*e = ring.SQE{Op: ring.OpNop, FD: -1, UserData: e.UserData}
			c.reqs[c.next+i].unsent = true
		}
	}
	clear(d.uncut[len(keep):])
	d.uncut = keep
}

// answered takes the result of a member that was in the kernel. It reports false if the member's fate is that of any operation.
func (d *Driver) answered(r *Request, res int32) bool {
	c := r.chain
	if c.flying == 0 {
		return r.ready == 0 && d.resume(r, res)
	}
	r.res = res
	if r.state != stateAbandoned {
		r.state = stateLinked
	}
	if c.flying--; c.flying == 0 {
		d.evaluate(c)
		return true
	}
	for c.next < len(c.reqs) && c.n > 1 { // whose fate is sealed need not wait for the others
		r := c.reqs[c.next]
		if r.state != stateLinked || r.unsent || !c.hard[c.next] && !r.endedWell() {
			break
		}
		c.n--
		c.at++
		d.judge(c, r, false)
	}
	return true
}

// endedWell reports whether what the kernel said of a member lets the next one run.
func (r *Request) endedWell() bool {
	n, err := r.spec.Finish(r.res)
	return err == nil && !r.spec.Short(int32(n))
}

// resume has the rest of a short transfer performed.
func (d *Driver) resume(r *Request, res int32) bool {
	if res <= 0 || !r.spec.Short(res) || r.cancel == r.cur || r.hit || d.closing.Load() || !r.spec.Advance(res) {
		return false
	}
	r.done += int(res)
	d.requeue(r)
	return true
}

// evaluate goes through the results of a segment that has come back.
func (d *Driver) evaluate(c *chain) {
	c.busy = true
	segment := c.reqs[c.next : c.next+c.n]
	for i, r := range segment {
		if r.chain == nil { // ended with the driver
			c.next++
			continue
		}
		if r.unsent && !c.broken && r.state != stateAbandoned {
			break
		}
		last := i == len(segment)-1
		if !d.judge(c, r, last || !c.hard[c.next]) {
			break // it is on its way again, and what is behind it has not run
		}
	}
	for _, r := range segment {
		if r.chain == nil {
			continue
		}
		r.unsent = false
		if r.hit && r.state == stateLinked {
			r.cancel = r.cur // what cancelled it was about this turn, and it will have another
		}
	}
	c.busy = false
	if c.next == len(c.reqs) {
		return
	}
	switch c.reqs[c.next].state {
	case stateLinked, stateAbandoned: // in an earlier segment, of which the kernel did not take it
		d.goOn(c)
	}
}

// judge ends a member of a segment with its result, and reports false if that is to be repeated instead.
func (d *Driver) judge(c *chain, r *Request, repeatable bool) bool {
	res := r.res
	switch {
	case r.state == stateAbandoned:
		d.letGo(c, r, res)
	case c.broken && res == -int32(syscall.ECANCELED):
		d.deliver(r, 0, syscall.ECANCELED)
	case repeatable && !c.broken && d.resume(r, res):
		return false
	case repeatable && !c.broken && res < 0 && d.refused(r, res):
		return r.chain == nil
	case res < 0 && d.halted(r, res):
	default:
		n, err := d.outcome(r, res)
		d.deliver(r, n, err)
	}
	return true
}

// letGo ends a member that was abandoned, now that the kernel has let go of it.
func (d *Driver) letGo(c *chain, r *Request, res int32) {
	r.chain, r.state = nil, stateIdle
	n, err := r.spec.Finish(res)
	d.passed(c, err == nil && !r.spec.Short(int32(n)))
}

// passed notes that the next member has its result, and that it has ended well or not.
func (d *Driver) passed(c *chain, well bool) {
	if !well && !c.hard[c.next] {
		c.broken = true
	}
	if c.next++; c.next == len(c.reqs) {
		d.judged = nil // or its memory would stay with us
	}
	if c.flying == 0 {
		d.goOn(c)
	}
}

// chainsWait reports whether a chain waits for places, which others must not take before it.
func (d *Driver) chainsWait() bool { return d.room() < d.awaited }

// chainFits reports whether the first chain waits for nothing but entries in the submission queue, or need not wait for places at once.
func (d *Driver) chainFits() bool {
	if len(d.chains) == 0 {
		return false
	}
	n := d.segment(d.chains[0])
	return d.room() >= n || !d.mayHave(d.chains[0], n)
}
