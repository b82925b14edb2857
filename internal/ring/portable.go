package ring

import (
	"math"
	"sync"
	"syscall"
	"time"
	"unsafe"

	sys "github.com/iceber/iouring-go/syscall"
)

// NewPortable returns an engine that needs nothing of the kernel but plain system calls: it performs entries on a [Pool] of at most
// limit calls at a time. It is one ring: Open it once.
//
// What it does not offer it refuses as an old kernel would: polling for completions, a submission thread, registered files,
// multishot requests, draining (IOSQE_IO_DRAIN), provided buffers, limits of worker threads. Unlike the kernel, it reads paths and vectors
// when it performs an entry and not when it takes it (there is no IORING_FEAT_SUBMIT_STABLE): they must live until the completion, as ops do.
func NewPortable(table *CallTable, limit int) Kernel {
	return &portable{table: table, limit: limit}
}

type portable struct {
	table *CallTable
	limit int

	// For the owner alone.
	pool     *Pool
	flags    uint32
	disabled bool
	rules    *rules // nil: no restrictions
	person   uint16 // the latest personality's number
	mem      []byte
	shared   *sharedHeads
	sqes     []SQE
	array    []uint32 // nil: no indirection
	sqMask   uint32
	timer    *time.Timer

	// The completion queue, which pool goroutines fill.
	mu      sync.Mutex
	cqes    []CQE
	backlog []CQE  // what did not fit
	want    uint32 // how many completions a waiting Enter waits for; 0 if none does
	woken   bool   // Wake came while nobody waited
	signal  chan struct{}
}

// sharedHeads is the beginning of the memory that both sides see. Heads and tails stand on cache lines of their own where each has
// another writer.
type sharedHeads struct {
	sqHead, cqTail      uint32 // written by the engine
	sqFlags, cqOverflow uint32
	sqMask, sqEntries   uint32
	cqMask, cqEntries   uint32
	sqDropped, cqFlags  uint32
	_                   [6]uint32
	sqTail, cqHead      uint32 // written by the owner of the ring
	_                   [14]uint32
}

// portableFD stands for a descriptor: a number that no file has.
const portableFD = math.MaxInt32

const portableSetup = sys.IORING_SETUP_CQSIZE | sys.IORING_SETUP_CLAMP | sys.IORING_SETUP_R_DISABLED | sys.IORING_SETUP_SUBMIT_ALL |
	sys.IORING_SETUP_COOP_TASKRUN | sys.IORING_SETUP_TASKRUN_FLAG | setupSingleIssuer | setupDeferTaskrun | setupNoSQArray

const portableFeatures = sys.IORING_FEAT_SINGLE_MMAP | sys.IORING_FEAT_NODROP | sys.IORING_FEAT_RW_CUR_POS |
	sys.IORING_FEAT_FAST_POLL | featExtArg | featCQESkip | featNoIowait

// featCQESkip is IORING_FEAT_CQE_SKIP, 5.17.
const featCQESkip uint32 = 1 << 11

func (k *portable) Setup(entries uint32, p *Params) (int, error) {
	if k.pool != nil {
		return -1, syscall.EBUSY
	}
	sq, cq, errno := queueSizes(entries, p)
	if errno != 0 {
		return -1, errno
	}
	const head = uint32(unsafe.Sizeof(sharedHeads{}))
	var s *sharedHeads
	p.SQEntries, p.CQEntries = sq, cq
	p.Features = portableFeatures
	p.SQOffset = sys.SubmissionQueueRingOffset{
		Head: uint32(unsafe.Offsetof(s.sqHead)), Tail: uint32(unsafe.Offsetof(s.sqTail)),
		RingMask: uint32(unsafe.Offsetof(s.sqMask)), RingEntries: uint32(unsafe.Offsetof(s.sqEntries)),
		Flags: uint32(unsafe.Offsetof(s.sqFlags)), Dropped: uint32(unsafe.Offsetof(s.sqDropped)),
	}
	p.CQOffset = sys.CompletionQueueRingOffset{
		Head: uint32(unsafe.Offsetof(s.cqHead)), Tail: uint32(unsafe.Offsetof(s.cqTail)),
		RingMask: uint32(unsafe.Offsetof(s.cqMask)), RingEntries: uint32(unsafe.Offsetof(s.cqEntries)),
		Overflow: uint32(unsafe.Offsetof(s.cqOverflow)), Flags: uint32(unsafe.Offsetof(s.cqFlags)), Cqes: head,
	}
	size := head + cq*uint32(unsafe.Sizeof(CQE{}))
	if p.Flags&setupNoSQArray == 0 {
		p.SQOffset.Array = size
		size += sq * 4
	}
	k.allocate(size, p)
	k.flags = p.Flags
	k.disabled = p.Flags&sys.IORING_SETUP_R_DISABLED != 0
	k.rules = nil
	k.signal = make(chan struct{}, 1)
	k.timer = time.NewTimer(time.Hour)
	k.timer.Stop()
	k.backlog, k.want, k.woken = nil, 0, false
	k.pool = NewPool(k.table, k.limit, k.complete)
	return portableFD, nil
}

