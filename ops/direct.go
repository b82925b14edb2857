package ops

import (
	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

// Direct descriptors are places in a table that the ring has, numbered from 0. They are not descriptors of the process: nothing but
// operations of that ring can use them, and they do not count against its limit. The driver makes the table when the first file is
// opened into it; without one, an open says ENXIO.

// Direct is the flag in [Spec.Flags] of an operation whose FD is a place in the ring's table (IOSQE_FIXED_FILE). The operation must be
// submitted to the driver whose table it is. Reading, writing and syncing work on such a file. Kernel 6.0.
const Direct = ring.SQEFixedFile

var (
	kindOpenDirect    = &Kind{Name: "openat", Code: ring.OpOpenat, Breaks: true, Prepare: prepareOpenDirect, Direct: true}
	kindCloseDirect   = &Kind{Name: "close", Code: ring.OpClose, Breaks: true, Prepare: prepareCloseDirect, Once: true, Direct: true}
	kindInstallDirect = &Kind{Name: "fixed_fd_install", Code: ring.OpFixedFdInstall, Discard: discardFD}
)

// OpenDirect is [Openat] into the ring's table: N is the place. ENFILE means that the table is full, ENXIO that there is none. A result
// that nobody waits for is closed by the driver. Kernel 6.0, openat(2).
func OpenDirect(dirfd int, path string, flag int, perm uint32) Op[struct{}] {
	o := Openat(dirfd, path, flag, perm)
	o.Kind = kindOpenDirect
	o.opFlags &^= unix.O_CLOEXEC // there is no descriptor that a program could inherit, and the kernel minds
	return o
}

// OpenDirectAt is [OpenDirect] into a place that was known before, one from driver.Driver.TakePlace, so that what is behind it in a chain can
// name it. N is 0. What was open there is closed. ENFILE and ENXIO mean that the table has no such place. Kernel 6.0, openat(2).
func OpenDirectAt(place, dirfd int, path string, flag int, perm uint32) Op[struct{}] {
	o := OpenDirect(dirfd, path, flag, perm)
	o.off = uint64(place) + 1
	return o
}

func prepareOpenDirect(s *Spec, e *ring.SQE) {
	prepareOpenat(s, e)
	e.FileIndex = int32(s.off) // the place and 1
	if s.off == 0 {
		e.FileIndex = -1 // any place (IORING_FILE_INDEX_ALLOC)
	}
}

// Place returns the place into which the operation opens a file; ok is false if it does not, or leaves the choice to the kernel.
func (s *Spec) Place() (place int, ok bool) {
	return int(s.off) - 1, s.Kind == kindOpenDirect && s.off > 0
}

// CloseDirect empties a place of the ring's table. As with [Close], it must not be repeated. Kernel 6.0.
func CloseDirect(place int) Op[struct{}] {
	return Op[struct{}]{Spec: Spec{Kind: kindCloseDirect, off: uint64(place)}}
}

func prepareCloseDirect(s *Spec, e *ring.SQE) {
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

// OnTable reports whether the operation needs the ring's table of files.
func (s *Spec) OnTable() bool { return s.Flags&Direct != 0 || s.Kind.Direct }
