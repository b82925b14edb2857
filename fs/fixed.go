package fs

import (
	"context"
	"io"
	"syscall"

	"uringo/buf"
	"uringo/executor"
	"uringo/internal/handle"
	"uringo/ops"
)

// ReadFixedAt is [File.ReadAt] into the view of b, and hands b back; it is nil only with an error that wraps driver.ErrAbandoned, and then
// goes back to its pool by itself when the kernel has let go. On files opened with O_DIRECT the kernel is spared looking the
// memory's pages up, if the driver could register it; see package buf. b may be used with any driver. Allocates nothing.
// Kernel 5.6; registered 5.19.
func (f *File) ReadFixedAt(ctx context.Context, b *buf.Fixed, off int64) (int, *buf.Fixed, error) {
	return f.withFixed("read", b, off, f.checkRead, func() (int, error) { return f.readAt(ctx, b.Bytes(), b, off, f.h.Free) })
}

// WriteFixedAt is [File.WriteAt] of the view of b, and hands b back; see [File.ReadFixedAt]. Allocates nothing.
// Kernel 5.6; registered 5.19.
func (f *File) WriteFixedAt(ctx context.Context, b *buf.Fixed, off int64) (int, *buf.Fixed, error) {
	return f.withFixed("write", b, off, f.checkWrite, func() (int, error) { return f.writeAt(ctx, b.Bytes(), b, off, f.h.Free) })
}

// WriteFixedAllAt is [File.WriteAllAt] of the view of b, and hands b back; see [File.ReadFixedAt]. Allocates nothing.
// Kernel 5.6; registered 5.19.
func (f *File) WriteFixedAllAt(ctx context.Context, b *buf.Fixed, off int64) (int, *buf.Fixed, error) {
	return f.withFixed("write", b, off, f.checkWrite, func() (int, error) {
		return allOf(b.Bytes(), off, func(part []byte, off int64) (int, error) { return f.writeAt(ctx, part, b, off, f.h.Free) })
	})
}

// withFixed is the frame of a call with a fixed buffer: transfer moves the view of b, which is held for the length of the call, whichever
// way that takes, if check has nothing against the offset.
func (f *File) withFixed(verb string, b *buf.Fixed, off int64, check func(off, n int64) error, transfer func() (int, error)) (int, *buf.Fixed, error) {
	if err := pin(b); err != nil {
		return 0, b, f.wrap(verb, err)
	}
	defer b.Unpin()
	if err := check(off, int64(b.Len())); err != nil || b.Len() == 0 {
		return 0, b, err
	}
	n, err := transfer()
	return n, handle.Back(b, err), f.wrap(verb, err)
}

// pin holds a buffer for the length of a call. The driver holds it for longer, if the kernel does.
func pin(b *buf.Fixed) error {
	if err := b.Usable(); err != nil {
		return err
	}
	if !b.Pin() {
		return buf.ErrReleased // just now
	}
	return nil
}

// ReadvFixedAt is [File.ReadvAt] into the views of bs, and hands bs back; see [File.ReadFixedAt]. The driver can use registered memory for
// it if all buffers are of one arena: those of one size from a pool mostly are, a MiB at a time. It does not try the page cache
// first: it is meant for direct I/O. Kernel 5.6; registered 6.15.
func (f *File) ReadvFixedAt(ctx context.Context, bs []*buf.Fixed, off int64) (int, []*buf.Fixed, error) {
	o := ops.ReadvFixedAt(f.h.FD, bs, off)
	if err := o.Invalid(); err != nil {
		return 0, bs, f.wrap("read", err)
	}
	if err := f.checkRead(off, lengthOfFixed(bs)); err != nil {
		return 0, bs, err
	}
	if lengthOfFixed(bs) == 0 {
		return 0, bs, nil
	}
	n, bs, err := f.vectorFixed(ctx, executor.CallerOf(ctx), f.pinned(OpRead), o, off)
	if err != nil {
		return n, bs, f.wrap("read", err)
	}
	if n == 0 {
		return 0, bs, io.EOF
	}
	return n, bs, nil
}

// WritevFixedAt is [File.WritevAt] of the views of bs, and hands bs back; see [File.ReadvFixedAt]. Kernel 5.6; registered 6.15.
func (f *File) WritevFixedAt(ctx context.Context, bs []*buf.Fixed, off int64) (int, []*buf.Fixed, error) {
	o := ops.WritevFixedAt(f.h.FD, bs, off)
	if err := o.Invalid(); err != nil {
		return 0, bs, f.wrap("write", err)
	}
	if err := f.checkWrite(off, lengthOfFixed(bs)); err != nil {
		return 0, bs, err
	}
	if lengthOfFixed(bs) == 0 {
		return 0, bs, nil
	}
	c := executor.CallerOf(ctx)
	r, _ := f.writeRoute(c)
	n, bs, err := f.vectorFixed(ctx, c, r, o, off)
	if err != nil {
		return n, bs, f.wrap("write", err)
	}
	return n, bs, nil
}

func (f *File) vectorFixed(ctx context.Context, c executor.Caller, r Route, o ops.Op[[]*buf.Fixed], off int64) (int, []*buf.Fixed, error) {
	if !o.Pin() {
		return 0, o.Buf, buf.ErrReleased
	}
	defer o.Unpin(false)
	if !f.h.Acquire() {
		return 0, o.Buf, ErrClosed
	}
	if f.known()&traitStream != 0 {
		f.h.Release()
		return 0, o.Buf, syscall.ESPIPE
	}
	o.Release, o.As = f.h.Free, f.whose()
	res := perform(ctx, c, r, f.known()&traitRemote != 0, o)
	err := f.h.Settle(res.Err, ErrClosed)
	if err == syscall.EINVAL {
		err = f.explain(ctx, err, off, viewsOf(res.Buf)...)
	}
	return res.N, res.Buf, err
}

func viewsOf(bs []*buf.Fixed) [][]byte {
	views := make([][]byte, len(bs))
	for i, b := range bs {
		views[i] = b.Bytes()
	}
	return views
}

func lengthOfFixed(bs []*buf.Fixed) (n int64) {
	for _, b := range bs {
		n += int64(b.Len())
	}
	return n
}
