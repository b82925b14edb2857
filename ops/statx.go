package ops

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

var kindStatx = &Kind{Name: "statx", Code: ring.OpStatx, Prepare: prepareStatx, Writes: true}

// Statx fills st with the attributes in mask (unix.STATX_*) of path, relative to dirfd unless absolute. flags are unix.AT_*: with
// AT_EMPTY_PATH and an empty path it describes dirfd itself, with AT_SYMLINK_NOFOLLOW a symbolic link. st.Mask tells which
// attributes the file system had. The kernel writes to st until the result is in; the path is copied. Kernel 5.6, statx(2).
func Statx(dirfd int, path string, flags int, mask uint32, st *unix.Statx_t) Op[*unix.Statx_t] {
	s := Spec{Kind: kindStatx, FD: int32(dirfd), mem: unsafe.Pointer(st), len: uint32(unsafe.Sizeof(*st)), off: uint64(mask),
		opFlags: uint32(flags)}
	s.setPath(path)
	return Op[*unix.Statx_t]{Spec: s, Buf: st}
}

func prepareStatx(s *Spec, e *ring.SQE) {
	e.Addr = s.path()
	e.Off = uint64(uintptr(s.mem))
	e.Len = uint32(s.off)
	e.OpFlags = s.opFlags
}
