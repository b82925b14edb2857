package copier

import (
	"context"
	"io"
	"math"
	"sync"

	"uringo/executor"
	"uringo/fs"
)

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
	if len(t.extents) == 0 || t.err != nil || t.lanes >= t.opts.Jobs {
		t.mu.Unlock()
		return
	}
	buf := t.large.get()
	if buf == nil {
		t.mu.Unlock()
		return
	}
	t.lanes++
	t.mu.Unlock()
	h := executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
		buf = t.lane(ctx, buf)
		t.large.put(buf)
		return struct{}{}, nil
	})
	t.mu.Lock()
	t.tasks = append(t.tasks, h)
	t.mu.Unlock()
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
