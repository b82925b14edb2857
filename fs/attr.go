package fs

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"uringo/executor"
	"uringo/ops"
)

// do performs an operation that has an opcode on the file.
func do[T any](ctx context.Context, f *File, op Operation, o ops.Op[T]) ops.Result[T] {
	if !f.h.Acquire() {
		return o.Result(0, ErrClosed)
	}
	o.Release, o.As = f.h.Free, f.whose()
	remote := f.known()&traitRemote != 0
	c := executor.CallerOf(ctx)
	res := perform(ctx, c, choose(c, op, f.pinned(op), remote), remote, o)
	res.Err = f.h.Settle(res.Err, ErrClosed)
	return res
}

// doCall makes a plain call on the descriptor for what has no opcode.
func doCall[T any](ctx context.Context, f *File, op Operation, fn func(fd int) (T, error)) (T, error) {
	if !f.h.Acquire() {
		var zero T
		return zero, ErrClosed
	}
	v, err := callHeld(ctx, f, op, fn)
	return v, f.h.Settle(err, ErrClosed)
}

// callHeld is doCall for who holds a reference: a Close that has begun waits for that.
func callHeld[T any](ctx context.Context, f *File, op Operation, fn func(fd int) (T, error)) (T, error) {
	c := executor.CallerOf(ctx)
	r := choose(c, op, f.pinned(op), f.known()&traitRemote != 0)
	return callAs(ctx, c, f.as, r, func() (T, error) { return fn(f.h.FD) })
}

// SyncAll brings the file's data and metadata to stable storage: of the writes that returned before it was called. Its error means that
// data may be lost, and is told once: do not repeat it in the hope of a better answer. Kernel 5.1, fsync(2).
func (f *File) SyncAll(ctx context.Context) error {
	return f.wrap("sync", do(ctx, f, OpSync, ops.Fsync(f.h.FD)).Err)
}

// SyncData is [File.SyncAll] without the metadata that reading the data back does not need, such as times. Kernel 5.1, fdatasync(2).
func (f *File) SyncData(ctx context.Context) error {
	return f.wrap("sync", do(ctx, f, OpSync, ops.Fdatasync(f.h.FD)).Err)
}

// Fallocate reserves, zeroes, punches out or moves n bytes at offset off, as mode says (unix.FALLOC_FL_*). Mode 0 reserves space, and makes
// the file longer if need be. Not every file system knows every mode: EOPNOTSUPP. Kernel 5.6, fallocate(2).
func (f *File) Fallocate(ctx context.Context, mode uint32, off, n int64) error {
	if off < 0 {
		return f.wrap("fallocate", errNegativeOffset)
	}
	if n < 0 {
		return f.wrap("fallocate", errNegativeSize)
	}
	if err := checkRange(off, n); err != nil {
		return f.wrap("fallocate", err)
	}
	return f.wrap("fallocate", do(ctx, f, OpAttr, ops.Fallocate(f.h.FD, mode, off, n)).Err)
}

// Truncate makes the file exactly n bytes long: it cuts the rest off, or adds a hole. Kernel 6.9, else a plain call; ftruncate(2).
func (f *File) Truncate(ctx context.Context, n int64) error {
	if n < 0 {
		return f.wrap("truncate", errNegativeSize)
	}
	return f.wrap("truncate", do(ctx, f, OpAttr, ops.Ftruncate(f.h.FD, n)).Err)
}

// Fadvise announces how n bytes from offset off will be used (unix.FADV_*); n = 0 means to the end. It is advice, and changes no data.
// Kernel 5.6, posix_fadvise(2).
func (f *File) Fadvise(ctx context.Context, off, n int64, advice int) error {
	if off < 0 {
		return f.wrap("fadvise", errNegativeOffset)
	}
	return f.wrap("fadvise", do(ctx, f, OpAttr, ops.Fadvise(f.h.FD, off, n, advice)).Err)
}

// SyncFileRange starts or awaits the write-back of n bytes from offset off, as flags say (unix.SYNC_FILE_RANGE_*); n = 0 means to the end.
// It spreads the work that a later Sync has, and is no substitute for it: neither metadata nor the disk's own cache are written.
// Kernel 5.2, sync_file_range(2).
func (f *File) SyncFileRange(ctx context.Context, off, n int64, flags uint32) error {
	const most = 1 << 30 // an entry has 32 bits for it
	err := checkRange(off, max(n, 0))
	if n < 0 {
		err = errNegativeSize
	}
	for first := true; err == nil && (first || n > 0); first = false {
		part := min(n, most)
		err = do(ctx, f, OpSync, ops.SyncFileRange(f.h.FD, off, uint32(part), flags)).Err
		off, n = off+part, n-part
	}
	return f.wrap("syncrange", err)
}

// Chmod changes the permissions, and the set-id and sticky bits. fchmod(2).
func (f *File) Chmod(ctx context.Context, mode FileMode) error {
	return f.change(ctx, "chmod", func(fd int) error { return unix.Fchmod(fd, modeBits(mode)) })
}

// Chown changes the owner and the group; -1 leaves either as it is. fchown(2).
func (f *File) Chown(ctx context.Context, uid, gid int) error {
	return f.change(ctx, "chown", func(fd int) error { return unix.Fchown(fd, uid, gid) })
}

// Chtimes sets the times of access and modification, to the nanosecond if the file system can; a zero Time leaves one as it is.
// utimensat(2).
func (f *File) Chtimes(ctx context.Context, atime, mtime time.Time) error {
	return f.change(ctx, "chtimes", func(fd int) error {
		ts, err := timespecs(atime, mtime)
		if err != nil {
			return err
		}
		err = unix.UtimesNanoAt(fd, "", ts[:], unix.AT_EMPTY_PATH)
		if err == unix.EINVAL { // before kernel 5.8
			err = unix.UtimesNanoAt(cwd, procPath(fd), ts[:], 0)
		}
		return err
	})
}

func (f *File) change(ctx context.Context, verb string, fn func(fd int) error) error {
	_, err := doCall(ctx, f, OpAttr, func(fd int) (struct{}, error) {
		return struct{}{}, ignoringEINTR(func() error { return fn(fd) })
	})
	return f.wrap(verb, err)
}

// timespecs writes two times as utimensat(2) takes them: ERANGE is one that a processor of 32 bits cannot say, such as the year 2040.
func timespecs(atime, mtime time.Time) (ts [2]unix.Timespec, err error) {
	for i, t := range [...]time.Time{atime, mtime} {
		if t.IsZero() {
			ts[i] = unix.Timespec{Nsec: unix.UTIME_OMIT}
		} else if ts[i], err = unix.TimeToTimespec(t); err != nil {
			return ts, err
		}
	}
	return ts, nil
}

// ignoringEINTR repeats a call that a signal interrupted, as network file systems let it.
func ignoringEINTR(fn func() error) error {
	for {
		if err := fn(); err != unix.EINTR {
			return err
		}
	}
}
