package ring

import (
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	sys "github.com/iceber/iouring-go/syscall"
	"golang.org/x/sys/unix"
)

// ErrUnavailable means that the system does not offer io_uring, or not enough of it; errors.Is finds the errno beside it.
// Running out of descriptors or memory is not that: it is reported as it is.
var ErrUnavailable = errors.New("io_uring is not available")

// MaxEntries and MaxCQEntries are the largest queues the kernel makes.
const (
	MaxEntries   = 32768
	MaxCQEntries = 2 * MaxEntries
)

// optional lists the set-up flags that a kernel may refuse, newest first: on EINVAL they are given up one by one.
var optional = []uint32{
	setupNoSQArray,                        // 6.6
	setupSingleIssuer | setupDeferTaskrun, // 6.1
	sys.IORING_SETUP_COOP_TASKRUN | sys.IORING_SETUP_TASKRUN_FLAG, // 5.19
	sys.IORING_SETUP_SUBMIT_ALL,                                   // 5.18
}

// OpenInTime is [Open], and tries again while there is no memory, up to two seconds: that of rings that were closed counts for a while longer.
func OpenInTime(cfg Config) (*Ring, error) {
	r, err := Open(cfg)
	for pause := time.Millisecond; errors.Is(err, syscall.ENOMEM) && pause < 2*time.Second; pause *= 2 {
		time.Sleep(pause)
		r, err = Open(cfg)
	}
	return r, err
}

// Open sets up a ring. On failure nothing is left open, and the error names the call that failed.
func Open(cfg Config) (_ *Ring, err error) {
	if cfg.Entries == 0 {
		cfg.Entries = 256
	}
	if cfg.Entries > MaxEntries {
		return nil, fmt.Errorf("ring: %d entries, the kernel allows %d", cfg.Entries, MaxEntries)
	}
	// One entry is kept back for the wake-up, so a queue of one would never have room.
	cfg.Entries = max(cfg.Entries, 2)
	if cfg.CQEntries == 0 {
		cfg.CQEntries = 16 * cfg.Entries
	}
	cfg.CQEntries = min(max(cfg.CQEntries, cfg.Entries), MaxCQEntries)
	for _, op := range cfg.Allow {
		if int(op) >= OpCount {
			return nil, fmt.Errorf("ring: restriction to unknown %v", op)
		}
	}
	if cfg.Kernel == nil {
		cfg.Kernel = Linux()
	}
	r := &Ring{k: cfg.Kernel, fd: -1, wakeFD: -1}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	var p Params
	if p, err = r.setup(cfg); err != nil {
		return nil, err
	}
	if err = r.mapQueues(&p); err != nil {
		return nil, err
	}
	if err = r.probe(); err != nil {
		return nil, err
	}
	if err = r.limitWorkers(cfg); err != nil {
		return nil, err
	}
	if err = r.restrict(cfg.Allow, cfg.AllowTables); err != nil {
		return nil, err
	}
	if r.wakeFD, err = r.k.OpenWake(); err != nil {
		return nil, fmt.Errorf("ring: %w", err)
	}
	return r, nil
}

func (r *Ring) setup(cfg Config) (Params, error) {
	want := sys.IORING_SETUP_CQSIZE | sys.IORING_SETUP_CLAMP | sys.IORING_SETUP_SUBMIT_ALL | setupNoSQArray
	if cfg.Locked || !cfg.Interrupt {
		want |= sys.IORING_SETUP_COOP_TASKRUN | sys.IORING_SETUP_TASKRUN_FLAG
	}
	if cfg.Locked {
		want |= setupSingleIssuer | setupDeferTaskrun
	}
	if cfg.Allow != nil {
		want |= sys.IORING_SETUP_R_DISABLED
	}
	give := optional
	for {
		p := Params{Flags: want, CQEntries: roundUp(cfg.CQEntries)}
		fd, err := r.k.Setup(roundUp(cfg.Entries), &p)
		if err == nil {
			r.fd = fd
			r.flags = want
			r.features = p.Features
			if p.Features&sys.IORING_FEAT_NODROP == 0 {
				return p, fmt.Errorf("ring: %w: completions may be dropped before Linux 5.5: %w", ErrUnavailable, syscall.ENOSYS)
			}
			return p, nil
		}
		if errors.Is(err, syscall.EINVAL) {
			for len(give) > 0 && want&give[0] == 0 {
				give = give[1:]
			}
			if len(give) > 0 {
				want &^= give[0]
				continue
			}
		}
		return p, setupError(err)
	}
}

