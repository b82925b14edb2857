package fs

import (
	"context"
	"errors"
	"io"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/executor"
	"uringo/internal/handle"
	"uringo/ops"
)

// RingFile is a file that is open in the table of its driver's ring and nowhere else (a direct descriptor). The kernel is spared looking a
// descriptor up and counting its users for every operation, and the process' limit of open files does not count it. What it can do
// is read, write and sync; [RingFile.Install] makes an ordinary [File] of it.
//
// The table has room for 4032 files and connections, or for fewer where the limit of open files is lower. Where there is no table, on an old
// kernel or the portable engine, or no room in it, a RingFile has an ordinary descriptor and works all the same. Its methods may be called
// from several tasks at once, all of the driver that opened it.
type RingFile struct {
	f      *File
	inRing bool // f's descriptor is a place in the table
}

var errOtherDriver = errors.New("the file is in the ring of another driver")

// OpenInRing opens the named file as [OpenFile] does, but into the table of the ring. It is for regular files and block devices, which are
// written at offsets: O_APPEND is EINVAL. Kernel 6.0, openat(2).
func OpenInRing(ctx context.Context, name string, flag int, perm FileMode) (*RingFile, error) {
	if flag&unix.O_APPEND != 0 {
		return nil, &PathError{Op: "open", Path: name, Err: errAppendInRing}
	}
	d, err := executor.DriverOf(ctx)
	if err != nil {
		return nil, &PathError{Op: "open", Path: name, Err: err}
	}
	o := ops.OpenDirect(cwd, name, flag, creationMode(flag, perm))
	traits := traitKnown | traitRegular
	if remotePath(name) {
		o.Flags |= ops.Async
		traits |= traitRemote
	}
	res := executor.Do(ctx, o)
	switch res.Err {
	case nil:
		f := &File{name: name, flag: flag}
		f.traits.Store(traits)
		f.h.OpenDirect(res.N, d)
		f.h.Collect()
		return &RingFile{f, true}, nil
	case syscall.ENFILE, syscall.ENXIO, syscall.EOPNOTSUPP, syscall.EINVAL: // no room or no table; or the name, which shows then
		f, err := OpenFile(ctx, name, flag, perm)
		if err != nil {
			return nil, err
		}
		return &RingFile{f: f}, nil
	}
	return nil, &PathError{Op: "open", Path: name, Err: res.Err}
}

// Name returns the name that the file was opened with.
func (f *RingFile) Name() string { return f.f.name }

// InRing reports whether the file is in the ring's table, and has no descriptor.
func (f *RingFile) InRing() bool { return f.inRing }

// ReadAt is [File.ReadAt] by way of the ring, whatever the page cache has. Allocates nothing.
func (f *RingFile) ReadAt(ctx context.Context, b []byte, off int64) (int, []byte, error) {
	if !f.inRing {
		return f.f.ReadAt(ctx, b, off)
	}
	if err := f.f.checkRead(off, int64(len(b))); err != nil || len(b) == 0 {
		return 0, b, err
	}
	n, err := readOnTable(ctx, f.f, ops.ReadAt(f.f.h.FD, b, off), len(b))
	return n, handle.Back(b, err), f.f.wrap("read", err)
}

// WriteAt is [File.WriteAt] by way of the ring. Allocates nothing.
func (f *RingFile) WriteAt(ctx context.Context, b []byte, off int64) (int, []byte, error) {
	if !f.inRing {
		return f.f.WriteAt(ctx, b, off)
	}
	if err := f.f.checkWrite(off, int64(len(b))); err != nil || len(b) == 0 {
		return 0, b, err
	}
	n, err := onTable(ctx, f.f, ops.WriteAt(f.f.h.FD, b, off), len(b))
	return n, handle.Back(b, err), f.f.wrap("write", err)
}

// ReadFixedAt is [File.ReadFixedAt]: with O_DIRECT the cheapest read there is. Allocates nothing.
func (f *RingFile) ReadFixedAt(ctx context.Context, b *buf.Fixed, off int64) (int, *buf.Fixed, error) {
	if !f.inRing {
		return f.f.ReadFixedAt(ctx, b, off)
	}
	return f.f.withFixed("read", b, off, f.f.checkRead, func() (int, error) {
		return readOnTable(ctx, f.f, ops.ReadFixedAt(f.f.h.FD, b, off), b.Len())
	})
}

