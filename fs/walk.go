package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/ops"
)

// WalkDir walks the tree at root as filepath.WalkDir does, and reads directories ahead; see [Walker].
func WalkDir(ctx context.Context, root string, fn iofs.WalkDirFunc) error {
	return Walker{}.WalkDir(ctx, root, fn)
}

// Walker walks trees. The zero value is ready for use.
type Walker struct {
	// Ahead is how many directories are read or kept read before fn gets to them. Zero means 16. Each that is being read takes a
	// thread while a disk is slow.
	Ahead int

	// Stat has every entry described as well when its directory is read, so that DirEntry.Info answers at once, with what was
	// true then. Descriptions are made several at a time: one that is kept has up to 15 others stay in memory, 4 KiB in all.
	Stat bool
}

// WalkDir calls fn for root and everything beneath, in lexical order, a directory before what is in it, as filepath.WalkDir does: fn is
// called by the caller, one call at a time; SkipDir and SkipAll mean the same; a directory that cannot be read gets a second call with
// the error; symbolic links are not followed, nor is one that has come in the place of a directory. The difference is that the directories
// which come next are read while fn is at work. So fn sees some of them as they were a little earlier, and they may be read for nothing if
// fn skips them.
//
// When ctx ends, the walk stops with its error, whatever fn would say, and does not wait for a disk that may not answer. Otherwise nothing
// of it is going on any more when it returns. The DirEntries are *[Entry], but for the root's.
func (w Walker) WalkDir(ctx context.Context, root string, fn iofs.WalkDirFunc) error {
	if w.Ahead <= 0 {
		w.Ahead = 16
	}
	info, err := Lstat(ctx, root)
	if ended := canceled(ctx); ended != nil {
		return pathError("walk", root, ended)
	}
	if err != nil {
		err = fn(root, nil, err)
	} else {
		v := &walk{Walker: w, ctx: ctx, fn: fn, top: &node{path: root, entry: iofs.FileInfoToDirEntry(info)}}
		err = v.all()
	}
	if err == iofs.SkipDir || err == iofs.SkipAll {
		return nil
	}
	return err
}

// walk is a walk under way.
type walk struct {
	Walker
	ctx  context.Context
	fn   iofs.WalkDirFunc
	top  *node
	at   []*node     // the directories from the top to where fn is
	over atomic.Bool // nobody wants what is still to be read

	running atomic.Int32                   // those who read, and one for the caller until he has left
	idle    executor.Event                 // they have ended
	alone   atomic.Pointer[executor.Event] // the caller waits for it: only he is left
}

// all walks, and then waits for those who read still.
func (w *walk) all() error {
	w.running.Store(1)
	defer func() {
		w.over.Store(true)
		w.left()
		_ = w.idle.Wait(w.ctx) // if ctx has ended, the walk has said so
	}()
	w.at = append(w.at, w.top)
	return w.visit(w.top)
}

func (w *walk) left() {
	switch w.running.Add(-1) {
	case 0:
		w.idle.Set()
	case 1:
		if e := w.alone.Load(); e != nil {
			e.Set()
		}
	}
}

// node is something in the tree. Of a directory, whoever reads it sets entries and err before the event ready.
type node struct {
	path    string
	joined  bool // path is as filepath.Join writes it
	entry   DirEntry
	reading bool // somebody does, or did
	ready   executor.Event
	entries []*Entry
	err     error

	dirs []*node // the directories in it that fn has not been called for, in order; the caller's, once it is ready
	all  bool    // dirs was made
}

