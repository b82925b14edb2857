package ring

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	sys "github.com/iceber/iouring-go/syscall"
	"golang.org/x/sys/unix"
)

// SimFD is the first of the descriptor numbers that belong to the model. Tests number their files from here: a number
// that escapes to a real system call then hits nothing.
const SimFD = 1 << 20

// SimConfig says what the model imitates and how hostile it is. The zero value is a well-behaved newest kernel: everything
// is accepted, and completes in order within the Enter that submitted it.
//
// Fields that are called a chance lie between 0 (never) and 1 (always).
type SimConfig struct {
	// Seed determines every choice. Two runs that make the same calls see the same answers.
	Seed uint64

	// Version is the kernel to imitate; see also the next three. Zero is the newest that the model knows.
	Version Version

	// HideOps, HideSetup and HideFeatures take opcodes, set-up flags and feature bits away from it.
	HideOps                 []Op
	HideSetup, HideFeatures uint32

	// Start is where the heads and tails of both queues begin. A kernel begins at 0, but wraps some day.
	Start uint32

	// Files are what the operations work on, by descriptor; see also [Sim.Add].
	Files map[int32]*SimFile

	// Calls performs, on real descriptors, what concerns none of the Files. Nil: such operations get EBADF, and opcodes
	// without a model do not exist.
	Calls *CallTable

	// Delay is how many steps a completion takes at most; which it takes is up to chance, and so is the order within a
	// step. Every Enter makes a step, a blocked one as many as it needs. At most 4096.
	Delay int

	// Partial is the chance that an Enter takes only some of the entries offered, possibly none.
	Partial float64

	// SplitLinks lets that happen in the middle of a chain, which then is none. The kernel does it only when it runs out of
	// memory.
	SplitLinks bool

	// EnterFails is the chance that an Enter answers one of EnterErrnos; before or after taking entries, as chance has it.
	// Nil means EINTR, EAGAIN, EBUSY and ENOMEM.
	EnterFails  float64
	EnterErrnos []syscall.Errno

	// Early is the chance of each step of a blocked Enter to be its last, as if a signal had come.
	Early float64

	// Fails is the chance that an operation on a file fails, with one of FailErrnos. Nil means EINTR, EAGAIN and EIO.
	Fails      float64
	FailErrnos []syscall.Errno

	// Short is the chance that a read or write moves fewer bytes than it could.
	Short float64

	// Never is the chance that an operation on a file waits until it is cancelled.
	Never float64

	// Scribble is the chance that a read fills its memory with noise before it is over, as the kernel may.
	Scribble float64

	// Races is the chance that a cancellation comes too late or half too late: ENOENT or EALREADY, and a target that ends
	// with its own result, EINTR or one of the kernel's restart codes.
	Races float64

	// Bogus is the chance of each step to bring a completion that belongs to nothing: one that was there before, or one
	// that was never asked for.
	Bogus float64

	// Lose is the chance that a completion is lost when the queue overflows, of which EBADR tells.
	Lose float64

	// RealTime makes timeouts take the time of package time, also within testing/synctest. Otherwise a step takes a
	// microsecond, and a blocked Enter for which nothing else is left jumps to the next timeout at once. Calls imply it.
	RealTime bool

	// FailCall, if not 0, makes that call of Setup, Map, Register and OpenWake, counted together from 1, fail with
	// FailErrno.
	FailCall  int
	FailErrno syscall.Errno

	// OnAccept sees every entry that is taken, OnPost every completion when it becomes visible. They are called by the
	// goroutine in Enter and must not call the model.
	OnAccept func(SQE)
	OnPost   func(c CQE, bogus bool)
}

// SimStats counts what the model did.
type SimStats struct {
	Enters   int // calls of Enter
	Accepted int // entries taken
	Ended    int // entries that came to their end: a terminal completion, or silence if they asked for it
	Bogus    int // completions beside those
	Lost     int // completions dropped by choice (Lose)
	Overflow int // completions that had to wait outside of the queue
	Steps    int

	InFlight int // entries taken that have not come to their end
	Calls    int // calls of Setup, Map, Register and OpenWake
	FDs      int // descriptors of rings that are open now
	Maps     int // mappings that exist now
	Wakes    int // OpenWake less CloseWake
}

