package copier

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"uringo/executor"
	"uringo/fs"
)

// The order is the same everywhere: the owner first, as it takes away set-user-ID bits and capabilities; then the attributes, which
// the mode could forbid to set, and last of them the ACL, without which the mode's group bits grant more than is meant; then the times; and
// the mode last, which opens to others what is complete.

// inheritance is what new entries of a folder get without being asked.
type inheritance int32

const (
	inheritUnknown inheritance = iota
	inheritNothing
	inheritACL // the folder has a default ACL
)

// byDefaultACL reports whether a new file's permissions come from its folder's default ACL and not from the umask. The kernel has to
// do that when it creates the file: a mode set afterwards could grant more than the ACL.
func (w *worker) byDefaultACL(ctx context.Context, e *entry) bool {
	if w.opts.Archive || e.overFile() {
		return false
	}
	return w.inherits(ctx, e.dst.folder, e.ddir)
}

// inherits looks once for each folder. Two workers may look at the same time, and see the same.
func (w *worker) inherits(ctx context.Context, f *folder, dir *fs.Dir) bool {
	if i := inheritance(f.inherits.Load()); i != inheritUnknown {
		return i == inheritACL
	}
	has, _ := executor.Block(ctx, func() (bool, error) {
		_, err := dirXattrs(dir).get(aclDefault)
		return err == nil, nil
	})
	i := inheritNothing
	if has {
		i = inheritACL
	}
	f.inherits.Store(int32(i))
	return has
}

// restricts reports whether what is created in the folder may lack some of these permissions, which were asked for.
func (w *worker) restricts(ctx context.Context, f *folder, dir *fs.Dir, perm uint32) bool {
	return w.opts.Umask&perm != 0 || w.inherits(ctx, f, dir)
}

// plainMode is the mode of a new file that gets no more than its content: as with cp, permissions only. It is for a call that creates the
// file, in which the kernel takes the umask away, or does not where a default ACL stands in for it.
func plainMode(a *attrs) uint32 { return a.perm() & 0777 }

// dress gives a new regular file everything but its name.
func (w *worker) dress(ctx context.Context, e *entry, src, dst *fs.File, a *attrs) error {
	switch {
	case w.opts.Archive:
		mode, err := w.chown(a, func(uid, gid int) error { return dst.Chown(ctx, uid, gid) })
		if err != nil {
			return err
		}
		mode, err = w.copyXattrs(ctx, e.dst.path(), fdXattrs(src.Fd()), fdXattrs(dst.Fd()), mode, w.wanted, false)
		if err != nil {
			return err
		}
		if err := w.lacking(e.dst.path(), "times", dst.Chtimes(ctx, a.atime, a.mtime)); err != nil {
			return err
		}
		return dst.Chmod(ctx, fileMode(mode))

	case e.overFile():
		// cp writes into the existing file, which keeps its owner, attributes and mode. This is another file, so it is given them.
		mode, err := w.chown(e.old, func(uid, gid int) error { return dst.Chown(ctx, uid, gid) })
		if err != nil {
			return err
		}
		if os.Geteuid() != 0 {
			mode = afterWrite(mode)
		}
		mode, err = w.keepXattrs(ctx, e, dst, mode)
		if is(err, unix.ENOENT) {
			err = errReplaced
		}
		if err != nil {
			return err
		}
		return dst.Chmod(ctx, fileMode(mode))

	case !w.byDefaultACL(ctx, e):
		return dst.Chmod(ctx, fileMode(plainMode(a)&^w.opts.Umask))
	}
	return nil
}

// chown sets an owner and returns the mode to set after that. Only root can give files away; for others, as with cp, that is no error,
// but the file must not run as somebody else than in its source.
func (w *worker) chown(a *attrs, set func(uid, gid int) error) (uint32, error) {
	mode := a.perm()
	err := set(int(a.uid), int(a.gid))
	if err == nil || !is(err, unix.EPERM, unix.EINVAL) {
		return mode, err
	}
	if os.Geteuid() == 0 && w.journal.once("owner") { // EINVAL: an owner that our user namespace does not have
		w.journal.note("", "owners are not kept: "+why(err))
	}
	mode &^= unix.S_ISUID
	if set(-1, int(a.gid)) != nil {
		mode &^= unix.S_ISGID
	}
	return mode, nil
}

// afterWrite is what the kernel leaves of a mode when a user writes to the file: who changes a program must not choose as whom it runs.
func afterWrite(mode uint32) uint32 {
	mode &^= unix.S_ISUID
	if mode&unix.S_IXGRP != 0 {
		mode &^= unix.S_ISGID
	}
	return mode
}

// lacking turns the answer of a file system that does not keep something at all into a note. Other errors stay errors.
func (c *Copier) lacking(path, what string, err error) error {
	if !is(err, unix.ENOTSUP, unix.ENOSYS) {
		return err
	}
	if c.journal.once(what) {
		c.journal.note(path, "this file system does not keep "+what)
	}
	return nil
}

// preserveDir gives a directory the attributes of its source.
func (c *Copier) preserveDir(ctx context.Context, n *node, src, dst *fs.Dir) error {
	w := &worker{Copier: c}
	mode, err := w.chown(&n.attrs, func(uid, gid int) error { return dst.Chown(ctx, ".", uid, gid) })
	if err != nil {
		return err
	}
	mode, err = c.copyXattrs(ctx, n.dst.path(), dirXattrs(src), dirXattrs(dst), mode, c.wanted, true)
	if err != nil {
		return err
	}
	if err := c.lacking(n.dst.path(), "times", dst.Chtimes(ctx, ".", n.attrs.atime, n.attrs.mtime)); err != nil {
		return err
	}
	return dst.Chmod(ctx, ".", fileMode(mode))
}

