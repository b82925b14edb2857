package ring

import (
	"math"
	"sync/atomic"
	"syscall"
	"time"

	sys "github.com/iceber/iouring-go/syscall"
)

func (k *portable) Enter(fd int, submit, minComplete, flags uint32, arg *WaitArg) (int, syscall.Errno) {
	switch {
	case fd != portableFD || k.pool == nil:
		return -1, syscall.EBADF
	case flags&^(EnterGetEvents|EnterExtArg|EnterNoIowait) != 0 || (arg != nil) != (flags&EnterExtArg != 0):
		return -1, syscall.EINVAL
	case k.disabled:
		return -1, syscall.EBADFD
	}
	n := k.submit(submit)
	if flags&EnterGetEvents == 0 || n < int(submit) {
		return n, 0
	}
	if minComplete == 0 {
		k.mu.Lock()
		k.flush()
		k.mu.Unlock()
		return n, 0
	}
	timeout, timed, errno := waitTime(arg)
	if errno == 0 {
		errno = k.wait(minComplete, timeout, timed)
	}
	if n > 0 {
		return n, 0
	}
	if errno != 0 {
		return -1, errno
	}
	return 0, 0
}

// waitTime reads the extended argument.
func waitTime(arg *WaitArg) (time.Duration, bool, syscall.Errno) {
	if arg == nil || arg.Timespec == 0 {
		return 0, false, 0
	}
	if arg.MinWaitUsec != 0 {
		return 0, false, syscall.EINVAL
	}
	ts := at[Timespec](&arg.Timespec, 1)[0]
	if ts.Sec < 0 || ts.Nsec < 0 {
		return 0, false, syscall.EINVAL
	}
	return ts.duration(), true, 0
}

// duration returns the time as Go has it, the longest there is if it is longer.
func (t Timespec) duration() time.Duration {
	if t.Sec >= math.MaxInt64/int64(time.Second) {
		return math.MaxInt64
	}
	return time.Duration(t.Sec)*time.Second + time.Duration(t.Nsec)
}

// chain is a run of linked entries on their way into the pool.
type chain struct {
	entries []SQE
	errnos  []syscall.Errno // why entries were refused; 0 for those that were not
	bad     bool            // one was
}

// submit takes up to n entries from the queue and begins them. It returns how many it took.
func (k *portable) submit(n uint32) int {
	head := k.shared.sqHead // only we write it
	n = min(n, atomic.LoadUint32(&k.shared.sqTail)-head)
	var link chain
	taken := 0
	for ; n > 0; n-- {
		i := head & k.sqMask
		if k.array != nil {
			i = atomic.LoadUint32(&k.array[i])
		}
		head++
		if i > k.sqMask {
			// The kernel counts such an entry and forgets it.
			atomic.AddUint32(&k.shared.sqDropped, 1)
			break
		}
		e := &k.sqes[i]
		taken++
		errno := k.check(e)
		if len(link.entries) > 0 || e.Flags&(SQELink|SQEHardlink) != 0 {
			k.chain(&link, e, errno)
		} else if errno != 0 {
			k.complete(CQE{UserData: e.UserData, Res: -int32(errno)})
		} else if !k.tryNow(e) {
			k.pool.start(e, nil)
		}
		if errno != 0 && k.flags&sys.IORING_SETUP_SUBMIT_ALL == 0 {
			break
		}
	}
	atomic.StoreUint32(&k.shared.sqHead, head)
	k.launch(&link) // a chain ends with its batch, if not before
	return taken
}

// tryNow performs an entry on a stream or a socket on the spot if it need not wait, as the kernel does: what has arrived is there for
// whoever asks, and a cancellation on the heels of the request comes too late.
func (k *portable) tryNow(e *SQE) bool {
	c := &k.pool.table[e.Op&(OpCount-1)]
	if c.Now == nil || e.Flags != 0 || e.Personality != 0 {
		return false
	}
	res := c.Now(e)
	if res == -int32(syscall.EAGAIN) && e.OpFlags&c.NoWait == 0 {
		return false
	}
	k.complete(CQE{UserData: e.UserData, Res: res})
	return true
}

// chain adds an entry to the chain being collected, and begins that if the entry is its last.
func (k *portable) chain(link *chain, e *SQE, errno syscall.Errno) {
	link.entries = append(link.entries, *e)
	link.errnos = append(link.errnos, errno)
	link.bad = link.bad || errno != 0
	if e.Flags&(SQELink|SQEHardlink) == 0 {
		k.launch(link)
	}
}

// launch begins a chain. One with an entry that makes no sense is not begun at all.
func (k *portable) launch(link *chain) {
	c := *link
	*link = chain{}
	switch {
	case len(c.entries) == 0:
		return
	case !c.bad:
		k.pool.start(&c.entries[0], c.entries[1:])
		return
	}
	for i, errno := range c.errnos {
		if errno == 0 {
			errno = syscall.ECANCELED
		}
		k.complete(CQE{UserData: c.entries[i].UserData, Res: -int32(errno)})
		if c.entries[0].Flags&SQECQESkip != 0 {
			return // as in Pool.finish
		}
	}
}

// check is what the kernel finds wrong with an entry before it begins.
func (k *portable) check(e *SQE) syscall.Errno {
	const known = SQEFixedFile | SQEDrain | SQELink | SQEHardlink | SQEAsync | SQEBufferSelect | SQECQESkip
	switch {
	case !k.pool.inTable(e.Op) && !itsOwn(e.Op) || e.Flags&^uint8(known) != 0:
		return syscall.EINVAL
	case k.rules != nil && !k.rules.allow(e):
		return syscall.EACCES
	case e.Flags&SQEBufferSelect != 0:
		return syscall.EOPNOTSUPP
	case e.Flags&SQEFixedFile != 0:
		return syscall.EBADF // none are registered
	case e.Flags&SQEDrain != 0 || !k.pool.people.know(e.Personality):
		return syscall.EINVAL
	}
	return k.pool.malformed(e)
}
