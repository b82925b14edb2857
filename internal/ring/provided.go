package ring

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MaxProvided is how many buffers one ring of provided buffers has at most.
const MaxProvided = 32768

// Provided is a ring of provided buffers: memory that the kernel takes from when something arrives (io_uring_register(2),
// IORING_REGISTER_PBUF_RING). Its buffers are numbered by whoever gives them. One goroutine at a time may call Give, and it need not be
// the ring's owner.
type Provided struct {
	mem     []byte // the kernel's and ours
	entries []providedBuffer
	next    uint16
	group   uint16
}

// providedBuffer is struct io_uring_buf. The tail of the ring lies in the last field of the first one.
type providedBuffer struct {
	addr uint64
	len  uint32
	id   uint16
	tail uint16
}

// providedRing is struct io_uring_buf_reg.
type providedRing struct {
	addr    uint64
	entries uint32
	group   uint16
	flags   uint16
	_       [3]uint64
}

// Bundles reports whether a receive can fill several provided buffers at once (RecvBundle, Linux 6.10).
func (r *Ring) Bundles() bool { return r.features&featBundle != 0 }

// PollFirst reports whether the operation knows the flag that has it wait before its first attempt: Linux 6.10 for accept (AcceptPollFirst),
// and 5.19 for sending and receiving (RecvSendPollFirst).
func (r *Ring) PollFirst(op Op) bool {
	if op == OpAccept {
		return r.features&featBundle != 0 // there is no bit of its own
	}
	return r.Supports(OpSocket)
}

// OpenProvided registers a ring of n provided buffers, a power of two, as a group. It begins empty. If it is incremental, what arrives
// takes the part of a buffer that it needs, and the next goes behind it. Owner only. Kernels before 5.19, or 6.12 for an incremental one,
// answer EINVAL, restricted rings EACCES.
func (r *Ring) OpenProvided(n int, group uint16, incremental bool) (*Provided, error) {
	mem, err := unix.Mmap(-1, 0, n*int(unsafe.Sizeof(providedBuffer{})), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("mmap of a ring of buffers: %w", err)
	}
	_ = unix.Madvise(mem, unix.MADV_DONTFORK) // a child would get a copy that nobody reads
	p := &Provided{mem: mem, group: group, entries: unsafe.Slice((*providedBuffer)(unsafe.Pointer(&mem[0])), n)}
	reg := &providedRing{addr: uint64(uintptr(unsafe.Pointer(&mem[0]))), entries: uint32(n), group: group}
	if incremental {
		reg.flags = providedInc
	}
	errno := r.registerProvided(registerPbufRing, reg)
	if errno != 0 {
		_ = unix.Munmap(mem) // the error that counts is the other
		return nil, fmt.Errorf("io_uring_register (ring of buffers, Linux 5.19): %w", errno)
	}
	return p, nil
}

// CloseProvided takes the buffers away from the kernel. No request may be using them. Owner only, or anybody once the ring is closed.
func (r *Ring) CloseProvided(p *Provided) error {
	if r.fd >= 0 {
		if errno := r.registerProvided(unregisterPbufRing, &providedRing{group: p.group}); errno != 0 {
			return fmt.Errorf("io_uring_register (ring of buffers): %w", errno)
		}
	}
	mem := p.mem
	p.mem, p.entries = nil, nil
	return unix.Munmap(mem)
}

func (r *Ring) registerProvided(op uint32, reg *providedRing) syscall.Errno {
	_, errno := r.k.Register(r.fd, op, unsafe.Pointer(reg), 1)
	runtime.KeepAlive(reg)
	return errno
}

// Give lets the kernel fill mem, which the caller keeps alive, and name it by id.
func (p *Provided) Give(id uint16, mem []byte) {
	e := &p.entries[p.next&uint16(len(p.entries)-1)]
	// Field by field: the tail may be in it.
	e.addr, e.len, e.id = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))), uint32(len(mem)), id
	p.next++
	p.publish()
}

// publish shows the kernel the tail. Go has no atomic store of 16 bits; with the id before it, which is ours too, the tail makes a word.
func (p *Provided) publish() {
	first := &p.entries[0]
	var word uint32
	*(*[2]uint16)(unsafe.Pointer(&word)) = [2]uint16{first.id, p.next}
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&first.id)), word)
}
