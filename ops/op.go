package ops

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"uringo/internal/ring"
)

// Result is the outcome of an operation. Buf is what was submitted with it, also when Err is set; it is the zero value only
// if the operation was abandoned, which Err then says.
type Result[T any] struct {
	N   int // bytes moved, a descriptor, or what else the operation returns
	Buf T
	Err error
}

// Op is one operation, ready to be submitted once. Buf is what it borrows, of type T: the kernel's until the operation has ended.
type Op[T any] struct {
	Spec
	Buf T
}

// Result combines the outcome of the operation with its buffer.
func (o *Op[T]) Result(n int, err error) Result[T] { return Result[T]{N: n, Buf: o.Buf, Err: err} }

// Route says who performs an operation.
type Route uint8

const (
	// RouteRing gives it to the ring, or to a plain call where the ring lacks the opcode.
	RouteRing Route = iota
	// RouteCall gives it to a bounded pool of goroutines that make plain system calls: for what the kernel would only
	// hand to a worker thread of its own.
	RouteCall
)

// Spec is the untyped half of an operation: everything that the driver and the kernel need. The memory it refers to stays
// reachable through it.
type Spec struct {
	Kind    *Kind          // what to do
	mem     unsafe.Pointer // first byte of the caller's memory that the kernel touches
	aux     any            // the operation's own memory: paths, iovecs, structures; or *invalid
	off     uint64
	FD      int32  // the descriptor, or with Direct the place in the ring's table
	len     uint32 // how many bytes mem has; without mem, what the operation likes
	opFlags uint32
	Route   Route // who does it
	Flags   uint8 // SQE flags (IOSQE_*): Async, Direct

	// PollFirst has an operation on a socket wait for readiness before the kernel's first attempt, which so is spared where nothing
	// will be there for long. What is there already costs more with it than without. Kinds and kernels that do not know it ignore
	// it. Kernel 5.19; accept 6.10. IORING_RECVSEND_POLL_FIRST, IORING_ACCEPT_POLL_FIRST, io_uring_enter(2).
	PollFirst bool

	// Patient says that the caller waits for the end of the operation in any case: driver.Config.CancelGrace does not let it go.
	Patient bool

	// Release, if not nil, is called when the kernel has let go of an operation that its caller abandoned; never for one
	// whose result was delivered. It runs on the driver goroutine and must not block.
	Release func()

	// As says whose rights the operation is performed with, instead of the process's: nil for the latter. Kernel 5.6.
	As *Identity
}

// Kind describes an opcode. Kinds are package-level values; the driver compares and counts them, and never looks inside an
// operation otherwise.
type Kind struct {
	Name string  // for statistics and error messages
	Code ring.Op // IORING_OP_*

	// Prepare fills the entry. Nil means the common shape: FD, memory, length, offset and flags in their places.
	Prepare func(*Spec, *ring.SQE)

	// Discard gives back what a late result created: a descriptor nobody asked for any more. Nil if there is nothing.
	Discard func(*Spec, int32)

	// Writes says that the kernel writes to the operation's memory; otherwise it only reads it.
	Writes bool

	// Bounded says that a result counts bytes, so that one beyond the length asked for is nonsense.
	Bounded bool

	// Waits says that the operation may wait for ever until somebody brings something, so that too many of them must not keep others out: those
	// who bring it. Gives says the same of one that brings something, and may wait for ever until somebody takes it.
	Waits, Gives bool

	// Breaks says that a failure of the operation, or a transfer of less than was asked for, keeps what is linked behind it from running
	// (IOSQE_IO_LINK). The kernel lets the failures of many others pass.
	Breaks bool

	// Plugs says that the kernel holds back what is for a block device until the end of the submission, to send it all at once (a plug).
	Plugs bool

	// Asks says that the driver asks the socket before it lets the kernel wait with the operation: see [Spec.Loses].
	Asks bool

	// Once forbids repeating the operation after EINTR: the kernel may have done it.
	Once bool

	// Ready returns the events of the descriptor to wait for (unix.POLLIN, …) when the kernel gives back an operation that would have to
	// wait, as some do for descriptors with O_NONBLOCK; 0 if none would help, and the operation is tried again after a pause. Nil is
	// the same as 0 always.
	Ready func(s *Spec, res int32) uint32

	// Holds says that the kernel may wait for a peer with a lock in its hands, as a splice between a socket and a pipe holds the pipe's: whoever
	// uses the pipe meanwhile waits for that peer, too, the driver among them, and no cancellation reaches it. Plain calls ask first, so it is one.
	Holds bool

	// NoWait holds those operation flags that ask for EAGAIN instead of waiting: see [Spec.NoWait].
	NoWait uint32

	// Performed is told that the operation has succeeded and its result is known, but the kernel still has its memory (zero copy), and
	// Notify what the kernel says when it lets go of that. Nil if nobody wants to know.
	Performed func(s *Spec)
	Notify    func(s *Spec, res int32)

	// Fixed is the opcode that does the same with registered memory; 0 if there is none, or if the memory cannot be registered.
	Fixed ring.Op

	// PollFirst is the flag that stands for [Spec.PollFirst], 0 if there is none.
	PollFirst uint16

	// Direct says that the operation works on the ring's table of files as such: it opens into it, or closes there.
	Direct bool

	// Result makes of a result that is not negative what the user is to see. Nil means that it is the same.
	Result func(s *Spec, res int32) int

	// InVain reports whether a result that is not negative is nothing that was asked for: then the operation goes on as a plain call, or, on a
	// place in the ring's table, is repeated after pauses. Nil means that there is no such thing.
	InVain func(s *Spec, res int32) bool

	// Success is a negative result that means success, such as -ETIME of a timeout; 0 if there is none.
	Success int32
}

