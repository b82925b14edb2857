package ring

import (
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	sys "github.com/iceber/iouring-go/syscall"
	"golang.org/x/sys/unix"
)

// simReq is an entry that was taken.
type simReq struct {
	sqe   SQE
	state simState

	prev, next *simReq // neighbours among all that are in flight, in the order of acceptance
	link       *simReq // what follows in its chain

	failed   bool // before it began: res says with what
	silent   bool // no completion (CQE_SKIP)
	forced   bool // its end is decided: res
	told     bool // its result is known (zero copy), and res is about its memory
	sum      uint64
	flags    uint32 // of its next completion
	doomed   bool   // was cancelled half: must not wait any more
	res      int32  // with failed or forced
	slot, at int    // place on the wheel while scheduled

	when     time.Duration // timeouts: when
	count    uint32        // timeouts: at which number of completions, if counted
	counted  bool
	guard    *simReq // link timeout that watches this
	guarding *simReq // what this link timeout watches

	hdr   unix.Msghdr // messages into provided buffers: what the call sees
	iov   unix.Iovec
	empty bool // the last one was
}

type simState uint8

const (
	simHeld      simState = iota // behind another in its chain, or behind a drain
	simScheduled                 // on the wheel
	simParked                    // waits for its file
	simTimed                     // waits for its time
	simStuck                     // waits for its cancellation
	simEnded
)

// queues is what the model remembers between calls, apart from the mapped memory.
type queues struct {
	live  map[uint64]*simReq // by user data
	first *simReq
	last  *simReq
	free  *simReq // linked by next

	chain, chainEnd *simReq   // being assembled
	deferred        []*simReq // behind a drain
	begun           int       // entries in flight that are not deferred
	draining        bool      // one of them is a drain

	step  int
	wheel [][]*simReq // what ends at step i stands in wheel[i&mask]
	mask  int
	due   int // on the wheel

	parked []*simReq
	timers []*simReq

	work    []CQE // completions that a visit of the owner must bring to the queue (task work)
	backlog []CQE // completions that found the queue full
	lost    bool  // a completion was dropped; to be told
	posted  uint32
	later   bool // completions happen behind the owner's back: not within its submission

	old     [64]uint64 // user data that came to its end
	oldSeen int

	clock time.Duration
	born  time.Time
}

func (q *queues) init(delay int) {
	size := int(roundUp(uint32(delay) + 2))
	*q = queues{live: map[uint64]*simReq{}, wheel: make([][]*simReq, size), mask: size - 1, born: time.Now()}
}

// Enter is io_uring_enter2(2).
func (s *Sim) Enter(fd int, submit, minComplete, flags uint32, arg *WaitArg) (int, syscall.Errno) {
	if !s.own("Enter") {
		return -1, syscall.EEXIST
	}
	defer s.disown()
	s.stats.Enters++
	if errno := s.checkEnter(fd, flags, arg); errno != 0 {
		return -1, errno
	}
	errno := s.fault()
	if errno != 0 && s.rng.Uint32()&1 == 0 {
		s.turn(flags)
		return -1, errno
	}
	taken := 0
	if submit > 0 {
		if s.cfg.Version < sinceNoBusy {
			if s.flush(); len(s.backlog) > 0 {
				return -1, syscall.EBUSY
			}
		}
		if taken = s.submit(submit); taken < int(submit) {
			s.turn(flags)
			if errno != 0 {
				return -1, errno
			}
			return taken, 0
		}
	}
	if errno == 0 && flags&EnterGetEvents != 0 {
		errno = s.wait(minComplete, flags, arg, taken == 0)
		s.turn(0)
		if taken > 0 {
			return taken, 0
		}
	} else {
		s.turn(flags)
	}
	if errno != 0 {
		return -1, errno
	}
	return taken, 0
}

func (s *Sim) checkEnter(fd int, flags uint32, arg *WaitArg) syscall.Errno {
	known := EnterGetEvents
	if s.features&featExtArg != 0 {
		known |= EnterExtArg
	}
	if s.features&featNoIowait != 0 {
		known |= EnterNoIowait
	}
	switch {
	case fd != s.fd || fd < 0:
		s.blame("Enter of descriptor %d, the ring has %d", fd, s.fd)
		return syscall.EBADF
	case flags&^known != 0:
		return syscall.EINVAL
	case flags&EnterExtArg != 0 && arg == nil:
		return syscall.EFAULT
	case s.disabled:
		return syscall.EBADFD
	case s.owner != 0 && s.owner != unix.Gettid():
		return syscall.EEXIST
	}
	return 0
}

// fault chooses what goes wrong with an Enter.
func (s *Sim) fault() syscall.Errno {
	if len(s.cfg.EnterErrnos) == 0 || !s.chance(s.cfg.EnterFails) {
		return 0
	}
	return s.cfg.EnterErrnos[s.rng.IntN(len(s.cfg.EnterErrnos))]
}

