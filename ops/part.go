package ops

import (
	"slices"
	"unsafe"
)

// Short reports whether the result means that the operation moved less than it was asked to.
func (s *Spec) Short(res int32) bool {
	return s.Kind.Bounded && res >= 0 && uint64(res) < s.asked()
}

// Whole reports whether the operation can move all that it was asked to at once: it has no more than MaxTransfer bytes and MaxVec buffers.
func (s *Spec) Whole() bool { return s.asked() == s.total() }

// asked is how many bytes the caller wants moved, in as many operations as that takes.
func (s *Spec) asked() uint64 {
	switch v := s.aux.(type) {
	case *vec:
		return v.asked
	case *Msg:
		return v.vec.asked
	case length:
		if s.mem != nil {
			return uint64(v)
		}
	}
	return s.total()
}

// Advance makes an operation that moved n bytes one for the rest. It is false, and changes nothing, for those of which there is no rest
// that could be moved in the same way.
func (s *Spec) Advance(n int32) bool {
	v, vectored := s.aux.(*vec)
	switch {
	case !s.Short(n) || !s.Kind.Breaks || !vectored && s.mem == nil:
		return false
	case vectored:
		bufs, left := slices.Clone(v.bufs), int(n)
		for left >= len(bufs[0]) {
			left -= len(bufs[0])
			bufs = bufs[1:]
		}
		bufs[0] = bufs[0][left:]
		rest := &vec{fixed: v.fixed}
		rest.set(bufs)
		s.aux = rest
	default:
		left := s.asked() - uint64(n)
		s.mem, s.len = unsafe.Add(s.mem, n), uint32(min(left, MaxTransfer))
		if _, long := s.aux.(length); long {
			s.aux = length(left)
		}
	}
	if int64(s.off) != -1 {
		s.off += uint64(n)
	}
	return true
}