// Sim is a model of io_uring: a [Kernel] made of nothing but memory and a seed. It does everything that a kernel may do,
// in particular what it does seldom, and it checks that its caller keeps the rules: [Sim.Err].
//
// Read and write operations move bytes between the memory that their entries name and the model's files, at some moment
// between submission and completion. Memory that was given up too early is therefore damaged, as it would be by the kernel.
//
// A Sim has one ring at a time.
type Sim struct {
	mu     sync.Mutex
	inside atomic.Bool // a call that belongs to the owner is being made
	woken  atomic.Bool
	bell   chan struct{} // rung after woken or a file has changed

	cfg      SimConfig
	rng      *rand.Rand
	hasOp    [OpCount]bool
	setup    uint32 // set-up flags known
	features uint32

	fd       int // -1: no ring
	nextFD   int
	params   Params
	flags    uint32
	owner    int // thread bound to the ring, 0: none
	disabled bool

	restricted, sealed bool
	allowOp            [256]bool
	allowRegister      [256]bool
	allowFlags         uint8
	provided           map[uint16]*simProvided

	mem                     []uint64 // heads, tails, flags, completion queue, submission array
	sqes                    []SQE
	cqes                    []CQE
	array                   []uint32
	sqHead, sqTail, sqFlags *uint32
	cqHead, cqTail          *uint32
	cqLost                  *uint32
	maps                    map[*byte]int // mappings by address

	queues
	bufs  [][]byte // scratch of segments
	stats SimStats
	bad   []error
}

// Offsets in the mapped ring, as struct io_rings has them.
const (
	offSQHead = iota * 4
	offSQTail
	offCQHead
	offCQTail
	offSQMask
	offCQMask
	offSQEntries
	offCQEntries
	offSQDropped
	offSQFlags
	offCQFlags
	offCQOverflow
	_
	_
	_
	_
	offCQEs
)

// NewSim returns a model.
func NewSim(cfg SimConfig) *Sim {
	if cfg.Version == 0 {
		cfg.Version = newest
	}
	if cfg.EnterErrnos == nil {
		cfg.EnterErrnos = []syscall.Errno{syscall.EINTR, syscall.EAGAIN, syscall.EBUSY, syscall.ENOMEM}
	}
	if cfg.FailErrnos == nil {
		cfg.FailErrnos = []syscall.Errno{syscall.EINTR, syscall.EAGAIN, syscall.EIO}
	}
	cfg.Delay = min(cfg.Delay, 4096)
	cfg.RealTime = cfg.RealTime || cfg.Calls != nil // real descriptors know no other
	s := &Sim{
		cfg:      cfg,
		rng:      rand.New(rand.NewPCG(cfg.Seed, 0x10_0e1d)),
		bell:     make(chan struct{}, 1),
		setup:    flags(setupSince, cfg.Version) &^ cfg.HideSetup,
		features: flags(featureSince, cfg.Version) &^ cfg.HideFeatures,
		fd:       -1,
		nextFD:   SimFD << 1,
		maps:     map[*byte]int{},
		provided: map[uint16]*simProvided{},
	}
	for _, op := range opSince {
		s.hasOp[op.what] = op.in <= cfg.Version && (modelled[op.what] || cfg.Calls != nil && cfg.Calls[op.what].Do != nil)
	}
	for _, op := range cfg.HideOps {
		s.hasOp[op] = false
	}
	s.cfg.Files = map[int32]*SimFile{}
	for fd, f := range cfg.Files {
		s.cfg.Files[fd] = f
		f.bind(s)
	}
	s.queues.init(cfg.Delay)
	return s
}

// Change lets f alter the rates of the configuration while the model runs. What Setup has looked at stays as it was.
func (s *Sim) Change(f func(*SimConfig)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.cfg)
}

// Add gives a file a descriptor number, also while the model runs.
func (s *Sim) Add(f *SimFile) (fd int32) {
	f.bind(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	for fd = SimFD; s.cfg.Files[fd] != nil; fd++ {
	}
	s.cfg.Files[fd] = f
	return fd
}

// Stats returns the counters.
func (s *Sim) Stats() SimStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.InFlight = len(s.live)
	return st
}

