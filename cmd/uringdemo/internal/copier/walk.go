package copier

import (
	"context"
	"os"

	"golang.org/x/sys/unix"

	"uringo/fs"
)

// A node is a directory in work: its source, its copy and the names in it.
type node struct {
	parent   *node
	src, dst *folder
	attrs    attrs // of the source
	created  bool  // by this copy
	limited  bool  // when it was created, it lacked permissions of its owner: it had those
	given    uint32

	// Guarded by Copier.mu.
	names   []string
	args    []job // instead of names: what the user named
	next    int
	pending int // entries that are not finished
}

// A job is one entry to copy.
type job struct {
	node     *node
	src, dst place
	arg      bool // named by the user
	exact    bool // dst is what the user named, not a name in it
	mustDir  bool // the user wrote a slash behind src
	newDir   bool // the user wrote a slash behind dst, which does not exist
}

func (n *node) remaining() int { return len(n.names) + len(n.args) - n.next }

// take returns the next entry. Names are let go as they are taken: a directory may have millions.
func (n *node) take() (job, bool) {
	switch {
	case n.next < len(n.args):
		n.next++
		return n.args[n.next-1], true
	case n.next < len(n.names):
		name := n.names[n.next]
		n.names[n.next] = ""
		n.next++
		return job{node: n, src: place{n.src, name}, dst: place{n.dst, name}}, true
	}
	n.names, n.args, n.next = nil, nil, 0
	return job{}, false
}

// enter starts to copy a directory: it makes the target and offers the names. The worker that copies the last of them finishes it.
func (w *worker) enter(ctx context.Context, j job, a attrs, old *attrs) error {
	if w.targets.isTop(a.id) {
		return errIntoItself
	}
	n := &node{
		parent: j.node,
		src:    &folder{parent: j.src.folder, name: j.src.name},
		dst:    &folder{parent: j.dst.folder, name: j.dst.name},
	}
	src, err := w.handles.acquire(ctx, n.src)
	if err != nil {
		return err
	}
	defer w.handles.release(ctx, n.src)
	if n.attrs, err = dirAttrs(ctx, src); err != nil {
		return err
	}
	if n.attrs.id != a.id {
		return errMoved
	}
	names, err := readNames(ctx, src)
	if err != nil {
		return err
	}

	if old == nil {
		if err := w.makeDir(ctx, n, j.dst); err != nil {
			return atPath(j.dst, err)
		}
	}
	dst, err := w.handles.acquire(ctx, n.dst)
	if err != nil {
		return atPath(j.dst, err)
	}
	defer w.handles.release(ctx, n.dst)
	if j.arg && !w.targets.addTop(w.handles.idOf(n.dst), a.id) {
		return errTwice // a second time, it would find what the first one left, as read-only as that was meant to be
	}
	if w.opts.Archive && !n.created {
		if err := w.unlock(ctx, n.dst, dst); err != nil {
			return atPath(j.dst, err)
		}
	}

	n.names, n.pending = names, len(names)
	w.mu.Lock()
	j.node.pending++ // n itself; the job counts separately
	w.mu.Unlock()
	if len(names) == 0 {
		w.finish(ctx, n)
		w.done(ctx, j.node)
		return nil
	}
	w.push(ctx, n)
	return nil
}

// makeDir creates a directory in which only we can look until it is complete: with Archive its final mode comes at the end. Without,
// the mode is what a user would get from mkdir, so that default ACLs and the umask work in the kernel, and a directory that already
// exists is taken as it is.
func (w *worker) makeDir(ctx context.Context, n *node, at place) error {
	dir, err := w.handles.acquire(ctx, at.folder)
	if err != nil {
		return err
	}
	defer w.handles.release(ctx, at.folder)
	mode := os.FileMode(0700)
	if !w.opts.Archive {
		mode = fileMode(n.attrs.perm()&01777 | 0700)
	}
	if err := dir.Mkdir(ctx, at.name, mode); err != nil {
		if is(err, unix.EEXIST) {
			return nil
		}
		return err
	}
	n.created = true
	if !w.restricts(ctx, at.folder, dir, 0700) {
		return nil
	}
	fi, err := dir.Lstat(ctx, at.name)
	if err != nil {
		return err
	}
	a := attrsOf(fi)
	if !a.isDir() || a.perm()&0700 == 0700 {
		return nil
	}
	// Of these modes, this is the one that opens nothing to others, should the name not be that of the new directory any more.
	n.limited, n.given = true, a.perm()
	return dir.Chmod(ctx, at.name, 0700)
}

