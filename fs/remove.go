package fs

import (
	"context"
	"slices"
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
	dir, base := splitName(path)
	if base == "." {
		return &PathError{Op: "RemoveAll", Path: path, Err: syscall.EINVAL}
	}
	err := Remove(ctx, path)
	if err == nil || says(err, syscall.ENOENT) {
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
		case says(err, syscall.ENOENT):
			return nil
		case says(err, syscall.ENOTDIR):
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
	return d.removeAll(ctx, base, strings.TrimSuffix(dir, "/")+"/"+base)
}

// branch is a name in a tree. Its path is put together when an error has to show it: in a very deep tree, the paths of all directories on
// the way are much.
type branch struct {
	above *branch // nil: name is a path
	name  string
}

func (b *branch) fail(verb string, err error) error {
	var names []string
	for ; b != nil; b = b.above {
		names = append(names, b.name)
	}
	slices.Reverse(names)
	return pathError(verb, strings.Join(names, "/"), err)
}

// removeTree removes base, which is of type typ as far as is known, from the directory parent.
func removeTree(ctx context.Context, parent int, base string, at *branch, typ byte) error {
	if err := canceled(ctx); err != nil {
		return at.fail("unlinkat", err)
	}
	unlinked := error(syscall.EISDIR)
	if typ != unix.DT_DIR {
		unlinked = ignoringEINTR(func() error { return unix.Unlinkat(parent, base, 0) })
		switch unlinked {
		case nil, syscall.ENOENT:
			return nil
		case syscall.EISDIR, syscall.EPERM, syscall.EACCES: // a directory, perhaps
		default:
			return at.fail("unlinkat", unlinked)
		}
	}
	first := emptyTree(ctx, parent, base, at)
	if first == errNoDir {
		return at.fail("unlinkat", unlinked)
	}
	err := ignoringEINTR(func() error { return unix.Unlinkat(parent, base, unix.AT_REMOVEDIR) })
	if err == nil || err == syscall.ENOENT {
		return nil
	}
	if first != nil {
		return first
	}
	return at.fail("unlinkat", err)
}

// errNoDir is emptyTree's answer for what is no directory.
const errNoDir = syscall.ENOTDIR

// emptyTree removes what is in the directory base of parent, and returns the first error.
func emptyTree(ctx context.Context, parent int, base string, at *branch) (first error) {
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
		return at.fail("openat", err)
	}
	defer unix.Close(fd)

	// Removing entries while reading them may hide others, so it takes another pass to find nothing.
	for {
		removed := false
		for {
			names, err := someNames(ctx, fd)
			if err != nil && first == nil {
				first = at.fail("readdirent", err)
			}
			if err != nil {
				return first
			}
			if len(names) == 0 {
				break
			}
			for _, n := range names {
				err := removeTree(ctx, fd, n.name, &branch{at, n.name}, n.typ)
				if err == nil {
					removed = true
				} else if first == nil {
					first = err
				}
				if err != nil && ctx.Err() != nil {
					return first
				}
			}
		}
		if !removed {
			return first
		}
		if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
			return at.fail("seek", err)
		}
		first = nil // what could not be removed is met again
	}
}

// typedName is a name in a directory and the type of what has it, as far as that is known.
type typedName struct {
	name string
	typ  byte
}

// someNames returns names in the directory fd from where it stands, or none at its end. It leaves no buffer in use for as long as somebody works
// on what is beneath: in a very deep tree, that would be many.
func someNames(ctx context.Context, fd int) (names []typedName, err error) {
	buf := direntBuffers.Get().(*[]byte)
	defer direntBuffers.Put(buf)
	for len(names) == 0 {
		b, err := dirents(ctx, fd, *buf)
		if err != nil || len(b) == 0 {
			return nil, err
		}
		_ = eachIn(b, func(name string, _ uint64, typ byte) error { // which has nothing to fail with
			names = append(names, typedName{name, typ})
			return nil
		})
	}
	return names, nil
}
