package fs

import (
	"context"
	"errors"
	"io"
	"syscall"

	"uringo/executor"
	"uringo/internal/handle"
)

// Reader reads a file from some offset on, as package io wants it: it is an io.Reader, io.Seeker and io.ReaderAt. Read and Seek are for
// one goroutine or task at a time.
type Reader struct {
	f   *File
	ctx context.Context
	off int64
}

// NewReader returns a Reader that starts at offset off and works under ctx.
//
// The interfaces of package io forbid that a buffer is used after the call. So a Reader or [Writer] whose operation was cancelled
// waits until the kernel has let go of the buffer, however soon a Config.CancelGrace lets others go.
func (f *File) NewReader(ctx context.Context, off int64) *Reader { return &Reader{f, ctx, off} }

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
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

// Writer writes a file from some offset on, as package io wants it. Write is for one goroutine or task at a time.
type Writer struct {
	f   *File
	ctx context.Context
	off int64
}

// NewWriter returns a Writer that starts at offset off and works under ctx; see [File.NewReader].
func (f *File) NewWriter(ctx context.Context, off int64) *Writer { return &Writer{f, ctx, off} }

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) {
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
	gone := new(executor.Event)
	n, err := f.readAt(ctx, p, nil, off, f.freeAnd(gone))
	if handle.Abandoned(err) {
		_ = gone.Wait(context.WithoutCancel(ctx)) // which never ends early
	}
	return n, f.wrap("read", err)
}

// writeKept is writeAt for a buffer that must not stay with the kernel, and writes all of it.
func (f *File) writeKept(ctx context.Context, p []byte, off int64) (done int, err error) {
	if err := f.checkWrite(off, int64(len(p))); err != nil {
		return 0, err
	}
	gone := new(executor.Event)
	for done < len(p) && err == nil {
		var n int
		n, err = f.writeAt(ctx, p[done:], nil, off+int64(done), f.freeAnd(gone))
		done += n
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
	}
	if handle.Abandoned(err) {
		_ = gone.Wait(context.WithoutCancel(ctx)) // which never ends early
	}
	return done, f.wrap("write", err)
}

func (f *File) freeAnd(gone *executor.Event) func() {
	return func() {
		f.h.Release()
		gone.Set()
	}
}
