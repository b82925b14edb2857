package ring

import (
	"syscall"
	"unsafe"
)

// Kernel is the seam between the queues and whatever stands behind them: the calls of io_uring(7) and nothing else. The
// methods may be called from the goroutine that owns the ring alone, except Wake.
//
// The memory that Map returns has the layout that Setup described in Params, and both sides access heads, tails and flags
// with atomic loads and stores.
type Kernel interface {
	// Setup is io_uring_setup(2). It fills in p and returns the ring's descriptor.
	Setup(entries uint32, p *Params) (fd int, err error)

	// Map is mmap(2) of one of the ring's areas: offset is IORING_OFF_SQ_RING, _CQ_RING or _SQES.
	Map(fd int, offset uint64, size int) ([]byte, error)

	// Unmap undoes Map.
	Unmap(mem []byte) error

	// Register is io_uring_register(2).
	Register(fd int, op uint32, arg unsafe.Pointer, n uint32) (int, syscall.Errno)

	// Enter is io_uring_enter2(2). arg is non-nil exactly when flags has EnterExtArg. A call with minComplete > 0 may
	// block; it returns early, as if a signal had come, after Wake.
	Enter(fd int, submit, minComplete, flags uint32, arg *WaitArg) (int, syscall.Errno)

	// OpenWake prepares Wake. If the kernel delivers a wake-up only through the ring itself, it returns a descriptor on
	// which the ring keeps an 8-byte read in flight; otherwise a negative number.
	OpenWake() (fd int, err error)

	// Wake makes a blocked Enter return, or the next one if none is blocked. It may be called from any goroutine between
	// OpenWake and CloseWake.
	Wake()

	// CloseWake undoes OpenWake.
	CloseWake() error

	// Close closes the ring's descriptor. Entries in flight are the caller's concern: see [Ring.Close].
	Close(fd int) error
}

// Call is the plain system call behind an opcode. The portable engine runs it, and the kernel engine does for opcodes that
// the running kernel lacks.
type Call struct {
	// Do performs the request described by the entry and returns its result or a negative errno. It may block.
	// The memory that the entry names stays valid until Do returns.
	Do func(*SQE) int32

	// Try performs the request if that is possible without waiting for the file to become ready, and returns -EAGAIN
	// otherwise. Nil means that the request never waits for readiness.
	Try func(*SQE) int32

	// Poll is what to wait for when Try said -EAGAIN: unix.POLLIN or unix.POLLOUT, on the entry's FD.
	Poll int16

	// Wants says on which descriptor to wait and for what, for requests where FD and Poll do not tell. Nil means that they do. A
	// negative descriptor means that no event tells when to try again: then -EAGAIN is the result.
	Wants func(*SQE) (fd int32, events int16)

	// End is asked when Try still says -EAGAIN although the descriptor was ready for reading, and says so, too, unless nothing can come any more: a
	// socket that was shut down may be ready for ever. Nil means that Try tells of that.
	End func(*SQE) int32

	// NoWait holds those operation flags that make -EAGAIN from Try the result.
	NoWait uint32

	// Now is Try for whoever submits the request, and says -EAGAIN to what could take long, such as a disk. Nil means that all of it could.
	Now func(*SQE) int32

	// Drop gives back what a result created when nobody will learn of it; nil if there is nothing to give back.
	Drop func(*SQE, int32)
}

// CallTable holds the call of every opcode; an opcode with a nil Do does not exist.
type CallTable [OpCount]Call
