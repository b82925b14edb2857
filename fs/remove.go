package fs

import (
	"context"
	"errors"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// RemoveAll removes path and everything in it, without following symbolic links. It goes on after errors and returns the first. That
// path does not exist is no error. It stops when ctx ends.
func RemoveAll(ctx context.Context, path string) error {
	if path == "" {
		return nil
	}
	name := strings.TrimRight(path, "/")
	slash := strings.LastIndexByte(name, '/')
	dir, base := name[:slash+1], name[slash+1:]
	if base == "." {
		return &PathError{Op: "RemoveAll", Path: path, Err: syscall.EINVAL}
	}
	err := Remove(ctx, path)
	if err == nil || errors.Is(err, ErrNotExist) {
		return nil
	}
	switch {
	case base == "":
		dir, base = "/", "." // what is in it goes
	case dir == "":
		dir = "."
	default:
		if dir = strings.TrimRight(dir, "/"); dir == "" {
			dir = "/"
		}
	}
	d, err := OpenDir(ctx, dir)
	if err != nil {
		switch {
		case errors.Is(err, ErrNotExist):
			return nil
		case errors.Is(err, syscall.ENOTDIR):
			if _, missing := Stat(ctx, dir); missing == nil { // then it is no directory itself, not one above it
				errno := syscall.ENOTDIR
				if strings.IndexByte(base, 0) >= 0 {
					errno = syscall.EINVAL
				}
				return &PathError{Op: "unlinkat", Path: name, Err: errno}
			}
		}
		return err
	}
	defer d.Close(ctx)
	_, err = doCall(ctx, d.f, OpRemove, func(fd int) (struct{}, error) {
		return struct{}{}, removeTree(ctx, fd, base, strings.TrimSuffix(dir, "/")+"/"+base, unix.DT_UNKNOWN)
	})
	return err
}

// removeTree removes base, which is of type typ as far as is known, from the directory parent.
func removeTree(ctx context.Context, parent int, base, path string, typ byte) error {
	if err := canceled(ctx); err != nil {
		return pathError("unlinkat", path, err)
	}
	unlinked := error(syscall.EISDIR)
	if typ != unix.DT_DIR {
		unlinked = ignoringEINTR(func() error { return unix.Unlinkat(parent, base, 0) })
		switch unlinked {
		case nil, syscall.ENOENT:
			return nil
		case syscall.EISDIR, syscall.EPERM, syscall.EACCES: // a directory, perhaps
		default:
			return pathError("unlinkat", path, unlinked)
		}
	}
	first := emptyTree(ctx, parent, base, path)
	if first == errNoDir {
		return pathError("unlinkat", path, unlinked)
	}
	err := ignoringEINTR(func() error { return unix.Unlinkat(parent, base, unix.AT_REMOVEDIR) })
	if err == nil || err == syscall.ENOENT {
		return nil
	}
	if first != nil {
		return first
	}
	return pathError("unlinkat", path, err)
}

// errNoDir is emptyTree's answer for what is no directory.
const errNoDir = syscall.ENOTDIR

// emptyTree removes what is in the directory base of parent, and returns the first error.
func emptyTree(ctx context.Context, parent int, base, path string) (first error) {
	var fd int
	err := ignoringEINTR(func() (err error) {
		fd, err = unix.Openat(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	switch err {
	case nil:
	case syscall.ENOENT:
		return nil
	case syscall.ENOTDIR, syscall.ELOOP:
		return errNoDir
	default:
		return pathError("openat", path, err)
	}
	defer unix.Close(fd)

	// Removing entries while reading them may hide others, so it takes another pass to find nothing.
	for {
		removed := false
		err := eachName(ctx, fd, func(name string, _ uint64, typ byte) error {
			err := removeTree(ctx, fd, name, path+"/"+name, typ)
			if err == nil {
				removed = true
			} else if first == nil {
				first = err
			}
			return canceled(ctx)
		})
		if err != nil && first == nil {
			first = pathError("readdirent", path, err)
		}
		if err != nil || !removed {
			return first
		}
		if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
			return pathError("seek", path, err)
		}
		first = nil // what could not be removed is met again
	}
}
