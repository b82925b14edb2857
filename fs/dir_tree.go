package fs

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ReadFile returns the content of a file beneath the directory, whose name may be a path. The end of the file is no error. Kernel 5.6,
// openat2(2).
func (d *Dir) ReadFile(ctx context.Context, name string) ([]byte, error) {
	f, err := d.openBriefly(ctx, name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	return f.content(ctx)
}

// WriteFile writes data to a file beneath the directory, whose name may be a path; see the function [WriteFile], also for when data is the
// caller's again. Kernel 5.6, openat2(2).
func (d *Dir) WriteFile(ctx context.Context, name string, data []byte, perm FileMode) error {
	f, err := d.openBriefly(ctx, name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	return f.become(ctx, data)
}

// MkdirAll makes a directory beneath d and all those on the path that are missing, with the permissions perm before umask. That they exist is
// no error; a symbolic link in the place of one is ELOOP, wherever it leads. Kernel 5.6, openat2(2), mkdirat(2).
func (d *Dir) MkdirAll(ctx context.Context, path string, perm FileMode) error {
	err := d.isDir(ctx, path)
	if !says(err, syscall.ENOENT) {
		return err
	}
	in := d
	parent, base := splitName(path)
	if parent != "" {
		if err := d.MkdirAll(ctx, parent, perm); err != nil {
			return err
		}
		if in, err = d.OpenDir(ctx, parent); err != nil {
			return err
		}
		defer in.Close(context.WithoutCancel(ctx))
	}
	err = in.Mkdir(ctx, base, perm)
	if err != nil && d.isDir(ctx, path) == nil {
		return nil // somebody has made it meanwhile, or the path ends in . or ..
	}
	return named(err, d.join(path))
}

// isDir returns nil if a path beneath d leads to a directory, or else why not.
func (d *Dir) isDir(ctx context.Context, path string) error {
	f, err := d.OpenFile(ctx, path, blindFlags, 0)
	if err == nil {
		return f.Close(context.WithoutCancel(ctx))
	}
	var pe *PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return d.wrap("mkdir", path, err)
}

// RemoveAll removes what a path beneath d leads to, and everything in it, without following symbolic links. It goes on after errors and returns
// the first. That there is nothing of that name is no error. It stops when ctx ends. A path that ends in . or .. is EINVAL. Kernel 5.6,
// openat2(2), unlinkat(2).
func (d *Dir) RemoveAll(ctx context.Context, path string) error {
	if path == "" {
		return nil
	}
	in := d
	parent, base := splitName(path)
	switch {
	case base == "": // it is that of the whole system
		return d.wrap("RemoveAll", path, errOutside)
	case base == "." || base == "..":
		return d.wrap("RemoveAll", path, errNotRemoved)
	case parent != "":
		var err error
		if in, err = d.OpenDir(ctx, parent); says(err, syscall.ENOENT) {
			return nil
		}
		if err != nil {
			return err
		}
		defer in.Close(context.WithoutCancel(ctx))
	}
	return in.removeAll(ctx, base, in.join(base))
}

// removeAll removes the tree that has the name base, which errors show as shown.
func (d *Dir) removeAll(ctx context.Context, base, shown string) error {
	_, err := doCall(ctx, d.f, OpRemove, func(fd int) (struct{}, error) {
		return struct{}{}, removeTree(ctx, fd, base, &branch{name: shown}, unix.DT_UNKNOWN)
	})
	return pathError("unlinkat", shown, err)
}

// splitName takes a path apart, without slashes at its end: base is its last component, and parent what is before that, with the slash.
func splitName(path string) (parent, base string) {
	path = strings.TrimRight(path, "/")
	slash := strings.LastIndexByte(path, '/')
	return path[:slash+1], path[slash+1:]
}
