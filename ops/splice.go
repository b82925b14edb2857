package ops

import (
	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

var (
	kindSplice = &Kind{Name: "splice", Code: ring.OpSplice, Prepare: prepareSplice, Bounded: true, Waits: true, Ends: true,
		NoWait: unix.SPLICE_F_NONBLOCK}

	// What has an offset waits for nobody to bring it, but the pipe that it goes into may be full.
	kindSpliceFile = &Kind{Name: "splice", Code: ring.OpSplice, Prepare: prepareSplice, Bounded: true, Gives: true, Ends: true,
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
// driver.Config.InFlight. Kernel 5.7, splice(2).
func Splice(in int, inOff int64, out int, outOff int64, n int, flags uint32) Op[struct{}] {
	k := kindSplice
	if inOff >= 0 {
		k = kindSpliceFile
	}
	return Op[struct{}]{Spec: Spec{Kind: k, FD: int32(out), off: uint64(outOff), len: uint32(max(0, min(n, MaxTransfer))),
		opFlags: flags, aux: &spliceFrom{int32(in), uint64(inOff)}}}
}

func prepareSplice(s *Spec, e *ring.SQE) {
	from := s.aux.(*spliceFrom)
	e.FileIndex = from.fd
	e.Addr = from.off
	e.Off = s.off
	e.Len = s.len
	e.OpFlags = s.opFlags
}
