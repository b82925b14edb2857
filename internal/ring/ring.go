package ring

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// wakeData is the user_data of the ring's own read on the wake descriptor. Callers must not use it.
const wakeData = ^uint64(0)

// Errors that Enter returns. Everything else that enter(2) may answer is part of ordinary life and handled inside.
var (
	// ErrBusy means that the kernel cannot take more now (EAGAIN, EBUSY, ENOMEM). Entries stay queued: reap, back off, enter again.
	ErrBusy = errors.New("ring: kernel is busy")

	// ErrBroken means that the ring can no longer be used and completions may have been lost. Whatever was in flight
	// must be considered in the kernel's hands for ever.
	ErrBroken = errors.New("ring: broken")
)

// Config says what ring to open. The zero value opens one of 256 entries on Linux.
type Config struct {
	// Entries is the size of the submission queue, rounded up to a power of two, and at least 2. Zero means 256.
	Entries uint32

	// CQEntries is the size of the completion queue, rounded up to a power of two, at least Entries and at most
	// MaxCQEntries. Zero means 16 times Entries: it bounds what may be in flight, and costs 16 bytes an entry.
	CQEntries uint32

	// Locked promises that the owner stays on one thread, which lets the kernel skip work (SINGLE_ISSUER, DEFER_TASKRUN).
	Locked bool

	// Interrupt has the kernel interrupt the thread that submitted an operation when that completes, if it runs, instead of waiting until it
	// enters the kernel for another reason, be it a tick of the clock (COOP_TASKRUN). For Locked rings it means nothing: there that thread is
	// the one that waits.
	Interrupt bool

	// IowqBounded and IowqUnbounded limit the kernel's worker threads: for files, disks and names, and for what may wait for ever, such as
	// pipes and sockets (IORING_REGISTER_IOWQ_MAX_WORKERS, 5.15). Zero means max(4, 2 × CPUs) and 64.
	IowqBounded, IowqUnbounded uint32

	// Allow, if not nil, restricts the ring to these opcodes for its whole life (IORING_REGISTER_RESTRICTIONS, 5.10).
	// AllowTables leaves such a ring the registration of users, buffers, rings of buffers and files; else nothing can be registered.
	Allow       []Op
	AllowTables bool

	// Kernel is the engine. Nil means Linux().
	Kernel Kernel
}

// Ring is one pair of queues. See the package comment for who may call what.
type Ring struct {
	k  Kernel
	fd int

	sqHead, sqTail, sqFlags *uint32
	sqes                    []SQE
	sqMask                  uint32
	tail                    uint32 // our tail; published to the kernel at Enter
	head                    uint32 // the kernel's head as last seen

	cqHead, cqTail *uint32
	cqes           []CQE
	cqMask         uint32
	cqFlags        *uint32 // nil before Linux 5.8

	flags    uint32 // set-up flags in force
	features uint32
	ops      [OpCount]bool

	maps      [][]byte
	wakeFD    int
	wakeArmed bool
	wakeBuf   [8]byte

	arg WaitArg
	ts  Timespec

	broken error // once set, every Enter answers it

	// Counters, for the owner to read.
	Enters    uint64 // calls of enter
	Waits     uint64 // of these, calls that were willing to block
	Overflows uint64 // times the CQ overflow flag was seen
	Wakeups   uint64 // reads of the wake descriptor that completed
}

// SQEntries returns the size of the submission queue.
func (r *Ring) SQEntries() uint32 { return r.sqMask + 1 }

// CQEntries returns the size of the completion queue.
func (r *Ring) CQEntries() uint32 { return r.cqMask + 1 }

// Supports reports whether the engine performs the opcode.
func (r *Ring) Supports(op Op) bool { return int(op) < len(r.ops) && r.ops[op] }

// Next returns the next free submission entry, zeroed, or nil if the queue is full: Enter makes room. The entry is part of
// the next Enter.
func (r *Ring) Next() *SQE {
	// One entry is kept back, so that the wake-up read can always be armed.
	if r.tail-r.head >= r.sqMask {
		if r.head = atomic.LoadUint32(r.sqHead); r.tail-r.head >= r.sqMask {
			return nil
		}
	}
	return r.take()
}