// queueSizes is the arithmetic of io_uring_setup(2).
func queueSizes(entries uint32, p *Params) (sq, cq uint32, _ syscall.Errno) {
	const cqMax = 2 * MaxEntries
	clamp := p.Flags&sys.IORING_SETUP_CLAMP != 0
	switch {
	case p.Flags&^portableSetup != 0, entries == 0, entries > MaxEntries && !clamp:
		return 0, 0, syscall.EINVAL
	case p.Flags&setupDeferTaskrun != 0 && p.Flags&setupSingleIssuer == 0:
		return 0, 0, syscall.EINVAL
	case p.Flags&sys.IORING_SETUP_TASKRUN_FLAG != 0 && p.Flags&(sys.IORING_SETUP_COOP_TASKRUN|setupDeferTaskrun) == 0:
		return 0, 0, syscall.EINVAL
	}
	sq = roundUp(min(entries, MaxEntries))
	if p.Flags&sys.IORING_SETUP_CQSIZE == 0 {
		return sq, 2 * sq, 0
	}
	if p.CQEntries == 0 || p.CQEntries > cqMax && !clamp {
		return 0, 0, syscall.EINVAL
	}
	if cq = roundUp(min(p.CQEntries, cqMax)); cq < sq {
		return 0, 0, syscall.EINVAL
	}
	return sq, cq, 0
}

// allocate makes the shared memory as p describes it.
func (k *portable) allocate(size uint32, p *Params) {
	words := make([]uint64, (size+7)/8)
	k.mem = unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(words)*8)
	k.shared = (*sharedHeads)(unsafe.Pointer(&words[0]))
	k.cqes = unsafe.Slice((*CQE)(unsafe.Pointer(&k.mem[p.CQOffset.Cqes])), p.CQEntries)
	k.sqes = make([]SQE, p.SQEntries)
	k.array = nil
	if p.Flags&setupNoSQArray == 0 {
		k.array = unsafe.Slice((*uint32)(unsafe.Pointer(&k.mem[p.SQOffset.Array])), p.SQEntries)
	}
	k.sqMask = p.SQEntries - 1
	*k.shared = sharedHeads{sqMask: k.sqMask, sqEntries: p.SQEntries, cqMask: p.CQEntries - 1, cqEntries: p.CQEntries}
}

func (k *portable) Map(fd int, offset uint64, size int) ([]byte, error) {
	if fd != portableFD || k.pool == nil {
		return nil, syscall.EBADF
	}
	mem := k.mem
	switch offset {
	case sys.IORING_OFF_SQ_RING, sys.IORING_OFF_CQ_RING:
	case sys.IORING_OFF_SQES:
		mem = unsafe.Slice((*byte)(unsafe.Pointer(&k.sqes[0])), len(k.sqes)*int(unsafe.Sizeof(SQE{})))
	default:
		return nil, syscall.EINVAL
	}
	if size <= 0 || size > len(mem) {
		return nil, syscall.EINVAL
	}
	return mem[:size:size], nil
}

func (*portable) Unmap([]byte) error { return nil }

// OpenWake has nothing to prepare: Wake reaches Enter directly.
func (*portable) OpenWake() (int, error) { return -1, nil }

func (*portable) CloseWake() error { return nil }

func (k *portable) Close(fd int) error {
	if fd != portableFD || k.pool == nil {
		return syscall.EBADF
	}
	k.pool.Close()
	k.pool = nil
	k.timer.Stop()
	return nil
}