// done says that an entry of n is finished, and finishes n if it was the last: without recursion, as trees are deep.
func (c *Copier) done(ctx context.Context, n *node) {
	for n != nil {
		c.mu.Lock()
		n.pending--
		last := n.pending == 0
		c.mu.Unlock()
		if !last {
			return
		}
		c.finish(ctx, n)
		n = n.parent
	}
}

// finish gives a directory what could not be given before its content: the mode may forbid writing, the times change with it.
func (c *Copier) finish(ctx context.Context, n *node) {
	if n.src != nil {
		defer c.handles.forget(ctx, n.src)
	}
	defer c.handles.forget(ctx, n.dst)
	if ctx.Err() != nil {
		return // interrupted: nobody has said that it is complete
	}
	if err := c.seal(ctx, n); err != nil {
		if !interrupted(ctx, err) {
			c.journal.fail(n.dst.path(), err)
		}
		return
	}
	if n.src != nil {
		c.journal.count(&c.journal.report.Directories, 1)
		c.progress.Entries.Add(1)
	}
}

func (c *Copier) seal(ctx context.Context, n *node) error {
	if n.src == nil && !c.handles.opened(n.dst) {
		return nil // nothing came as far as the target, and why was said
	}
	dir, err := c.handles.acquire(ctx, n.dst)
	if err != nil {
		return err
	}
	defer c.handles.release(ctx, n.dst)
	if n.src != nil {
		if err := c.sealAttrs(ctx, n, dir); err != nil {
			_ = c.syncDir(ctx, n.dst, dir) // what is in it is complete; the first error is the one to tell
			return err
		}
		c.locks.drop(n.dst) // it has its mode
	}
	return c.syncDir(ctx, n.dst, dir)
}

// syncDir makes the names in a directory durable.
func (c *Copier) syncDir(ctx context.Context, f *folder, dir *fs.Dir) error {
	if !c.opts.Sync {
		return nil
	}
	err := dir.Sync(ctx)
	if is(err, unix.EINVAL, unix.ENOTSUP) {
		// Some network file systems sync no directories. They order renames themselves, or nothing can be done about it.
		if c.journal.once("sync") {
			c.journal.note(f.path(), "this file system does not sync directories")
		}
		return nil
	}
	if is(err, unix.EACCES) {
		// It may be searched and written to, and not read, which is what it takes to sync it.
		if c.journal.once("sync of what may not be read") {
			c.journal.note(f.path(), "without the right to read this directory, it is not synced")
		}
		return nil
	}
	return err
}

// sealAttrs sets the attributes of a finished directory.
func (c *Copier) sealAttrs(ctx context.Context, n *node, dir *fs.Dir) error {
	if c.opts.Archive {
		src, err := c.handles.acquire(ctx, n.src)
		if err != nil {
			return err
		}
		defer c.handles.release(ctx, n.src)
		return c.preserveDir(ctx, n, src, dir)
	}
	// So that we could fill it, makeDir kept the owner's bits, or gave them.
	given := n.given
	switch {
	case n.limited:
	case n.created && n.attrs.perm()&0700 != 0700:
		now, err := dirAttrs(ctx, dir)
		if err != nil {
			return err
		}
		given = now.perm()
	default:
		return nil
	}
	return dir.Chmod(ctx, ".", fileMode(given&(n.attrs.perm()|^uint32(0700))))
}

func dirAttrs(ctx context.Context, d *fs.Dir) (attrs, error) {
	fi, err := d.Stat(ctx)
	if err != nil {
		return attrs{}, err
	}
	return attrsOf(fi), nil
}

// readNames reads the whole directory before anything is copied, so that what the copy itself creates is not among it.
func readNames(ctx context.Context, d *fs.Dir) ([]string, error) {
	entries, err := d.ReadDir(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// fileMode turns the kernel's permission bits into os.FileMode.
func fileMode(perm uint32) os.FileMode {
	m := os.FileMode(perm & 0777)
	if perm&unix.S_ISUID != 0 {
		m |= os.ModeSetuid
	}
	if perm&unix.S_ISGID != 0 {
		m |= os.ModeSetgid
	}
	if perm&unix.S_ISVTX != 0 {
		m |= os.ModeSticky
	}
	return m
}
