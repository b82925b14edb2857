package ops

import "uringo/internal/ring"

var (
	kindFallocate = &Kind{Name: "fallocate", Code: ring.OpFallocate, Prepare: prepareFallocate}
	kindFtruncate = &Kind{Name: "ftruncate", Code: ring.OpFtruncate}
)

// Fallocate reserves, zeroes, punches out or moves n bytes at offset off of fd, as mode says (unix.FALLOC_FL_*; 0 reserves and grows the
// file). Kernel 5.6, fallocate(2).
func Fallocate(fd int, mode uint32, off, n int64) Op[struct{}] {
	return Op[struct{}]{Spec: Spec{Kind: kindFallocate, FD: int32(fd), off: uint64(off), len: mode, aux: length(n)}}
}

// length is a number of bytes that does not fit Spec.len.
type length int64

func prepareFallocate(s *Spec, e *ring.SQE) {
	n, _ := s.aux.(length)
	e.Off = s.off
	e.Addr = uint64(n)
	e.Len = s.len
}

// Ftruncate makes fd exactly size bytes long. Kernel 6.9, ftruncate(2).
func Ftruncate(fd int, size int64) Op[struct{}] {
	return Op[struct{}]{Spec: Spec{Kind: kindFtruncate, FD: int32(fd), off: uint64(size)}}
}
