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

// maxTry is how many bytes a coroutine may copy out of the page cache in one go.
const maxTry = 1 << 20

// ReadAt reads once into b from offset off, and hands b back. It may be short; io.EOF means that nothing was left to read, and with an
// empty b it returns 0 and no error. One call moves at most 1 GiB.
//
// What the page cache has is copied at once; the ring reads the rest, so that a slow disk holds nobody up. Files opened with
// O_DIRECT go straight to the ring, and need b and off aligned: otherwise the error is EINVAL, and says what they need. Allocates nothing.
// Kernel 5.6, pread(2).
func (f *File) ReadAt(ctx context.Context, b []byte, off int64) (int, []byte, error) {
	if err := f.checkRead(off, int64(len(b))); err != nil {
		return 0, b, err
	}
	if len(b) == 0 {
		return 0, b, nil
	}
	n, err := f.readAt(ctx, b, nil, off, f.h.Free)
	return n, handle.Back(b, err), f.wrap("read", err)
}

// ReadExactAt reads from offset off until b is full, and hands b back. The count says how much was read in any case; an end of the file
// before that is io.ErrUnexpectedEOF, or io.EOF if nothing was read. See [File.ReadAt].
func (f *File) ReadExactAt(ctx context.Context, b []byte, off int64) (int, []byte, error) {
	if err := f.checkRead(off, int64(len(b))); err != nil {
		return 0, b, err
	}
	done := 0
	for done < len(b) {
		n, err := f.readAt(ctx, b[done:], nil, off+int64(done), f.h.Free)
		done += n
		if err == nil {
			continue
		}
		if err == io.EOF && done > 0 {
			err = io.ErrUnexpectedEOF
		}
		return done, handle.Back(b, err), f.wrap("read", err)
	}
	return done, b, nil
}

func (f *File) checkRead(off, n int64) error {
	if off < 0 {
		return f.wrap("readat", errNegativeOffset)
	}
	return f.wrap("read", checkRange(off, n))
}

// readAt is ReadAt for valid arguments, or for the offset -1, which means the file position. b may be a part of a fixed buffer. If the
// caller is let go while the kernel still has b, free is called later instead of dropping the reference now.
func (f *File) readAt(ctx context.Context, b []byte, fixed *buf.Fixed, off int64, free func()) (int, error) {
	if !f.h.Acquire() {
		return 0, ErrClosed
	}
	n, err := f.transferIn(ctx, b, fixed, off, free)
	if err != nil && err != io.EOF {
		return n, f.explain(ctx, f.h.Settle(err, ErrClosed), off, b)
	}
	f.h.Release()
	return n, err
}

func (f *File) transferIn(ctx context.Context, b []byte, fixed *buf.Fixed, off int64, free func()) (int, error) {
	if len(b) > ops.MaxTransfer {
		b = b[:ops.MaxTransfer]
	}
	r := f.pinned(OpRead)
	c := executor.CallerOf(ctx)
	done := 0
	if r == Auto && off >= 0 && f.worthTrying(c, len(b)) {
		n, all, err := f.tryRead(ctx, c, b, off)
		if all {
			return n, err
		}
		done = n
	}

	o := ops.ReadAt(f.h.FD, b[done:], off+int64(done))
	if off >= 0 {
		if f.known()&traitStream != 0 {
			return 0, syscall.ESPIPE
		}
		if fixed != nil {
			o = ops.ReadIn(f.h.FD, fixed, b[done:], off+int64(done))
		}
		if r == Auto {
			var err error
			if r, err = f.untried(ctx, c, len(b), free); err != nil {
				return 0, err
			}
		}
		p := &pace[o.Kind.Code]
		if s, ok := p.enter(c, r); ok {
			defer p.leave(ctx, s, len(b))
			if ctx.Err() != nil {
				return 0, driver.Canceled(ctx)
			}
			f.h.Driver.CountRoute(driver.RouteDirect, s.lane)
			n, err := ops.Pread(f.h.FD, b, off)
			if n == 0 && err == nil {
				err = io.EOF
			}
			return n, err
		}
	}
	r = r.instead() // also without an offset, where a read may wait for ever
	if (r == Auto || f.as != nil) && f.takesLong(len(o.Buf)) {
		o.Flags |= ops.Async
	}
	o.Release, o.As = free, f.whose()
	if err := f.blocking(); err != nil {
		return done, err
	}
	counts := !c.MayBlock() && f.tries()
	if counts {
		crowd.Add(1)
	}
	res := perform(ctx, c, r, false, o)
	if counts {
		crowd.Add(-1)
	}
	switch {
	case handle.Abandoned(res.Err):
		return done, res.Err
	case done > 0:
		return done + res.N, nil // what went wrong, if anything, will go wrong again
	case res.Err != nil:
		return 0, res.Err
	case res.N == 0:
		return 0, io.EOF
	}
	return res.N, nil
}

