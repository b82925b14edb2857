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

// Read reads once into b from where the file stands, and hands b back: what a pipe, a terminal or a socket has, waiting until it has
// something. It may be short; io.EOF means that there is nothing more to come. On files with offsets it reads at the file position
// and moves it, one call at a time. Kernel 5.6, read(2).
func (f *File) Read(ctx context.Context, b []byte) (int, []byte, error) {
	if len(b) == 0 {
		return 0, b, f.wrap("read", f.closed())
	}
	n, err := f.inTurn(ctx, false, func(free func()) (int, error) {
		start := f.position()
		n, err := f.readAt(ctx, b, nil, -1, free)
		f.settlePosition(start, n, len(b), err)
		return n, err
	})
	return n, handle.Back(b, err), f.wrap("read", err)
}

// Write writes all of b where the file stands, and hands b back: into a pipe, a terminal or a socket, waiting until it has room, or at the
// end of a file opened with O_APPEND, whose file position stays where it is. On other files it writes at the file position and moves
// it, one call at a time. The count says how much was written, also with an error. A pipe without a reader is EPIPE. Kernel 5.6,
// write(2).
func (f *File) Write(ctx context.Context, b []byte) (int, []byte, error) {
	if len(b) == 0 {
		err := f.closed()
		if err == nil && f.flag&unix.O_ACCMODE == unix.O_RDONLY {
			err = syscall.EBADF
		}
		return 0, b, f.wrap("write", err)
	}
	n, err := f.inTurn(ctx, true, func(free func()) (int, error) { return f.writeOn(ctx, b, free) })
	return n, handle.Back(b, err), f.wrap("write", err)
}

// closed is the error of an operation with nothing to do on a file that may be closed.
func (f *File) closed() error {
	if f.h.Closing() {
		return ErrClosed
	}
	return nil
}

func (f *File) writeOn(ctx context.Context, b []byte, free func()) (done int, err error) {
	off := int64(-1)
	if f.flag&unix.O_APPEND != 0 && f.traits.Load()&traitRegular != 0 {
		off = 0 // which does not count, and any offset may be written in place
	}
	for done < len(b) {
		start := int64(-1)
		if off < 0 {
			start = f.position()
		}
		n, err := f.writeSome(ctx, b[done:], off, free)
		f.settlePosition(start, n, len(b)-done, err)
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

func (f *File) writeSome(ctx context.Context, b []byte, off int64, free func()) (int, error) {
	if f.traits.Load()&(traitStream|traitLoud) != traitStream {
		return f.writeAt(ctx, b, nil, off, free)
	}
	if !f.h.Acquire() {
		return 0, ErrClosed
	}
	o := ops.WriteAtFlags(f.h.FD, b, -1, unix.RWF_NOSIGNAL)
	o.Release, o.As = free, f.whose()
	res := perform(ctx, executor.CallerOf(ctx), Ring, f.traits.Load()&traitRemote != 0, o)
	if res.Err == syscall.EOPNOTSUPP || res.Err == syscall.EINVAL { // maybe for the flag, or for what is written
		f.h.Release()
		n, err := f.writeAt(ctx, b, nil, -1, free)
		if err == nil {
			f.traits.Or(traitLoud)
		}
		return n, err
	}
	return res.N, f.h.Settle(res.Err, ErrClosed)
}

// position returns where a file stands, or -1 if it has no offsets, or nobody knows.
func (f *File) position() int64 {
	if f.traits.Load()&(traitKnown|traitStream|traitDir) != traitKnown || !f.h.Acquire() {
		return -1
	}
	defer f.h.Release()
	pos, err := unix.Seek(f.h.FD, 0, unix.SEEK_CUR)
	if err != nil {
		return -1
	}
	return pos
}

// settlePosition sees that a file which stood at start is n bytes further on, after one operation that was to move size bytes from there. The
// ring goes on by itself with what was moved in part: if it cannot, it says how much that was, and leaves the file where it stood.
func (f *File) settlePosition(start int64, n, size int, err error) {
	if start < 0 || n <= 0 || n >= size || handle.Abandoned(err) || f.position() != start || !f.h.Acquire() {
		return
	}
	defer f.h.Release()
	_, _ = unix.Seek(f.h.FD, start+int64(n), unix.SEEK_SET) // which a file that told its position allows
}

// shared reports whether several tasks may use the file position at once: where there is none, or none that counts.
func (f *File) shared(append bool) bool {
	return f.traits.Load()&traitStream != 0 || append && f.flag&unix.O_APPEND != 0
}

// inTurn calls move when the file position is free: two operations in flight would both move the same bytes (read(2), BUGS). move drops
// a reference with free if its caller was let go.
func (f *File) inTurn(ctx context.Context, append bool, move func(free func()) (int, error)) (int, error) {
	if !f.h.Acquire() {
		return 0, ErrClosed
	}
	f.known()
	f.h.Release()
	if f.shared(append) {
		return move(f.h.Free)
	}
	if err := f.turn.Lock(ctx); err != nil {
		return 0, err
	}
	n, err := move(func() {
		f.turn.Unlock()
		f.h.Release()
	})
	if !handle.Abandoned(err) {
		f.turn.Unlock()
	}
	return n, err
}
