package fs_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	ufs "uringo/fs"
)

// nameMoves are calls on names.
var nameMoves = []move{
	{6, func(w *mirror) {
		name, perm := w.name(), w.mode()
		w.did("Mkdir %q %v", name, perm)
		w.sameError(ufs.Mkdir(w.ctx, w.here+name, perm), os.Mkdir(w.there+name, perm))
	}},
	{4, func(w *mirror) {
		name, perm := w.name(), w.mode()|0o700
		w.did("MkdirAll %q %v", name, perm)
		w.sameError(ufs.MkdirAll(w.ctx, w.here+name, perm), os.MkdirAll(w.there+name, perm))
	}},
	{8, func(w *mirror) {
		name := w.name()
		w.did("Remove %q", name)
		w.sameError(ufs.Remove(w.ctx, w.here+name), os.Remove(w.there+name))
	}},
	{1, func(w *mirror) {
		name := w.name()
		w.did("RemoveAll %q", name)
		err, wantErr := ufs.RemoveAll(w.ctx, w.here+name), os.RemoveAll(w.there+name)
		if errors.Is(wantErr, unix.ENXIO) && (errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EINVAL)) {
			return
		}
		var pe *fs.PathError
		if errors.As(wantErr, &pe) && pe.Op == "openfdat" {
			pe.Op = "openat"
		}
		w.sameError(err, wantErr)
	}},
	{6, func(w *mirror) {
		from, to := w.name(), w.name()
		w.did("Rename %q %q", from, to)
		w.sameError(ufs.Rename(w.ctx, w.here+from, w.here+to), renameTwice(w.there+from, w.there+to, 0))
	}},
	{3, func(w *mirror) {
		from, to, flags := w.name(), w.name(), []uint{unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE, 1 << 20}[w.rng.IntN(3)]
		w.did("RenameFlags %q %q %d", from, to, flags)
		w.sameError(ufs.RenameFlags(w.ctx, w.here+from, w.here+to, flags), renameTwice(w.there+from, w.there+to, flags))
	}},
	{4, func(w *mirror) {
		here, there := w.target()
		name := w.name()
		w.did("Symlink %q %q", here, name)
		w.sameError(ufs.Symlink(w.ctx, here, w.here+name), os.Symlink(there, w.there+name))
	}},
	{4, func(w *mirror) {
		from, to := w.name(), w.name()
		w.did("Link %q %q", from, to)
		w.sameError(ufs.Link(w.ctx, w.here+from, w.here+to), os.Link(w.there+from, w.there+to))
	}},
	{3, func(w *mirror) {
		name := w.name()
		w.did("Readlink %q", name)
		got, err := ufs.Readlink(w.ctx, w.here+name)
		want, wantErr := os.Readlink(w.there + name)
		w.same(got, err, want, wantErr)
	}},
	{3, func(w *mirror) {
		name, size := w.name(), w.offset()
		w.did("Truncate %q %d", name, size)
		w.sameError(ufs.Truncate(w.ctx, w.here+name, size), os.Truncate(w.there+name, size))
	}},
	{3, func(w *mirror) {
		name, mode := w.name(), w.mode()|0o700
		w.did("Chmod %q %v", name, mode)
		w.sameError(ufs.Chmod(w.ctx, w.here+name, mode), os.Chmod(w.there+name, mode))
	}},
	{2, func(w *mirror) {
		name, uid, gid := w.name(), w.rng.IntN(3)-1, w.rng.IntN(3)-1
		w.did("Chown %q %d %d", name, uid, gid)
		w.sameError(ufs.Chown(w.ctx, w.here+name, uid, gid), os.Chown(w.there+name, uid, gid))
	}},
	{2, func(w *mirror) {
		name, uid, gid := w.name(), w.rng.IntN(3)-1, w.rng.IntN(3)-1
		w.did("Lchown %q %d %d", name, uid, gid)
		w.sameError(ufs.Lchown(w.ctx, w.here+name, uid, gid), os.Lchown(w.there+name, uid, gid))
	}},
	{3, func(w *mirror) {
		name, atime, mtime := w.name(), w.when(), w.when()
		w.did("Chtimes %q %v", name, mtime)
		w.sameError(ufs.Chtimes(w.ctx, w.here+name, atime, mtime), os.Chtimes(w.there+name, atime, mtime))
	}},
	{8, func(w *mirror) {
		name := w.name()
		w.did("Stat %q", name)
		got, err := ufs.Stat(w.ctx, w.here+name)
		want, wantErr := os.Stat(w.there + name)
		w.same(describe(got, err), err, describe(want, wantErr), wantErr)
	}},
	{5, func(w *mirror) {
		name := w.name()
		w.did("Lstat %q", name)
		got, err := ufs.Lstat(w.ctx, w.here+name)
		want, wantErr := os.Lstat(w.there + name)
		w.same(describe(got, err), err, describe(want, wantErr), wantErr)
	}},
	{4, func(w *mirror) {
		name := w.name()
		w.did("ReadDir %q", name)
		got, err := ufs.ReadDir(w.ctx, w.here+name)
		want, wantErr := os.ReadDir(w.there + name)
		w.same(entries(got), err, entries(want), wantErr)
	}},
	{6, func(w *mirror) {
		name := w.name()
		w.did("ReadFile %q", name)
		got, err := ufs.ReadFile(w.ctx, w.here+name)
		want, wantErr := os.ReadFile(w.there + name)
		w.same(sum(got), err, sum(want), wantErr)
	}},
	{8, func(w *mirror) {
		name, data, perm := w.name(), w.bytes(), w.mode()|0o600
		w.did("WriteFile %q %d %v", name, len(data), perm)
		w.sameError(ufs.WriteFile(w.ctx, w.here+name, data, perm), os.WriteFile(w.there+name, data, perm))
	}},
	{1, func(w *mirror) {
		name := w.name()
		w.did("Mknod %q", name)
		err := ufs.Mknod(w.ctx, w.here+name, unix.S_IFSOCK|0o640, 0)
		w.sameError(err, pathErrorOf("mknod", w.there+name, unix.Mknod(w.there+name, unix.S_IFSOCK|0o640, 0)))
	}},
	{1, func(w *mirror) {
		name := w.name()
		w.did("walk by DirFS %q", name)
		got, err := walkFS(ufs.DirFS(w.ctx, w.here+name))
		want, wantErr := walkFS(os.DirFS(w.there + name))
		w.same(got, nil, want, nil)
		w.sameErrno(err, wantErr)
	}},
}

// renameTwice is Rename as the kernel has it: os.Rename is stricter.
func renameTwice(from, to string, flags uint) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags)
	if err == nil {
		return nil
	}
	return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
}

func pathErrorOf(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: name, Err: err}
}

func entries(list []ufs.DirEntry) string {
	s := ""
	for _, e := range list {
		s += fmt.Sprintf("%v %v;", e, e.Type())
		if _, err := e.Info(); err != nil {
			s += err.Error()
		}
	}
	return s
}

// walkFS lists a file system, and reads what it can.
func walkFS(fsys fs.FS) (string, error) {
	var list []string
	err := fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		line := path + " " + d.Type().String()
		if d.Type().IsRegular() {
			b, err := fs.ReadFile(fsys, path)
			if err != nil {
				return err
			}
			line += " " + sum(b)
		}
		list = append(list, line)
		return nil
	})
	slices.Sort(list)
	return fmt.Sprint(list), err
}
