package copier

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sys/unix"

	"uringo/executor"
)

// links remembers where files with several names were copied to, so that their other names become links too. An entry goes when
// the last name was seen.
type links struct {
	mu      sync.Mutex
	seen    map[fileID]*linked
	overlap bool // sources may contain each other, and names come again: none is the last
}

type linked struct {
	settled executor.Event // what follows is final

	to   place
	id   fileID // of the copy
	ok   bool   // there is one
	left uint32 // names that may still come; guarded by links.mu
}

// claim returns the copy of the file, or nil for the caller that has to make it and to call settle. If another worker is at it,
// claim waits for the outcome.
func (l *links) claim(ctx context.Context, src *attrs) (*linked, error) {
	for {
		l.mu.Lock()
		e := l.seen[src.id]
		if e == nil {
			if l.seen == nil {
				l.seen = make(map[fileID]*linked)
			}
			l.seen[src.id] = &linked{left: src.nlink - 1}
			l.mu.Unlock()
			return nil, nil
		}
		l.mu.Unlock()
		if err := e.settled.Wait(ctx); err != nil {
			return nil, err
		}
		if !e.ok {
			continue // it is our turn, or that of another who waited
		}
		l.mu.Lock()
		if e.left--; e.left == 0 && !l.overlap {
			delete(l.seen, src.id)
		}
		l.mu.Unlock()
		return e, nil
	}
}

// settle tells the others where the copy is, or, if there is none, lets the next of them make it.
func (l *links) settle(src fileID, to place, copied fileID, ok bool) {
	l.mu.Lock()
	e := l.seen[src]
	if !ok || e.left == 0 {
		delete(l.seen, src)
	}
	l.mu.Unlock()
	e.to, e.id, e.ok = to, copied, ok
	e.settled.Set()
}

// forget makes the next of a file's names a copy again, which the others follow.
func (l *links) forget(src fileID, e *linked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen[src] == e {
		delete(l.seen, src)
	}
}

// errStale means that the copy of a file with several names has lost its own, as to the file of another source.
var errStale = errors.New("the file that was copied has been replaced")

// link makes another name for a file that has been copied.
func (w *worker) link(ctx context.Context, e *entry, first *linked) error {
	from, err := w.handles.acquire(ctx, first.to.folder)
	if err != nil {
		return atPath(first.to, err)
	}
	defer w.handles.release(ctx, first.to.folder)

	t := newTemp(e)
	defer t.discard(ctx) // also after it was published: rename leaves two names of one file as they are
	name := t.name
	if err := from.Link(ctx, first.to.name, e.ddir, name); err != nil {
		if is(err, unix.ENOENT) {
			return errStale
		}
		return atPath(e.dst, t.refused(err, w.opts.NoClobber))
	}
	fi, err := e.ddir.Lstat(ctx, name)
	if err != nil {
		return atPath(e.dst, err)
	}
	if a := attrsOf(fi); a.id != first.id {
		return errStale
	}
	if err := t.publish(ctx, e.dst.name, w.opts.NoClobber); err != nil {
		return atPath(e.dst, err)
	}
	if e.old != nil && e.old.id == first.id {
		t.name = name
	}
	w.targets.add(e, first.id)
	w.copied(ctx, e, &w.journal.report.HardLinks, "")
	return nil
}

// symlink copies a symbolic link.
func (w *worker) symlink(ctx context.Context, e *entry) (fileID, error) {
	target, err := e.sdir.Readlink(ctx, e.src.name)
	if is(err, unix.EINVAL) {
		err = errReplaced // it is no link any more
	}
	if err != nil {
		return fileID{}, err
	}
	return w.named(ctx, e, &w.journal.report.Symlinks, func(name string) error {
		return e.ddir.Symlink(ctx, target, name)
	})
}
