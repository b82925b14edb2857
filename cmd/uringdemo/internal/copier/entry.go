package copier

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"uringo/fs"
)

// copy copies one entry and reports what became of it.
func (w *worker) copy(ctx context.Context, j job) {
	err := w.entry(ctx, &j)
	switch {
	case err == nil:
	case errors.Is(err, errSkip):
		w.journal.count(&w.journal.report.Skipped, 1)
		w.progress.Entries.Add(1)
	case errors.Is(err, errTwice):
		w.journal.note(j.src.path(), err.Error())
	case interrupted(ctx, err):
		// That is no failure of this entry.
	default:
		var at *placeError
		if errors.As(err, &at) {
			w.journal.fail(at.path, at.err)
		} else {
			w.journal.fail(j.src.path(), err)
		}
	}
}

// interrupted reports whether err only says that the copy was told to stop. A task may learn that from another one before its own
// context says so.
func interrupted(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, context.Canceled)
}

// entry finds out what the entry is and hands it to the one who copies that. It fills in where j really leads.
func (w *worker) entry(ctx context.Context, j *job) error {
	for try := 0; ; try++ {
		err := w.once(ctx, j)
		if !errors.Is(err, errReplaced) || try == 3 {
			return err
		}
	}
}

// errReplaced means that between two looks the name has come to stand for another file, as when an editor saves one.
var errReplaced = errors.New("is replaced again and again")

func (w *worker) once(ctx context.Context, j *job) error {
	sdir, a, err := w.look(ctx, j)
	if err != nil {
		return err
	}
	defer func() { w.handles.release(ctx, j.src.folder) }()

	if a.isDir() {
		if !w.opts.Recursive {
			return errors.New("is a directory: not copied without -r")
		}
		if j.arg {
			if err := w.checkInside(ctx, a.id, j.dst); err != nil {
				return err
			}
		}
	} else if j.mustDir {
		return unix.ENOTDIR
	} else if j.newDir {
		return atPath(j.dst, unix.ENOTDIR)
	}
	if j.exact && a.kind() == unix.S_IFREG {
		if err := w.throughLink(ctx, j); err != nil {
			return err
		}
	}

	ddir, err := w.handles.acquire(ctx, j.dst.folder)
	if err != nil {
		return atPath(j.dst, err)
	}
	defer func() { w.handles.release(ctx, j.dst.folder) }()
	old, err := w.existing(ctx, *j, sdir, ddir, &a)
	if err != nil {
		return err
	}
	if a.isDir() {
		return w.enter(ctx, *j, a, old)
	}
	adds := w.onlyAdds(ctx, j.dst.folder, ddir)
	if adds && old != nil && !(j.exact && isDevice(old)) {
		return atPath(j.dst, errors.New("is not replaced: its directory is append-only"))
	}
	if err := w.file(ctx, &entry{job: *j, sdir: sdir, ddir: ddir, attrs: a, old: old, adds: adds}); err != nil {
		return err
	}
	if j.dst.folder != j.node.dst { // a link led there, so finishing the node will not sync it
		if err := w.syncDir(ctx, j.dst.folder, ddir); err != nil {
			return atPath(j.dst, err)
		}
	}
	return nil
}

// An entry is a job whose source and target have been looked at.
type entry struct {
	job
	sdir, ddir *fs.Dir
	attrs      attrs  // of the source
	old        *attrs // of what is at the target; nil if nothing
	adds       bool   // names can only be added to the target's directory
}

// overFile reports whether the copy replaces a regular file.
func (e *entry) overFile() bool { return e.old != nil && e.old.kind() == unix.S_IFREG }

// look acquires the source's directory and returns the source's status, before anything is opened.
func (w *worker) look(ctx context.Context, j *job) (*fs.Dir, attrs, error) {
	for {
		dir, err := w.handles.acquire(ctx, j.src.folder)
		if err != nil {
			return nil, attrs{}, err
		}
		fi, err := dir.Lstat(ctx, j.src.name)
		if err != nil {
			w.handles.release(ctx, j.src.folder)
			return nil, attrs{}, err
		}
		a := attrsOf(fi)
		if a.kind() != unix.S_IFLNK || !j.arg || !(w.opts.Follow || j.mustDir) {
			return dir, a, nil
		}
		w.handles.release(ctx, j.src.folder)
		if j.src, err = follow(ctx, j.src); err != nil {
			return nil, attrs{}, err
		}
	}
}

// throughLink lets a copy to a named symbolic link go to where that leads.
func (w *worker) throughLink(ctx context.Context, j *job) error {
	dir, err := w.handles.acquire(ctx, j.dst.folder)
	if err != nil {
		return atPath(j.dst, err)
	}
	defer w.handles.release(ctx, j.dst.folder)
	fi, err := dir.Lstat(ctx, j.dst.name)
	if err != nil || fi.Mode().Type() != fs.ModeSymlink {
		return nil // not there, or not a link; errors are those of the real look at it
	}
	to, err := writeThrough(ctx, j.dst, w.opts.Force)
	if err != nil {
		return atPath(j.dst, err)
	}
	j.dst = to
	return nil
}

// file copies anything but a directory.
func (w *worker) file(ctx context.Context, e *entry) error {
	kind := e.attrs.kind()
	if !w.opts.Recursive && kind != unix.S_IFREG && kind != unix.S_IFLNK {
		return fmt.Errorf("is %s: not read; use -r or -a to copy it as such", describe(e.attrs.mode))
	}
	if !w.opts.Archive || e.attrs.nlink < 2 {
		_, err := w.content(ctx, e)
		return err
	}

	for {
		first, err := w.links.claim(ctx, &e.attrs)
		if err != nil {
			return err
		}
		if first == nil {
			break
		}
		if err := w.link(ctx, e, first); !errors.Is(err, errStale) {
			return err
		}
		w.links.forget(e.attrs.id, first)
	}
	id, err := w.content(ctx, e)
	w.links.settle(e.attrs.id, e.dst, id, err == nil)
	return err
}

// content copies what the entry is, whatever other names it has, and returns what the copy is.
func (w *worker) content(ctx context.Context, e *entry) (fileID, error) {
	switch e.attrs.kind() {
	case unix.S_IFREG:
		return w.regular(ctx, e)
	case unix.S_IFLNK:
		return w.symlink(ctx, e)
	}
	return w.special(ctx, e)
}