func (w *walk) visit(n *node) error {
	if err := canceled(w.ctx); err != nil {
		return pathError("walk", n.path, err)
	}
	if n.entry.IsDir() {
		w.readAhead()
	}
	err := w.fn(n.path, n.entry, nil)
	if err != nil || !n.entry.IsDir() {
		if err == iofs.SkipDir && n.entry.IsDir() {
			err = nil
		}
		return err
	}
	w.read(n)
	err = n.ready.Wait(w.ctx)
	if err == nil && errors.Is(n.err, syscall.EMFILE) {
		err = w.again(n)
	}
	if err == nil {
		err = canceled(w.ctx) // which may be why it was not read whole
	}
	if err != nil {
		return pathError("walk", n.path, err)
	}
	n.plan()
	w.readAhead()
	if n.err != nil {
		if err := w.fn(n.path, n.entry, n.err); err != nil {
			if err == iofs.SkipDir {
				err = nil
			}
			return err
		}
	}
	for _, e := range n.entries {
		var err error
		if e.IsDir() {
			child := n.dirs[0]
			n.dirs[0] = nil // of one that fn skips, what was read would stay
			n.dirs = n.dirs[1:]
			w.at = append(w.at, child)
			err = w.visit(child)
			w.at = w.at[:len(w.at)-1]
		} else if path := n.child(e.name); w.ctx.Err() != nil {
			err = pathError("walk", path, canceled(w.ctx))
		} else {
			err = w.fn(path, e, nil)
		}
		if err == iofs.SkipDir {
			break
		}
		if err != nil {
			return err
		}
	}
	n.entries, n.dirs = nil, nil
	return nil
}

// again reads a directory once more for which there was no descriptor, when nobody else has one: maybe those who read ahead had them all.
func (w *walk) again(n *node) error {
	e := new(executor.Event)
	w.alone.Store(e)
	if w.running.Load() > 1 {
		if err := e.Wait(w.ctx); err != nil {
			return err
		}
	}
	m := &node{path: n.path}
	w.read(m)
	err := m.ready.Wait(w.ctx)
	if err == nil {
		n.entries, n.err, n.dirs, n.all = m.entries, m.err, nil, false
	}
	return err
}

// child returns the path of a name in n, as filepath.Join writes it.
func (n *node) child(name string) string {
	if n.joined {
		return n.path + "/" + name
	}
	return filepath.Join(n.path, name)
}

// plan makes nodes of the directories in n.
func (n *node) plan() {
	if n.all {
		return
	}
	n.all = true
	for _, e := range n.entries {
		if e.IsDir() {
			n.dirs = append(n.dirs, &node{path: n.child(e.name), joined: true, entry: e})
		}
	}
}

// readAhead sees that the directories which come next are being read.
func (w *walk) readAhead() {
	left := w.Ahead
	for i := len(w.at) - 1; i >= 0 && left > 0; i-- {
		left = w.aheadIn(w.at[i], left)
	}
}

// aheadIn reads the next directories beneath n, and what is beneath those, in the order in which fn will meet them. It returns how many
// more may be read or kept.
func (w *walk) aheadIn(n *node, left int) int {
	if !n.all {
		if n == w.at[len(w.at)-1] && n.entry.IsDir() {
			w.ahead(n)
			left--
		}
		return left
	}
	for _, dir := range n.dirs {
		if left <= 0 {
			break
		}
		left--
		if !w.ahead(dir) {
			return 0
		}
		if dir.ready.IsSet() {
			dir.plan()
			left = w.aheadIn(dir, left)
		}
	}
	return left
}

// ahead has a directory read before fn gets to it, unless as many as may be are being read: those that fn has skipped count, too.
func (w *walk) ahead(n *node) bool {
	if !n.reading && int(w.running.Load()) > w.Ahead {
		return false
	}
	w.read(n)
	return true
}

// read has a directory read on a goroutine of its own, which no task waits for before it has to.
func (w *walk) read(n *node) {
	if n.reading {
		return
	}
	n.reading = true
	w.running.Add(1)
	go func() {
		defer w.left()
		if !w.over.Load() {
			count(w.ctx, executor.CallerOf(w.ctx).Lane(), driver.RouteCall)
			n.entries, n.err = w.list(n.path)
		}
		n.ready.Set()
	}()
}

// list is [ReadDir] in plain calls, with descriptions if they are wanted.
func (w *walk) list(path string) (entries []*Entry, err error) {
	fd := -1
	err = ignoringEINTR(func() (err error) {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, pathError("open", path, err)
	}
	defer unix.Close(fd)
	entries, err = readEntries(fd, &listing{ctx: w.ctx, dir: path})
	sortByName(entries)
	var some batch[info]
	for _, e := range entries {
		if !w.Stat || w.over.Load() {
			break
		}
		i := some.next()
		i.name = e.name
		if ops.FstatatNow(fd, e.name, unix.AT_SYMLINK_NOFOLLOW, &i.st) == nil {
			e.info = i // if that fails, Info will say what is wrong
		}
	}
	return entries, pathError("readdirent", path, err)
}