// turn lets time pass before the owner is back.
func (s *Sim) turn(flags uint32) {
	if flags&EnterGetEvents != 0 || s.flags&sys.IORING_SETUP_COOP_TASKRUN != 0 && s.rng.Uint32()&1 == 0 {
		s.runWork()
		s.flush()
	}
	s.advance()
}

// submit takes up to n entries and returns how many.
func (s *Sim) submit(n uint32) int {
	head, tail := *s.sqHead, atomic.LoadUint32(s.sqTail)
	if tail-head > s.params.SQEntries {
		s.blame("submission tail %#x is %d entries beyond the head %#x", tail, tail-head, head)
		return 0
	}
	n = min(n, tail-head)
	if s.chance(s.cfg.Partial) {
		n = s.cut(head, n)
	}
	s.later = false
	done := uint32(0)
	for done < n {
		e := s.entry(head + done)
		r := s.take(*e)
		// The kernel is done with the entry. Whoever forgets to clear it before its next use will notice.
		*e = SQE{Op: 0xee, Flags: 0xee, FD: -0x1111, Off: 0xeeeeeeee, Addr: 8, Len: 0xeeee, OpFlags: 0xeeee, UserData: e.UserData}
		done++
		if !s.admit(r) && s.flags&sys.IORING_SETUP_SUBMIT_ALL == 0 {
			break
		}
	}
	if c := s.chain; c != nil {
		s.chain, s.chainEnd = nil, nil
		s.queue(c)
	}
	atomic.StoreUint32(s.sqHead, head+done)
	return int(done)
}

// entry returns the entry at a place of the submission queue.
func (s *Sim) entry(index uint32) *SQE {
	place := index & (s.params.SQEntries - 1)
	if s.array != nil {
		place = s.array[place]
		if place >= s.params.SQEntries {
			s.blame("submission array points to entry %d of %d", place, s.params.SQEntries)
			place = 0
		}
	}
	return &s.sqes[place]
}

// cut chooses how many of n entries to take.
func (s *Sim) cut(head, n uint32) uint32 {
	k := s.rng.Uint32N(n + 1)
	if !s.cfg.SplitLinks {
		for k > 0 && k < n && s.entry(head+k-1).Flags&(SQELink|SQEHardlink) != 0 {
			k++
		}
	}
	return k
}

// take makes an entry's request.
func (s *Sim) take(e SQE) *simReq {
	s.stats.Accepted++
	if s.cfg.OnAccept != nil {
		s.cfg.OnAccept(e)
	}
	r := s.free
	if r == nil {
		r = &simReq{}
	} else {
		s.free = r.next
	}
	*r = simReq{sqe: e, prev: s.last}
	if s.last != nil {
		s.last.next = r
	} else {
		s.first = r
	}
	s.last = r
	if s.live[e.UserData] != nil {
		s.blame("two entries in flight with user data %#x", e.UserData)
	}
	s.live[e.UserData] = r
	return r
}

// admit puts a request where it belongs, and reports whether the batch may go on after it.
func (s *Sim) admit(r *simReq) bool {
	if errno := s.check(&r.sqe); errno != 0 {
		// A bad entry fails its chain, of which the kernel marks the head.
		r.failed, r.res = true, -int32(errno)
		if c := s.chain; c != nil && !c.failed {
			c.failed, c.res = true, -int32(syscall.ECANCELED)
		}
	}
	r.silent = r.sqe.Flags&SQECQESkip != 0
	more := r.sqe.Flags&(SQELink|SQEHardlink) != 0
	switch {
	case s.chain != nil:
		s.chainEnd.link = r
		s.chainEnd = r
	case more:
		s.chain, s.chainEnd = r, r
	default:
		s.queue(r)
		return !r.failed
	}
	if more {
		return true
	}
	c := s.chain
	s.chain, s.chainEnd = nil, nil
	good := !r.failed
	s.queue(c)
	return good
}

// check is what the kernel finds wrong with an entry before it begins.
func (s *Sim) check(e *SQE) syscall.Errno {
	known := uint8(SQEFixedFile | SQEDrain | SQELink | SQEHardlink | SQEAsync | SQEBufferSelect)
	if s.cfg.Version >= sinceCQESkip {
		known |= SQECQESkip
	}
	switch {
	case int(e.Op) >= OpCount || !s.hasOp[e.Op], e.Flags&^known != 0:
		return syscall.EINVAL
	case e.Flags&SQEBufferSelect != 0 && (e.Op != OpRecv && e.Op != OpRecvmsg || s.cfg.Version < sinceProvided):
		return syscall.EOPNOTSUPP
	case s.restricted && (!s.allowOp[e.Op] || e.Flags&^s.allowFlags != 0):
		return syscall.EACCES
	case e.Op == OpLinkTimeout && s.chain == nil:
		return syscall.EINVAL
	}
	return s.checkOp(e)
}

// queue begins a chain, or defers it behind a drain.
func (s *Sim) queue(head *simReq) {
	if len(s.deferred) > 0 || s.draining || head.sqe.Flags&SQEDrain != 0 && s.begun > 0 {
		s.deferred = append(s.deferred, head)
		return
	}
	s.begin(head)
}

