package ring

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Cancel performs an ASYNC_CANCEL entry (io_uring_cancelation(7)) and returns what the kernel would: the number of requests found if
// the entry asks for all, else 0, -ENOENT if there is none, or -EALREADY if it is in a call. A queued or waiting request completes
// with -ECANCELED. A call that runs is not interrupted, but will not begin to wait.
func (p *Pool) Cancel(e *SQE) int32 {
	if !cancelMakesSense(e.OpFlags) {
		return -int32(syscall.EINVAL)
	}
	if e.OpFlags&CancelFD != 0 {
		if flags, err := unix.FcntlInt(uintptr(e.FD), unix.F_GETFL, 0); err != nil || flags&unix.O_PATH != 0 {
			return -int32(syscall.EBADF)
		}
	}
	all := e.OpFlags&(CancelAll|CancelAny) != 0
	p.mu.Lock()
	stopped, running := p.collect(e, all)
	p.mu.Unlock()
	for _, j := range stopped {
		p.begin(p.finish(j, -int32(syscall.ECANCELED)))
	}
	switch {
	case all:
		return int32(len(stopped) + running)
	case len(stopped) > 0:
		return 0
	case running > 0:
		return -int32(syscall.EALREADY)
	}
	return -int32(syscall.ENOENT)
}

func cancelMakesSense(flags uint32) bool {
	const known = CancelAll | CancelFD | CancelAny | CancelUserData | CancelOp
	return flags&^known == 0 && (flags&CancelAny == 0 || flags&(CancelFD|CancelOp) == 0)
}

// collect takes the matching jobs out of the pool, and tells running ones not to wait; just one job unless all are meant. The lock is held.
func (p *Pool) collect(e *SQE, all bool) (stopped []*job, running int) {
	stop := func(j *job) {
		if j.list == &p.queue {
			p.queue.remove(j)
		} else {
			p.forget(j)
		}
		stopped = append(stopped, j)
	}
	if e.OpFlags&(CancelFD|CancelAny|CancelOp) == 0 {
		for j := p.waiting[e.Addr]; j != nil; j = p.waiting[e.Addr] {
			if stop(j); !all {
				return stopped, 0
			}
		}
	} else {
		for _, j := range p.waiting {
			for j != nil {
				same := j.same
				if matches(e, j) {
					if stop(j); !all {
						return stopped, 0
					}
				}
				j = same
			}
		}
	}
	for j := p.queue.first; j != nil; {
		next := j.next
		if matches(e, j) {
			if stop(j); !all {
				return stopped, 0
			}
		}
		j = next
	}
	for j := p.running.first; j != nil; j = j.next {
		if matches(e, j) && !j.done.Load() {
			j.stop.Store(true)
			if running++; !all {
				break
			}
		}
	}
	return stopped, running
}

// matches reports whether a cancellation means the job.
func matches(e *SQE, j *job) bool {
	if e.OpFlags&CancelAny != 0 {
		return true
	}
	if e.OpFlags&CancelFD != 0 && (j.e.FD != e.FD || j.e.Op == OpTimeout || j.e.Op == OpSocket || j.e.Op.OnName()) {
		return false
	}
	if e.OpFlags&CancelOp != 0 && uint32(j.e.Op) != e.Len {
		return false
	}
	byData := e.OpFlags&CancelUserData != 0 || e.OpFlags&(CancelFD|CancelOp) == 0
	return !byData || j.e.UserData == e.Addr
}
