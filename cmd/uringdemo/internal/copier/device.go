package copier

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"uringo/fs"
)

// intoDevice writes to a device that the user named as the target. A device cannot be replaced by a file with its name; nobody can
// mean that.
func (w *worker) intoDevice(ctx context.Context, e *entry, src *fs.File, a attrs) error {
	dst, err := e.ddir.OpenFile(ctx, e.dst.name, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return atPath(e.dst, err)
	}
	err = w.stream(ctx, src, dst)
	if err == nil && w.opts.Sync {
		// Most devices cannot, and have nothing to keep.
		if err = dst.SyncAll(ctx); is(err, unix.EINVAL, unix.ENOTSUP) {
			err = nil
		}
		err = wrapWrite(err)
	}
	if cerr := dst.Close(context.WithoutCancel(ctx)); err == nil {
		err = wrapWrite(cerr)
	}
	if err != nil {
		return atSide(e, err)
	}
	w.copied(ctx, e, &w.journal.report.Files, "")
	return nil
}

func wrapWrite(err error) error {
	if err == nil {
		return nil
	}
	return writeError{err}
}

// stream copies from the start to the end, in order: terminals and the like know no other.
func (w *worker) stream(ctx context.Context, src, dst *fs.File) error {
	for off := int64(0); ; {
		n, buf, err := src.ReadAt(ctx, w.small[:cap(w.small)], off)
		w.small = buf
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		m, buf, err := dst.Write(ctx, buf[:n])
		w.small = buf
		if err != nil {
			return writeError{err}
		}
		if m < n {
			return writeError{fmt.Errorf("wrote %d of %d bytes", m, n)}
		}
		off += int64(n)
		w.moved(int64(n))
	}
}
