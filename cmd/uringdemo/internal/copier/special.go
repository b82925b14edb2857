package copier

import (
	"context"
)

// special makes a FIFO, a socket or a device like the source, which is never opened.
func (w *worker) special(ctx context.Context, e *entry) (fileID, error) {
	return w.named(ctx, e, &w.journal.report.Specials, func(name string) error {
		mode := e.attrs.kind() | 0600
		if !w.opts.Archive {
			mode = e.attrs.kind() | plainMode(&e.attrs)
		}
		return e.ddir.Mknod(ctx, name, mode, e.attrs.rdev)
	})
}

// named makes what has no content to open: under a temporary name, for attributes have to be set by name as well.
func (w *worker) named(ctx context.Context, e *entry, field *int64, make func(name string) error) (fileID, error) {
	t := newTemp(e)
	defer t.discard(ctx)
	if err := make(t.name); err != nil {
		return fileID{}, atPath(e.dst, t.refused(err, w.opts.NoClobber))
	}
	fi, err := e.ddir.Lstat(ctx, t.name)
	if err != nil {
		return fileID{}, atPath(e.dst, err)
	}
	made := attrsOf(fi)
	if w.opts.Archive {
		if err := w.preserveNamed(ctx, e, t.name); err != nil {
			return fileID{}, atPath(e.dst, err)
		}
	}
	if err := t.publish(ctx, e.dst.name, w.opts.NoClobber); err != nil {
		return fileID{}, atPath(e.dst, err)
	}
	w.targets.add(e, made.id)
	w.copied(ctx, e, field, "")
	return made.id, nil
}
