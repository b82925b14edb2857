package ring

import (
	"sync/atomic"
	"syscall"
	"time"

	sys "github.com/iceber/iouring-go/syscall"
)

// settle ends a request with a result that is known, now or later.
func (s *Sim) settle(r *simReq, res int32) {
	if s.cfg.Delay > 0 {
		if d := s.rng.IntN(s.cfg.Delay + 1); d > 0 {
			r.forced, r.res = true, res
			s.schedule(r, d)
			return
		}
	}
	s.end(r, res)
}

// schedule puts a request on the wheel, d steps from now.
func (s *Sim) schedule(r *simReq, d int) {
	r.state = simScheduled
	r.slot = (s.step + d) & s.mask
	r.at = len(s.wheel[r.slot])
	s.wheel[r.slot] = append(s.wheel[r.slot], r)
	s.due++
}

// release takes a request out of wherever it waits.
func (s *Sim) release(r *simReq) {
	switch r.state {
	case simScheduled:
		b := s.wheel[r.slot]
		b[r.at] = b[len(b)-1]
		b[r.at].at = r.at
		s.wheel[r.slot] = b[:len(b)-1]
		s.due--
	case simParked:
		s.parked = without(s.parked, r)
	case simTimed:
		s.timers = without(s.timers, r)
	}
	r.state = simHeld
}

func without(list []*simReq, r *simReq) []*simReq {
	for i, x := range list {
		if x == r {
			copy(list[i:], list[i+1:])
			return list[:len(list)-1]
		}
	}
	return list
}

// try performs a request, or parks it until its file is ready.
func (s *Sim) try(r *simReq) {
	if r.forced {
		s.end(r, r.res)
		return
	}
	res, ready := s.perform(r)
	switch {
	case ready:
	case r.doomed:
		res = -int32(syscall.ECANCELED)
	default:
		r.state = simParked
		s.parked = append(s.parked, r)
		return
	}
	s.performed(r, res)
}

// advance is one step of the model: what is due ends, in any order.
func (s *Sim) advance() {
	s.step++
	s.stats.Steps++
	s.clock += time.Microsecond
	s.later = true
	// One at a time: each may cancel another.
	for now := s.step & s.mask; len(s.wheel[now]) > 0; {
		r := s.wheel[now][s.rng.IntN(len(s.wheel[now]))]
		s.release(r)
		if !r.forced && s.chance(s.cfg.Scribble) {
			s.scribble(r)
		}
		s.try(r)
	}
	s.retry()
	if len(s.timers) > 0 {
		s.fire()
	}
	if s.chance(s.cfg.Bogus) {
		s.invent()
	}
}

// retry performs what waits for its file, in the order of arrival.
func (s *Sim) retry() {
	for i := 0; i < len(s.parked); {
		r := s.parked[i]
		res, ready := s.perform(r)
		if !ready {
			i++
			continue
		}
		s.release(r)
		s.performed(r, res)
		i = 0 // the list may have changed
	}
}

// invent posts a completion that belongs to nothing.
func (s *Sim) invent() {
	data := s.rng.Uint64()
	if s.oldSeen > 0 && s.rng.Uint32()&3 != 0 {
		data = s.old[s.rng.IntN(min(s.oldSeen, len(s.old)))]
	}
	if data == wakeData || s.live[data] != nil {
		return
	}
	s.stats.Bogus++
	s.post(CQE{UserData: data, Res: int32(s.rng.Uint32N(8192)) - 4096, Flags: s.rng.Uint32() & CQEMore}, true)
}

// end brings a request to its end, and its chain further.
func (s *Sim) end(r *simReq, res int32) {
	failed := res < 0 && !s.harmless(r, res) || s.fellShort(r, res)
	if g := r.guard; g != nil {
		// It is over before its time.
		r.guard, g.guarding = nil, nil
		s.release(g)
		g.forced, g.res = true, -int32(syscall.ECANCELED)
	}
	s.untouched(r)
	next, hard := r.link, r.sqe.Flags&SQEHardlink != 0
	hush := failed && r.silent
	if failed {
		r.silent = false
	}
	s.finish(r, res)
	if next != nil && next.forced && next.sqe.Op == OpLinkTimeout {
		g := next
		next = g.link
		s.finish(g, g.res)
	}
	switch {
	case next == nil:
	case failed && !hard:
		for next != nil {
			n := next
			next = n.link
			res := -int32(syscall.ECANCELED)
			if n.failed {
				res = n.res
			}
			n.silent = hush
			s.finish(n, res)
		}
	default:
		s.start(next)
	}
	s.undefer()
}

