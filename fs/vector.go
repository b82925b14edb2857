package fs

import (
	"context"
	"io"
	"syscall"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/handle"
	"uringo/ops"
)

// ReadvAt reads once into bufs, filling one after the other, from offset off, and hands bufs back; see [File.ReadAt]. One call fills at
// most 1024 buffers and 1 GiB. Kernel 5.1, preadv(2).
func (f *File) ReadvAt(ctx context.Context, bufs [][]byte, off int64) (int, [][]byte, error) {
	total := lengthOf(bufs)
	if err := f.checkRead(off, total); err != nil {
		return 0, bufs, err
	}
	if total == 0 {
		return 0, bufs, nil
	}
	if !f.h.Acquire() {
		return 0, bufs, f.wrap("read", ErrClosed)
	}
	o := ops.ReadvAt(f.h.FD, bufs, off)
	o.Release, o.As = f.h.Free, f.whose()
	r := f.pinned(OpRead)
	n, all, err := 0, false, error(nil)
	c := executor.CallerOf(ctx)
	if r == Auto && f.worthTrying(c, int(min(total, ops.MaxTransfer))) {
		n, all, err = f.tryReadv(ctx, c, &o)
	}
	switch {
	case all:
	case f.known()&traitStream != 0:
		err = syscall.ESPIPE
	default:
		if r == Auto {
			if r, err = f.untried(ctx, c, int(min(total, ops.MaxTransfer)), f.h.Free); err != nil {
				break
			}
		}
		if (r == Auto || f.as != nil) && f.takesLong(int(min(total, ops.MaxTransfer))) {
			o.Flags |= ops.Async
		}
		res := perform(ctx, c, r, false, o)
		n, err = res.N, res.Err
	}
	if err = f.h.Settle(err, ErrClosed); err != nil {
		return n, handle.Back(bufs, err), f.wrap("read", f.explain(ctx, err, off, bufs...))
	}
	if n == 0 {
		return 0, bufs, io.EOF
	}
	return n, bufs, nil
}

// tryReadv is tryRead for several buffers. Anything it got is the answer.
func (f *File) tryReadv(ctx context.Context, c executor.Caller, o *ops.Op[[][]byte]) (n int, all bool, err error) {
	if ctx.Err() != nil {
		return 0, true, driver.Canceled(ctx)
	}
	if !c.MayBlock() && c.Spent(int(lengthOf(o.Buf))) && f.inCompany(ctx, c) {
		return 0, false, nil
	}
	if n, err = ops.TryReadv(o); err != nil {
		if f.tryFailed(0, err) {
			return 0, true, err
		}
		return 0, false, nil
	}
	f.h.Driver.CountRoute(driver.RouteInline, c.Lane())
	return n, true, nil
}

// WritevAt writes bufs once, one after the other, at offset off, and hands bufs back; see [File.WriteAt]. One call writes at most 1024
// buffers and 1 GiB. Kernel 5.1, pwritev(2).
func (f *File) WritevAt(ctx context.Context, bufs [][]byte, off int64) (int, [][]byte, error) {
	total := lengthOf(bufs)
	if err := f.checkWrite(off, total); err != nil {
		return 0, bufs, err
	}
	if total == 0 {
		return 0, bufs, nil
	}
	if !f.h.Acquire() {
		return 0, bufs, f.wrap("write", ErrClosed)
	}
	n, err := 0, error(syscall.ESPIPE)
	c := executor.CallerOf(ctx)
	if r, remote := f.writeRoute(c); f.known()&traitStream == 0 {
		o := ops.WritevAt(f.h.FD, bufs, off)
		o.Release, o.As = f.h.Free, f.whose()
		res := perform(ctx, c, r, remote, o)
		n, err = res.N, res.Err
	}
	if err = f.h.Settle(err, ErrClosed); err != nil {
		return n, handle.Back(bufs, err), f.wrap("write", f.explain(ctx, err, off, bufs...))
	}
	return n, bufs, nil
}

func lengthOf(bufs [][]byte) (n int64) {
	for _, b := range bufs {
		n += int64(len(b))
	}
	return n
}