// setupError tells "not offered here" from "offered, but out of something".
func setupError(err error) error {
	hint := ""
	switch {
	case errors.Is(err, syscall.EPERM):
		hint = "forbidden by a seccomp profile or by the sysctl kernel.io_uring_disabled"
	case errors.Is(err, syscall.ENOSYS):
		hint = "not in this kernel, or filtered"
	case errors.Is(err, syscall.EACCES):
		hint = "forbidden by a security module"
	case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.EINVAL):
		hint = "the kernel refuses every set of flags"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fmt.Errorf("ring: io_uring_setup: %w (is RLIMIT_NOFILE too low?)", err)
	case errors.Is(err, syscall.ENOMEM):
		return fmt.Errorf("ring: io_uring_setup: %w (RLIMIT_MEMLOCK, the limit of memory to lock, is %d KiB)", err, memlock()>>10)
	default:
		return fmt.Errorf("ring: io_uring_setup: %w", err)
	}
	return fmt.Errorf("ring: %w: io_uring_setup: %w (%s)", ErrUnavailable, err, hint)
}

// registerError does the same for a ring that was set up: some systems offer only half of io_uring.
func registerError(what string, errno syscall.Errno) error {
	switch errno {
	case syscall.EPERM, syscall.ENOSYS, syscall.EACCES, syscall.EOPNOTSUPP, syscall.EINVAL:
		return fmt.Errorf("ring: %w: io_uring_register (%s): %w", ErrUnavailable, what, errno)
	}
	return fmt.Errorf("ring: io_uring_register (%s): %w", what, errno)
}

func (r *Ring) mapQueues(p *Params) error {
	sqSize := int(p.SQOffset.Array + p.SQEntries*4)
	if r.flags&setupNoSQArray != 0 {
		sqSize = int(p.CQOffset.Cqes)
	}
	cqSize := int(p.CQOffset.Cqes + p.CQEntries*uint32(unsafe.Sizeof(CQE{})))
	single := p.Features&sys.IORING_FEAT_SINGLE_MMAP != 0
	if single {
		sqSize = max(sqSize, cqSize)
	}
	sq, err := r.mmap(sys.IORING_OFF_SQ_RING, sqSize)
	if err != nil {
		return err
	}
	cq := sq
	if !single {
		if cq, err = r.mmap(sys.IORING_OFF_CQ_RING, cqSize); err != nil {
			return err
		}
	}
	sqes, err := r.mmap(sys.IORING_OFF_SQES, int(p.SQEntries)*int(unsafe.Sizeof(SQE{})))
	if err != nil {
		return err
	}

	at := func(mem []byte, off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&mem[off])) }
	r.sqHead, r.sqTail, r.sqFlags = at(sq, p.SQOffset.Head), at(sq, p.SQOffset.Tail), at(sq, p.SQOffset.Flags)
	r.sqMask = *at(sq, p.SQOffset.RingMask)
	r.sqes = unsafe.Slice((*SQE)(unsafe.Pointer(&sqes[0])), p.SQEntries)
	r.head = atomic.LoadUint32(r.sqHead)
	r.tail = r.head
	r.cqHead, r.cqTail = at(cq, p.CQOffset.Head), at(cq, p.CQOffset.Tail)
	r.cqMask = *at(cq, p.CQOffset.RingMask)
	r.cqes = unsafe.Slice((*CQE)(unsafe.Pointer(&cq[p.CQOffset.Cqes])), p.CQEntries)
	if p.CQOffset.Flags != 0 {
		r.cqFlags = at(cq, p.CQOffset.Flags)
	}
	if r.flags&setupNoSQArray == 0 {
		// The indirection array maps every place to itself, for good.
		array := unsafe.Slice(at(sq, p.SQOffset.Array), p.SQEntries)
		for i := range array {
			array[i] = uint32(i)
		}
	}
	return nil
}

func (r *Ring) mmap(offset uint64, size int) ([]byte, error) {
	mem, err := r.k.Map(r.fd, offset, size)
	if err != nil {
		return nil, fmt.Errorf("ring: mmap at offset %#x: %w", offset, err)
	}
	r.maps = append(r.maps, mem)
	return mem, nil
}

