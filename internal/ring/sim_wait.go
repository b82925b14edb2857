package ring

import (
	"runtime"
	"syscall"
	"time"
	"unsafe"
)

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
