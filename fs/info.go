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

// info is the FileInfo of this package.
type info struct {
	name string
	st   syscall.Stat_t
}

func (i *info) Name() string       { return i.name }
func (i *info) Size() int64        { return i.st.Size }
func (i *info) IsDir() bool        { return i.st.Mode&unix.S_IFMT == unix.S_IFDIR }
func (i *info) ModTime() time.Time { return time.Unix(i.st.Mtim.Unix()) }
func (i *info) Mode() FileMode     { return fileMode(i.st.Mode) }
func (i *info) String() string     { return i.Mode().String() + " " + i.name }

// Sys returns what that of package os does, which archive/tar and others look for.
func (i *info) Sys() any { return &i.st }

// set takes over what statx says.
func (i *info) set(s *unix.Statx_t) {
	st := &i.st
	put(&st.Dev, unix.Mkdev(s.Dev_major, s.Dev_minor))
	put(&st.Rdev, unix.Mkdev(s.Rdev_major, s.Rdev_minor))
	put(&st.Ino, s.Ino)
	put(&st.Nlink, s.Nlink)
	put(&st.Mode, s.Mode)
	put(&st.Uid, s.Uid)
	put(&st.Gid, s.Gid)
	put(&st.Size, s.Size)
	put(&st.Blksize, s.Blksize)
	put(&st.Blocks, s.Blocks)
	for _, t := range []struct {
		to   *syscall.Timespec
		from unix.StatxTimestamp
	}{{&st.Atim, s.Atime}, {&st.Mtim, s.Mtime}, {&st.Ctim, s.Ctime}} {
		put(&t.to.Sec, t.from.Sec)
		put(&t.to.Nsec, t.from.Nsec)
	}
}

// put assigns across the types that a field has on different processors.
func put[D, S interface {
	~int32 | ~int64 | ~uint16 | ~uint32 | ~uint64
}](to *D, from S) {
	*to = D(from)
}

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
	st, ok := i.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	put(&dev, st.Dev)
	put(&ino, st.Ino)
	return dev, ino, true
}

// Stat describes the file. Sys is a *syscall.Stat_t; [File.Statx] knows more. Kernel 5.6, statx(2).
func (f *File) Stat(ctx context.Context) (FileInfo, error) {
	st := new(unix.Statx_t)
	if err := f.statx(ctx, 0, unix.STATX_BASIC_STATS, st); err != nil {
		return nil, f.wrap("stat", err)
	}
	i := &info{name: filepath.Base(f.name)}
	i.set(st)
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

// Stat describes the named file, symbolic links followed. Sys is a *syscall.Stat_t; [Statx] knows more. Kernel 5.6, statx(2) or stat(2).
func Stat(ctx context.Context, name string) (FileInfo, error) {
	i, err := statPath(ctx, name, 0)
	if err != nil {
		return nil, &PathError{Op: "stat", Path: name, Err: err}
	}
	return i, nil
}

// Lstat is [Stat], but describes a symbolic link itself. Kernel 5.6, statx(2) or lstat(2).
func Lstat(ctx context.Context, name string) (FileInfo, error) {
	i, err := statPath(ctx, name, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return nil, &PathError{Op: "lstat", Path: name, Err: err}
	}
	return i, nil
}

func statPath(ctx context.Context, name string, flags int) (*info, error) {
	i := &info{name: filepath.Base(name)}
	var st *unix.Statx_t
	err := onName(ctx, OpStat, remotePath(name), func() error { return ops.FstatatNow(cwd, name, flags, &i.st) },
		func() ops.Op[*unix.Statx_t] {
			st = new(unix.Statx_t)
			return ops.Statx(cwd, name, flags, unix.STATX_BASIC_STATS, st)
		})
	if err != nil {
		return nil, err
	}
	if st != nil {
		i.set(st)
	}
	return i, nil
}

// Statx fetches the attributes in mask (unix.STATX_*) of the named file. flags are unix.AT_*, such as AT_SYMLINK_NOFOLLOW.
// Kernel 5.6, statx(2).
func Statx(ctx context.Context, name string, flags int, mask uint32) (*unix.Statx_t, error) {
	st := new(unix.Statx_t)
	err := onName(ctx, OpStat, remotePath(name), func() error { return ops.StatxNow(cwd, name, flags, mask, st) },
		func() ops.Op[*unix.Statx_t] { return ops.Statx(cwd, name, flags, mask, st) })
	if err != nil {
		return nil, &PathError{Op: "statx", Path: name, Err: err}
	}
	return st, nil
}
