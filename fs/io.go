package fs

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/handle"
)

// Reader reads a file from some offset on, as package io wants it: it is an io.Reader, io.Seeker and io.ReaderAt. Read and Seek are for
// one goroutine or task at a time. Of a pipe, a terminal or a socket, which have no offsets, Read returns what comes next, as [File.Read] does,
// and Seek and ReadAt are ESPIPE.
type Reader struct {
	f   *File
	ctx context.Context
	off int64
}

// NewReader returns a Reader that starts at offset off and works under ctx.
//
// The interfaces of package io forbid that a buffer is used after the call. So a Reader or [Writer] whose operation was cancelled
// waits until the kernel has let go of the buffer, however soon a Config.CancelGrace lets others go, and tells what became of it.
func (f *File) NewReader(ctx context.Context, off int64) *Reader { return &Reader{f, ctx, off} }

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, r.f.wrap("read", r.f.closed())
	}
	if r.f.noOffsets() {
		return r.f.readHeld(r.ctx, p, -1)
	}
	n, err := r.f.readKept(r.ctx, p, r.off)
	r.off += int64(n)
	return n, err
}

// ReadAt implements io.ReaderAt: it is short with an error only.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if err := checkRange(off, int64(len(p))); err != nil {
		return 0, r.f.wrap("readat", err)
	}
	done := 0
	for done < len(p) {
		n, err := r.f.readKept(r.ctx, p[done:], off+int64(done))
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// Seek implements io.Seeker.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	off, err := r.f.seekTo(r.ctx, r.off, offset, whence)
	if err == nil {
		r.off = off
	}
	return off, err
}

// SyscallConn is [File.SyscallConn], for Control alone: its Read and Write are errors.ErrUnsupported. With it and Seek, a connection of package
// net sends the file without copying it through the process, as net/http does with what it serves; others, such as the standard library's, read
// from the Reader.
func (r *Reader) SyscallConn() (syscall.RawConn, error) {
	raw, err := r.f.SyscallConn()
	if err != nil {
		return nil, err
	}
	return controlConn{raw}, nil
}

// controlConn is the syscall.RawConn of a [Reader]. Who calls its Read would read from where the descriptor stands: the standard library's
// connections do, from whatever has one.
type controlConn struct{ syscall.RawConn }

// Read implements syscall.RawConn.
func (controlConn) Read(func(fd uintptr) (done bool)) error { return errors.ErrUnsupported }

// Write implements syscall.RawConn.
func (controlConn) Write(func(fd uintptr) (done bool)) error { return errors.ErrUnsupported }

// seekTo is the arithmetic of io.Seeker, from position pos.
func (f *File) seekTo(ctx context.Context, pos, offset int64, whence int) (int64, error) {
	if err := f.positional(); err != nil {
		return 0, f.wrap("seek", err)
	}
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += pos
	case io.SeekEnd:
		size, err := f.length(ctx)
		if err != nil {
			return 0, f.wrap("seek", err)
		}
		offset += size
	default:
		return 0, f.wrap("seek", errWhence)
	}
	if offset < 0 {
		return 0, f.wrap("seek", errNegativeOffset)
	}
	return offset, nil
}

// Writer writes a file from some offset on, as package io wants it: it is an io.Writer and io.WriterAt. Write is for one goroutine or task at a
// time. Into a pipe, a terminal or a socket, and at the end of a file opened with O_APPEND, it writes as [File.Write] does, and no offset counts.
type Writer struct {
	f   *File
	ctx context.Context
	off int64
}

// NewWriter returns a Writer that starts at offset off and works under ctx; see [File.NewReader].
func (f *File) NewWriter(ctx context.Context, off int64) *Writer { return &Writer{f, ctx, off} }

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) {
	if w.f.flag&unix.O_APPEND != 0 || w.f.noOffsets() {
		return w.f.writeNextKept(w.ctx, p)
	}
	n, err := w.f.writeKept(w.ctx, p, w.off)
	w.off += int64(n)
	return n, err
}

// WriteAt implements io.WriterAt.
func (w *Writer) WriteAt(p []byte, off int64) (int, error) { return w.f.writeKept(w.ctx, p, off) }

// readKept is readAt for a buffer that must not stay with the kernel.
func (f *File) readKept(ctx context.Context, p []byte, off int64) (int, error) {
	if err := checkRange(off, int64(len(p))); err != nil {
		return 0, f.wrap("readat", err)
	}
	return f.readHeld(ctx, p, off)
}

// readHeld is readKept for a valid offset, or for -1 and a file without offsets.
func (f *File) readHeld(ctx context.Context, p []byte, off int64) (int, error) {
	l := f.lend()
	n, err := f.readAt(handle.Stay(ctx), p, nil, off, l.free)
	return n, f.wrap("read", l.end(ctx, err))
}

// writeKept is writeAt for a buffer that must not stay with the kernel, and writes all of it.
func (f *File) writeKept(ctx context.Context, p []byte, off int64) (done int, err error) {
	if err := f.checkWrite(off, int64(len(p))); err != nil {
		return 0, err
	}
	l := f.lend()
	for done < len(p) && err == nil {
		var n int
		n, err = f.writeAt(handle.Stay(ctx), p[done:], nil, off+int64(done), l.free)
		done += n
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
	}
	return done, f.wrap("write", l.end(ctx, err))
}

// writeNextKept is Write for a buffer that must not stay with the kernel, and for files that have no position to keep: those without offsets, and
// those opened to append.
func (f *File) writeNextKept(ctx context.Context, p []byte) (int, error) {
	if !f.h.Acquire() {
		return 0, f.wrap("write", ErrClosed)
	}
	f.known()
	f.h.Release()
	l := f.lend()
	n, err := f.writeOn(handle.Stay(ctx), p, l.free)
	return n, f.wrap("write", l.end(ctx, err))
}

// noOffsets reports whether the file is one without offsets, as far as that can be found out still.
func (f *File) noOffsets() bool {
	if t := f.traits.Load(); t&traitKnown != 0 {
		return t&traitStream != 0
	}
	return f.positional() == syscall.ESPIPE
}

// positional returns why a file cannot be used at offsets, if it cannot: it is closed, or has none.
func (f *File) positional() error {
	if !f.h.Acquire() {
		return ErrClosed
	}
	defer f.h.Release()
	if f.known()&traitStream != 0 {
		return syscall.ESPIPE
	}
	return nil
}

// loan is a buffer in the hands of operations of a caller who does not return before they have let go of it.
type loan struct {
	f    *File
	back executor.Event
	free func() // what an operation that was abandoned calls, instead of dropping its reference to f
}

var loans = sync.Pool{New: func() any {
	l := new(loan)
	l.free = func() {
		l.f.h.Release()
		l.back.Set()
	}
	return l
}}

func (f *File) lend() *loan {
	l := loans.Get().(*loan)
	l.f = f
	return l
}

// end waits for the kernel where the caller was let go all the same, as the driver has failed or been given up. What the operation did is not
// known then, and the error is that of ctx, if it has ended: the buffer does not stay with the kernel. err is how the last operation ended.
func (l *loan) end(ctx context.Context, err error) error {
	if !handle.Abandoned(err) {
		l.f = nil
		loans.Put(l)
		return err
	}
	_ = l.back.Wait(context.WithoutCancel(ctx)) // which never ends early
	if ctx.Err() != nil {
		return driver.Canceled(ctx)
	}
	return err
}
