package copier

import (
	"context"
	"os"

	"golang.org/x/sys/unix"

	"uringo/fs"
)

// regular copies a regular file: a new file beside the target gets the content, the attributes, is synced, and takes the name.
func (w *worker) regular(ctx context.Context, e *entry) (fileID, error) {
	src, before, err := openSource(ctx, e)
	if err != nil {
		return fileID{}, err
	}
	defer src.Close(context.WithoutCancel(ctx))
	if e.old != nil && isDevice(e.old) && e.exact {
		return fileID{}, w.intoDevice(ctx, e, src, before)
	}

	t, err := w.newFile(ctx, e)
	if err != nil {
		return fileID{}, atPath(e.dst, err)
	}
	defer t.discard(ctx)
	id, sum, err := w.fill(ctx, e, src, t, before)
	if err != nil {
		return fileID{}, err
	}
	if err := t.publish(ctx, e.dst.name, w.opts.NoClobber); err != nil {
		return fileID{}, atPath(e.dst, err)
	}
	w.targets.add(e, id)
	w.copied(ctx, e, &w.journal.report.Files, sum)
	return id, nil
}

// copied counts an entry that has got its final name.
func (w *worker) copied(ctx context.Context, e *entry, field *int64, sum string) {
	w.journal.count(field, 1)
	w.progress.Entries.Add(1)
	if w.opts.Observer != nil {
		w.opts.Observer.Copied(ctx, e.src.path(), e.dst.path(), sum)
	}
}

// openSource opens the source so that it can be nothing but a regular file: with O_NONBLOCK, which keeps a FIFO that just took the
// name from blocking, and with a second look at what was opened.
func openSource(ctx context.Context, e *entry) (*fs.File, attrs, error) {
	f, err := e.sdir.OpenFile(ctx, e.src.name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_NOFOLLOW, 0)
	if err != nil {
		if is(err, unix.ELOOP) {
			err = errReplaced
		}
		return nil, attrs{}, err
	}
	a, err := fileAttrs(ctx, f)
	if err == nil && (a.id != e.attrs.id || a.kind() != unix.S_IFREG) {
		err = errReplaced
	}
	if err == nil {
		// Some file systems answer EAGAIN to a reader of a non-blocking file.
		_, err = unix.FcntlInt(uintptr(f.Fd()), unix.F_SETFL, 0)
	}
	if err != nil {
		_ = f.Close(context.WithoutCancel(ctx))
		return nil, attrs{}, err
	}
	return f, a, nil
}

// newFile creates the file that will be the copy. Only we can open it before it has its final mode.
func (w *worker) newFile(ctx context.Context, e *entry) (*temp, error) {
	mode := os.FileMode(0600)
	byACL := w.byDefaultACL(ctx, e)
	if byACL {
		mode = fileMode(plainMode(&e.attrs))
	}
	t := newTemp(e)
	err := t.open(ctx, mode)
	if err == nil && !byACL && w.restricts(ctx, e.dst.folder, e.ddir, 0600) {
		err = t.file.Chmod(ctx, mode) // without the right to write to it, it takes no attributes
	}
	if err != nil && (ctx.Err() != nil || t.file != nil) {
		t.discard(ctx) // a call that was let go may have come that far
	}
	return t, err
}

// fill completes the new file, so that only its name is missing. It returns what the file is and its checksum, if asked for.
func (w *worker) fill(ctx context.Context, e *entry, src *fs.File, t *temp, before attrs) (id fileID, sum string, err error) {
	size, err := w.data(ctx, e, src, t.file, &before)
	if err != nil {
		return id, "", atSide(e, err)
	}
	after, err := fileAttrs(ctx, src)
	if err != nil {
		return id, "", err
	}
	if !before.sameContent(&after) {
		w.journal.warn(e.src.path(), "changed while it was copied")
	}
	if err := w.dress(ctx, e, src, t.file, &before); err != nil {
		return id, "", atPath(e.dst, err)
	}
	if w.opts.Sync {
		// A failed fsync is final: the kernel has dropped the pages, and a second one would say that all is well.
		if err := t.file.SyncAll(ctx); err != nil {
			return id, "", atPath(e.dst, err)
		}
	}
	made, err := fileAttrs(ctx, t.file)
	if err != nil {
		return id, "", atPath(e.dst, err)
	}
	if made.size != size {
		return id, "", atPath(e.dst, errSize)
	}
	if w.opts.Verify != NoVerify {
		if sum, err = w.verify(ctx, e, src, t.file); err != nil {
			return id, "", err
		}
	}
	if err := t.close(ctx); err != nil {
		return id, "", atPath(e.dst, err)
	}
	return made.id, sum, nil
}

func fileAttrs(ctx context.Context, f *fs.File) (attrs, error) {
	fi, err := f.Stat(ctx)
	if err != nil {
		return attrs{}, err
	}
	return attrsOf(fi), nil
}
