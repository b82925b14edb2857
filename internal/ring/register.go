package ring

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Register opcodes for what the ring keeps at hand.
const (
	registerFiles2        uint32 = 13 // 5.13
	registerBuffers2      uint32 = 15 // 5.13
	registerBuffersUpdate uint32 = 16 // 5.13
	registerFileRange     uint32 = 25 // 6.0
)

// sparse makes a table of empty places (IORING_RSRC_REGISTER_SPARSE, 5.19).
const sparse uint32 = 1

// resources is struct io_uring_rsrc_register.
type resources struct {
	nr    uint32
	flags uint32
	_     uint64
	data  uint64
	tags  uint64
}

// forTables is what it takes to register users, buffers and files, the newest last.
var forTables = []uint32{registerPersonality, unregisterPersonality, registerFiles2, registerBuffers2,
	registerBuffersUpdate, registerPbufRing, unregisterPbufRing, registerFileRange}

// resourceUpdate is struct io_uring_rsrc_update2.
type resourceUpdate struct {
	offset uint32
	_      uint32
	data   uint64
	tags   uint64
	nr     uint32
	_      uint32
}

// fileRange is struct io_uring_file_index_range.
type fileRange struct {
	off, len uint32
	_        uint64
}

// OpenBuffers gives the ring a table of n registered buffers, all empty. Owner only; once. Kernel 5.19.
func (r *Ring) OpenBuffers(n uint32) error {
	return r.openTable(registerBuffers2, "buffer", n)
}

// OpenFiles gives the ring a table of n direct descriptors, all empty, in which the kernel chooses places, but not among the first kept.
// Owner only; once. Kernel 6.0.
func (r *Ring) OpenFiles(n, kept uint32) error {
	if err := r.openTable(registerFiles2, "file", n); err != nil {
		return err
	}
	rest := &fileRange{off: kept, len: n - kept}
	if _, errno := r.k.Register(r.fd, registerFileRange, unsafe.Pointer(rest), 0); errno != 0 {
		return fmt.Errorf("io_uring_register (file range, Linux 6.0): %w", errno)
	}
	return nil
}

func (r *Ring) openTable(op uint32, what string, n uint32) error {
	table := &resources{nr: n, flags: sparse}
	if _, errno := r.k.Register(r.fd, op, unsafe.Pointer(table), uint32(unsafe.Sizeof(*table))); errno != 0 {
		return fmt.Errorf("io_uring_register (%s table, Linux 5.19): %w", what, errno)
	}
	return nil
}

// SetBuffer registers memory under an index of the table, or none: then the place is empty. Operations that have begun go on with
// what was there. Owner only. Kernel 5.13.
func (r *Ring) SetBuffer(index uint32, mem []byte) error {
	// One piece of memory: it is on the heap, for the call is given its address. A vector of its own would be on the stack, which moves.
	u := &struct {
		resourceUpdate
		iov unix.Iovec
	}{resourceUpdate: resourceUpdate{offset: index, nr: 1}}
	if len(mem) > 0 {
		u.iov.Base = unsafe.SliceData(mem)
		u.iov.SetLen(len(mem))
	}
	u.data = uint64(uintptr(unsafe.Pointer(&u.iov)))
	_, errno := r.k.Register(r.fd, registerBuffersUpdate, unsafe.Pointer(u), uint32(unsafe.Sizeof(u.resourceUpdate)))
	runtime.KeepAlive(u)
	switch errno {
	case 0:
		return nil
	case syscall.ENOMEM:
		return fmt.Errorf("io_uring_register (%d bytes of buffers): %w: more than the user may lock (RLIMIT_MEMLOCK is %s)",
			len(mem), errno, limitText(memlock()))
	}
	return fmt.Errorf("io_uring_register (%d bytes of buffers): %w", len(mem), errno)
}

func limitText(n uint64) string {
	if n == unix.RLIM_INFINITY {
		return "unlimited"
	}
	return fmt.Sprintf("%d bytes", n)
}
