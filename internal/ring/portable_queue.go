package ring

import (
	"sync/atomic"
	"syscall"
	"time"
)

// complete puts a completion into the queue, or aside if that is full.
func (k *portable) complete(c CQE) {
	k.mu.Lock()
	if len(k.backlog) > 0 || !k.put(c) {
		k.backlog = append(k.backlog, c)
		atomic.OrUint32(&k.shared.sqFlags, sqCQOverflow)
	}
	// A backlog, too, is something to come back for.
	wake := k.want > 0 && (k.ready() >= k.want || len(k.backlog) > 0)
	if wake {
		k.want = 0
	}
	k.mu.Unlock()
	if wake {
		k.signal <- struct{}{}
	}
}

// put writes a completion if there is room. The lock is held.
func (k *portable) put(c CQE) bool {
	tail := k.shared.cqTail // only we write it
	if tail-atomic.LoadUint32(&k.shared.cqHead) >= uint32(len(k.cqes)) {
		return false
	}
	k.cqes[tail&k.shared.cqMask] = c
	atomic.StoreUint32(&k.shared.cqTail, tail+1)
	return true
}

// ready returns how many completions are in the queue. The lock is held.
func (k *portable) ready() uint32 { return k.shared.cqTail - atomic.LoadUint32(&k.shared.cqHead) }

// flush moves what was put aside into the queue. The lock is held.
func (k *portable) flush() {
	n := 0
	for n < len(k.backlog) && k.put(k.backlog[n]) {
		n++
	}
	if n == 0 {
		return
	}
	if k.backlog = append(k.backlog[:0], k.backlog[n:]...); len(k.backlog) == 0 {
		k.backlog = nil
		atomic.AndUint32(&k.shared.sqFlags, ^uint32(sqCQOverflow))
	}
}

// wait returns when there are n completions, after Wake, or after the timeout if there is one. The owner's goroutine parks meanwhile,
// and holds no thread.
func (k *portable) wait(n uint32, timeout time.Duration, timed bool) syscall.Errno {
	k.mu.Lock()
	k.flush()
	if k.woken || k.ready() >= min(n, uint32(len(k.cqes))) || len(k.backlog) > 0 {
		k.woken = false
		k.mu.Unlock()
		return 0
	}
	if timed && timeout <= 0 {
		k.mu.Unlock()
		return syscall.ETIME
	}
	k.want = min(n, uint32(len(k.cqes)))
	k.mu.Unlock()

	if !timed {
		<-k.signal
		return k.awake(0)
	}
	k.timer.Reset(timeout)
	select {
	case <-k.signal:
		k.timer.Stop()
		return k.awake(0)
	case <-k.timer.C:
		return k.awake(syscall.ETIME)
	}
}

// awake ends a wait. Whoever took want away sends a signal, which must not stay behind.
func (k *portable) awake(errno syscall.Errno) syscall.Errno {
	k.mu.Lock()
	signalled := errno != 0 && k.want == 0
	k.want = 0
	k.flush()
	k.mu.Unlock()
	if signalled {
		<-k.signal
		return 0
	}
	return errno
}

// Wake makes a waiting Enter return, or the next one not wait.
func (k *portable) Wake() {
	k.mu.Lock()
	waiting := k.want > 0
	k.want = 0
	k.woken = !waiting
	k.mu.Unlock()
	if waiting {
		k.signal <- struct{}{}
	}
}