func (r *Ring) take() *SQE {
	e := &r.sqes[r.tail&r.sqMask]
	r.tail++
	*e = SQE{}
	return e
}

// Queued returns how many entries the kernel has not taken yet. Its head is the only truth about that: a positive answer of
// enter says less, an error nothing.
func (r *Ring) Queued() uint32 {
	r.head = atomic.LoadUint32(r.sqHead)
	return r.tail - r.head
}

// Space returns how many times Next will succeed before the next Enter.
func (r *Ring) Space() uint32 {
	if q := r.Queued(); q < r.sqMask {
		return r.sqMask - q
	}
	return 0
}

// Tail returns the position of the entry that Next will return. Positions wrap around.
func (r *Ring) Tail() uint32 { return r.tail }

// Head returns the position of the first entry that the kernel has not taken: see [Ring.Tail].
func (r *Ring) Head() uint32 { return atomic.LoadUint32(r.sqHead) }

// At returns the entry at a position between Head and Tail, which may be changed until the next Enter.
func (r *Ring) At(position uint32) *SQE { return &r.sqes[position&r.sqMask] }

// Submit hands what is queued to the kernel without waiting, and has it post what it keeps for us. With neither it does not enter the kernel.
func (r *Ring) Submit() error { return r.enter(0, 0, 0, 0) }

// SubmitAndGetEvents is Submit that has the kernel post also what ends during the call.
func (r *Ring) SubmitAndGetEvents() error {
	if r.flags&setupDeferTaskrun == 0 {
		return r.Submit() // after which the thread does so anyway
	}
	return r.enter(0, 0, 0, EnterGetEvents)
}

// SubmitAndWait hands what is queued to the kernel and returns when at least one completion is there, when Wake was called,
// after timeout if that is positive, or early for no reason: callers look at the queue, not at the return.
func (r *Ring) SubmitAndWait(timeout time.Duration) error {
	r.wantWake()
	if timeout > 0 && r.features&featExtArg == 0 {
		// Before 5.11 enter takes no timeout: somebody has to wake us.
		defer time.AfterFunc(timeout, r.k.Wake).Stop()
		timeout = 0
	}
	return r.enter(1, timeout, 0, EnterGetEvents)
}

// SubmitAndGather is SubmitAndWait without a timeout that lets completions gather: until n are there, or at least one is and gather has passed
// since the call. Wake does not cut that short. Before Linux 6.12 it does not gather.
func (r *Ring) SubmitAndGather(n uint32, gather time.Duration) error {
	if r.features&featMinWait == 0 || n <= 1 || gather < time.Microsecond {
		return r.SubmitAndWait(0)
	}
	r.wantWake()
	// Without a timeout the kernel would return after gather even with nothing.
	return r.enter(n, time.Hour, gather, EnterGetEvents)
}

func (r *Ring) wantWake() {
	if !r.wakeArmed && r.wakeFD >= 0 {
		r.armWake()
	}
}

func (r *Ring) armWake() {
	e := r.take()
	e.Op = OpRead
	e.FD = int32(r.wakeFD)
	e.Addr = uint64(uintptr(unsafe.Pointer(&r.wakeBuf)))
	e.Len = uint32(len(r.wakeBuf))
	e.UserData = wakeData
	r.wakeArmed = true
}

