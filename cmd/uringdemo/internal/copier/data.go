package copier

import (
	"context"
	"errors"
	"io"
	"math"

	"uringo/fs"
)

var errSize = errors.New("the copy has not the size that was written")

// A writeError happened at the target; other errors of a transfer happened at the source.
type writeError struct{ error }

func (e writeError) Unwrap() error { return e.error }

// atSide gives an error of a transfer the path that it belongs to.
func atSide(e *entry, err error) error {
	var write writeError
	if errors.As(err, &write) {
		return atPath(e.dst, write.error)
	}
	return err
}

// data copies the content of a file and returns its size.
//
// The size in the file's status is where to start, not what to believe: files of procfs say 0 and have content, files of sysfs say
// 4096 and have less. The end is where a read says so.
func (w *worker) data(ctx context.Context, e *entry, src, dst *fs.File, a *attrs) (int64, error) {
	w.progress.Found.Add(a.size)
	if size, ok := w.clone(ctx, src, dst, a); ok {
		w.moved(size)
		return size, nil
	}
	t := &transfer{worker: w, src: src, dst: dst, attrs: a, device: w.handles.idOf(e.dst.folder).dev, end: math.MaxInt64}
	for pos := int64(0); pos < a.size && !t.ended(); {
		pos = t.find(ctx, pos)
		if err := t.run(ctx); err != nil {
			return 0, err
		}
	}
	size := min(a.size, t.end)
	if !t.ended() {
		var err error
		if size, err = t.tail(ctx); err != nil {
			return 0, err
		}
	}
	if t.written != size {
		// The file ends with a hole; or it shrank behind a block that had been read.
		if err := dst.Truncate(ctx, size); err != nil {
			return 0, writeError{err}
		}
	}
	w.progress.Done.Add(max(0, a.size-t.moved))
	return size, nil
}

func (w *worker) moved(n int64) {
	w.progress.Done.Add(n)
	w.journal.count(&w.journal.report.Bytes, n)
}

// tail looks behind the size that the status gave. For most files nothing is there, which costs one read. A file that grew meanwhile
// is copied as it was, since its writer could go on for ever. What grew without its status telling so is a pseudo file, and read to its
// end.
func (t *transfer) tail(ctx context.Context) (int64, error) {
	off := t.attrs.size
	for {
		n, buf, err := t.src.ReadAt(ctx, t.small[:cap(t.small)], off)
		t.small = buf
		if err == io.EOF {
			return off, nil
		}
		if err != nil {
			return 0, err
		}
		if off == t.attrs.size {
			now, err := fileAttrs(ctx, t.src)
			if err != nil {
				return 0, err
			}
			if !now.sameContent(t.attrs) {
				return off, nil
			}
		}
		if t.small, err = t.write(ctx, buf[:n], off); err != nil {
			return 0, err
		}
		off += int64(n)
	}
}