// Err returns every rule that the caller broke: a second goroutine in the ring, two entries in flight with equal user data,
// a queue index out of bounds, entries abandoned by Close, …
func (s *Sim) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.bad...)
}

// blame records a broken rule.
func (s *Sim) blame(format string, args ...any) {
	if len(s.bad) < 100 {
		s.bad = append(s.bad, fmt.Errorf("sim: "+format, args...))
	}
}

func (s *Sim) chance(p float64) bool { return p > 0 && s.rng.Float64() < p }

// call counts a call that may be told to fail.
func (s *Sim) call() syscall.Errno {
	s.stats.Calls++
	if s.stats.Calls == s.cfg.FailCall {
		return s.cfg.FailErrno
	}
	return 0
}

// own takes the model for a call that only the owner may make.
func (s *Sim) own(what string) bool {
	if !s.inside.CompareAndSwap(false, true) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.blame("%s while another goroutine is in the ring", what)
		return false
	}
	s.mu.Lock()
	return true
}

func (s *Sim) disown() {
	s.mu.Unlock()
	s.inside.Store(false)
}

// Setup is io_uring_setup(2).
func (s *Sim) Setup(entries uint32, p *Params) (int, error) {
	if !s.own("Setup") {
		return -1, syscall.EBUSY
	}
	defer s.disown()
	if errno := s.call(); errno != 0 {
		return -1, errno
	}
	if errno := s.checkSetup(entries, p); errno != 0 {
		return -1, errno
	}
	if s.fd >= 0 {
		s.blame("Setup while the ring before is open")
		return -1, syscall.EMFILE
	}
	s.layOut(min(entries, MaxEntries), p)
	s.fd = s.nextFD
	s.nextFD++
	s.stats.FDs++
	s.flags = p.Flags
	s.disabled = p.Flags&sys.IORING_SETUP_R_DISABLED != 0
	s.restricted, s.sealed = false, false
	s.owner = 0
	if s.flags&setupSingleIssuer != 0 && !s.disabled {
		s.owner = unix.Gettid()
	}
	return s.fd, nil
}

func (s *Sim) checkSetup(entries uint32, p *Params) syscall.Errno {
	clamp := p.Flags&sys.IORING_SETUP_CLAMP != 0
	switch {
	case p.Flags&^s.setup != 0,
		entries == 0 || entries > MaxEntries && !clamp,
		p.Flags&setupDeferTaskrun != 0 && p.Flags&setupSingleIssuer == 0,
		p.Flags&sys.IORING_SETUP_TASKRUN_FLAG != 0 && p.Flags&(sys.IORING_SETUP_COOP_TASKRUN|setupDeferTaskrun) == 0:
		return syscall.EINVAL
	}
	if p.Flags&sys.IORING_SETUP_CQSIZE != 0 {
		if p.CQEntries == 0 || p.CQEntries > MaxCQEntries && !clamp || roundUp(p.CQEntries) < roundUp(entries) {
			return syscall.EINVAL
		}
	}
	return 0
}