func (r *Ring) enter(min uint32, timeout, gather time.Duration, flags uint32) error {
	if r.broken != nil {
		return r.broken
	}
	atomic.StoreUint32(r.sqTail, r.tail)
	r.head = atomic.LoadUint32(r.sqHead)
	submit := r.tail - r.head
	kept := atomic.LoadUint32(r.sqFlags)&(sqTaskrun|sqCQOverflow) != 0
	var arg *WaitArg
	if min > 0 {
		if r.features&featNoIowait != 0 {
			flags |= EnterNoIowait
		}
		if timeout > 0 {
			r.ts = Timespec{Sec: int64(timeout / time.Second), Nsec: int64(timeout % time.Second)}
			r.arg = WaitArg{Timespec: uint64(uintptr(unsafe.Pointer(&r.ts))), MinWaitUsec: uint32(gather / time.Microsecond)}
			arg = &r.arg
			flags |= EnterExtArg
		}
		r.Waits++
	} else if submit == 0 && !kept {
		return nil
	}
	if kept {
		flags |= EnterGetEvents
	}
	r.Enters++
	_, errno := r.k.Enter(r.fd, submit, min, flags, arg)
	return r.judge(errno)
}

// judge sorts what enter answered into life, patience and death. Death is remembered: the kernel tells only once that it
// lost a completion (EBADR).
func (r *Ring) judge(errno syscall.Errno) error {
	switch errno {
	case 0, syscall.EINTR, syscall.ETIME:
		return nil
	case syscall.EAGAIN, syscall.EBUSY, syscall.ENOMEM:
		return ErrBusy
	default:
		r.broken = fmt.Errorf("%w: io_uring_enter: %w", ErrBroken, errno)
		return r.broken
	}
}

// Ready reports whether there is something to Reap.
func (r *Ring) Ready() bool { return atomic.LoadUint32(r.cqTail) != *r.cqHead }

// Reap moves up to len(out) completions out of the queue and returns how many. It flushes what the kernel kept aside when
// the queue overflowed.
func (r *Ring) Reap(out []CQE) int {
	n := r.reap(out)
	if n < len(out) && atomic.LoadUint32(r.sqFlags)&sqCQOverflow != 0 {
		r.Overflows++
		r.Enters++
		// The flag says whether something is left, and the owner will be back; only a broken ring must not pass unseen.
		_, errno := r.k.Enter(r.fd, 0, 0, EnterGetEvents, nil)
		r.judge(errno)
		n += r.reap(out[n:])
	}
	return n
}

func (r *Ring) reap(out []CQE) int {
	head := *r.cqHead // only we write it
	tail := atomic.LoadUint32(r.cqTail)
	n := 0
	for head != tail && n < len(out) {
		c := r.cqes[head&r.cqMask]
		head++
		if c.UserData == wakeData {
			r.wakeArmed = false
			r.Wakeups++
			continue
		}
		out[n] = c
		n++
	}
	atomic.StoreUint32(r.cqHead, head)
	return n
}

// Wake makes the owner return from SubmitAndWait, or not block in the next one. Any goroutine may call it, also after Close.
func (r *Ring) Wake() { r.k.Wake() }

// Close gives everything back. The caller has drained the ring: memory that the kernel may still write to is the caller's
// concern, not the ring's.
func (r *Ring) Close() error {
	r.disarmWake()
	var errs []error
	errs = append(errs, r.k.CloseWake())
	for _, m := range r.maps {
		if err := r.k.Unmap(m); err != nil {
			errs = append(errs, fmt.Errorf("ring: munmap: %w", err))
		}
	}
	r.maps, r.sqes, r.cqes = nil, nil, nil
	if r.fd >= 0 {
		errs = append(errs, r.k.Close(r.fd))
		r.fd = -1
	}
	return errors.Join(errs...)
}

// disarmWake ends the read on the wake descriptor: the kernel must not write to wakeBuf once r may be collected.
func (r *Ring) disarmWake() {
	if !r.wakeArmed {
		return
	}
	r.k.Wake()
	var out [16]CQE
	for r.wakeArmed {
		switch err := r.enter(1, 0, 0, EnterGetEvents); {
		case errors.Is(err, ErrBroken):
			leak(r)
			return
		case err != nil:
			time.Sleep(100 * time.Microsecond)
		}
		r.reap(out[:])
	}
}

// leaked keeps what the kernel may write to for ever alive.
var leaked struct {
	sync.Mutex
	what []any
}

func leak(v any) {
	leaked.Lock()
	defer leaked.Unlock()
	leaked.what = append(leaked.what, v)
}
