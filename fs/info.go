package fs

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uringo/ops"
)

// statMask is what a FileInfo needs, and the time of birth.
const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME

// info is the FileInfo of this package.
type info struct {
	name string
	st   unix.Statx_t
}

func (i *info) Name() string       { return i.name }
func (i *info) Size() int64        { return int64(i.st.Size) }
func (i *info) IsDir() bool        { return i.st.Mode&unix.S_IFMT == unix.S_IFDIR }
func (i *info) ModTime() time.Time { return time.Unix(i.st.Mtime.Sec, int64(i.st.Mtime.Nsec)) }
func (i *info) Mode() FileMode     { return fileMode(uint32(i.st.Mode)) }
func (i *info) String() string     { return i.Mode().String() + " " + i.name }

// Sys returns a *unix.Statx_t: owner, links, device and inode, all times.
func (i *info) Sys() any { return &i.st }

// fileMode is the kernel's mode as package os writes it.
func fileMode(bits uint32) FileMode {
	m := FileMode(bits & 0o777)
	switch bits & unix.S_IFMT {
	case unix.S_IFBLK:
		m |= os.ModeDevice
	case unix.S_IFCHR:
		m |= os.ModeDevice | os.ModeCharDevice
	case unix.S_IFDIR:
		m |= os.ModeDir
	case unix.S_IFIFO:
		m |= os.ModeNamedPipe
	case unix.S_IFLNK:
		m |= os.ModeSymlink
	case unix.S_IFSOCK:
		m |= os.ModeSocket
	}
	if bits&unix.S_ISGID != 0 {
		m |= os.ModeSetgid
	}
	if bits&unix.S_ISUID != 0 {
		m |= os.ModeSetuid
	}
	if bits&unix.S_ISVTX != 0 {
		m |= os.ModeSticky
	}
	return m
}

// SameFile reports whether two FileInfos describe the same file. Each may come from this package or from package os; os.SameFile knows
// only its own.
func SameFile(a, b FileInfo) bool {
	adev, aino, ok1 := identity(a)
	bdev, bino, ok2 := identity(b)
	return ok1 && ok2 && adev == bdev && aino == bino
}

func identity(i FileInfo) (dev, ino uint64, ok bool) {
	switch st := i.Sys().(type) {
	case *unix.Statx_t:
		return unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino, true
	case *syscall.Stat_t:
		return uint64(st.Dev), st.Ino, true
	}
	return 0, 0, false
}

// Stat describes the file. Sys is a *unix.Statx_t. Kernel 5.6, statx(2).
func (f *File) Stat(ctx context.Context) (FileInfo, error) {
	i := &info{name: filepath.Base(f.name)}
	if err := f.statx(ctx, 0, statMask, &i.st); err != nil {
		return nil, f.wrap("stat", err)
	}
	return i, nil
}

// Statx fetches the attributes in mask (unix.STATX_*). flags are unix.AT_STATX_*; the Mask of the result says which attributes the file
// system has. Kernel 5.6, statx(2).
func (f *File) Statx(ctx context.Context, flags int, mask uint32) (*unix.Statx_t, error) {
	st := new(unix.Statx_t)
	if err := f.statx(ctx, flags, mask, st); err != nil {
		return nil, f.wrap("statx", err)
	}
	return st, nil
}

func (f *File) statx(ctx context.Context, flags int, mask uint32, st *unix.Statx_t) error {
	return do(ctx, f, OpStat, ops.Statx(f.h.FD, "", flags|unix.AT_EMPTY_PATH, mask, st)).Err
}

// Stat describes the named file, symbolic links followed. Sys is a *unix.Statx_t. Kernel 5.6, statx(2).
func Stat(ctx context.Context, name string) (FileInfo, error) {
	i, err := statPath(ctx, name, 0)
	if err != nil {
		return nil, &PathError{Op: "stat", Path: name, Err: err}
	}
	return i, nil
}

// Lstat is [Stat], but describes a symbolic link itself. Kernel 5.6, statx(2).
func Lstat(ctx context.Context, name string) (FileInfo, error) {
	i, err := statPath(ctx, name, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return nil, &PathError{Op: "lstat", Path: name, Err: err}
	}
	return i, nil
}

func statPath(ctx context.Context, name string, flags int) (*info, error) {
	i := &info{name: filepath.Base(name)}
	err := statxAt(ctx, place{dirfd: unix.AT_FDCWD, remote: remotePath(name)}, name, flags, statMask, &i.st)
	if err != nil {
		return nil, err
	}
	return i, nil
}

// Statx fetches the attributes in mask (unix.STATX_*) of the named file. flags are unix.AT_*, such as AT_SYMLINK_NOFOLLOW.
// Kernel 5.6, statx(2).
func Statx(ctx context.Context, name string, flags int, mask uint32) (*unix.Statx_t, error) {
	st := new(unix.Statx_t)
	err := statxAt(ctx, place{dirfd: unix.AT_FDCWD, remote: remotePath(name)}, name, flags, mask, st)
	if err != nil {
		return nil, &PathError{Op: "statx", Path: name, Err: err}
	}
	return st, nil
}

func statxAt(ctx context.Context, at place, name string, flags int, mask uint32, st *unix.Statx_t) error {
	r := choose(ctx, OpStat, Route(pins[OpStat].Load()), at.remote)
	done, err := onNames[OpStat].inPlace(ctx, r, func() error { return ops.StatxNow(at.dirfd, name, flags, mask, st) })
	if done {
		return err
	}
	return perform(ctx, r.instead(), at.remote, ops.Statx(at.dirfd, name, flags, mask, st)).Err
}
