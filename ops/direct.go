package ops

import (
	"math"
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

// Direct descriptors are places in a table that the ring has, numbered from 0. They are not descriptors of the process: nothing but
// operations of that ring can use them, and they do not count against its limit. The driver makes the table when the first file is
// opened into it; without one, an open says ENXIO.

// Direct is the flag in [Spec.Flags] of an operation whose FD is a place in the ring's table (IOSQE_FIXED_FILE). The operation must be
// submitted to the driver whose table it is. Reading, writing and syncing work on such a file; connecting, sending, receiving
// and shutting down on such a socket; a Unix datagram is lost there, and an empty one sent, if it has to wait for room in the receiver's queue
// (seen on Linux 6.18). Kernel 6.0.
const Direct = ring.SQEFixedFile

var (
	kindOpenDirect    = &Kind{Name: "openat", Code: ring.OpOpenat, Breaks: true, Prepare: prepareOpenDirect, Direct: true}
	kindCloseDirect   = &Kind{Name: "close", Code: ring.OpClose, Breaks: true, Prepare: prepareCloseDirect, Once: true, Direct: true}
	kindInstallDirect = &Kind{Name: "fixed_fd_install", Code: ring.OpFixedFdInstall, Discard: discardFD}
	kindSocketDirect  = &Kind{Name: "socket", Code: ring.OpSocket, Prepare: prepareSocketDirect, Direct: true}
	kindAcceptDirect  = &Kind{Name: "accept", Code: ring.OpAccept, Prepare: prepareAcceptDirect, Waits: true, Ready: readyRecv, Direct: true}
	kindPutDirect     = &Kind{Name: "files_update", Code: ring.OpFilesUpdate, Prepare: preparePutDirect, Result: (*Spec).PlaceOf, Direct: true}
)

// anyPlace has the kernel choose one (IORING_FILE_INDEX_ALLOC).
const anyPlace = -1

// OpenDirect is [Openat] into the ring's table: N is the place. ENFILE means that the table is full, ENXIO that there is none. A result
// that nobody waits for is closed by the driver. Kernel 6.0, openat(2).
func OpenDirect(dirfd int, path string, flag int, perm uint32) Op[struct{}] {
	o := Openat(dirfd, path, flag, perm)
	o.Kind = kindOpenDirect
	o.opFlags &^= unix.O_CLOEXEC // there is no descriptor that a program could inherit, and the kernel minds
	return o
}

// OpenDirectAt is [OpenDirect] into a place that was known before, one from driver.Driver.TakePlace, so that what is behind it in a chain can
// name it. N is 0. What was open there is closed. ENFILE and ENXIO mean that the table has no such place, EBADF that no table has. Kernel 6.0,
// openat(2).
func OpenDirectAt(place, dirfd int, path string, flag int, perm uint32) Op[struct{}] {
	o := OpenDirect(dirfd, path, flag, perm)
	if !isPlace(place) {
		o.aux = noPlace
	}
	o.off = uint64(place) + 1
	return o
}

func prepareOpenDirect(s *Spec, e *ring.SQE) {
	prepareOpenat(s, e)
	e.FileIndex = int32(s.off) // the place and 1
	if s.off == 0 {
		e.FileIndex = anyPlace
	}
}

// Place returns the place into which the operation opens a file; ok is false if it does not, or leaves the choice to the kernel.
func (s *Spec) Place() (place int, ok bool) {
	return int(s.off) - 1, s.Kind == kindOpenDirect && s.off > 0
}

// SocketDirect is [Socket] in the ring's table: N is the place; see [OpenDirect]. Kernel 6.0, socket(2).
func SocketDirect(domain, typ, proto int) Op[struct{}] {
	o := Socket(domain, typ, proto)
	o.Kind = kindSocketDirect
	o.off &^= unix.SOCK_CLOEXEC // as with OpenDirect
	return o
}

func prepareSocketDirect(s *Spec, e *ring.SQE) {
	prepareSocket(s, e)
	e.FileIndex = anyPlace
}

// AcceptDirect is [Accept] into the ring's table: N is the place, and p, if not nil, is told the peer's address, which a place cannot be asked for.
// The driver does not let the kernel accept what the table has no room for, as that would be lost: ENFILE. A connection that nobody waits
// for any more is closed by the driver. Kernel 6.0, accept(2).
func AcceptDirect(fd int, flags int, p *Peer) Op[struct{}] {
	s := Spec{Kind: kindAcceptDirect, FD: int32(fd), opFlags: uint32(flags)}
	if p != nil {
		s.aux = p
	}
	return Op[struct{}]{Spec: s}
}

func prepareAcceptDirect(s *Spec, e *ring.SQE) {
	prepareAccept(s, e)
	e.FileIndex = anyPlace
}

// PutDirect puts the file of the descriptor fd into the ring's table, too: N is the place. The descriptor stays the caller's. Kernel 6.0.
func PutDirect(fd int) Op[struct{}] {
	return Op[struct{}]{Spec: Spec{Kind: kindPutDirect, FD: -1, aux: &putting{fd: int32(fd)}}}
}

// putting is a descriptor, and then, as the kernel writes it there, the place.
type putting struct{ fd, place int32 }

func preparePutDirect(s *Spec, e *ring.SQE) {
	p := s.aux.(*putting)
	p.place = p.fd // also when it is repeated
	e.FD = -1
	e.Addr = uint64(uintptr(unsafe.Pointer(&p.place)))
	e.Off = uint64(^uint32(0)) // any place
	e.Len = 1
}

// CloseDirect empties a place of the ring's table. As with [Close], it must not be repeated. EBADF means that it is no place, or empty. Kernel 6.0.
func CloseDirect(place int) Op[struct{}] {
	s := Spec{Kind: kindCloseDirect, FD: -1, off: uint64(place)} // not descriptor 0, or who cancels on that would mean it
	if !isPlace(place) {
		s.aux = noPlace // or the kernel would take -1 for descriptor 0
	}
	return Op[struct{}]{Spec: s}
}

// isPlace reports whether some table may have the place: entries name it by a number that is larger by 1.
func isPlace(place int) bool { return place >= 0 && place < math.MaxInt32 }

var noPlace = &invalid{unix.EBADF}

func prepareCloseDirect(s *Spec, e *ring.SQE) {
	e.FD = 0 // the kernel minds any other
	e.FileIndex = int32(s.off) + 1
}

// InstallDirect gives the file at a place of the ring's table a descriptor of the process too, which is close-on-exec: N. The place
// stays. Kernel 6.8.
func InstallDirect(place int) Op[struct{}] {
	return Op[struct{}]{Spec: Spec{Kind: kindInstallDirect, FD: int32(place), Flags: Direct}}
}

// CancelDirect is [CancelFD] for a place of the ring's table. Kernel 6.0.
func CancelDirect(place int) Op[struct{}] {
	o := CancelFD(place)
	o.opFlags |= ring.CancelFDFixed
	return o
}

// Fills reports whether the operation takes a place of the ring's table that the kernel chooses.
func (s *Spec) Fills() bool {
	_, named := s.Place()
	return s.Kind.Direct && !named && s.Kind != kindCloseDirect
}

// Empties returns the place that the operation gives back, if it is one for that.
func (s *Spec) Empties() (place int, ok bool) { return int(s.off), s.Kind == kindCloseDirect }

// PlaceOf returns the place that the operation has filled, by its result, which is not negative.
func (s *Spec) PlaceOf(res int32) int {
	if place, ok := s.Place(); ok {
		return place
	}
	if p, ok := s.aux.(*putting); ok {
		return int(p.place)
	}
	return int(res)
}

// OnTable reports whether the operation needs the ring's table of files.
func (s *Spec) OnTable() bool { return s.Flags&Direct != 0 || s.Kind.Direct }
