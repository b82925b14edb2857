package fs

import (
	"context"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/syscost"
	"uringo/ops"
)

// place is where a name is looked up.
type place struct {
	dirfd   int
	remote  bool   // not on a local file system, as far as can be told
	resolve uint64 // rules for the way there (RESOLVE_*)
	free    func() // drops the reference to dirfd if the caller is let go
	as      *driver.Personality
}

// openAt opens name, which errors show as shown. The caller closes the file before it returns, having read or written it at most, or keeps it,
// see keep.
//
// A file that is opened with the rights of a personality is used with them, too.
//
// An open can wait: for the other end of a FIFO, or for somebody's lease. So the first attempt is non-blocking, which makes no
// difference for anything else but some devices, see [OpenFile], and only what it cannot do is left to a thread of the kernel, where ctx can
// end it. Devices are not opened once more without it: there are those that can be opened once only, or for which every close(2) means something.
func openAt(ctx context.Context, d *driver.Driver, at place, name, shown string, flag int, perm FileMode) (*File, error) {
	f, err := openAny(ctx, d, at, name, shown, flag, perm)
	if err == nil && at.as != nil {
		f.use(at.as)
	}
	return f, err
}

func openAny(ctx context.Context, d *driver.Driver, at place, name, shown string, flag int, perm FileMode) (*File, error) {
	mode := creationMode(flag, perm)
	const exclusive = unix.O_CREAT | unix.O_EXCL
	if flag&(unix.O_NONBLOCK|unix.O_PATH|unix.O_DIRECTORY) != 0 || flag&exclusive == exclusive {
		fd, err := openOnce(ctx, at, name, flag, mode)
		if err != nil {
			return nil, err
		}
		return briefFile(d, fd, shown, flag, 0), nil
	}

	fd, err := openOnce(ctx, at, name, flag|unix.O_NONBLOCK, mode)
	if err == syscall.ENXIO || err == syscall.EAGAIN {
		if fd, err = openWaiting(ctx, d, at, name, flag, mode, nil); err == nil {
			return briefFile(d, fd, shown, flag, 0), nil
		}
	}
	if err != nil {
		return nil, err
	}
	var st unix.Statx_t
	if err := statFD(fd, &st); err != nil {
		_ = unix.Close(fd) // the error that counts is err
		return nil, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFIFO && flag&unix.O_ACCMODE == unix.O_RDONLY {
		if fd, err = awaitWriter(ctx, d, at.as, fd, flag); err != nil {
			return nil, err
		}
		return briefFile(d, fd, shown, flag, traitsOf(fd, &st)), nil
	}
	f := briefFile(d, fd, shown, flag, traitsOf(fd, &st)|traitNonblock)
	f.size = int64(st.Size)
	if f.traits.Load() != traitKnown|traitRegular|traitNonblock {
		if err := f.blocking(); err != nil {
			_ = unix.Close(fd)
			return nil, err
		}
	}
	return f, nil
}

// open returns the operation that opens name.
func (at place) open(name string, flag int, mode uint32) ops.Op[struct{}] {
	var o ops.Op[struct{}]
	if at.resolve != 0 {
		o = ops.Openat2(at.dirfd, name, unix.OpenHow{Flags: uint64(flag), Mode: uint64(mode), Resolve: at.resolve})
	} else {
		o = ops.Openat(at.dirfd, name, flag, mode)
	}
	o.As = identityOf(at.as)
	return o
}

// openOnce is open(2), by the route for it.
func openOnce(ctx context.Context, at place, name string, flag int, mode uint32) (int, error) {
	op := OpOpen
	if flag&(unix.O_CREAT|unix.O_TRUNC) != 0 {
		op = OpCreate
	}
	pin := allowed(at.as, Route(pins[op].Load()))
	c := executor.CallerOf(ctx)
	r := choose(c, op, pin, at.remote)
	if op == OpOpen && pin == Auto && (r == Call || r == Ring && !at.remote && syscost.Cheap()) {
		if fd, ok, err := openCached(ctx, c, at, name, flag); ok {
			return fd, err
		}
	}
	if at.resolve == 0 {
		fd := -1
		done, err := onNames[op].inPlace(ctx, c, r, func() (err error) {
			fd, err = ops.OpenatNow(at.dirfd, name, flag, mode)
			return err
		})
		if done {
			return fd, err
		}
		r = r.instead()
	}
	o := at.open(name, flag, mode)
	o.Release = at.free
	res := perform(ctx, c, r, at.remote, o)
	return res.N, res.Err
}

// resolveCached is RESOLVE_CACHED: fail with EAGAIN where the way is not in the cache of names. Kernel 5.12.
const resolveCached = 0x20

// noCached is set when the kernel does not know RESOLVE_CACHED.
var noCached atomic.Bool

// openCached opens a file whose path is in the kernel's cache of names, which does not block. Otherwise ok is false.
func openCached(ctx context.Context, c executor.Caller, at place, name string, flag int) (fd int, ok bool, err error) {
	if noCached.Load() {
		return -1, false, nil
	}
	if err := ctx.Err(); err != nil {
		return -1, true, driver.Canceled(ctx)
	}
	how := unix.OpenHow{Flags: uint64(flag | unix.O_CLOEXEC), Resolve: at.resolve | resolveCached}
	if flag&unix.O_PATH == 0 {
		how.Flags |= unix.O_LARGEFILE
	}
	fd, err = ops.Openat2Now(at.dirfd, name, how)
	switch err {
	case syscall.EAGAIN, syscall.EINTR:
		return -1, false, nil
	case syscall.ENOSYS, syscall.EINVAL, syscall.EPERM, syscall.E2BIG:
		if !cachedWorks() {
			noCached.Store(true)
		}
		return -1, false, nil
	}
	count(ctx, c.Lane(), driver.RouteInline)
	c.GiveWay(ctx, 0)
	return fd, true, err
}

// cachedWorks asks for what a kernel with RESOLVE_CACHED cannot fail at.
func cachedWorks() bool {
	fd, err := unix.Openat2(cwd, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolveCached})
	if err == nil {
		_ = unix.Close(fd)
	}
	return err == nil || err == syscall.EAGAIN
}

// creationMode is the mode for open(2), which openat2(2) wants to be zero where no file is made.
func creationMode(flag int, perm FileMode) uint32 {
	if flag&unix.O_CREAT != 0 || flag&unix.O_TMPFILE == unix.O_TMPFILE {
		return modeBits(perm)
	}
	return 0
}

// modeBits is a FileMode as the kernel writes it.
func modeBits(m FileMode) uint32 {
	bits := uint32(m.Perm())
	if m&os.ModeSetuid != 0 {
		bits |= unix.S_ISUID
	}
	if m&os.ModeSetgid != 0 {
		bits |= unix.S_ISGID
	}
	if m&os.ModeSticky != 0 {
		bits |= unix.S_ISVTX
	}
	return bits
}
