package ops

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/internal/ring"
)

// MaxTransfer is the largest number of bytes that one operation moves; longer buffers are transferred up to it, as a short
// read or write. It is far below the kernel's own limit (MAX_RW_COUNT, 2 GiB less a page), and a multiple of every block size.
const MaxTransfer = 1 << 30

var (
	kindRead  = &Kind{Name: "read", Code: ring.OpRead, Breaks: true, Plugs: true, Writes: true, Bounded: true, Waits: true, NoWait: unix.RWF_NOWAIT}
	kindWrite = &Kind{Name: "write", Code: ring.OpWrite, Breaks: true, Plugs: true, Gives: true, Bounded: true, NoWait: unix.RWF_NOWAIT}
	kindReadv = &Kind{Name: "readv", Code: ring.OpReadv, Breaks: true, Plugs: true, Prepare: prepareVec, Writes: true, Bounded: true, Waits: true,
		NoWait: unix.RWF_NOWAIT}
	kindWritev = &Kind{Name: "writev", Code: ring.OpWritev, Breaks: true, Plugs: true, Prepare: prepareVec, Gives: true, Bounded: true, NoWait: unix.RWF_NOWAIT}
)

// ReadAt reads into buf from offset off of fd, once: it may be short, and N is 0 at the end of the file. An offset of -1 means
// the file position, for pipes and other files without offsets. The kernel writes to buf until the result is in.
// Kernel 5.6, pread(2).
func ReadAt(fd int, buf []byte, off int64) Op[[]byte] { return ReadAtFlags(fd, buf, off, 0) }

// ReadAtFlags is [ReadAt] with RWF flags (unix.RWF_NOWAIT and others). With RWF_NOWAIT, EAGAIN is an outcome like any other. Kernel 5.6, preadv2(2).
func ReadAtFlags(fd int, buf []byte, off int64, flags uint32) Op[[]byte] {
	return Op[[]byte]{Spec: transfer(kindRead, fd, buf, off, flags), Buf: buf}
}

// WriteAt writes buf at offset off of fd, once: it may be short. An offset of -1 means the file position, which the
// ring leaves where it was if it could write a part only, for want of space say; with O_APPEND the offset does not count. The kernel reads buf
// until the result is in. Kernel 5.6, pwrite(2).
func WriteAt(fd int, buf []byte, off int64) Op[[]byte] { return WriteAtFlags(fd, buf, off, 0) }

// WriteAtFlags is [WriteAt] with RWF flags. Kernel 5.6, pwritev2(2).
func WriteAtFlags(fd int, buf []byte, off int64, flags uint32) Op[[]byte] {
	return Op[[]byte]{Spec: transfer(kindWrite, fd, buf, off, flags), Buf: buf}
}

func transfer(k *Kind, fd int, buf []byte, off int64, flags uint32) Spec {
	s := Spec{Kind: k, FD: int32(fd), mem: bytes(buf), len: uint32(min(len(buf), MaxTransfer)), off: uint64(off),
		opFlags: flags}
	if len(buf) > MaxTransfer {
		s.aux = length(len(buf)) // see asked
	}
	return s
}

// vec is the memory of a vectored operation.
type vec struct {
	iov   []unix.Iovec
	bufs  [][]byte
	total uint64       // bytes in iov
	asked uint64       // bytes in bufs
	fixed []*buf.Fixed // the buffers that bufs are the views of, if they are
}

// MaxVec is the number of buffers that one vectored operation takes (IOV_MAX), not counting empty ones; further ones are left for the next.
const MaxVec = 1024

// ReadvAt reads into bufs, one after the other, from offset off of fd, once; see [ReadAt]. Kernel 5.1, preadv(2).
func ReadvAt(fd int, bufs [][]byte, off int64) Op[[][]byte] { return ReadvAtFlags(fd, bufs, off, 0) }

// ReadvAtFlags is [ReadvAt] with RWF flags. Kernel 5.1, preadv2(2).
func ReadvAtFlags(fd int, bufs [][]byte, off int64, flags uint32) Op[[][]byte] {
	return vectored(kindReadv, fd, bufs, off, flags)
}

// WritevAt writes bufs, one after the other, at offset off of fd, once; see [WriteAt]. Kernel 5.1, pwritev(2).
func WritevAt(fd int, bufs [][]byte, off int64) Op[[][]byte] { return WritevAtFlags(fd, bufs, off, 0) }

// WritevAtFlags is [WritevAt] with RWF flags. Kernel 5.1, pwritev2(2).
func WritevAtFlags(fd int, bufs [][]byte, off int64, flags uint32) Op[[][]byte] {
	return vectored(kindWritev, fd, bufs, off, flags)
}

func vectored(k *Kind, fd int, bufs [][]byte, off int64, flags uint32) Op[[][]byte] {
	v := new(vec)
	v.set(bufs)
	return Op[[][]byte]{Spec: Spec{Kind: k, FD: int32(fd), aux: v, off: uint64(off), opFlags: flags}, Buf: bufs}
}

// set describes bufs, as far as one operation goes. Empty ones do not count: an operation of nothing else would move nothing, as if the file had
// ended.
func (v *vec) set(bufs [][]byte) {
	if n := min(len(bufs), MaxVec); n > cap(v.iov) {
		v.iov = make([]unix.Iovec, 0, n)
	}
	v.bufs, v.iov, v.total, v.asked = bufs, v.iov[:0], 0, 0
	for _, b := range bufs {
		v.asked += uint64(len(b))
		if len(b) == 0 || len(v.iov) == MaxVec || v.total == MaxTransfer {
			continue
		}
		n := min(uint64(len(b)), MaxTransfer-v.total)
		iov := unix.Iovec{Base: unsafe.SliceData(b)}
		iov.SetLen(int(n))
		v.iov = append(v.iov, iov)
		v.total += n
	}
}

func prepareVec(s *Spec, e *ring.SQE) {
	v := s.aux.(*vec)
	e.Addr = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(v.iov))))
	e.Len = uint32(len(v.iov))
	e.Off = s.off
	e.OpFlags = s.opFlags
}
