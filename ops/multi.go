package ops

import (
	"math"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

var (
	kindAcceptMulti = &Kind{Name: "accept_multi", Code: ring.OpAccept, Prepare: prepareAcceptMulti, Waits: true, Discard: discardFD,
		Ready: readyRecv}
	kindRecvGroup = &Kind{Name: "recv_multi", Code: ring.OpRecv, Prepare: prepareRecvGroup, Waits: true, NoWait: unix.MSG_DONTWAIT,
		Ready: readyRecv}
	kindReadMulti = &Kind{Name: "read_multi", Code: ring.OpReadMultishot, Prepare: prepareReadGroup, Waits: true, Ready: readyRecv}
	kindReadGroup = &Kind{Name: "read_multi", Code: ring.OpRead, Prepare: prepareReadGroup, Waits: true, Ready: readyRecv}
)

// Multi is an operation that completes many times: see driver.SubmitMulti.
type Multi struct {
	Many Spec // the operation as a whole (multishot)
	Once Spec // one round of it, for kernels and engines that know nothing else

	// Passing says of an error that it is about one moment and not the end: the operation goes on, after a pause. Silent says that
	// nobody need be told of it. Nil means that every error is the end.
	Passing func(error) (passing, silent bool)

	// Ended, if not nil, is called when the kernel has let go of the operation: on the driver goroutine, so it must not block.
	Ended func()
}

// AcceptMulti takes every connection from the listening socket fd, as they come; each result is a descriptor, see [Accept]. Running out
// of descriptors or memory is an error that passes, and so is a connection that was reset before it was accepted, which is not worth
// telling. Multishot needs kernel 5.19; before it, and on the portable engine, it is one accept after the other. accept(2).
func AcceptMulti(fd int, flags int) Multi {
	once := Accept(fd, flags).Spec
	many := once
	many.Kind = kindAcceptMulti
	return Multi{Many: many, Once: once, Passing: acceptPasses}
}

func prepareAcceptMulti(s *Spec, e *ring.SQE) {
	e.IoPrio = ring.AcceptMultishot
	e.OpFlags = s.opFlags
}

func acceptPasses(err error) (passing, silent bool) {
	switch err {
	case syscall.ECONNABORTED:
		return true, true
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM:
		return true, false
	}
	return false, false
}

// RecvGroup receives from the socket fd into buffers that the kernel takes from a group of provided ones, again and again (multishot) or
// once; flags are as with [Recv]. With bundle, what is there may fill several buffers at once, in the order in which they were given. It is
// for the driver, which knows the buffers: see driver.RecvMulti. Kernel 5.19; multishot 6.0; bundles 6.10.
func RecvGroup(fd int, group uint16, flags int, again, bundle bool) Spec {
	s := Spec{Kind: kindRecvGroup, FD: int32(fd), off: uint64(group), opFlags: uint32(flags), Flags: ring.SQEBufferSelect}
	if again {
		s.len |= multishot
	}
	if bundle {
		s.len |= bundled
	}
	return s
}

// These stand in the length, which such operations have no use for.
const (
	multishot = 1 << iota
	bundled
)

func prepareRecvGroup(s *Spec, e *ring.SQE) {
	if s.len&multishot != 0 {
		e.IoPrio |= ring.RecvMultishot
	}
	if s.len&bundled != 0 {
		e.IoPrio |= ring.RecvBundle
	}
	e.BufIndex = uint16(s.off)
	e.OpFlags = s.opFlags
}

// ReadGroup reads from fd, which is no regular file, into buffers that the kernel takes from a group of provided ones, again and again
// (multishot) or once. It is for the driver, which knows the buffers: see driver.ReadMulti. Kernel 5.19; multishot 6.7.
func ReadGroup(fd int, group uint16, again bool) Spec {
	s := Spec{Kind: kindReadGroup, FD: int32(fd), off: uint64(group), Flags: ring.SQEBufferSelect}
	if again {
		s.Kind = kindReadMulti
	}
	return s
}

func prepareReadGroup(s *Spec, e *ring.SQE) {
	e.Off = math.MaxUint64 // the file position, which such files do not have
	e.BufIndex = uint16(s.off)
}
