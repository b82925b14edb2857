package fs

import (
	"context"
	"io"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/driver"
	"uringo/executor"
	"uringo/internal/handle"
	"uringo/ops"
)

// WriteAt writes b once at offset off, and hands b back. It may be short, for want of space mostly; [File.WriteAllAt] writes
// everything. A file opened with O_APPEND refuses with EINVAL: it would write at its end and nowhere else. One call moves at most 1 GiB.
//
// What was written is in the page cache, and on the disk after [File.SyncData], or with O_DSYNC. Files opened with O_DIRECT need b and
// off aligned: otherwise the error is EINVAL, and says what they need. Allocates nothing. Kernel 5.6, pwrite(2).
func (f *File) WriteAt(ctx context.Context, b []byte, off int64) (int, []byte, error) {
	if err := f.checkWrite(off, int64(len(b))); err != nil {
		return 0, b, err
	}
	if len(b) == 0 {
		return 0, b, nil
	}
	n, err := f.writeAt(ctx, b, nil, off, f.h.Free)
	return n, handle.Back(b, err), f.wrap("write", err)
}

// WriteAllAt writes all of b at offset off, and hands b back. The count says how much was written, also with an error; a file that takes
// no more is io.ErrShortWrite. See [File.WriteAt].
func (f *File) WriteAllAt(ctx context.Context, b []byte, off int64) (int, []byte, error) {
	if err := f.checkWrite(off, int64(len(b))); err != nil {
		return 0, b, err
	}
	n, err := allOf(b, off, func(part []byte, off int64) (int, error) { return f.writeAt(ctx, part, nil, off, f.h.Free) })
	return n, handle.Back(b, err), f.wrap("write", err)
}

// allOf writes all of b at offset off by write, which may write less.
func allOf(b []byte, off int64, write func(part []byte, off int64) (int, error)) (done int, err error) {
	for done < len(b) {
		n, err := write(b[done:], off+int64(done))
		done += n
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (f *File) checkWrite(off, n int64) error {
	if f.flag&unix.O_APPEND != 0 {
		return f.wrap("writeat", errAppend)
	}
	if off < 0 {
		return f.wrap("writeat", errNegativeOffset)
	}
	return f.wrap("write", checkRange(off, n))
}

// writeAt is WriteAt for valid arguments; see readAt for fixed, for the offset -1 and for free.
func (f *File) writeAt(ctx context.Context, b []byte, fixed *buf.Fixed, off int64, free func()) (int, error) {
	if !f.h.Acquire() {
		return 0, ErrClosed
	}
	n, err := f.transferOut(ctx, b, fixed, off, free)
	if err != nil {
		return n, f.explain(ctx, f.h.Settle(err, ErrClosed), off, b)
	}
	f.h.Release()
	return n, nil
}

func (f *File) transferOut(ctx context.Context, b []byte, fixed *buf.Fixed, off int64, free func()) (int, error) {
	if len(b) > ops.MaxTransfer {
		b = b[:ops.MaxTransfer]
	}
	c := executor.CallerOf(ctx)
	r, remote := f.writeRoute(c)
	o := ops.WriteAt(f.h.FD, b, off)
	if fixed != nil {
		o = ops.WriteFrom(f.h.FD, fixed, b, off)
	}
	if off >= 0 {
		if f.known()&traitStream != 0 {
			return 0, syscall.ESPIPE
		}
		p := &pace[o.Kind.Code]
		if s, ok := p.enter(c, r); ok {
			defer p.leave(ctx, s, len(b))
			if ctx.Err() != nil {
				return 0, driver.Canceled(ctx)
			}
			f.h.Driver.CountRoute(driver.RouteDirect, s.lane)
			return ops.Pwrite(f.h.FD, b, off)
		}
	}
	if err := f.blocking(); err != nil {
		return 0, err
	}
	o.Release, o.As = free, f.whose()
	res := perform(ctx, c, r.instead(), remote, o)
	return res.N, res.Err
}

// writeRoute chooses who writes. Only a buffered write to a regular file is worth a plain call: it goes to the page cache.
func (f *File) writeRoute(c executor.Caller) (r Route, remote bool) {
	t := f.known()
	remote = t&traitRemote != 0
	if r = f.pinned(OpWrite); r != Auto {
		return r, remote
	}
	if t&traitRegular == 0 || f.flag&(unix.O_DIRECT|unix.O_SYNC) != 0 {
		return Ring, remote
	}
	return choose(c, OpWrite, Auto, remote), remote
}
