package copier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"golang.org/x/sys/unix"

	"uringo/executor"
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

// A transfer moves the content of one file, with several blocks in flight: each lane has one, and while a lane writes, another one
// reads.
type transfer struct {
	*worker
	src, dst *fs.File
	attrs    *attrs // of the source
	device   uint64 // of the copy

	mu      sync.Mutex
	extents []extent // what is left to copy
	lanes   int
	tasks   []*executor.JoinHandle[struct{}]
	end     int64 // where a read has met the end of the source
	written int64 // the end of what was written
	moved   int64
	err     error
}

// An extent is a part of a file that holds data.
type extent struct{ off, end int64 }

func (t *transfer) ended() bool { return t.end != math.MaxInt64 }

// run copies the extents that were found.
func (t *transfer) run(ctx context.Context) error {
	t.lanes = 1
	buf := t.large.get()
	if buf == nil {
		t.small = t.lane(ctx, t.small)
	} else {
		t.large.put(t.lane(ctx, buf))
	}
	// As this task works on the file itself, there is an end to waiting for the others.
	for {
		t.mu.Lock()
		if len(t.tasks) == 0 {
			t.mu.Unlock()
			return t.err
		}
		h := t.tasks[len(t.tasks)-1]
		t.tasks = t.tasks[:len(t.tasks)-1]
		t.mu.Unlock()
		if _, err := h.Join(context.WithoutCancel(ctx)); err != nil {
			t.fail(err)
		}
	}
}

// widen starts another lane if there is work and a buffer for it.
func (t *transfer) widen(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.extents) == 0 || t.err != nil || t.lanes >= t.opts.Jobs {
		return
	}
	buf := t.large.get()
	if buf == nil {
		return
	}
	t.lanes++
	t.tasks = append(t.tasks, executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
		buf = t.lane(ctx, buf)
		t.large.put(buf)
		return struct{}{}, nil
	}))
}

// next takes a block of at most n bytes.
func (t *transfer) next(n int) (extent, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil || len(t.extents) == 0 || t.extents[0].off >= t.end {
		return extent{}, false
	}
	e := &t.extents[0]
	block := extent{e.off, min(e.end, e.off+int64(n))}
	if e.off = block.end; e.off == e.end {
		t.extents = t.extents[1:]
	}
	return block, true
}

// lane copies blocks until none is left, and returns the buffer, or nil if that was lost.
func (t *transfer) lane(ctx context.Context, buf []byte) []byte {
	for {
		block, ok := t.next(cap(buf))
		if !ok {
			return buf
		}
		t.widen(ctx)
		var err error
		if buf, err = t.block(ctx, block, buf); err != nil {
			t.fail(err)
			return buf
		}
	}
}

func (t *transfer) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
}

// block copies one block.
func (t *transfer) block(ctx context.Context, b extent, buf []byte) ([]byte, error) {
	done, err := t.ranged(ctx, b)
	if err != nil {
		return buf, err
	}
	b.off += done
	for b.off < b.end {
		n, full, err := t.src.ReadAt(ctx, buf[:min(b.end-b.off, int64(cap(buf)))], b.off)
		if err == io.EOF {
			t.mu.Lock()
			t.end = min(t.end, b.off)
			t.mu.Unlock()
			return full, nil
		}
		if err != nil {
			return full, err
		}
		buf = full
		if buf, err = t.write(ctx, buf[:n], b.off); err != nil {
			return buf, err
		}
		b.off += int64(n)
	}
	return buf, nil
}

// write writes one block.
func (t *transfer) write(ctx context.Context, buf []byte, off int64) ([]byte, error) {
	n, buf, err := t.dst.WriteAllAt(ctx, buf, off)
	t.wrote(extent{off, off + int64(n)})
	if err != nil {
		return buf, writeError{err}
	}
	return buf, nil
}

// wrote takes note of what is in the copy.
func (t *transfer) wrote(b extent) {
	n := b.end - b.off
	t.mu.Lock()
	t.written = max(t.written, b.end)
	t.moved += n
	t.mu.Unlock()
	t.worker.moved(n)
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

// maxExtents bounds the memory for what is known of a file with many holes.
const maxExtents = 1024

// find fills in the next extents from pos on and returns where to go on. Where the file system knows no holes, or is told not to
// look, there is one extent. Holes are only looked for in files that take less room than their size, and what is said about them is
// checked by the size at the end, and by Verify.
func (t *transfer) find(ctx context.Context, pos int64) int64 {
	size := t.attrs.size
	if t.opts.Dense || t.attrs.blocks*512 >= size {
		t.extents = []extent{{pos, size}}
		return size
	}
	t.extents = t.extents[:0]
	for pos < size && len(t.extents) < maxExtents {
		data, err := t.src.SeekData(ctx, pos)
		if is(err, unix.ENXIO) {
			return size // only a hole is left
		}
		if err != nil || data < pos {
			t.extents = append(t.extents, extent{pos, size})
			return size
		}
		hole, err := t.src.SeekHole(ctx, data)
		if err != nil || hole <= data {
			hole = size
		}
		if hole = min(hole, size); data < hole {
			t.extents = append(t.extents, extent{data, hole})
		}
		pos = max(hole, data)
	}
	return pos
}

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

// stream copies from the start to the end, in order.
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
		m, buf, err := dst.WriteAllAt(ctx, buf[:n], off)
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
