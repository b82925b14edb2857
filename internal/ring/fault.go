package ring

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	sys "github.com/iceber/iouring-go/syscall"
	"golang.org/x/sys/unix"
)

// FaultConfig says how often [Faults] interferes, and how. The zero value does not. Fields that are called a chance lie
// between 0 (never) and 1 (always).
type FaultConfig struct {
	// Shorten is the chance that a read or write is made shorter before the kernel sees it, so that it really moves less
	// than was asked for. Entries linked to a successor are spared: the kernel would not know that they came out short, and go
	// on with the chain. Datagrams would be cut: use Match.
	Shorten float64

	// Align is what a shortened length is a multiple of, for files opened with O_DIRECT. Zero means 1.
	Align uint32

	// Inject is the chance that an entry is not performed and its completion carries one of Results instead. The kernel
	// does the rest as always: it breaks chains, keeps the order, uses its workers. See [Faults.CanInject].
	Inject float64

	// Results are what is injected: negative errnos, or anything else. Nil means -EINTR and -EAGAIN.
	Results []int32

	// Match picks the entries to shorten or replace. Nil means all but closing and cancelling, which must happen when
	// their answer says so.
	Match func(*SQE) bool

	// EnterFails is the chance that Enter answers one of EnterErrnos, with or without having done its work. Nil means EINTR,
	// EAGAIN, EBUSY and ENOMEM.
	EnterFails  float64
	EnterErrnos []syscall.Errno

	// Limit is the chance that an Enter passes on only some of the entries, possibly none. It does not wait then, as the
	// kernel does not. Chains stay whole.
	Limit float64
}

// FaultStats counts interferences.
type FaultStats struct {
	Shortened, Injected, Failed, Limited uint64
}

// Faults is a [Kernel] that stands before another one and makes it misbehave as kernels do: short transfers, results out of
// the ordinary, an enter that fails before or after its work. It belongs to tests.
type Faults struct {
	Kernel
	cfg       atomic.Pointer[FaultConfig]
	canInject bool

	// For the owner of the ring alone.
	rng    *rand.Rand
	params Params
	sqHead *uint32
	sqes   []SQE
	array  []uint32
	seen   uint32 // entries before this place have been looked at

	shortened, injected, failed, limited atomic.Uint64
}

// NewFaults returns inner with faults. The seed determines them, given the same calls.
func NewFaults(inner Kernel, seed uint64, cfg FaultConfig) *Faults {
	f := &Faults{Kernel: inner, canInject: nopInjects(inner), rng: rand.New(rand.NewPCG(seed, 0xfa017))}
	f.Set(cfg)
	return f
}

// Set changes the faults, also while the ring is in use, from any goroutine.
func (f *Faults) Set(cfg FaultConfig) {
	if cfg.Results == nil {
		cfg.Results = []int32{-int32(syscall.EINTR), -int32(syscall.EAGAIN)}
	}
	if cfg.EnterErrnos == nil {
		cfg.EnterErrnos = []syscall.Errno{syscall.EINTR, syscall.EAGAIN, syscall.EBUSY, syscall.ENOMEM}
	}
	if cfg.Match == nil {
		cfg.Match = faultless
	}
	cfg.Align = max(cfg.Align, 1)
	f.cfg.Store(&cfg)
}

// faultless is the Match of the zero configuration.
func faultless(e *SQE) bool {
	switch e.Op {
	case OpClose, OpAsyncCancel, OpTimeoutRemove, OpPollRemove, OpLinkTimeout:
		return false
	}
	return true
}

// CanInject reports whether the engine behind can inject results (IORING_NOP_INJECT_RESULT, 6.10). If not, Inject does
// nothing.
func (f *Faults) CanInject() bool { return f.canInject }

// Stats counts what was done so far.
func (f *Faults) Stats() FaultStats {
	return FaultStats{f.shortened.Load(), f.injected.Load(), f.failed.Load(), f.limited.Load()}
}

// Setup passes on, and remembers where things are.
func (f *Faults) Setup(entries uint32, p *Params) (int, error) {
	fd, err := f.Kernel.Setup(entries, p)
	if err == nil {
		f.params = *p
	}
	return fd, err
}

// Map passes on, and finds the submission queue in the result.
func (f *Faults) Map(fd int, offset uint64, size int) ([]byte, error) {
	mem, err := f.Kernel.Map(fd, offset, size)
	if err != nil {
		return nil, err
	}
	at := func(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&mem[off])) }
	switch offset {
	case sys.IORING_OFF_SQ_RING:
		f.sqHead = at(f.params.SQOffset.Head)
		f.seen = atomic.LoadUint32(f.sqHead)
		f.array = nil
		if f.params.Flags&setupNoSQArray == 0 {
			f.array = unsafe.Slice(at(f.params.SQOffset.Array), f.params.SQEntries)
		}
	case sys.IORING_OFF_SQES:
		f.sqes = unsafe.Slice((*SQE)(unsafe.Pointer(&mem[0])), f.params.SQEntries)
	}
	return mem, nil
}

