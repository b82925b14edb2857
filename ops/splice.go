package ops

import (
	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

var (
	kindSplice = &Kind{Name: "splice", Code: ring.OpSplice, Prepare: prepareSplice, Bounded: true, Waits: true, Holds: true,
		NoWait: unix.SPLICE_F_NONBLOCK}

	// What has an offset waits for nobody to bring it, but the pipe that it goes into may be full.
	kindSpliceFile = &Kind{Name: "splice", Code: ring.OpSplice, Prepare: prepareSplice, Bounded: true, Gives: true,
		NoWait: unix.SPLICE_F_NONBLOCK}
)

// spliceFrom is the source of a splice.
type spliceFrom struct {
	fd  int32
	off uint64
}

// Splice moves up to n bytes from in to out, one of which must be a pipe, without copying them through the process. Offsets are -1 for
// pipes, and for files whose position is meant. N may be short; 0 is the end of in. flags are unix.SPLICE_F_*. It waits also for what has O_NONBLOCK.
// A splice that may wait takes a place of those who wait for somebody to bring something, or with an offset in in, to take something: see
// driver.Config.InFlight. Without an offset in in it is a plain call on the driver's pool: the ring would keep the pipe locked while it waits for
// the peer at the other end. Kernel 5.7, splice(2).
func Splice(in int, inOff int64, out int, outOff int64, n int, flags uint32) Op[struct{}] {
	k := kindSplice
	if inOff >= 0 {
		k = kindSpliceFile
	}
	return Op[struct{}]{Spec: Spec{Kind: k, FD: int32(out), off: uint64(outOff), len: uint32(max(0, min(n, MaxTransfer))),
		opFlags: flags, aux: &spliceFrom{int32(in), uint64(inOff)}}}
}

// Refused reports whether EAGAIN says no more than that an end has O_NONBLOCK and is not ready, of which the kernel makes no reason to wait: a
// plain call does. What comes out of a file can only have come to a full pipe; for what has no offset see Kind.Holds.
func (s *Spec) Refused() bool {
	if s.Kind != kindSpliceFile || s.NoWait() {
		return false
	}
	flags, err := unix.FcntlInt(uintptr(s.FD), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_NONBLOCK != 0
}

func prepareSplice(s *Spec, e *ring.SQE) {
	from := s.aux.(*spliceFrom)
	e.FileIndex = from.fd
	e.Addr = from.off
	e.Off = s.off
	e.Len = s.len
	e.OpFlags = s.opFlags
}
