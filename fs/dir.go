package fs

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/ops"
)

// Dir is an open directory, from which names are looked up. Its methods never follow a symbolic link, and never leave the directory: a
// program that walks a tree by Dirs stays in it, whatever somebody else does to the tree meanwhile.
//
// Names are single components, "." for the directory itself where that makes sense; to describe and change that takes no right to search
// it. Only OpenDir, OpenFile, ReadFile, WriteFile, MkdirAll and RemoveAll also take paths, which must stay beneath the directory and have no
// symbolic link in them (openat2(2), RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS; without openat2, before kernel 5.6, single
// components only). A trailing slash is dropped.
//
// A name that has more components than it may is EINVAL, and so is "..". A path that leads out of the directory is EXDEV, one with a
// symbolic link ELOOP. Errors show the directory's name joined with the name. The methods may be called from several tasks at once.
type Dir struct {
	f       *File
	reading sync.Mutex // of the entries, which the descriptor has one position for; held inside plain calls only
	blind   bool       // opened without the right to read it (O_PATH)
	lent    bool       // the descriptor was opened with other rights than f's
}

const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

const (
	dirFlags   = unix.O_RDONLY | unix.O_DIRECTORY
	blindFlags = unix.O_PATH | unix.O_DIRECTORY
)

// OpenDir opens the named directory, symbolic links followed. One that the caller may search and not read is opened for what that
// allows: ReadDir and Sync are EACCES then. Kernel 5.6, open(2).
func OpenDir(ctx context.Context, name string) (*Dir, error) {
	return openToSearch(ctx, func(flag int) (*File, error) { return OpenFile(ctx, name, flag, 0) })
}

// OpenDir opens a directory beneath d; see the function [OpenDir]. Kernel 5.6, openat2(2).
func (d *Dir) OpenDir(ctx context.Context, name string) (*Dir, error) {
	return openToSearch(ctx, func(flag int) (*File, error) { return d.OpenFile(ctx, name, flag, 0) })
}

// openToSearch opens a directory that may be read, or else one in which names may be looked up.
func openToSearch(ctx context.Context, open func(flag int) (*File, error)) (*Dir, error) {
	f, err := open(dirFlags)
	if errors.Is(err, syscall.EACCES) {
		if f, err := open(blindFlags); err == nil {
			return searchable(ctx, f)
		}
	}
	if err != nil {
		return nil, err
	}
	return &Dir{f: f}, nil
}

// searchable makes a Dir of a directory that was opened by O_PATH, which takes no right at all, if names may be looked up in it.
func searchable(ctx context.Context, f *File) (*Dir, error) {
	_, err := doCall(ctx, f, OpStat, func(fd int) (struct{}, error) {
		return struct{}{}, unix.Faccessat(fd, ".", unix.X_OK, unix.AT_EACCESS)
	})
	if err != nil {
		_ = f.Close(context.WithoutCancel(ctx)) // nothing was done with it
		return nil, pathError("open", f.name, err)
	}
	return &Dir{f: f, blind: true}, nil
}

// noOpenat2 is set when the kernel, or what filters its calls, has no openat2.
var noOpenat2 atomic.Bool

// OpenFile opens a file beneath d; see the function [OpenFile]. Kernel 5.6, openat2(2).
func (d *Dir) OpenFile(ctx context.Context, name string, flag int, perm FileMode) (*File, error) {
	return keep(d.openBriefly(ctx, name, flag, perm))
}

func (d *Dir) openBriefly(ctx context.Context, name string, flag int, perm FileMode) (*File, error) {
	shown := d.join(name)
	if t := strings.TrimRight(name, "/"); t != "" {
		name = t
	}
	if !d.f.h.Acquire() {
		return nil, &PathError{Op: "open", Path: shown, Err: ErrClosed}
	}
	drv, err := driver.FromContext(ctx)
	var f *File
	if err == nil {
		f, err = d.open(ctx, drv, name, shown, flag, perm)
	}
	switch err = d.f.h.Settle(err, ErrClosed); err {
	case nil:
		return f, nil
	case syscall.EXDEV:
		err = errOutside
	case syscall.ELOOP:
		err = errSymlink
	}
	return nil, pathError("open", shown, err)
}

