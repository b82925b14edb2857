package ring

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uringo/internal/rights"
)

// Pool performs entries as plain system calls on a bounded number of goroutines, and posts their completions. It takes as many
// entries as it is given.
//
// A call that would wait for somebody else, for bytes in a pipe or a peer's answer, holds neither a goroutine nor a thread: it
// waits for readiness in one epoll instance, and is tried again. Only calls that cannot be asked that way are bounded by the limit.
//
// Goroutines are made when there is work, take entries until there are none, and end: making one costs no more than waking one.
type Pool struct {
	table  *CallTable
	limit  int // of goroutines
	post   func(CQE)
	closed atomic.Bool
	worker func() // work, bound once
	people people // of whoever calls Start

	posting sync.RWMutex // held, to read, from the look at closed until the result is posted: Close waits for that

	mu      sync.Mutex
	live    int             // goroutines
	queue   jobs            // not begun, or ready to be tried again
	running jobs            // in a call
	waiting map[uint64]*job // for readiness or for a time, by user data
	poller  *poller         // made when first needed
	free    jobs
}

// job is an entry in the pool's hands.
type job struct {
	e    SQE
	rest []SQE // entries linked behind it

	as []*rights.Rights // whose it and those behind it are performed with, where one is not the process's

	list       *jobs // the one it is in
	prev, next *job

	stop atomic.Bool // running: a cancellation came, so it must not begin to wait
	done atomic.Bool // running: its result is decided, so it can no longer be cancelled

	woken  bool        // it has waited, and its descriptor was ready
	amiss  bool        // woken: by an error or the other end's end alone
	vain   uint8       // how often it was woken and the call refused all the same
	same   *job        // waiting: the next one with the same user data
	fd     int32       // waiting: for this descriptor
	events int16       // waiting: for these events of it
	timer  *time.Timer // waiting: for this, and then for no descriptor
}

// NewPool returns a pool that makes at most limit calls at a time. post is given every completion, once. It is called from any
// goroutine, also from the caller's of Start and Cancel, and must neither block nor call the pool.
func NewPool(table *CallTable, limit int, post func(CQE)) *Pool {
	p := &Pool{table: table, post: post, limit: max(1, limit), waiting: map[uint64]*job{}}
	p.worker = p.work
	return p
}

// Start begins the entry, of which it keeps a copy, and never blocks. A personality of it is one that the pool knows.
func (p *Pool) Start(e *SQE) { p.start(e, nil) }

// start begins an entry and the entries linked behind it, which it keeps.
func (p *Pool) start(e *SQE, rest []SQE) {
	switch {
	case p.inTable(e.Op):
		p.mu.Lock()
		j := p.newJob(e, rest)
		j.as = p.people.of(e, rest)
		p.enqueue(j)
		p.mu.Unlock()
	case e.Op == OpNop && rest == nil && p.malformed(e) == 0:
		p.answer(e, nop(e))
	default:
		p.begin(&job{e: *e, rest: rest, as: p.people.of(e, rest)})
	}
}

// Close ends the pool. The caller has seen every entry complete, or does not care: what is left is cancelled, what completes later is
// not posted, and what it created is given back. A call that hangs is left alone.
func (p *Pool) Close() {
	p.posting.Lock()
	p.closed.Store(true)
	p.posting.Unlock()
	p.Cancel(&SQE{Op: OpAsyncCancel, OpFlags: CancelAny | CancelAll})
	p.mu.Lock()
	w := p.poller
	p.poller = nil
	p.mu.Unlock()
	if w != nil {
		w.close()
	}
}

// inTable reports whether the opcode is performed by a call, rather than by the pool itself.
func (p *Pool) inTable(op Op) bool {
	return !itsOwn(op) && int(op) < len(p.table) && p.table[op].Do != nil
}

// itsOwn reports whether the pool performs the opcode itself.
func itsOwn(op Op) bool {
	switch op {
	case OpNop, OpTimeout, OpTimeoutRemove, OpAsyncCancel:
		return true
	}
	return false
}

// malformed is what is wrong with an entry at first sight, before anything is begun.
func (p *Pool) malformed(e *SQE) (errno syscall.Errno) {
	switch {
	case p.inTable(e.Op): // the call will find out
	case e.Op == OpNop && e.OpFlags&^NopInjectResult == 0:
	case e.Op == OpTimeout:
		_, errno = timeoutOf(e)
	case e.Op == OpTimeoutRemove && e.OpFlags == 0:
	case e.Op == OpAsyncCancel && cancelMakesSense(e.OpFlags):
	default:
		errno = syscall.EINVAL
	}
	return errno
}

// begin performs a job and those linked behind it on the spot, up to the first that takes a call or time.
func (p *Pool) begin(j *job) {
	for j != nil {
		res := -int32(p.malformed(&j.e))
		switch op := j.e.Op; {
		case res != 0:
		case p.inTable(op):
			p.mu.Lock()
			p.enqueue(j)
			p.mu.Unlock()
			return
		case op == OpNop:
			res = nop(&j.e)
		case op == OpAsyncCancel:
			res = p.Cancel(&j.e)
		case op == OpTimeoutRemove:
			res = p.removeTimeout(&j.e)
		case op == OpTimeout:
			if res = p.startTimer(j); res == 0 {
				return
			}
		}
		j = p.finish(j, res)
	}
}

