package fs

import (
	"context"
	"io"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/executor"
	"uringo/internal/handle"
	"uringo/ops"
)

// ReadAtFlags is [File.ReadAt] with flags for this call alone: unix.RWF_NOWAIT, which fails with EAGAIN where it would have to wait,
// RWF_DONTCACHE (kernel 6.14), which leaves nothing behind in the page cache, RWF_HIPRI. A flag that the kernel or the file system
// does not know is EOPNOTSUPP. preadv2(2).
func (f *File) ReadAtFlags(ctx context.Context, b []byte, off int64, flags uint32) (int, []byte, error) {
	if err := f.checkRead(off, int64(len(b))); err != nil {
		return 0, b, err
	}
	if len(b) == 0 {
		return 0, b, nil
	}
	n, b, err := f.withFlags(ctx, OpRead, ops.ReadAtFlags(f.h.FD, b, off, flags), off, flags)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, b, f.wrap("read", err)
}

// WriteAtFlags is [File.WriteAt] with flags for this call alone: unix.RWF_DSYNC and RWF_SYNC bring it to stable storage before it returns,
// RWF_APPEND writes at the end, wherever that is then, and off does not count, so that a file opened with O_APPEND takes it, too; RWF_ATOMIC
// (kernel 6.11) writes all or nothing even if the power fails, of sizes that [File.Statx] tells; RWF_NOWAIT and RWF_DONTCACHE are as for
// [File.ReadAtFlags]. A flag that the kernel or the file system does not know is EOPNOTSUPP. pwritev2(2).
func (f *File) WriteAtFlags(ctx context.Context, b []byte, off int64, flags uint32) (int, []byte, error) {
	if flags&unix.RWF_APPEND != 0 {
		off = 0
	} else if err := f.checkWrite(off, int64(len(b))); err != nil {
		return 0, b, err
	}
	if len(b) == 0 {
		return 0, b, nil
	}
	n, b, err := f.withFlags(ctx, OpWrite, ops.WriteAtFlags(f.h.FD, b, off, flags), off, flags)
	return n, b, f.wrap("write", err)
}

// withFlags performs a transfer by the ring, or where it was pinned; what must not wait is done in place.
func (f *File) withFlags(ctx context.Context, op Operation, o ops.Op[[]byte], off int64, flags uint32) (int, []byte, error) {
	if !f.h.Acquire() {
		return 0, o.Buf, ErrClosed
	}
	known := f.known()
	if known&traitStream != 0 {
		f.h.Release()
		return 0, o.Buf, syscall.ESPIPE
	}
	r := f.pinned(op)
	switch {
	case r != Auto:
	case flags&unix.RWF_NOWAIT != 0:
		r = Inline
	default:
		r = Ring
	}
	o.Release, o.As = f.h.Free, f.whose()
	res := perform(ctx, executor.CallerOf(ctx), r, known&traitRemote != 0 && flags&unix.RWF_NOWAIT == 0, o)
	err := f.h.Settle(res.Err, ErrClosed)
	if flags&unix.RWF_APPEND != 0 {
		off = -1
	}
	return res.N, handle.Back(o.Buf, err), f.explain(ctx, err, off, o.Buf)
}