func (d *Dir) open(ctx context.Context, drv *driver.Driver, name, shown string, flag int, perm FileMode) (*File, error) {
	at := place{dirfd: d.f.h.FD, remote: d.remote(), resolve: beneath, free: d.f.h.Free, as: d.f.as}
	if !noOpenat2.Load() {
		f, err := openAt(ctx, drv, at, name, shown, flag, perm)
		if err != syscall.ENOSYS && (err != syscall.EPERM || openat2Works()) {
			return f, err
		}
		noOpenat2.Store(true)
	}
	one := single(name)
	if one == "" {
		return nil, badName(name)
	}
	at.resolve = 0
	f, err := openAt(ctx, drv, at, one, shown, flag|unix.O_NOFOLLOW, perm)
	if flag&unix.O_NOFOLLOW != 0 {
		return f, err // the caller knows what that means for a symbolic link
	}
	if err == syscall.ENOTDIR && isLink(at.dirfd, one) {
		return nil, syscall.ELOOP
	}
	if err == nil && flag&unix.O_PATH != 0 && isLink(f.h.FD, "") {
		_ = f.Close(context.WithoutCancel(ctx)) // nothing was done with it
		return nil, syscall.ELOOP
	}
	return f, err
}

// isLink reports whether a name in a directory is a symbolic link's, or, without a name, whether dirfd is one itself.
func isLink(dirfd int, name string) bool {
	var st unix.Stat_t
	err := ignoringEINTR(func() error { return unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) })
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK
}

// openat2Works tells a filter that forbids openat2 from a file that may not be opened.
func openat2Works() bool {
	fd, err := unix.Openat2(cwd, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC})
	if err == nil {
		_ = unix.Close(fd)
	}
	return err == nil
}

func (d *Dir) remote() bool { return d.f.known()&traitRemote != 0 }

// Name returns the name that the directory was opened with.
func (d *Dir) Name() string { return d.f.name }

// Fd returns the directory's descriptor, or ^uintptr(0) after Close. It stays the Dir's: do not close it, and keep the Dir alive.
func (d *Dir) Fd() uintptr { return d.f.Fd() }

// Close closes the directory; see [File.Close].
func (d *Dir) Close(ctx context.Context) error { return d.f.Close(ctx) }

// Stat describes the directory itself. Kernel 5.6, statx(2).
func (d *Dir) Stat(ctx context.Context) (FileInfo, error) { return d.f.Stat(ctx) }

// Sync brings the directory's entries to stable storage: after it, names made or renamed in it survive a crash. Some file systems
// cannot: EINVAL. Kernel 5.1, fsync(2).
func (d *Dir) Sync(ctx context.Context) error {
	if d.blind {
		return &PathError{Op: "sync", Path: d.f.name, Err: syscall.EACCES}
	}
	return d.f.SyncAll(ctx)
}

// ReadDir returns the directory's entries, in its own order, with types and inodes; with an error, those read before it. A directory that
// was removed has none. getdents64(2).
func (d *Dir) ReadDir(ctx context.Context) ([]*Entry, error) {
	if d.blind && !d.lent {
		return nil, &PathError{Op: "readdirent", Path: d.f.name, Err: syscall.EACCES}
	}
	l := &listing{ctx: ctx, dir: d.f.name}
	if d.f.as != nil {
		l.in = d
	}
	entries, err := doCall(ctx, d.f, OpList, func(fd int) (entries []*Entry, err error) {
		if d.lent {
			return readAnew(fd, l)
		}
		d.reading.Lock()
		defer d.reading.Unlock()
		return readEntries(fd, l)
	})
	return entries, pathError("readdirent", d.f.name, err)
}

// Lstat describes the file name, or a symbolic link itself. Kernel 5.6, statx(2).
func (d *Dir) Lstat(ctx context.Context, name string) (FileInfo, error) {
	st := new(unix.Statx_t)
	if err := d.statx(ctx, "lstat", name, unix.STATX_BASIC_STATS, st); err != nil {
		return nil, err
	}
	i := &info{name: strings.TrimRight(name, "/")}
	i.set(st)
	return i, nil
}

// Statx fetches the attributes in mask (unix.STATX_*) of the file name, or of a symbolic link itself. Kernel 5.6, statx(2).
func (d *Dir) Statx(ctx context.Context, name string, mask uint32) (*unix.Statx_t, error) {
	st := new(unix.Statx_t)
	if err := d.statx(ctx, "statx", name, mask, st); err != nil {
		return nil, err
	}
	return st, nil
}

func (d *Dir) statx(ctx context.Context, verb, name string, mask uint32, st *unix.Statx_t) error {
	return doAt(ctx, d, verb, OpStat, name, func(name string) ops.Op[*unix.Statx_t] {
		if itself(name) {
			return ops.Statx(d.f.h.FD, "", unix.AT_EMPTY_PATH, mask, st)
		}
		return ops.Statx(d.f.h.FD, name, unix.AT_SYMLINK_NOFOLLOW, mask, st)
	})
}

// Mkdir makes a directory with the permissions perm before umask. Kernel 5.15, else a plain call; mkdirat(2).
func (d *Dir) Mkdir(ctx context.Context, name string, perm FileMode) error {
	return doAt(ctx, d, "mkdir", OpMkdir, name, func(name string) ops.Op[struct{}] {
		return ops.Mkdirat(d.f.h.FD, name, modeBits(perm))
	})
}

