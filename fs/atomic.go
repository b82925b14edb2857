package fs

import (
	"context"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/ops"
)

// WriteFileAtomic gives the named file data as its content, all of it or nothing: whoever opens the file, at any time and after any crash,
// finds the old content or the new one, whole. When it has returned nil, the new one is on stable storage.
//
// It writes a new file in the same directory, syncs it, gives it the name with rename(2), and syncs the directory, where the file system
// can. So the file has the permissions perm before umask, and its owner, other names and attributes are not those of the old one; a
// symbolic link of that name is replaced itself. An error means that the old content is still there, unless it came from the last step:
// then it is the new one, which may not survive a crash of the machine. A crash may leave the new file behind, whose name begins
// with .tmp- .
func WriteFileAtomic(ctx context.Context, name string, data []byte, perm FileMode) error {
	slash := strings.LastIndexByte(name, '/')
	dir, base := name[:slash+1], name[slash+1:]
	if dir == "" {
		dir = "."
	}
	switch base {
	case "", ".", "..":
		err := syscall.EISDIR
		if name == "" {
			err = syscall.ENOENT
		}
		return &PathError{Op: "open", Path: name, Err: err}
	}
	d, err := OpenDir(ctx, dir)
	if err != nil {
		return err
	}
	err = d.writeAtomic(ctx, base, name, data, perm)
	_ = d.Close(context.WithoutCancel(ctx)) // which was only read
	return err
}

// WriteFileAtomic is the function [WriteFileAtomic] for a name in the directory.
func (d *Dir) WriteFileAtomic(ctx context.Context, name string, data []byte, perm FileMode) error {
	shown := d.join(name)
	switch one := single(name); {
	case one == "" && name != "..":
		return &PathError{Op: "open", Path: shown, Err: badName(name)}
	case one == "", one == ".", one != name:
		return &PathError{Op: "open", Path: shown, Err: syscall.EISDIR}
	}
	return d.writeAtomic(ctx, name, shown, data, perm)
}

func (d *Dir) writeAtomic(ctx context.Context, name, shown string, data []byte, perm FileMode) error {
	temp, err := d.writeTemp(ctx, data, perm)
	if err != nil {
		return pathError("write", shown, named(err, shown))
	}
	err = twoNames(ctx, OpRename, d, temp, d, name, func(old, new string) ops.Op[struct{}] {
		return ops.Renameat2(d.f.h.FD, old, d.f.h.FD, new, 0)
	})
	if err != nil {
		_ = d.Remove(context.WithoutCancel(ctx), temp) // if it was renamed in spite of all, there is none of that name
		return pathError("rename", shown, err)
	}
	if err = do(ctx, d.f, OpSync, ops.Fsync(d.f.h.FD)).Err; err == syscall.EINVAL {
		err = nil // not every file system has directories to sync
	}
	return pathError("sync", shown, err)
}

// writeTemp makes a new file with the data, on stable storage, and returns its name.
func (d *Dir) writeTemp(ctx context.Context, data []byte, perm FileMode) (name string, err error) {
	var f *File
	err = freshName(".tmp-", "", func(fresh string) (err error) {
		name = fresh
		f, err = d.OpenFile(ctx, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, perm)
		return err
	})
	if err != nil {
		return "", err
	}
	if _, err = f.writeKept(ctx, data, 0); err == nil {
		err = f.SyncAll(ctx)
	}
	if cerr := f.Close(context.WithoutCancel(ctx)); err == nil {
		err = cerr
	}
	if err != nil {
		_ = d.Remove(context.WithoutCancel(ctx), name) // the error that counts is err
		return "", err
	}
	return name, nil
}
