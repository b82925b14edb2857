package fs

import (
	"context"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/handle"
)

// File is an open file. Its methods may be called from several tasks at once.
type File struct {
	h      handle.Handle
	name   string
	flag   int                 // how it was opened (O_*)
	traits atomic.Uint32       // what is known about it
	pins   atomic.Uint32       // see Pin, two bits for each Operation
	as     *driver.Personality // whose rights it is used with; nil for the process's own
	locks  atomic.Bool         // somebody has asked for a lock
	size   int64               // when it was opened, as far as anybody looked
	turn   executor.Mutex      // for Read and Write

	padding executor.Mutex // for direct writes that are widened to whole blocks

	aligned atomic.Uint64 // the Alignment for direct I/O, once it was asked for
}

// Traits of a file. Without traitKnown, nobody has looked yet.
const (
	traitKnown    uint32 = 1 << iota
	traitRegular         // a regular file: it has offsets, and its operations end by themselves, but for traitTells
	traitDir             // a directory
	traitStream          // a FIFO, socket, terminal or the like: no offsets
	traitRemote          // on a file system that is not local
	traitNoTry           // reads cannot be tried in the page cache
	traitTells           // on a file system of the kernel's own, where a read may wait for news
	traitNonblock        // its descriptor is non-blocking, unlike the file, see blocking
	traitLoud            // writes know no RWF_NOSIGNAL, so that one to a pipe without a reader raises SIGPIPE, which Go ignores
)

// Open opens the named file for reading. Kernel 5.6, open(2).
func Open(ctx context.Context, name string) (*File, error) {
	return OpenFile(ctx, name, os.O_RDONLY, 0)
}

// Create creates the named file with mode 0666 before umask, or truncates it, and opens it for reading and writing.
// Kernel 5.6, open(2).
func Create(ctx context.Context, name string) (*File, error) {
	return OpenFile(ctx, name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
}

// OpenFile opens the named file with flags of package os, or of open(2), which further has O_DIRECT, O_PATH, O_TMPFILE and more. A
// file that is created gets the permissions perm before umask. The descriptor is always close-on-exec. Kernel 5.6, open(2).
//
// Opening a FIFO waits for its other end, unless flag has O_NONBLOCK; ctx ends the wait. A device is opened as with O_NONBLOCK in any case: one
// for which that matters, such as a serial line or a drive of removable media, is not waited for, nor found to be empty.
func OpenFile(ctx context.Context, name string, flag int, perm FileMode) (*File, error) {
	return keep(openBriefly(ctx, name, flag, perm))
}

// openBriefly is OpenFile for a file that is closed by who opens it: to have the runtime look out for dropped ones costs as much as a system call.
func openBriefly(ctx context.Context, name string, flag int, perm FileMode) (*File, error) {
	d, err := driver.FromContext(ctx)
	if err != nil {
		return nil, &PathError{Op: "open", Path: name, Err: err}
	}
	f, err := openAt(ctx, d, place{dirfd: cwd, remote: remotePath(name)}, name, name, flag, perm)
	return f, pathError("open", name, err)
}

// NewFile returns a File for a descriptor, which from now on belongs to it. The name is for error messages. With an error, such as EBADF or
// driver.ErrNoDriver, the descriptor is still the caller's.
func NewFile(ctx context.Context, fd int, name string) (*File, error) {
	d, err := driver.FromContext(ctx)
	if err != nil {
		return nil, &PathError{Op: "open", Path: name, Err: err}
	}
	flag, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return nil, &PathError{Op: "open", Path: name, Err: err}
	}
	return newFile(d, fd, name, flag, 0), nil
}