// WriteFixedAt is [File.WriteFixedAt] by way of the ring. Allocates nothing.
func (f *RingFile) WriteFixedAt(ctx context.Context, b *buf.Fixed, off int64) (int, *buf.Fixed, error) {
	if !f.inRing {
		return f.f.WriteFixedAt(ctx, b, off)
	}
	return f.f.withFixed("write", b, off, f.f.checkWrite, func() (int, error) {
		return onTable(ctx, f.f, ops.WriteFixedAt(f.f.h.FD, b, off), b.Len())
	})
}

// WriteFixedAllAt is [File.WriteFixedAllAt] by way of the ring. Allocates nothing.
func (f *RingFile) WriteFixedAllAt(ctx context.Context, b *buf.Fixed, off int64) (int, *buf.Fixed, error) {
	if !f.inRing {
		return f.f.WriteFixedAllAt(ctx, b, off)
	}
	return f.f.withFixed("write", b, off, f.f.checkWrite, func() (int, error) {
		return allOf(b.Bytes(), off, func(part []byte, off int64) (int, error) {
			return onTable(ctx, f.f, ops.WriteFrom(f.f.h.FD, b, part, off), len(part))
		})
	})
}

// SyncAll is [File.SyncAll].
func (f *RingFile) SyncAll(ctx context.Context) error {
	return f.sync(ctx, ops.Fsync(f.f.h.FD), f.f.SyncAll)
}

// SyncData is [File.SyncData].
func (f *RingFile) SyncData(ctx context.Context) error {
	return f.sync(ctx, ops.Fdatasync(f.f.h.FD), f.f.SyncData)
}

func (f *RingFile) sync(ctx context.Context, o ops.Op[struct{}], ordinary func(context.Context) error) error {
	if !f.inRing {
		return ordinary(ctx)
	}
	_, err := onTable(ctx, f.f, o, 0)
	return f.f.wrap("sync", err)
}

// onTable performs an operation on a file in the table, one that moves so many bytes.
func onTable[T any](ctx context.Context, f *File, o ops.Op[T], n int) (int, error) {
	if d, err := executor.DriverOf(ctx); err != nil {
		return 0, err
	} else if d != f.h.Driver {
		return 0, errOtherDriver // there, the number would mean another file
	}
	if !f.h.Acquire() {
		return 0, ErrClosed
	}
	o.Flags |= ops.Direct
	if f.takesLong(n) {
		o.Flags |= ops.Async
	}
	o.Release = f.h.Free
	res := executor.Do(ctx, o)
	return res.N, f.h.Settle(res.Err, ErrClosed)
}

// readOnTable is onTable for a read of more than nothing.
func readOnTable[T any](ctx context.Context, f *File, o ops.Op[T], n int) (int, error) {
	n, err := onTable(ctx, f, o, n)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// Install returns an ordinary [File] for the same open file, with a descriptor of the process. Both have to be closed. Before kernel 6.8
// it is errors.ErrUnsupported.
func (f *RingFile) Install(ctx context.Context) (*File, error) {
	var fd int
	var err error
	if f.inRing {
		fd, err = onTable(ctx, f.f, ops.InstallDirect(f.f.h.FD), 0)
	} else if !f.f.h.Acquire() {
		err = ErrClosed
	} else {
		fd, err = unix.FcntlInt(uintptr(f.f.h.FD), unix.F_DUPFD_CLOEXEC, 0)
		f.f.h.Release()
	}
	if err != nil {
		return nil, f.f.wrap("install", err)
	}
	return newFile(f.f.h.Driver, fd, f.f.name, f.f.flag, 0), nil
}

// Close closes the file; see [File.Close]. A RingFile that is dropped without Close is closed in the background.
func (f *RingFile) Close(ctx context.Context) error {
	if !f.inRing {
		return f.f.Close(ctx)
	}
	first, err := f.f.h.Shut(ctx)
	switch {
	case !first:
		err = ErrClosed
	case err == nil:
		err = f.f.h.ClosePlace(ctx)
	}
	return f.f.wrap("close", err)
}
