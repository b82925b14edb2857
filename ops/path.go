package ops

import (
	"strings"
	"syscall"
	"unsafe"
)

// cpath is the first byte of NUL-terminated strings, one after the other, in memory that belongs to the operation: a pointer
// to it keeps them all.
type cpath byte

var nulInside = &invalid{syscall.EINVAL}

// setPath gives the operation a copy of a path. A NUL byte inside makes the operation invalid, as open(2) would see another
// path than the caller.
func (s *Spec) setPath(path string) {
	if strings.IndexByte(path, 0) >= 0 {
		s.aux = nulInside
		return
	}
	b := make([]byte, len(path)+1)
	copy(b, path)
	s.aux = (*cpath)(unsafe.SliceData(b))
}

// setPaths gives the operation copies of two paths. The offset of the second one is kept in off.
func (s *Spec) setPaths(first, second string) {
	if strings.IndexByte(first, 0) >= 0 || strings.IndexByte(second, 0) >= 0 {
		s.aux = nulInside
		return
	}
	b := make([]byte, len(first)+len(second)+2)
	copy(b, first)
	copy(b[len(first)+1:], second)
	s.aux = (*cpath)(unsafe.SliceData(b))
	s.off = uint64(len(first) + 1)
}

// path returns the address of the path, or of the first one: zero, which the kernel answers with EFAULT, if the operation is
// invalid.
func (s *Spec) path() uint64 {
	p, _ := s.aux.(*cpath)
	return uint64(uintptr(unsafe.Pointer(p)))
}

// path2 returns the address of the second path.
func (s *Spec) path2() uint64 {
	if p := s.path(); p != 0 {
		return p + s.off
	}
	return 0
}