func (s *Sim) begin(head *simReq) {
	for r := head; r != nil; r = r.link {
		s.begun++
	}
	if head.sqe.Flags&SQEDrain != 0 {
		s.draining = true
	}
	s.start(head)
}

// undefer begins what waited for everything before it to end.
func (s *Sim) undefer() {
	for len(s.deferred) > 0 {
		head := s.deferred[0]
		if s.draining && s.begun > 0 || head.sqe.Flags&SQEDrain != 0 && s.begun > 0 {
			return
		}
		s.draining = false
		s.deferred = s.deferred[1:]
		s.begin(head)
	}
	if s.begun == 0 {
		s.draining = false
	}
}

// start sets a request going.
func (s *Sim) start(r *simReq) {
	if r.failed {
		// It takes the whole chain down, a hard one too.
		r.sqe.Flags &^= SQEHardlink
		s.end(r, r.res)
		return
	}
	if g := r.link; g != nil && g.sqe.Op == OpLinkTimeout && !g.failed {
		s.watch(g, r)
	}
	switch r.sqe.Op {
	case OpTimeout:
		s.startTimeout(r)
		return
	case OpAsyncCancel, OpTimeoutRemove:
		// They act now, whenever their own completion comes.
		s.settle(r, s.attemptCancel(r))
		return
	case OpLinkTimeout:
		// What it was to guard never began.
		s.end(r, -int32(syscall.ECANCELED))
		return
	}
	if s.onFile(&r.sqe) && s.chance(s.cfg.Never) {
		r.state = simStuck
		return
	}
	d := 0
	if s.cfg.Delay > 0 {
		d = s.rng.IntN(s.cfg.Delay + 1)
	}
	if d == 0 && r.sqe.Flags&SQEAsync != 0 && s.cfg.Delay > 0 {
		d = 1
	}
	if d == 0 {
		s.try(r)
		return
	}
	s.schedule(r, d)
}

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

// wait advances the model until enough completions are there, or something else ends the wait.
func (s *Sim) wait(enough, flags uint32, arg *WaitArg, tell bool) syscall.Errno {
	enough = min(enough, s.params.CQEntries)
	deadline, gathered := time.Duration(-1), time.Duration(-1)
	if flags&EnterExtArg != 0 && arg.Timespec != 0 {
		deadline = s.now() + timespecAt(arg.Timespec)
	}
	if flags&EnterExtArg != 0 && s.features&featMinWait != 0 && arg.MinWaitUsec > 0 {
		gathered = s.now() + time.Duration(arg.MinWaitUsec)*time.Microsecond
	}
	for {
		s.runWork()
		s.flush()
		if s.lost {
			s.lost = !tell
			return syscall.EBADR
		}
		switch {
		case s.ready() >= enough, gathered >= 0 && s.now() >= gathered && s.ready() > 0:
			return 0
		case s.woken.Swap(false):
			return syscall.EINTR
		case s.chance(s.cfg.Early):
			return syscall.EINTR
		case deadline >= 0 && s.now() >= deadline:
			return syscall.ETIME
		case s.due > 0 || s.cfg.Bogus > 0 && s.oldSeen > 0 && s.rng.Uint32()&7 == 0:
			s.advance()
		case gathered > s.now() && (deadline < 0 || gathered < deadline):
			s.idle(gathered)
		default:
			s.idle(deadline)
		}
	}
}

// idle lets time pass when only time, a file or a wake-up can bring something.
func (s *Sim) idle(deadline time.Duration) {
	next := deadline
	for _, t := range s.timers {
		if !t.counted && (next < 0 || t.when < next) {
			next = t.when
		}
	}
	if next >= 0 && !s.cfg.RealTime {
		// Others may have something to say before the jump.
		s.mu.Unlock()
		runtime.Gosched()
		s.mu.Lock()
		if !s.woken.Load() {
			s.clock = max(s.clock, next)
			s.advance()
		}
		return
	}
	var alarm <-chan time.Time
	pause := time.Duration(-1)
	if next >= 0 {
		pause = max(next-s.now(), 0)
	}
	if s.foreign() {
		// Readiness of real descriptors is asked for again and again.
		pause = 200 * time.Microsecond
	}
	if pause >= 0 {
		t := time.NewTimer(pause)
		defer t.Stop()
		alarm = t.C
	}
	s.mu.Unlock()
	select {
	case <-s.bell:
	case <-alarm:
	}
	s.mu.Lock()
	s.advance()
}

// foreign reports whether something waits for a real descriptor.
func (s *Sim) foreign() bool {
	if s.cfg.Calls == nil {
		return false
	}
	for _, r := range s.parked {
		if s.cfg.Files[r.sqe.FD] == nil {
			return true
		}
	}
	return false
}

//go:norace
func timespecAt(addr uint64) time.Duration {
	ts := (*Timespec)(unsafe.Pointer(unsafe.SliceData(memory(addr, int(unsafe.Sizeof(Timespec{}))))))
	return time.Duration(ts.Sec)*time.Second + time.Duration(ts.Nsec)
}