// layOut makes the memory of a ring and fills p in.
func (s *Sim) layOut(entries uint32, p *Params) {
	p.SQEntries = roundUp(entries)
	if p.Flags&sys.IORING_SETUP_CQSIZE != 0 {
		p.CQEntries = roundUp(min(p.CQEntries, MaxCQEntries))
	} else {
		p.CQEntries = 2 * p.SQEntries
	}
	p.Features = s.features
	array := uint32(offCQEs) + p.CQEntries*uint32(unsafe.Sizeof(CQE{}))
	p.SQOffset = sys.SubmissionQueueRingOffset{Head: offSQHead, Tail: offSQTail, RingMask: offSQMask,
		RingEntries: offSQEntries, Flags: offSQFlags, Dropped: offSQDropped}
	p.CQOffset = sys.CompletionQueueRingOffset{Head: offCQHead, Tail: offCQTail, RingMask: offCQMask,
		RingEntries: offCQEntries, Overflow: offCQOverflow, Cqes: offCQEs, Flags: offCQFlags}
	size := array
	if p.Flags&setupNoSQArray == 0 {
		p.SQOffset.Array = array
		size += p.SQEntries * 4
	}
	s.params = *p
	s.mem = make([]uint64, (size+7)/8)
	s.sqes = make([]SQE, p.SQEntries)

	at := func(off uint32) *uint32 { return (*uint32)(unsafe.Add(unsafe.Pointer(&s.mem[0]), off)) }
	s.sqHead, s.sqTail, s.sqFlags = at(offSQHead), at(offSQTail), at(offSQFlags)
	s.cqHead, s.cqTail, s.cqLost = at(offCQHead), at(offCQTail), at(offCQOverflow)
	for _, index := range []*uint32{s.sqHead, s.sqTail, s.cqHead, s.cqTail} {
		*index = s.cfg.Start
	}
	*at(offSQMask), *at(offSQEntries) = p.SQEntries-1, p.SQEntries
	*at(offCQMask), *at(offCQEntries) = p.CQEntries-1, p.CQEntries
	s.cqes = unsafe.Slice((*CQE)(unsafe.Pointer(at(offCQEs))), p.CQEntries)
	s.array = nil
	if p.SQOffset.Array != 0 {
		s.array = unsafe.Slice(at(p.SQOffset.Array), p.SQEntries)
	}
}

// Map is mmap(2).
func (s *Sim) Map(fd int, offset uint64, size int) ([]byte, error) {
	if !s.own("Map") {
		return nil, syscall.EBUSY
	}
	defer s.disown()
	if errno := s.call(); errno != 0 {
		return nil, errno
	}
	if fd != s.fd || fd < 0 {
		return nil, syscall.EBADF
	}
	var area []byte
	switch offset {
	case sys.IORING_OFF_SQ_RING, sys.IORING_OFF_CQ_RING:
		area = unsafe.Slice((*byte)(unsafe.Pointer(&s.mem[0])), len(s.mem)*8)
	case sys.IORING_OFF_SQES:
		area = unsafe.Slice((*byte)(unsafe.Pointer(&s.sqes[0])), len(s.sqes)*int(unsafe.Sizeof(SQE{})))
	}
	if size <= 0 || size > len(area) {
		return nil, syscall.EINVAL
	}
	s.maps[&area[0]]++
	s.stats.Maps++
	return area[:size:size], nil
}

// Unmap is munmap(2).
func (s *Sim) Unmap(mem []byte) error {
	if !s.own("Unmap") {
		return syscall.EBUSY
	}
	defer s.disown()
	if len(mem) == 0 || s.maps[&mem[0]] == 0 {
		s.blame("Unmap of what is not mapped")
		return syscall.EINVAL
	}
	if s.maps[&mem[0]]--; s.maps[&mem[0]] == 0 {
		delete(s.maps, &mem[0])
	}
	s.stats.Maps--
	return nil
}

// OpenWake prepares Wake; the model needs no descriptor.
func (s *Sim) OpenWake() (int, error) {
	if !s.own("OpenWake") {
		return -1, syscall.EBUSY
	}
	defer s.disown()
	if errno := s.call(); errno != 0 {
		return -1, os.NewSyscallError("eventfd2", errno)
	}
	s.stats.Wakes++
	s.woken.Store(false)
	return -1, nil
}

// Wake makes a blocked Enter return, or the next one that would block.
func (s *Sim) Wake() {
	s.woken.Store(true)
	s.ring()
}

// ring makes a blocked Enter look at the world again.
func (s *Sim) ring() {
	select {
	case s.bell <- struct{}{}:
	default:
	}
}

// CloseWake undoes OpenWake.
func (s *Sim) CloseWake() error {
	if !s.own("CloseWake") {
		return syscall.EBUSY
	}
	defer s.disown()
	if s.stats.Wakes > 0 {
		s.stats.Wakes--
	}
	return nil
}

