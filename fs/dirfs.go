package fs

import (
	"context"
	"io"
	iofs "io/fs"
	"strings"
)

// DirFS returns the tree under dir as an io/fs.FS whose operations run under ctx. It also is a ReadFileFS, ReadDirFS, StatFS and
// ReadLinkFS, and its files are io.ReaderAt and io.Seeker. Symbolic links are followed, also out of dir: it is no sandbox.
func DirFS(ctx context.Context, dir string) iofs.FS { return &dirFS{ctx, dir} }

type dirFS struct {
	ctx context.Context
	dir string
}

// path returns where name is, or an error if it is no name of an FS.
func (d *dirFS) path(verb, name string) (string, error) {
	if d.dir == "" || !iofs.ValidPath(name) || strings.IndexByte(name, 0) >= 0 {
		return "", &PathError{Op: verb, Path: name, Err: ErrInvalid}
	}
	return strings.TrimSuffix(d.dir, "/") + "/" + name, nil
}

// named makes an error show the name as the FS knows it.
func named(err error, name string) error {
	if e, ok := err.(*PathError); ok {
		return &PathError{Op: e.Op, Path: name, Err: e.Err}
	}
	return err
}

func (d *dirFS) Open(name string) (iofs.File, error) {
	full, err := d.path("open", name)
	if err != nil {
		return nil, err
	}
	f, err := Open(d.ctx, full)
	if err != nil {
		return nil, named(err, name)
	}
	return &fsFile{Reader: f.NewReader(d.ctx, 0), name: name}, nil
}

func (d *dirFS) ReadFile(name string) ([]byte, error) {
	full, err := d.path("readfile", name)
	if err != nil {
		return nil, err
	}
	b, err := ReadFile(d.ctx, full)
	return b, named(err, name)
}

func (d *dirFS) ReadDir(name string) ([]DirEntry, error) {
	full, err := d.path("readdir", name)
	if err != nil {
		return nil, err
	}
	list, err := ReadDir(d.ctx, full)
	return list, named(err, name)
}

func (d *dirFS) Stat(name string) (FileInfo, error) {
	full, err := d.path("stat", name)
	if err != nil {
		return nil, err
	}
	info, err := Stat(d.ctx, full)
	return info, named(err, name)
}

func (d *dirFS) Lstat(name string) (FileInfo, error) {
	full, err := d.path("lstat", name)
	if err != nil {
		return nil, err
	}
	info, err := Lstat(d.ctx, full)
	return info, named(err, name)
}

func (d *dirFS) ReadLink(name string) (string, error) {
	full, err := d.path("readlink", name)
	if err != nil {
		return "", err
	}
	target, err := Readlink(d.ctx, full)
	return target, named(err, name)
}

// fsFile is a file or directory of a DirFS.
type fsFile struct {
	*Reader
	name string
	list []DirEntry // of a directory: what ReadDir has not returned yet
	read bool       // list was read
}

func (f *fsFile) Stat() (FileInfo, error) {
	info, err := f.f.Stat(f.ctx)
	return info, named(err, f.name)
}

func (f *fsFile) Close() error { return named(f.f.Close(f.ctx), f.name) }

// ReadDir implements io/fs.ReadDirFile.
func (f *fsFile) ReadDir(n int) ([]DirEntry, error) {
	if err := f.f.closed(); err != nil {
		return nil, &PathError{Op: "readdirent", Path: f.name, Err: err}
	}
	if !f.read {
		list, err := f.f.sortedEntries(f.ctx)
		if err != nil {
			if n > 0 {
				list = nil // the next call reads from the start
			}
			return list, named(err, f.name)
		}
		f.list, f.read = list, true
	}
	if n <= 0 || n > len(f.list) {
		if n > 0 && len(f.list) == 0 {
			return nil, io.EOF
		}
		n = len(f.list)
	}
	list := f.list[:n:n]
	f.list = f.list[n:]
	return list, nil
}