// probe asks which opcodes the kernel has.
func (r *Ring) probe() error {
	const supported = 1 // IO_URING_OP_SUPPORTED
	var p struct {
		lastOp, opsLen uint8
		_              uint16
		_              [3]uint32
		ops            [256]struct {
			op, _ uint8
			flags uint16
			_     uint32
		}
	}
	if _, errno := r.k.Register(r.fd, registerProbe, unsafe.Pointer(&p), uint32(len(p.ops))); errno != 0 {
		return registerError("probe, Linux 5.6", errno)
	}
	runtime.KeepAlive(&p)
	for _, o := range p.ops[:p.opsLen] {
		if int(o.op) < len(r.ops) {
			r.ops[o.op] = o.flags&supported != 0
		}
	}
	return nil
}

// restrict locks the ring down to the given opcodes, and to what the ring needs for itself. Afterwards nothing can be registered, or nothing
// but users, buffers and files. The kernel refuses rules about what it does not know: of operations the probe tells, of registration trying.
func (r *Ring) restrict(allow []Op, tables bool) error {
	if allow == nil {
		return nil
	}
	type restriction struct {
		opcode uint16 // IORING_RESTRICTION_*
		value  uint8
		_      uint8
		_      [3]uint32
	}
	const (
		registerOp      = 0
		sqeOp           = 1
		sqeFlagsAllowed = 2
	)
	flags := SQEDrain | SQELink | SQEHardlink | SQEAsync | SQECQESkip
	if tables {
		flags |= SQEFixedFile | SQEBufferSelect
	}
	rules := []restriction{
		{opcode: sqeFlagsAllowed, value: flags},
		{opcode: sqeOp, value: uint8(OpRead)}, // the wake-up
		{opcode: sqeOp, value: uint8(OpAsyncCancel)},
	}
	allowed := [OpCount]bool{OpRead: true, OpAsyncCancel: true}
	for _, op := range allow {
		if r.ops[op] && !allowed[op] {
			rules = append(rules, restriction{opcode: sqeOp, value: uint8(op)})
		}
		allowed[op] = true
	}
	for op := range r.ops {
		r.ops[op] = r.ops[op] && allowed[op]
	}
	var registered []uint32
	if tables {
		registered = forTables
	}
	for {
		all := rules
		for _, op := range registered {
			all = append(all, restriction{opcode: registerOp, value: uint8(op)})
		}
		_, errno := r.k.Register(r.fd, registerRestrictions, unsafe.Pointer(&all[0]), uint32(len(all)))
		runtime.KeepAlive(all)
		if errno == 0 {
			break
		}
		if errno != syscall.EINVAL || len(registered) == 0 {
			return registerError("restrictions, Linux 5.10", errno)
		}
		registered = registered[:len(registered)-1] // the newest: this kernel may not know it
	}
	if _, errno := r.k.Register(r.fd, registerEnableRings, nil, 0); errno != 0 {
		return registerError("enable, Linux 5.10", errno)
	}
	return nil
}

// limitWorkers bounds the kernel's worker threads. Older kernels have no such limit: then theirs stands.
func (r *Ring) limitWorkers(cfg Config) error {
	limit := [2]uint32{cfg.IowqBounded, cfg.IowqUnbounded}
	if limit[0] == 0 {
		limit[0] = uint32(max(4, 2*runtime.NumCPU()))
	}
	if limit[1] == 0 {
		limit[1] = 64
	}
	_, errno := r.k.Register(r.fd, registerIowqMax, unsafe.Pointer(&limit), 2)
	runtime.KeepAlive(&limit)
	if errno != 0 && errno != syscall.EINVAL {
		return registerError("worker limit, Linux 5.15", errno)
	}
	return nil
}

// roundUp returns the power of two not below n.
func roundUp(n uint32) uint32 { return 1 << bits.Len32(n-1) }

// memlock returns the limit of memory that the user may lock, in bytes. The queues count against it.
func memlock() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return 0
	}
	return limit.Cur
}

// Shrink makes cfg ask for less memory, if a ring of its size takes more than an eighth of what the user may lock: others of the user's
// rings count against the same limit. It reports false when that is not so, or when there is nothing to give up.
func (cfg *Config) Shrink() bool {
	const smallest = 16
	size := uint64(cfg.Entries)*uint64(unsafe.Sizeof(SQE{})) + uint64(cfg.CQEntries)*uint64(unsafe.Sizeof(CQE{}))
	if size <= memlock()/8 || cfg.CQEntries <= smallest {
		return false
	}
	roomy := cfg.CQEntries > 16*cfg.Entries // operations that wait for ever may have to queue before batches are cut short
	cfg.CQEntries = max(cfg.CQEntries/2, smallest)
	if !roomy {
		cfg.Entries = max(min(cfg.Entries/2, cfg.CQEntries), 4)
	}
	return true
}