// Remove removes a name that is not a directory's. Kernel 5.11, else a plain call; unlinkat(2).
func (d *Dir) Remove(ctx context.Context, name string) error {
	return doAt(ctx, d, "remove", OpRemove, name, func(name string) ops.Op[struct{}] { return ops.Unlinkat(d.f.h.FD, name, 0) })
}

// RemoveDir removes an empty directory. Kernel 5.11, else a plain call; unlinkat(2).
func (d *Dir) RemoveDir(ctx context.Context, name string) error {
	return doAt(ctx, d, "remove", OpRemove, name, func(name string) ops.Op[struct{}] {
		return ops.Unlinkat(d.f.h.FD, name, unix.AT_REMOVEDIR)
	})
}

// Symlink makes name a symbolic link that says target. Kernel 5.15, else a plain call; symlinkat(2).
func (d *Dir) Symlink(ctx context.Context, target, name string) error {
	return doAt(ctx, d, "symlink", OpLink, name, func(name string) ops.Op[struct{}] { return ops.Symlinkat(target, d.f.h.FD, name) })
}

// Rename gives the file old the name new in the directory to, which may be d; flags are unix.RENAME_NOREPLACE, RENAME_EXCHANGE or 0, as
// for [RenameFlags]. Kernel 5.11, else a plain call; renameat2(2).
func (d *Dir) Rename(ctx context.Context, old string, to *Dir, new string, flags uint) error {
	return doTwo(ctx, "rename", OpRename, d, old, to, new, func(old, new string) ops.Op[struct{}] {
		return ops.Renameat2(d.f.h.FD, old, to.f.h.FD, new, uint32(flags))
	})
}

// Link makes new, in the directory to, another name of the file old, or of a symbolic link itself. Kernel 5.15, else a plain call;
// linkat(2).
func (d *Dir) Link(ctx context.Context, old string, to *Dir, new string) error {
	return doTwo(ctx, "link", OpLink, d, old, to, new, func(old, new string) ops.Op[struct{}] {
		return ops.Linkat(d.f.h.FD, old, to.f.h.FD, new, 0)
	})
}

// Readlink returns what a symbolic link says. readlinkat(2).
func (d *Dir) Readlink(ctx context.Context, name string) (target string, err error) {
	err = callAt(ctx, d, "readlink", OpList, name, func(fd int, name string) (err error) {
		target, err = readlinkAt(fd, name)
		return err
	})
	return target, err
}

// Mknod makes a FIFO, a socket, a device or a regular file; see the function [Mknod]. mknodat(2).
func (d *Dir) Mknod(ctx context.Context, name string, mode uint32, dev uint64) error {
	return callAt(ctx, d, "mknod", OpLink, name, func(fd int, name string) error { return unix.Mknodat(fd, name, mode, int(dev)) })
}

// Chown changes the owner and the group of the file name, or of a symbolic link itself; -1 leaves either as it is. fchownat(2).
func (d *Dir) Chown(ctx context.Context, name string, uid, gid int) error {
	if itself(name) && !d.blind {
		return named(d.f.Chown(ctx, uid, gid), d.join(name))
	}
	return callAt(ctx, d, "chown", OpAttr, name, func(fd int, name string) error {
		return unix.Fchownat(fd, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Chtimes sets the times of access and modification of the file name, or of a symbolic link itself; a zero Time leaves one as it is.
// utimensat(2).
func (d *Dir) Chtimes(ctx context.Context, name string, atime, mtime time.Time) error {
	if itself(name) && !d.blind {
		return named(d.f.Chtimes(ctx, atime, mtime), d.join(name))
	}
	return callAt(ctx, d, "chtimes", OpAttr, name, func(fd int, name string) error {
		ts, err := timespecs(atime, mtime)
		if err != nil {
			return err
		}
		return unix.UtimesNanoAt(fd, name, ts[:], unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Chmod changes the permissions, and the set-id and sticky bits, of the file name. A symbolic link has none to change: EOPNOTSUPP.
// Kernel 6.6, fchmodat2(2); before it, by way of /proc.
func (d *Dir) Chmod(ctx context.Context, name string, mode FileMode) error {
	if itself(name) && !d.blind {
		return named(d.f.Chmod(ctx, mode), d.join(name))
	}
	return callAt(ctx, d, "chmod", OpAttr, name, func(fd int, name string) error { return chmodAt(fd, name, modeBits(mode)) })
}

// join is the path that errors show.
func (d *Dir) join(name string) string { return d.f.name + "/" + name }

// wrap adds that path to an error.
func (d *Dir) wrap(verb, name string, err error) error {
	if err == nil {
		return nil
	}
	return pathError(verb, d.join(name), err)
}