// Close closes the ring's descriptor. What is in flight then will never be heard of.
func (s *Sim) Close(fd int) error {
	if !s.own("Close") {
		return syscall.EBUSY
	}
	defer s.disown()
	if fd != s.fd || fd < 0 {
		s.blame("Close of descriptor %d, the ring has %d", fd, s.fd)
		return os.NewSyscallError("close", syscall.EBADF)
	}
	if n := len(s.live); n > 0 {
		s.blame("Close with %d entries in flight", n)
	}
	s.fd = -1
	clear(s.provided)
	s.stats.FDs--
	s.queues.init(s.cfg.Delay)
	return nil
}

// Register is io_uring_register(2), as far as rings use it.
func (s *Sim) Register(fd int, op uint32, arg unsafe.Pointer, n uint32) (int, syscall.Errno) {
	if !s.own("Register") {
		return -1, syscall.EEXIST
	}
	defer s.disown()
	if errno := s.call(); errno != 0 {
		return -1, errno
	}
	switch {
	case fd != s.fd || fd < 0:
		return -1, syscall.EBADF
	case s.owner != 0 && s.owner != unix.Gettid():
		return -1, syscall.EEXIST
	case s.restricted && !s.allowRegister[uint8(op)]:
		return -1, syscall.EACCES
	}
	errno := syscall.EINVAL
	switch {
	case op == registerProbe:
		errno = s.registerProbe(arg, n)
	case op == registerRestrictions && s.cfg.Version >= sinceRestrictions:
		errno = s.registerRestrictions(arg, n)
	case op == registerEnableRings && s.cfg.Version >= sinceRestrictions:
		errno = s.registerEnable()
	case op == registerPbufRing && s.cfg.Version >= sinceProvided && n == 1:
		errno = s.registerProvided(arg)
	case op == unregisterPbufRing && s.cfg.Version >= sinceProvided && n == 1:
		errno = s.unregisterProvided(arg)
	case op == registerIowqMax && s.cfg.Version >= sinceIowqMax && n == 2:
		errno = 0
	}
	if errno != 0 {
		return -1, errno
	}
	return 0, 0
}

func (s *Sim) registerProbe(arg unsafe.Pointer, n uint32) syscall.Errno {
	if arg == nil || n > 256 {
		return syscall.EINVAL
	}
	count := uint32(0) // opcodes that the version has heard of
	for _, o := range opSince {
		if o.in <= s.cfg.Version {
			count = max(count, uint32(o.what)+1)
		}
	}
	head := unsafe.Slice((*byte)(arg), 16+8*n)
	head[0] = uint8(count - 1)
	head[1] = uint8(min(n, count))
	for op := range min(n, count) {
		e := head[16+8*op:]
		e[0] = uint8(op)
		if s.hasOp[op] {
			e[2] |= 1 // IO_URING_OP_SUPPORTED
		}
	}
	return 0
}

func (s *Sim) registerRestrictions(arg unsafe.Pointer, n uint32) syscall.Errno {
	switch {
	case !s.disabled:
		return syscall.EBADFD
	case s.sealed:
		return syscall.EBUSY
	}
	for _, rule := range unsafe.Slice((*[16]byte)(arg), n) {
		value := rule[2]
		switch rule[0] {
		case 0: // IORING_RESTRICTION_REGISTER_OP
			if s.cfg.Version < registerSince[uint32(value)] {
				return syscall.EINVAL
			}
			s.allowRegister[value] = true
		case 1: // IORING_RESTRICTION_SQE_OP
			if int(value) >= OpCount || !s.hasOp[value] {
				return syscall.EINVAL
			}
			s.allowOp[value] = true
		case 2: // IORING_RESTRICTION_SQE_FLAGS_ALLOWED
			s.allowFlags = value
		default:
			return syscall.EINVAL
		}
	}
	s.sealed = true
	return 0
}

func (s *Sim) registerEnable() syscall.Errno {
	if !s.disabled {
		return syscall.EBADFD
	}
	s.disabled = false
	s.restricted = s.sealed
	if s.flags&setupSingleIssuer != 0 {
		s.owner = unix.Gettid()
	}
	return 0
}

// now is the time that timeouts go by.
func (s *Sim) now() time.Duration {
	if s.cfg.RealTime {
		return time.Since(s.born)
	}
	return s.clock
}