// ErrBadResult means that the kernel's answer made no sense, such as more bytes than were asked for.
var ErrBadResult = errors.New("uringo: impossible result from the kernel")

// Prepare fills an entry with the operation. User data is the driver's.
func (s *Spec) Prepare(e *ring.SQE) {
	e.Op = s.Kind.Code
	e.Flags = s.Flags
	e.FD = s.FD
	if s.As != nil {
		e.Personality = s.As.ID
	}
	if s.Kind.Prepare != nil {
		s.Kind.Prepare(s, e)
		return
	}
	e.Addr = uint64(uintptr(s.mem))
	e.Len = s.len
	e.Off = s.off
	e.OpFlags = s.opFlags
}

// Invalid returns what is wrong with the operation's arguments, or nil. An operation that is invalid must not be submitted: its
// outcome is this error.
func (s *Spec) Invalid() error {
	switch {
	case s.Kind == nil:
		return errNone
	case s.aux == nil:
		return nil
	}
	if v, ok := s.aux.(*invalid); ok {
		return v.err
	}
	return nil
}

// errNone is what is wrong with the zero Spec.
var errNone = errors.New("uringo: no operation")

// invalid stands in place of an operation's memory when that could not be made.
type invalid struct{ err error }

// NoWait reports whether the operation asked for EAGAIN instead of waiting, so that EAGAIN is its outcome and no reason to
// try again.
func (s *Spec) NoWait() bool { return s.opFlags&s.Kind.NoWait != 0 }

// Ready reports what to wait for before the operation is tried again, after the kernel gave it back with this result: 0 if it
// does not wait for readiness. See [Kind].
func (s *Spec) Ready(res int32) uint32 {
	if s.Kind.Ready == nil || s.NoWait() {
		return 0
	}
	return s.Kind.Ready(s, res)
}

// Finish turns the raw result into a count and an error.
func (s *Spec) Finish(res int32) (int, error) {
	if res >= 0 {
		if s.Kind.Bounded && uint64(res) > s.total() {
			return 0, fmt.Errorf("%w: %s returned %d of %d bytes", ErrBadResult, s.Kind.Name, res, s.total())
		}
		if s.Kind.Result != nil {
			return s.Kind.Result(s, res), nil
		}
		return int(res), nil
	}
	if res == s.Kind.Success {
		return 0, nil
	}
	return 0, Errno(res)
}

// InVain reports whether a result that is not negative is nothing that was asked for: see Kind.InVain.
func (s *Spec) InVain(res int32) bool { return s.Kind.InVain != nil && s.Kind.InVain(s, res) }

// Performed passes on that the result is known: see Kind.Performed.
func (s *Spec) Performed() {
	if s.Kind.Performed != nil {
		s.Kind.Performed(s)
	}
}

// Notified takes over a notification: see Kind.Notify.
func (s *Spec) Notified(res int32) {
	if s.Kind.Notify != nil {
		s.Kind.Notify(s, res)
	}
}

// Discard gives back what a result created when nobody will see it.
func (s *Spec) Discard(res int32) {
	if res >= 0 && s.Kind.Discard != nil {
		s.Kind.Discard(s, res)
	}
}

// total is how many bytes the operation may move.
func (s *Spec) total() uint64 {
	switch v := s.aux.(type) {
	case *vec:
		return v.total
	case *Msg:
		return v.vec.total
	}
	return uint64(s.len)
}

// Errno turns a negative result into an error that belongs to users. The kernel's internal restart codes (512 to 516, 530)
// mean "interrupted" and appear as EINTR; anything that is no errno at all is [ErrBadResult].
func Errno(res int32) error {
	switch {
	case Interrupted(res):
		return syscall.EINTR
	case res < 0 && res >= -4095:
		return syscall.Errno(-res)
	}
	return fmt.Errorf("%w: result %d", ErrBadResult, res)
}

// Interrupted reports whether a result says that a signal or a cancellation stopped the operation before it did anything:
// EINTR, or one of the kernel's internal restart codes, which leak from blocking opens.
func Interrupted(res int32) bool {
	return res == -int32(syscall.EINTR) || (res <= -512 && res >= -516) || res == -530
}

// bytes returns the address of b's first byte, or nil.
func bytes(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }
