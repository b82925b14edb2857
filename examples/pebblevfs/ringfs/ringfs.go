// Package ringfs is pebble's vfs.FS on uringo's files: what an engine written for package os needs to run on io_uring.
package ringfs

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	ufs "uringo/fs"
)

// New returns a file system whose operations are performed by the driver that ctx carries, under ctx: see driver.NewContext. It may be
// called from any goroutine, as pebble does. ctx must outlive the database.
func New(ctx context.Context) vfs.FS { return fsys{ctx} }

type fsys struct{ ctx context.Context }

func (s fsys) open(name string, flag int, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := ufs.OpenFile(s.ctx, name, flag, 0o666)
	if err != nil {
		return nil, err
	}
	g := &file{File: f, ctx: s.ctx}
	for _, o := range opts {
		o.Apply(g)
	}
	return g, nil
}

// Create removes a file of that name first, as the new one must be another, whatever links there are.
func (s fsys) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	for {
		f, err := s.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
		if !errors.Is(err, os.ErrExist) {
			return f, err
		}
		if err := s.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
}

func (s fsys) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	return s.open(name, os.O_RDONLY, opts...)
}

func (s fsys) OpenReadWrite(name string, _ vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return s.open(name, os.O_RDWR|os.O_CREATE, opts...)
}

func (s fsys) OpenDir(name string) (vfs.File, error) {
	f, err := ufs.OpenFile(s.ctx, name, unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return &dir{file{File: f, ctx: s.ctx}}, nil
}

func (s fsys) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := s.Rename(oldname, newname); err != nil {
		return nil, err
	}
	return s.OpenReadWrite(newname, c)
}

func (s fsys) Link(oldname, newname string) error          { return ufs.Link(s.ctx, oldname, newname) }
func (s fsys) Remove(name string) error                    { return ufs.Remove(s.ctx, name) }
func (s fsys) RemoveAll(name string) error                 { return ufs.RemoveAll(s.ctx, name) }
func (s fsys) Rename(oldname, newname string) error        { return ufs.Rename(s.ctx, oldname, newname) }
func (s fsys) MkdirAll(dir string, perm os.FileMode) error { return ufs.MkdirAll(s.ctx, dir, perm) }
func (s fsys) PathBase(path string) string                 { return filepath.Base(path) }
func (s fsys) PathJoin(elem ...string) string              { return filepath.Join(elem...) }
func (s fsys) PathDir(path string) string                  { return filepath.Dir(path) }
func (s fsys) GetDiskUsage(path string) (u vfs.DiskUsage, err error) {
	return vfs.Default.GetDiskUsage(path)
}
func (s fsys) Unwrap() vfs.FS { return nil }

func (s fsys) Stat(name string) (vfs.FileInfo, error) { return info(ufs.Stat(s.ctx, name)) }

func (s fsys) List(dir string) ([]string, error) {
	entries, err := ufs.ReadDir(s.ctx, dir)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// Lock takes a lock of the open file, not of the process, so that a second attempt of the process fails by itself.
func (s fsys) Lock(name string) (io.Closer, error) {
	f, err := ufs.Create(s.ctx, name)
	if err != nil {
		return nil, err
	}
	locked, err := f.TryLock(s.ctx)
	if err == nil && !locked {
		err = &os.PathError{Op: "lock", Path: name, Err: unix.EAGAIN}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(s.ctx))
	}
	return &file{File: f, ctx: s.ctx}, nil
}

// file is an open file with the cursors that pebble reads and writes in order with.
type file struct {
	*ufs.File
	ctx     context.Context
	in, out int64
}

func (f *file) Close() error { return f.File.Close(f.ctx) }

func (f *file) Read(p []byte) (int, error) {
	n, err := f.File.NewReader(f.ctx, f.in).Read(p)
	f.in += int64(n)
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	return f.File.NewReader(f.ctx, off).ReadAt(p, off)
}

func (f *file) Write(p []byte) (int, error) {
	n, err := f.File.NewWriter(f.ctx, f.out).Write(p)
	f.out += int64(n)
	return n, err
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	return f.File.NewWriter(f.ctx, off).WriteAt(p, off)
}

func (f *file) Stat() (vfs.FileInfo, error) { return info(f.File.Stat(f.ctx)) }
func (f *file) Sync() error                 { return f.File.SyncAll(f.ctx) }
func (f *file) SyncData() error             { return f.File.SyncData(f.ctx) }

// SyncTo has the kernel begin to write.
func (f *file) SyncTo(length int64) (fullSync bool, err error) {
	return false, f.File.SyncFileRange(f.ctx, 0, length, unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_BEFORE)
}

func (f *file) Preallocate(off, length int64) error {
	return f.File.Fallocate(f.ctx, unix.FALLOC_FL_KEEP_SIZE, off, length)
}

func (f *file) Prefetch(off, length int64) error {
	return f.File.Fadvise(f.ctx, off, length, unix.FADV_WILLNEED)
}

// dir is an open directory, good for syncing.
type dir struct{ file }

func (d *dir) SyncData() error                         { return d.Sync() }
func (d *dir) SyncTo(int64) (fullSync bool, err error) { return false, nil }
func (d *dir) Preallocate(int64, int64) error          { return nil }
func (d *dir) Prefetch(int64, int64) error             { return nil }

// fileInfo lacks a device: pebble asks for it to count what each disk does, and its type cannot be made outside of pebble.
type fileInfo struct{ os.FileInfo }

func (fileInfo) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }

func info(i os.FileInfo, err error) (vfs.FileInfo, error) {
	if err != nil {
		return nil, err
	}
	return fileInfo{i}, nil
}
