package fs

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uringo/executor"
	"uringo/ops"
)

// The working directory, for names that are not absolute.
const cwd = unix.AT_FDCWD

// doPath performs an operation on names.
func doPath[T any](ctx context.Context, op Operation, o ops.Op[T], names ...string) ops.Result[T] {
	remote := slices.ContainsFunc(names, remotePath)
	c := executor.CallerOf(ctx)
	return perform(ctx, c, choose(c, op, Route(pins[op].Load()), remote), remote, o)
}

// callPath makes a plain call on a name for what has no opcode.
func callPath(ctx context.Context, op Operation, name string, fn func() error) error {
	c := executor.CallerOf(ctx)
	_, err := call(ctx, c, choose(c, op, Route(pins[op].Load()), remotePath(name)), func() (struct{}, error) {
		return struct{}{}, ignoringEINTR(fn)
	})
	return err
}

// Mkdir makes a directory with the permissions perm before umask. Kernel 5.15, else a plain call; mkdir(2).
func Mkdir(ctx context.Context, name string, perm FileMode) error {
	return pathError("mkdir", name, doPath(ctx, OpMkdir, ops.Mkdirat(cwd, name, modeBits(perm)), name).Err)
}

// MkdirAll makes a directory and all those above it that are missing, with the permissions perm before umask. That they exist is
// no error.
func MkdirAll(ctx context.Context, path string, perm FileMode) error {
	if dir, err := Stat(ctx, path); err == nil {
		if dir.IsDir() {
			return nil
		}
		return &PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
	}
	// Not by filepath.Dir, which would take a/../b for b.
	name := strings.TrimRight(path, "/")
	if parent := name[:max(0, strings.LastIndexByte(name, '/'))]; parent != "" {
		if err := MkdirAll(ctx, parent, perm); err != nil {
			return err
		}
	}
	err := Mkdir(ctx, path, perm)
	if err != nil {
		// Somebody may have made it meanwhile; or the path ends in /. .
		if dir, err := Lstat(ctx, path); err == nil && dir.IsDir() {
			return nil
		}
	}
	return err
}

// Remove removes a file or an empty directory. Kernel 5.11, else a plain call; unlink(2), rmdir(2).
func Remove(ctx context.Context, name string) error {
	err := unlink(ctx, name, 0)
	if err != syscall.EISDIR && err != syscall.EPERM {
		// Linux says EISDIR of directories. Others may say EPERM, which has other meanings too.
		return pathError("remove", name, err)
	}
	err2 := unlink(ctx, name, unix.AT_REMOVEDIR)
	if err2 != syscall.ENOTDIR {
		err = err2
	}
	return pathError("remove", name, err)
}

func unlink(ctx context.Context, name string, flags int) error {
	return onName(ctx, OpRemove, remotePath(name), func() error { return ops.UnlinkatNow(cwd, name, flags) },
		func() ops.Op[struct{}] { return ops.Unlinkat(cwd, name, flags) })
}

// Rename gives a file another name; what has it already is replaced, in one step: a directory only by a directory and if it is empty,
// which os.Rename refuses in any case. Kernel 5.11, else a plain call; rename(2).
func Rename(ctx context.Context, oldpath, newpath string) error {
	return RenameFlags(ctx, oldpath, newpath, 0)
}

// RenameFlags is [Rename] with flags: unix.RENAME_NOREPLACE fails with [ErrExist] if newpath exists, unix.RENAME_EXCHANGE swaps the
// two. Kernel 5.11, else a plain call; renameat2(2).
func RenameFlags(ctx context.Context, oldpath, newpath string, flags uint) error {
	o := ops.Renameat2(cwd, oldpath, cwd, newpath, uint32(flags))
	return linkError("rename", oldpath, newpath, doPath(ctx, OpRename, o, oldpath, newpath).Err)
}

// Symlink makes newname a symbolic link that says oldname. Kernel 5.15, else a plain call; symlink(2).
func Symlink(ctx context.Context, oldname, newname string) error {
	return linkError("symlink", oldname, newname, doPath(ctx, OpLink, ops.Symlinkat(oldname, cwd, newname), newname).Err)
}

// Link makes newname another name of the file oldname. Kernel 5.15, else a plain call; link(2).
func Link(ctx context.Context, oldname, newname string) error {
	o := ops.Linkat(cwd, oldname, cwd, newname, 0)
	return linkError("link", oldname, newname, doPath(ctx, OpLink, o, oldname, newname).Err)
}

// Readlink returns what a symbolic link says. readlink(2).
func Readlink(ctx context.Context, name string) (string, error) {
	var target string
	err := callPath(ctx, OpList, name, func() (err error) {
		target, err = readlinkAt(cwd, name)
		return err
	})
	return target, pathError("readlink", name, err)
}

func readlinkAt(dirfd int, name string) (string, error) {
	for size := 128; ; size *= 2 {
		b := make([]byte, size)
		n, err := unix.Readlinkat(dirfd, name, b)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(b[:n]), nil
		}
	}
}

// Truncate makes the named file exactly size bytes long. truncate(2).
func Truncate(ctx context.Context, name string, size int64) error {
	return pathError("truncate", name, callPath(ctx, OpAttr, name, func() error { return unix.Truncate(name, size) }))
}

// Chmod changes the permissions, and the set-id and sticky bits, of the named file, symbolic links followed. chmod(2).
func Chmod(ctx context.Context, name string, mode FileMode) error {
	return pathError("chmod", name, callPath(ctx, OpAttr, name, func() error { return unix.Chmod(name, modeBits(mode)) }))
}

// Chown changes the owner and the group of the named file, symbolic links followed; -1 leaves either as it is. chown(2).
func Chown(ctx context.Context, name string, uid, gid int) error {
	return pathError("chown", name, callPath(ctx, OpAttr, name, func() error { return unix.Chown(name, uid, gid) }))
}

// Lchown is [Chown] for a symbolic link itself. lchown(2).
func Lchown(ctx context.Context, name string, uid, gid int) error {
	return pathError("lchown", name, callPath(ctx, OpAttr, name, func() error { return unix.Lchown(name, uid, gid) }))
}

// Chtimes sets the times of access and modification of the named file, symbolic links followed; a zero Time leaves one as it is.
// utimensat(2).
func Chtimes(ctx context.Context, name string, atime, mtime time.Time) error {
	return pathError("chtimes", name, callPath(ctx, OpAttr, name, func() error {
		ts, err := timespecs(atime, mtime)
		if err != nil {
			return err
		}
		return unix.UtimesNanoAt(cwd, name, ts[:], 0)
	}))
}

// Mknod makes a FIFO, a socket, a device or a regular file: mode is unix.S_IFIFO or another type, and the permissions before umask; dev
// is made by unix.Mkdev. mknod(2).
func Mknod(ctx context.Context, name string, mode uint32, dev uint64) error {
	return pathError("mknod", name, callPath(ctx, OpLink, name, func() error { return unix.Mknod(name, mode, int(dev)) }))
}

// Mkfifo makes a FIFO with the permissions perm before umask. mkfifo(3).
func Mkfifo(ctx context.Context, name string, perm FileMode) error {
	return pathError("mkfifo", name, callPath(ctx, OpLink, name, func() error { return unix.Mkfifo(name, modeBits(perm)) }))
}
