package fs

import (
	"context"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/ops"
)

// Link gives the open file the further name newname: the first, if it was opened as Unnamed (see [OpenOptions]), so that a file appears with all
// its content or not at all. The name must not exist, and be on the same file system. A file that has lost its last name, or was opened with
// O_TMPFILE|O_EXCL, gets none: it is [ErrNotExist]. The file may be closed before or after; sync it first if the content has to survive a crash
// that the name survives. Kernel 5.15, else a plain call; linkat(2), by way of /proc where the kernel, before 6.10, wants CAP_DAC_READ_SEARCH.
func (f *File) Link(ctx context.Context, newname string) error {
	return linkError("link", f.name, newname, nameFile(f.h.FD, func(old string, olddir, flags int) error {
		return do(ctx, f, OpLink, ops.Linkat(olddir, old, cwd, newname, flags)).Err
	}))
}

// LinkFile gives the open file f the further name name in the directory; see [File.Link].
func (d *Dir) LinkFile(ctx context.Context, f *File, name string) error {
	one := single(name)
	if one == "" {
		return linkError("link", f.name, d.join(name), badName(name))
	}
	return linkError("link", f.name, d.join(name), nameFile(f.h.FD, func(old string, olddir, flags int) error {
		return doBoth(ctx, OpLink, f, d.f, func() ops.Op[struct{}] { return ops.Linkat(olddir, old, d.f.h.FD, one, flags) })
	}))
}

// nameFile calls link with one way after the other to name an open file in linkat(2).
func nameFile(fd int, link func(old string, olddir, flags int) error) error {
	err := link("", fd, unix.AT_EMPTY_PATH)
	if err == syscall.ENOENT { // also for want of a right
		err = link(procPath(fd), cwd, unix.AT_SYMLINK_FOLLOW)
	}
	return err
}