// FromOS makes a File of an open file of package os, which it closes: the two share the file position, not the descriptor.
// With ErrClosed, driver.ErrNoDriver, or for want of a descriptor (EMFILE), f is as it was.
func FromOS(ctx context.Context, f *os.File) (*File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	var dup error
	if err := raw.Control(func(old uintptr) { fd, dup = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		dup = ErrClosed // the only way for Control to fail, under a name that callers know
	}
	if dup != nil {
		return nil, &PathError{Op: "dup", Path: f.Name(), Err: dup}
	}
	g, err := NewFile(ctx, fd, f.Name())
	if err != nil {
		_ = unix.Close(fd) // the error that counts is err
		return nil, err
	}
	if err := f.Close(); err != nil {
		_ = g.Close(ctx)
		return nil, err
	}
	// Package os leaves pipes and sockets non-blocking; here an operation is to wait for them.
	if g.flag&unix.O_NONBLOCK != 0 {
		if err := unix.SetNonblock(g.h.FD, false); err != nil {
			_ = g.Close(ctx)
			return nil, &PathError{Op: "fcntl", Path: g.name, Err: err}
		}
		g.flag &^= unix.O_NONBLOCK
	}
	return g, nil
}

// newFile returns a File that is closed in the background if its user drops it.
func newFile(d *driver.Driver, fd int, name string, flag int, traits uint32) *File {
	f := briefFile(d, fd, name, flag, traits)
	f.h.Collect()
	return f
}

// briefFile returns a File that is not.
func briefFile(d *driver.Driver, fd int, name string, flag int, traits uint32) *File {
	f := &File{name: name, flag: flag}
	f.traits.Store(traits)
	f.h.Open(fd, d)
	return f
}

// keep makes a File for its user of what was opened briefly.
func keep(f *File, err error) (*File, error) {
	if err != nil {
		return nil, err
	}
	if err := f.blocking(); err != nil {
		_ = unix.Close(f.h.FD) // the error that counts is err
		return nil, pathError("open", f.name, err)
	}
	f.h.Collect()
	return f, nil
}

// blocking sees to it that the descriptor is not non-blocking: it was opened so, see openAny, and the ring would refuse what has to wait for the
// disk. Plain calls on a regular file do not look at that, so what is opened, read from the page cache and closed is spared the system call.
func (f *File) blocking() error {
	if f.traits.Load()&traitNonblock == 0 {
		return nil
	}
	f.traits.And(^traitNonblock)
	_, err := unix.FcntlInt(uintptr(f.h.FD), unix.F_SETFL, f.flag&(unix.O_APPEND|unix.O_DIRECT|unix.O_NOATIME))
	return err
}

// Name returns the name that the file was opened with.
func (f *File) Name() string { return f.name }

// Fd returns the file's descriptor, or ^uintptr(0) after Close. It stays the File's: do not close it, and keep the File alive.
func (f *File) Fd() uintptr {
	if f.h.Closing() {
		return ^uintptr(0)
	}
	return uintptr(f.h.FD)
}

// SyscallConn implements syscall.Conn: other packages reach the descriptor by it, and it stays open while they use it.
func (f *File) SyscallConn() (syscall.RawConn, error) {
	if f.h.Closing() {
		return nil, f.wrap("SyscallConn", ErrClosed)
	}
	return rawConn{f}, nil
}

// known returns the file's traits, and finds them out if need be. The caller holds a reference, or is the one to close.
func (f *File) known() uint32 {
	if t := f.traits.Load(); t&traitKnown != 0 {
		return t
	}
	var st unix.Statx_t
	if err := statFD(f.h.FD, &st); err != nil {
		return traitRemote // be careful with what cannot be looked at
	}
	t := traitsOf(f.h.FD, &st)
	return f.traits.Or(t) | t
}

// statFD fills in a file's type, size and mount without asking a server.
func statFD(fd int, st *unix.Statx_t) error {
	const flags = unix.AT_EMPTY_PATH | unix.AT_STATX_DONT_SYNC | unix.AT_NO_AUTOMOUNT
	for {
		err := unix.Statx(fd, "", flags, unix.STATX_TYPE|unix.STATX_SIZE|unix.STATX_MNT_ID, st)
		if err != syscall.EINTR {
			return err
		}
	}
}

// inMemory reports whether fd is a file of tmpfs or the like, whose mount may be one that is nowhere: that of memfd_create(2). It asks
// nobody, as others have no such flags.
func inMemory(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	return err == nil
}

func traitsOf(fd int, st *unix.Statx_t) uint32 {
	t := traitKnown
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		t |= traitRegular
	case unix.S_IFDIR:
		t |= traitDir
	case unix.S_IFIFO, unix.S_IFSOCK:
		return t | traitStream // wherever its name may lie, no file system is asked for what goes through it
	case unix.S_IFCHR:
		// The ring ignores the offset where pread(2) says ESPIPE, so somebody has to ask.
		if _, err := unix.Seek(fd, 0, unix.SEEK_CUR); err == syscall.ESPIPE {
			t |= traitStream
		}
	}
	if remoteFile(st) && !inMemory(fd) {
		t |= traitRemote
	}
	if tells(st) {
		t |= traitTells
	}
	return t
}
