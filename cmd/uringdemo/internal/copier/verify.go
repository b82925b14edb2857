package copier

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"uringo/fs"
)

// verify reads source and copy and compares their checksums. After a sync the copy's pages are dropped first, so that the storage
// answers and not the memory that it was written from.
func (w *worker) verify(ctx context.Context, e *entry, src, dst *fs.File) (string, error) {
	if w.opts.Sync {
		_ = unix.Fadvise(int(dst.Fd()), 0, 0, unix.FADV_DONTNEED) // advice: refused is refused
	}
	want, err := w.sum(ctx, src)
	if err != nil {
		return "", err
	}
	got, err := w.sum(ctx, dst)
	if err != nil {
		return "", atPath(e.dst, err)
	}
	if got != want {
		return "", atPath(e.dst, fmt.Errorf("differs from its source: %s is %s, not %s", w.opts.Verify, got, want))
	}
	w.journal.count(&w.journal.report.Verified, 1)
	return got, nil
}

func (w *worker) sum(ctx context.Context, f *fs.File) (string, error) {
	h := w.opts.Verify.hash()
	for off := int64(0); ; {
		n, buf, err := f.ReadAt(ctx, w.small[:cap(w.small)], off)
		w.small = buf
		if err == io.EOF {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
		h.Write(buf[:n])
		off += int64(n)
	}
}
