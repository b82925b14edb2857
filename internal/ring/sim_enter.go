package ring

import (
	"sync/atomic"
	"syscall"
	"time"

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
	// By itself a thread does so whenever it returns from the kernel, unless that is deferred until it asks.
	coop := s.flags&(sys.IORING_SETUP_COOP_TASKRUN|setupDeferTaskrun) == sys.IORING_SETUP_COOP_TASKRUN
	if flags&EnterGetEvents != 0 || coop && s.rng.Uint32()&1 == 0 {
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
	case int(e.Op) >= OpCount || !s.hasOp[e.Op], e.Flags&^known != 0, e.Personality != 0:
		return syscall.EINVAL
	case e.Flags&SQEBufferSelect != 0 && (!selects(e.Op) || s.cfg.Version < sinceProvided):
		return syscall.EOPNOTSUPP
	case s.restricted && (!s.allowOp[e.Op] || e.Flags&^s.allowFlags != 0):
		return syscall.EACCES
	case e.Op == OpLinkTimeout && s.chain == nil:
		return syscall.EINVAL
	}
	return s.checkOp(e)
}

// selects reports whether an operation takes provided buffers.
func selects(op Op) bool {
	return op == OpRecv || op == OpRecvmsg || op == OpRead || op == OpReadMultishot
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