// untried returns the route of a read of n bytes that the page cache was not asked for. If the file is one that cannot tell what is
// cached, as on tmpfs, overlayfs or proc, the ring would hand the read to a thread of the kernel. One that has no news waits for them here: a
// plain call on the portable engine could not be cancelled. If the caller is let go meanwhile, free is called later.
func (f *File) untried(ctx context.Context, c executor.Caller, n int, free func()) (Route, error) {
	t := f.traits.Load()
	if t&(traitNoTry|traitRegular|traitRemote) != traitNoTry|traitRegular || f.flag&unix.O_DIRECT != 0 {
		return Auto, nil
	}
	if t&traitTells != 0 && !readable(f.h.FD) {
		wait := ops.PollAdd(f.h.FD, unix.POLLIN)
		wait.Release = free
		wait.Patient = true // it ends at once when cancelled, and does not have the buffer: that would not go back to its pool if it were let go
		return Ring, executor.Do(ctx, wait).Err
	}
	r := [...]Route{Inline, brisk, briskOrRing, brisk}[c.Ground()]
	if n > maxTry && !c.MayBlock() {
		return r.instead(), nil
	}
	return r, nil
}

// worthTrying reports whether a read of n bytes is first tried in the page cache.
func (f *File) worthTrying(c executor.Caller, n int) bool {
	switch {
	case !f.tries():
		return false
	case c.MayBlock():
		return true
	}
	others := crowd.Load()
	return n <= maxTry && (others < leastCompany || others < f.company(c.Ground())) // mostly without asking for company
}

// tries reports whether reads of the file may be tried in the page cache.
func (f *File) tries() bool {
	return f.traits.Load()&(traitNoTry|traitStream|traitRemote) == 0 && f.flag&unix.O_DIRECT == 0
}

// tryRead copies what the page cache has. It reports whether that is all there is to say: b is full, the file has ended, or it failed.
// If not, the cache ends after n bytes.
func (f *File) tryRead(ctx context.Context, c executor.Caller, b []byte, off int64) (n int, all bool, err error) {
	if ctx.Err() != nil {
		return 0, true, driver.Canceled(ctx)
	}
	if !c.MayBlock() && c.Spent(len(b)) && f.inCompany(ctx, c) {
		return 0, false, nil
	}
	for n < len(b) {
		m, err := ops.TryRead(f.h.FD, b[n:], off+int64(n))
		if err != nil {
			return n, f.tryFailed(n, err), err
		}
		if m == 0 {
			break
		}
		n += m
	}
	f.h.Driver.CountRoute(driver.RouteInline, c.Lane())
	if n == 0 {
		err = io.EOF
	}
	return n, true, err
}

// inCompany lets the other tasks of a worker run, and reports whether some of them read in the same way.
func (f *File) inCompany(ctx context.Context, c executor.Caller) bool {
	before := readers.Add(1)
	_ = executor.Yield(ctx) // if ctx has ended, the next operation will say so
	return int32(readers.Load()-before) >= f.company(c.Ground())-1
}

// tryFailed reports whether an attempt that moved n bytes before it failed with err is to be left at that.
func (f *File) tryFailed(n int, err error) bool {
	switch err {
	case syscall.EAGAIN:
		return false
	case syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EINVAL, syscall.EPERM: // of the file, the kernel, or what filters its calls
		f.traits.Or(traitNoTry)
		return false
	}
	return n == 0
}

// readable reports whether a read of fd does not have to wait, or whether only the read can tell.
func readable(fd int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if err != syscall.EINTR {
			return n > 0 || err != nil
		}
	}
}

// takesLong reports whether a read of n bytes, if the driver tried it at once, could hold it up: on a file system that may not answer,
// or by the time that copying takes.
func (f *File) takesLong(n int) bool {
	return f.flag&unix.O_DIRECT == 0 && n > maxTry || f.known()&traitRemote != 0
}

// wrap adds the file's name to an error.
func (f *File) wrap(op string, err error) error {
	if err == nil { // which the compiler decides in place
		return nil
	}
	return pathError(op, f.name, err)
}
