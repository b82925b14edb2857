package ring

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// startTimer leaves a TIMEOUT entry waiting for its time, or returns an error. Timeouts that count completions are not offered.
func (p *Pool) startTimer(j *job) int32 {
	d, errno := timeoutOf(&j.e)
	if errno != 0 {
		return -int32(errno)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed.Load() {
		return -int32(syscall.ECANCELED)
	}
	j.timer = time.AfterFunc(d, func() { p.expire(j) })
	p.list(j)
	return 0
}

func (p *Pool) expire(j *job) {
	p.mu.Lock()
	cancelled := j.timer == nil
	if !cancelled {
		p.unlist(j)
		j.timer = nil
	}
	p.mu.Unlock()
	if !cancelled {
		p.begin(p.finish(j, -int32(syscall.ETIME)))
	}
}

// removeTimeout performs a TIMEOUT_REMOVE entry.
func (p *Pool) removeTimeout(e *SQE) int32 {
	p.mu.Lock()
	j := p.waiting[e.Addr]
	for j != nil && j.e.Op != OpTimeout {
		j = j.same
	}
	if j != nil {
		p.forget(j)
	}
	p.mu.Unlock()
	if j == nil {
		return -int32(syscall.ENOENT)
	}
	p.begin(p.finish(j, -int32(syscall.ECANCELED)))
	return 0
}

// timeoutOf returns how long from now a TIMEOUT entry runs.
func timeoutOf(e *SQE) (time.Duration, syscall.Errno) {
	const known = TimeoutAbs | TimeoutBoottime | TimeoutRealtime | TimeoutETimeSuccess
	if e.Len != 1 || e.Off != 0 || e.OpFlags&^known != 0 || e.OpFlags&TimeoutBoottime != 0 && e.OpFlags&TimeoutRealtime != 0 {
		return 0, syscall.EINVAL
	}
	if e.Addr == 0 {
		return 0, syscall.EFAULT
	}
	ts := at[Timespec](&e.Addr, 1)[0]
	if ts.Sec < 0 || ts.Nsec < 0 {
		return 0, syscall.EINVAL
	}
	if e.OpFlags&TimeoutAbs != 0 {
		clock := int32(unix.CLOCK_MONOTONIC)
		switch {
		case e.OpFlags&TimeoutBoottime != 0:
			clock = unix.CLOCK_BOOTTIME
		case e.OpFlags&TimeoutRealtime != 0:
			clock = unix.CLOCK_REALTIME
		}
		var now unix.Timespec
		if err := unix.ClockGettime(clock, &now); err != nil {
			return 0, syscall.EINVAL
		}
		ts.Sec -= int64(now.Sec)
		ts.Nsec -= int64(now.Nsec)
	}
	return ts.duration(), 0
}

// at returns the n values of type T whose address is in a field of an entry, if there is one.
func at[T any](addr *uint64, n int) []T {
	if *addr == 0 {
		return nil
	}
	return unsafe.Slice(*(**T)(unsafe.Pointer(addr)), n)
}