// finish posts a request's completion and forgets it.
func (s *Sim) finish(r *simReq, res int32) {
	r.state = simEnded
	s.begun--
	s.stats.Ended++
	data := r.sqe.UserData
	if s.live[data] == r {
		delete(s.live, data)
	}
	s.old[s.oldSeen%len(s.old)] = data
	s.oldSeen++
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		s.first = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else {
		s.last = r.prev
	}
	silent := r.silent
	flags := r.flags
	r.next, r.prev, r.link = s.free, nil, nil
	s.free = r
	if !silent {
		s.post(CQE{UserData: data, Res: res, Flags: flags}, false)
	}
}

// post brings a completion on its way: straight into the queue, or as task work for the owner's next visit.
func (s *Sim) post(c CQE, bogus bool) {
	if bogus {
		c.Flags |= simBogus
	}
	if (s.later || s.working(c.UserData)) && s.flags&(setupDeferTaskrun|sys.IORING_SETUP_COOP_TASKRUN) != 0 {
		s.work = append(s.work, c)
		if s.flags&sys.IORING_SETUP_TASKRUN_FLAG != 0 {
			s.setFlag(sqTaskrun, true)
		}
		return
	}
	s.push(c)
}

// working reports whether a completion of the same request is among the task work: those of one request stay in order.
func (s *Sim) working(data uint64) bool {
	for i := range s.work {
		if s.work[i].UserData == data {
			return true
		}
	}
	return false
}

// simBogus marks an invented completion on its way.
const simBogus uint32 = 1 << 15

// runWork brings the task work to the queue.
func (s *Sim) runWork() {
	for _, c := range s.work {
		s.push(c)
	}
	s.work = s.work[:0]
	s.setFlag(sqTaskrun, false)
}

// push puts a completion into the queue, or aside if it is full.
func (s *Sim) push(c CQE) {
	if len(s.backlog) == 0 && s.room() > 0 {
		s.show(c)
		return
	}
	if s.features&sys.IORING_FEAT_NODROP == 0 || s.chance(s.cfg.Lose) {
		s.stats.Lost++
		s.lost = true
		atomic.AddUint32(s.cqLost, 1)
		return
	}
	s.stats.Overflow++
	s.backlog = append(s.backlog, c)
	s.setFlag(sqCQOverflow, true)
}

// flush brings what was put aside to the queue, as far as there is room.
func (s *Sim) flush() {
	if len(s.backlog) == 0 {
		return
	}
	n := min(int(s.room()), len(s.backlog))
	for _, c := range s.backlog[:n] {
		s.show(c)
	}
	s.backlog = s.backlog[:copy(s.backlog, s.backlog[n:])]
	s.setFlag(sqCQOverflow, len(s.backlog) > 0)
}

// show makes a completion visible.
func (s *Sim) show(c CQE) {
	bogus := c.Flags&simBogus != 0
	c.Flags &^= simBogus
	tail := *s.cqTail
	s.cqes[tail&(s.params.CQEntries-1)] = c
	atomic.StoreUint32(s.cqTail, tail+1)
	s.posted++
	if s.cfg.OnPost != nil {
		s.cfg.OnPost(c, bogus)
	}
}

// ready is how many completions the owner has not taken.
func (s *Sim) ready() uint32 {
	head, tail := atomic.LoadUint32(s.cqHead), *s.cqTail
	if tail-head > s.params.CQEntries {
		s.blame("completion head %#x is beyond the tail %#x", head, tail)
		return 0
	}
	return tail - head
}

func (s *Sim) room() uint32 { return s.params.CQEntries - s.ready() }

func (s *Sim) setFlag(flag uint32, on bool) {
	old := *s.sqFlags
	if on {
		atomic.StoreUint32(s.sqFlags, old|flag)
	} else if old&flag != 0 {
		atomic.StoreUint32(s.sqFlags, old&^flag)
	}
}
