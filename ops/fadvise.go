package ops

import (
	"math"

	"uringo/internal/ring"
)

var kindFadvise = &Kind{Name: "fadvise", Code: ring.OpFadvise, Prepare: prepareFadvise}

// Fadvise announces how n bytes from offset off of fd will be used (unix.FADV_*); n = 0 means to the end. More than 4 GiB at a time need
// kernel 6.10, and are EINVAL before it. Kernel 5.6, posix_fadvise(2).
func Fadvise(fd int, off, n int64, advice int) Op[struct{}] {
	return Op[struct{}]{Spec: Spec{Kind: kindFadvise, FD: int32(fd), off: uint64(off), opFlags: uint32(advice), aux: length(n)}}
}

func prepareFadvise(s *Spec, e *ring.SQE) {
	n, _ := s.aux.(length)
	e.Off = s.off
	if n >= 0 && n <= math.MaxUint32 {
		e.Len = uint32(n)
	} else {
		e.Addr = uint64(n)
	}
	e.OpFlags = s.opFlags
}