// nop has the result that its entry asks for.
func nop(e *SQE) int32 {
	if e.OpFlags&NopInjectResult != 0 {
		return int32(e.Len)
	}
	return 0
}

// enqueue hands a job to a goroutine. The lock is held.
func (p *Pool) enqueue(j *job) {
	p.queue.push(j)
	if p.live < p.limit {
		p.live++
		go p.worker()
	}
}

// work performs queued jobs until there are none.
func (p *Pool) work() {
	var last *job
	for {
		j := p.next(last)
		if j == nil {
			return
		}
		last = nil
		if res, done := p.performAs(j); done {
			j.done.Store(true)
			p.begin(p.finish(j, res))
			last = j
		}
	}
}

// next returns the next job to perform, after the last one is done, or nil if the calling goroutine is to end.
func (p *Pool) next(last *job) *job {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last != nil {
		p.running.remove(last)
		p.recycle(last)
	}
	j := p.queue.first
	if j == nil {
		p.live--
		return nil
	}
	p.queue.remove(j)
	p.running.push(j)
	return j
}

// perform makes the job's call, or else leaves it to the poller. Then it may be anybody's at once.
func (p *Pool) perform(j *job) (res int32, done bool) {
	c := &p.table[j.e.Op]
	if c.Try == nil {
		return c.Do(&j.e), true
	}
	res = c.Try(&j.e)
	if res != -int32(syscall.EAGAIN) || j.e.OpFlags&c.NoWait != 0 {
		return res, true
	}
	fd, events := j.e.FD, c.Poll
	if c.Wants != nil {
		if fd, events = c.Wants(&j.e); fd < 0 {
			return res, true
		}
	}
	if j.woken && events == unix.POLLIN && c.End != nil {
		if res := c.End(&j.e); res != -int32(syscall.EAGAIN) {
			return res, true
		}
	}
	if j.woken {
		j.vain = min(j.vain+1, MostVain)
	}
	errno := syscall.Errno(0)
	if j.amiss || j.woken && j.vain == MostVain { // and the call does not tell of it
		errno = p.pause(j)
	} else {
		errno = p.await(j, fd, events)
	}
	switch errno {
	case 0:
		return 0, false
	case syscall.ECANCELED, syscall.EBADF:
		return -int32(errno), true
	case syscall.EPERM:
		// Not a file that epoll takes. Such a one never becomes ready: it is, or is polled for what it never will be.
		if j.e.Op == OpPollAdd {
			return -int32(syscall.EINVAL), true
		}
		return c.Do(&j.e), true
	default:
		// No room in epoll: waiting costs a goroutine, then.
		return c.Do(&j.e), true
	}
}

// finish reports a job's result, and settles what is linked behind it: it returns the next job of the chain, if the chain goes on.
// The job is in no list but perhaps running.
func (p *Pool) finish(j *job, res int32) *job {
	e := &j.e
	p.posting.RLock()
	defer p.posting.RUnlock()
	if p.closed.Load() {
		if res >= 0 && p.inTable(e.Op) && p.table[e.Op].Drop != nil {
			p.table[e.Op].Drop(e, res)
		}
		return nil
	}
	failed := p.answer(e, res)
	if len(j.rest) == 0 {
		return nil
	}
	if !failed || e.Flags&SQEHardlink != 0 {
		return &job{e: j.rest[0], rest: j.rest[1:], as: j.as[min(1, len(j.as)):]}
	}
	// A silent request that fails silences what it takes down with it; any other makes all of it heard.
	if e.Flags&SQECQESkip == 0 {
		for i := range j.rest {
			p.post(CQE{UserData: j.rest[i].UserData, Res: -int32(syscall.ECANCELED)})
		}
	}
	return nil
}

// answer posts a result unless the entry wants it only on failure, and reports whether it is one.
func (p *Pool) answer(e *SQE, res int32) (failed bool) {
	if e.Flags&(SQELink|SQEHardlink|SQECQESkip) != 0 {
		failed = fails(e, res)
	}
	if failed || e.Flags&SQECQESkip == 0 {
		p.post(CQE{UserData: e.UserData, Res: res})
	}
	return failed
}

func (p *Pool) newJob(e *SQE, rest []SQE) *job {
	j := p.free.first
	if j == nil {
		j = new(job)
	} else {
		p.free.remove(j)
		j.stop.Store(false)
		j.done.Store(false)
		j.woken, j.amiss, j.vain = false, false, 0
	}
	j.e, j.rest = *e, rest
	return j
}

// recycle keeps a job for the next entry.
func (p *Pool) recycle(j *job) {
	const spare = 1024
	if p.free.n < spare {
		j.rest, j.as = nil, nil
		p.free.push(j)
	}
}

// jobs is a list of jobs, first come first.
type jobs struct {
	first, last *job
	n           int
}

func (l *jobs) push(j *job) {
	j.list, j.prev, j.next = l, l.last, nil
	if l.last != nil {
		l.last.next = j
	} else {
		l.first = j
	}
	l.last = j
	l.n++
}

func (l *jobs) remove(j *job) {
	if j.prev != nil {
		j.prev.next = j.next
	} else {
		l.first = j.next
	}
	if j.next != nil {
		j.next.prev = j.prev
	} else {
		l.last = j.prev
	}
	j.list, j.prev, j.next = nil, nil, nil
	l.n--
}