// preserveNamed gives something that cannot be opened the attributes of its source.
func (w *worker) preserveNamed(ctx context.Context, e *entry, name string) error {
	mode, err := w.chown(&e.attrs, func(uid, gid int) error { return e.ddir.Chown(ctx, name, uid, gid) })
	if err != nil {
		return err
	}
	if e.attrs.kind() != unix.S_IFLNK || w.opts.Security { // links have neither attributes of users nor ACLs
		mode, err = w.copyXattrs(ctx, e.dst.path(), nameXattrs(e.sdir, e.src.name), nameXattrs(e.ddir, name), mode, w.wanted, false)
		if err != nil {
			return err
		}
	}
	if err := w.lacking(e.dst.path(), "times", e.ddir.Chtimes(ctx, name, e.attrs.atime, e.attrs.mtime)); err != nil {
		return err
	}
	if e.attrs.kind() == unix.S_IFLNK { // links have no mode
		return nil
	}
	return e.ddir.Chmod(ctx, name, fileMode(mode))
}

// keepXattrs gives a new file the attributes of the one that it replaces, the system's too: they are of this place. Without /proc that
// takes the right to read it.
func (w *worker) keepXattrs(ctx context.Context, e *entry, dst *fs.File, mode uint32) (uint32, error) {
	old := nameXattrs(e.ddir, e.dst.name)
	if !haveProc() {
		f, err := e.ddir.OpenFile(ctx, e.dst.name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return mode, err
		}
		defer f.Close(context.WithoutCancel(ctx))
		old = fdXattrs(f.Fd())
	}
	return w.copyXattrs(ctx, e.dst.path(), old, fdXattrs(dst.Fd()), mode, survives, false)
}

// copyXattrs copies those extended attributes that are wanted. Those that dst has by inheritance and src has not are ACLs, which have to go: they would
// grant what src does not grant. Of a directory that existed before, other attributes stay. It returns what to make of mode, which
// is src's: less, if the ACL could not be kept.
func (c *Copier) copyXattrs(ctx context.Context, path string, src, dst xattrs, mode uint32, wanted func(string) bool, dir bool) (uint32, error) {
	return executor.Block(ctx, func() (uint32, error) {
		err := c.moveXattrs(path, src, dst, &mode, wanted, dir)
		return mode, err
	})
}

func (c *Copier) moveXattrs(path string, src, dst xattrs, mode *uint32, wanted func(string) bool, dir bool) error {
	names, err := src.list()
	if err != nil && !is(err, unix.ENOTSUP) { // then there are none
		return fmt.Errorf("listing attributes: %w", err)
	}
	aclLast(names)
	has := make(map[string]bool, len(names))
	for _, name := range names {
		if !wanted(name) {
			continue
		}
		value, err := src.get(name)
		if is(err, unix.ENODATA, unix.ENOTSUP) {
			continue // gone since
		}
		if privileged(name) && is(err, unix.EPERM, unix.EACCES) {
			c.withheld(path, name, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("attribute %s: %w", Quote(name), err)
		}
		has[name] = true
		kept, err := c.setXattr(path, dst, name, value)
		if err != nil {
			return err
		}
		if name == aclAccess && !kept {
			*mode &^= 070 &^ (groupPerm(value) << 3)
		}
	}
	acls := []string{aclAccess}
	if dir {
		acls = append(acls, aclDefault)
	}
	for _, name := range acls {
		if has[name] {
			continue
		}
		if err := dst.remove(name); err != nil && !is(err, unix.ENODATA, unix.ENOTSUP, unix.EINVAL) {
			if _, none := dst.get(name); is(none, unix.ENODATA) {
				continue // of a directory that is not ours, the kernel does not look whether there is one
			}
			return fmt.Errorf("inherited attribute %s: %w", name, err)
		}
	}
	return nil
}

func (c *Copier) setXattr(path string, dst xattrs, name string, value []byte) (kept bool, err error) {
	if privileged(name) {
		if same, err := dst.get(name); err == nil && bytes.Equal(same, value) {
			return true, nil // a label that files here get by themselves, and which may not be ours to set
		}
	}
	err = dst.set(name, value)
	switch {
	case err == nil:
		return true, nil
	case is(err, unix.ENOTSUP):
		return false, c.lacking(path, "attribute "+Quote(name), err)
	case privileged(name) && is(err, unix.EPERM, unix.EACCES, unix.EINVAL):
		c.withheld(path, name, err)
		return false, nil
	case c.opts.Archive && is(err, unix.ENOSPC, unix.EDQUOT, unix.E2BIG, unix.ERANGE):
		// The target holds less than the source. Without an attribute a copy is worth more than nothing; but not what replaces a file
		// that has it, which is the case without Archive.
		c.journal.fail(path, fmt.Errorf("attribute %s is not kept: %w", Quote(name), err))
		return false, nil
	}
	return false, fmt.Errorf("attribute %s: %w", Quote(name), err)
}

// withheld notes that an attribute of the system is not ours to keep.
func (c *Copier) withheld(path, name string, err error) {
	if c.journal.once(name) {
		c.journal.note(path, fmt.Sprintf("attribute %s is not kept: %v", Quote(name), err))
	}
}
