package copier

import (
	"context"
	"sync"

	"golang.org/x/sys/unix"

	"uringo/executor"
	"uringo/fs"
)

// offload remembers between which file systems the kernel cannot copy by itself, so that each file need not ask again.
type offload struct {
	mu      sync.Mutex
	refused map[refusal]bool
}

type refusal struct {
	from, to uint64 // device numbers
	method   Method
}

func (o *offload) offered(r refusal) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.refused[r]
}

func (o *offload) refuse(r refusal) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refused == nil {
		o.refused = make(map[refusal]bool)
	}
	o.refused[r] = true
}

// clone lets the copy share the blocks of the source, if the file system can, and returns its size. Whatever speaks against it,
// copying the bytes will say so better.
func (w *worker) clone(ctx context.Context, src, dst *fs.File, a *attrs) (int64, bool) {
	r := refusal{a.id.dev, 0, Auto}
	if a.size == 0 || w.opts.Method != Auto || w.opts.Dense || !w.offload.offered(r) {
		return 0, false
	}
	_, err := executor.Block(ctx, func() (struct{}, error) {
		return struct{}{}, unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
	})
	if err != nil {
		if is(err, unix.ENOTSUP, unix.ENOTTY, unix.ENOSYS) {
			w.offload.refuse(r) // the source's file system has no such thing
		}
		return 0, false
	}
	now, err := fileAttrs(ctx, dst)
	return now.size, err == nil
}

// ranged lets the kernel copy a block, and returns how much it copied. The rest is to be read and written: that an answer falls short
// means the end of the source only if a read says so as well. The kernel may keep holes, by sharing blocks.
func (t *transfer) ranged(ctx context.Context, b extent) (int64, error) {
	r := refusal{t.attrs.id.dev, t.device, Range}
	if t.opts.Method == Blocks || t.opts.Dense || !t.offload.offered(r) {
		return 0, nil
	}
	n, method, err := t.dst.CopyRange(ctx, b.off, t.src, b.off, b.end-b.off)
	if n > 0 {
		t.wrote(extent{b.off, b.off + n})
	}
	if method == fs.CopiedByHand {
		t.offload.refuse(r) // then the ring does it better
	}
	if is(err, unix.ENOSPC, unix.EDQUOT, unix.EFBIG) {
		err = writeError{err}
	}
	return n, err
}
