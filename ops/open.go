package ops

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

var (
	kindOpenat  = &Kind{Name: "openat", Code: ring.OpOpenat, Breaks: true, Prepare: prepareOpenat, Discard: discardFD}
	kindOpenat2 = &Kind{Name: "openat2", Code: ring.OpOpenat2, Breaks: true, Prepare: prepareOpenat2, Discard: discardFD}
)

// Openat opens path, relative to dirfd unless absolute, with O_* flags and, for a new file, permissions before umask. N is the
// descriptor; it is always close-on-exec. unix.AT_FDCWD stands for the working directory. The path is copied.
//
// A FIFO is opened without waiting for its other end, unlike open(2): O_RDONLY succeeds, O_WRONLY without a reader is ENXIO. That
// holds unless the kernel hands the request to a worker thread, as it does with O_CREAT and O_TRUNC. Kernel 5.6, openat(2).
func Openat(dirfd int, path string, flag int, perm uint32) Op[struct{}] {
	s := Spec{Kind: kindOpenat, FD: int32(dirfd), len: perm, opFlags: uint32(openFlags(uint64(flag)))}
	s.setPath(path)
	return Op[struct{}]{Spec: s}
}

// openFlags adds the flags that every descriptor of ours has.
func openFlags(flag uint64) uint64 {
	if flag&unix.O_PATH == 0 { // with which openat2 refuses O_LARGEFILE
		flag |= unix.O_LARGEFILE
	}
	return flag | unix.O_CLOEXEC
}

func prepareOpenat(s *Spec, e *ring.SQE) {
	e.Addr = s.path()
	e.Len = s.len
	e.OpFlags = s.opFlags
}

// howPath is the memory of an openat2.
type howPath struct {
	how  unix.OpenHow
	path *cpath
}

// Openat2 is [Openat] with rules for resolving the path (unix.RESOLVE_*). The mode in how must be 0 unless a file may be made.
// The path and how are copied. Kernel 5.6, openat2(2).
func Openat2(dirfd int, path string, how unix.OpenHow) Op[struct{}] {
	s := Spec{Kind: kindOpenat2, FD: int32(dirfd)}
	s.setPath(path)
	if path, ok := s.aux.(*cpath); ok {
		how.Flags = openFlags(how.Flags)
		s.aux = &howPath{how, path}
	}
	return Op[struct{}]{Spec: s}
}

func prepareOpenat2(s *Spec, e *ring.SQE) {
	h, ok := s.aux.(*howPath)
	if !ok {
		return
	}
	e.Addr = uint64(uintptr(unsafe.Pointer(h.path)))
	e.Len = uint32(unsafe.Sizeof(h.how))
	e.Off = uint64(uintptr(unsafe.Pointer(&h.how)))
}

// discardFD closes a descriptor whose number nobody will learn.
func discardFD(_ *Spec, res int32) {
	// What close says is of no use to anybody: the descriptor is gone in any case.
	_ = unix.Close(int(res))
}
