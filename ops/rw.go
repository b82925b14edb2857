package ops

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

// MaxTransfer is the largest number of bytes that one operation moves; longer buffers are transferred up to it, as a short
// read or write. It is far below the kernel's own limit (MAX_RW_COUNT, 2 GiB less a page), and a multiple of every block size.
const MaxTransfer = 1 << 30

var (
	kindRead   = &Kind{Name: "read", Code: ring.OpRead, Writes: true, Bounded: true, Waits: true}
	kindWrite  = &Kind{Name: "write", Code: ring.OpWrite, Bounded: true}
	kindReadv  = &Kind{Name: "readv", Code: ring.OpReadv, Prepare: prepareVec, Writes: true, Bounded: true, Waits: true}
	kindWritev = &Kind{Name: "writev", Code: ring.OpWritev, Prepare: prepareVec, Bounded: true}
)

// ReadAt reads into buf from offset off of fd, once: it may be short, and N is 0 at the end of the file. An offset of -1 means
// the file position, for pipes and other files without offsets. Kernel 5.6, pread(2).
func ReadAt(fd int, buf []byte, off int64) Op[[]byte] {
	return Op[[]byte]{Spec: transfer(kindRead, fd, buf, off), Buf: buf}
}

// WriteAt writes buf at offset off of fd, once: it may be short. An offset of -1 means the file position. Kernel 5.6, pwrite(2).
func WriteAt(fd int, buf []byte, off int64) Op[[]byte] {
	return Op[[]byte]{Spec: transfer(kindWrite, fd, buf, off), Buf: buf}
}

func transfer(k *Kind, fd int, buf []byte, off int64) Spec {
	return Spec{Kind: k, FD: int32(fd), mem: bytes(buf), len: uint32(min(len(buf), MaxTransfer)), off: uint64(off)}
}

// vec is the memory of a vectored operation.
type vec struct {
	iov   []unix.Iovec
	bufs  [][]byte
	total uint64
}

// MaxVec is the number of buffers that one vectored operation takes (IOV_MAX); further ones are left for the next.
const MaxVec = 1024

// ReadvAt reads into bufs, one after the other, from offset off of fd, once. Kernel 5.1, preadv(2).
func ReadvAt(fd int, bufs [][]byte, off int64) Op[[][]byte] {
	return vectored(kindReadv, fd, bufs, off)
}

// WritevAt writes bufs, one after the other, at offset off of fd, once. Kernel 5.1, pwritev(2).
func WritevAt(fd int, bufs [][]byte, off int64) Op[[][]byte] {
	return vectored(kindWritev, fd, bufs, off)
}

func vectored(k *Kind, fd int, bufs [][]byte, off int64) Op[[][]byte] {
	v := &vec{bufs: bufs, iov: make([]unix.Iovec, 0, min(len(bufs), MaxVec))}
	for _, b := range bufs {
		if len(v.iov) == MaxVec || v.total == MaxTransfer {
			break
		}
		n := min(uint64(len(b)), MaxTransfer-v.total)
		iov := unix.Iovec{Base: unsafe.SliceData(b)}
		iov.SetLen(int(n))
		v.iov = append(v.iov, iov)
		v.total += n
	}
	return Op[[][]byte]{Spec: Spec{Kind: k, FD: int32(fd), aux: v, off: uint64(off)}, Buf: bufs}
}

func prepareVec(s *Spec, e *ring.SQE) {
	v := s.aux.(*vec)
	e.Addr = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(v.iov))))
	e.Len = uint32(len(v.iov))
	e.Off = s.off
	e.OpFlags = s.opFlags
}