// Enter passes on, or not quite.
func (f *Faults) Enter(fd int, submit, minComplete, flags uint32, arg *WaitArg) (int, syscall.Errno) {
	cfg := f.cfg.Load()
	if submit > 0 {
		f.spoil(cfg, submit)
	}
	fails := len(cfg.EnterErrnos) > 0 && f.chance(cfg.EnterFails)
	if fails {
		f.failed.Add(1)
		errno := cfg.EnterErrnos[f.rng.IntN(len(cfg.EnterErrnos))]
		if f.rng.Uint32()&1 == 0 {
			return -1, errno
		}
		// Nothing may be waited for: whether the wake-up was taken is not for the caller to know.
		f.Kernel.Enter(fd, submit, 0, flags, arg)
		return -1, errno
	}
	if submit > 0 && f.chance(cfg.Limit) {
		f.limited.Add(1)
		return f.Kernel.Enter(fd, f.cut(f.rng.Uint32N(submit)), 0, flags, arg)
	}
	return f.Kernel.Enter(fd, submit, minComplete, flags, arg)
}

func (f *Faults) chance(p float64) bool { return p > 0 && f.rng.Float64() < p }

// entry returns the entry at a place of the submission queue.
func (f *Faults) entry(index uint32) *SQE {
	place := index & (f.params.SQEntries - 1)
	if f.array != nil {
		place = f.array[place]
	}
	return &f.sqes[place]
}

// cut extends the first n entries to the end of their chain.
func (f *Faults) cut(n uint32) uint32 {
	head := atomic.LoadUint32(f.sqHead)
	for n > 0 && head+n != f.seen && f.entry(head+n-1).Flags&(SQELink|SQEHardlink) != 0 {
		n++
	}
	return n
}

// spoil looks at every entry once, when it is offered for the first time.
func (f *Faults) spoil(cfg *FaultConfig, submit uint32) {
	end := atomic.LoadUint32(f.sqHead) + submit
	for ; int32(end-f.seen) > 0; f.seen++ {
		e := f.entry(f.seen)
		if e.UserData == wakeData || !cfg.Match(e) {
			continue
		}
		switch {
		case f.canInject && len(cfg.Results) > 0 && f.chance(cfg.Inject):
			f.injected.Add(1)
			*e = SQE{
				Op:       OpNop,
				Flags:    e.Flags &^ (SQEFixedFile | SQEBufferSelect),
				FD:       -1,
				Len:      uint32(cfg.Results[f.rng.IntN(len(cfg.Results))]),
				OpFlags:  NopInjectResult,
				UserData: e.UserData,
			}
		case canShorten(e, cfg.Align) && f.chance(cfg.Shorten):
			f.shortened.Add(1)
			e.Len = f.shorter(e, cfg.Align)
		}
	}
}

// canShorten reports whether an entry may be made to move less.
func canShorten(e *SQE, align uint32) bool {
	if e.Flags&(SQELink|SQEHardlink) != 0 {
		return false
	}
	switch e.Op {
	case OpReadv, OpWritev:
		return leadingEmpty(e)+1 < e.Len
	case OpRead, OpWrite, OpReadFixed, OpWriteFixed, OpSend, OpRecv:
		return e.Len > align
	}
	return false
}

// shorter chooses a length, or a number of buffers, below the entry's.
func (f *Faults) shorter(e *SQE, align uint32) uint32 {
	if e.Op == OpReadv || e.Op == OpWritev {
		least := leadingEmpty(e) + 1
		return least + f.rng.Uint32N(e.Len-least)
	}
	return (1 + f.rng.Uint32N((e.Len-1)/align)) * align
}

// leadingEmpty counts the empty buffers that a vectored entry begins with. Shortened to those it would move nothing, which would say
// that the file ends here.
func leadingEmpty(e *SQE) (n uint32) {
	for _, v := range at[unix.Iovec](&e.Addr, int(e.Len)) {
		if v.Len > 0 {
			break
		}
		n++
	}
	return n
}

var linuxInjects = sync.OnceValue(func() bool {
	r, err := OpenInTime(Config{Entries: 2}) // the answer is kept, so it must not be about memory
	if err != nil {
		return false
	}
	defer r.Close()
	e := r.Next()
	e.OpFlags, e.Len, e.UserData = NopInjectResult, 7, 1
	var out [1]CQE
	for range 100 {
		if r.SubmitAndWait(0) != nil {
			return false
		}
		if r.Reap(out[:]) == 1 {
			return out[0].Res == 7
		}
	}
	return false
})

// nopInjects reports whether a NOP of the engine can carry any result.
func nopInjects(k Kernel) bool {
	switch k := k.(type) {
	case *Sim:
		return k.cfg.Version >= sinceNopInject
	case *portable:
		return true
	case *Faults:
		return k.canInject
	}
	return linuxInjects()
}
