package fs_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	iofs "io/fs"

	"golang.org/x/sys/unix"

	"uringo/executor"
	"uringo/fs"
)

func TestDir(t *testing.T) { // C32
	each(t, func(t *testing.T, ctx context.Context) {
		root := t.TempDir()
		d, err := fs.OpenDir(ctx, root)
		if err != nil {
			t.Error(err)
			return
		}
		check := func(what string, err error) {
			t.Helper()
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		check("Mkdir", d.Mkdir(ctx, "sub", 0o755))
		check("Mkdir with a slash", d.Mkdir(ctx, "sub2/", 0o755))
		sub, err := d.OpenDir(ctx, "sub")
		if err != nil {
			t.Error(err)
			return
		}
		f, err := sub.OpenFile(ctx, "file", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
		if err != nil {
			t.Error(err)
			return
		}
		if f.Name() != root+"/sub/file" {
			t.Errorf("its name is %s", f.Name())
		}
		_, _, err = f.WriteAllAt(ctx, []byte("content"), 0)
		check("WriteAllAt", err)
		check("Close", f.Close(ctx))
		if f, err = d.OpenFile(ctx, "sub/file", os.O_RDONLY, 0); err != nil {
			t.Error(err)
			return
		}
		if n, b, err := f.ReadAt(ctx, make([]byte, 10), 0); string(b[:n]) != "content" {
			t.Errorf("ReadAt = %q, %v", b[:n], err)
		}
		check("Close", f.Close(ctx))
		check("Symlink", sub.Symlink(ctx, "file", "link"))
		if target, err := sub.Readlink(ctx, "link"); target != "file" || err != nil {
			t.Errorf("Readlink = %q, %v", target, err)
		}
		check("Link", sub.Link(ctx, "file", d, "hard"))
		check("Rename", sub.Rename(ctx, "file", d, "moved", unix.RENAME_NOREPLACE))
		if err := d.Rename(ctx, "hard", d, "moved", unix.RENAME_NOREPLACE); !errors.Is(err, fs.ErrExist) {
			t.Errorf("Rename onto something: %v", err)
		}
		check("Mknod", sub.Mknod(ctx, "fifo", unix.S_IFIFO|0o600, 0))
		check("Chmod", d.Chmod(ctx, "moved", os.ModeSetgid|0o604))
		check("Chmod of itself", sub.Chmod(ctx, ".", 0o711))
		check("Chown", d.Chown(ctx, "moved", -1, -1))
		when := time.Unix(1234567890, 123456789)
		check("Chtimes", d.Chtimes(ctx, "moved", when, when))
		check("Chtimes of a link", sub.Chtimes(ctx, "link", when, when))
		check("Sync", d.Sync(ctx))
		info, err := d.Lstat(ctx, "moved")
		if err != nil || info.Mode() != os.ModeSetgid|0o604 || !info.ModTime().Equal(when) || info.Name() != "moved" {
			t.Errorf("Lstat = %v, %v", info, err)
		}
		if info, err := sub.Lstat(ctx, "link"); err != nil || info.Mode().Type() != fs.ModeSymlink || !info.ModTime().Equal(when) {
			t.Errorf("Lstat of a link = %v, %v", info, err)
		}
		if st, err := sub.Statx(ctx, "fifo", unix.STATX_TYPE); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
			t.Errorf("Statx = %v, %v", st, err)
		}
		if info, err := sub.Stat(ctx); err != nil || info.Mode() != fs.ModeDir|0o711 {
			t.Errorf("Stat = %v, %v", info, err)
		}
		for range 2 { // from the start each time
			entries, err := sub.ReadDir(ctx)
			var got []string
			for _, e := range entries {
				got = append(got, e.String()+" "+e.Type().String())
				if info, err := sub.Lstat(ctx, e.Name()); err != nil || info.Sys().(*syscall.Stat_t).Ino != e.Inode() {
					t.Errorf("inode %d, %v", e.Inode(), err)
				}
			}
			slices.Sort(got)
			if want := []string{"L link L---------", "p fifo p---------"}; err != nil || !slices.Equal(got, want) {
				t.Errorf("ReadDir = %q, %v", got, err)
			}
		}
		check("Remove", sub.Remove(ctx, "fifo"))
		check("Remove", sub.Remove(ctx, "link"))
		check("RemoveDir", d.RemoveDir(ctx, "sub"))
		if entries, err := sub.ReadDir(ctx); len(entries) != 0 || err != nil {
			t.Errorf("ReadDir of a removed directory = %v, %v", entries, err)
		}
		check("Close", sub.Close(ctx))
		check("Close", d.Close(ctx))
		if _, err := d.ReadDir(ctx); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("ReadDir after Close: %v", err)
		}
		if _, err := d.OpenFile(ctx, "moved", os.O_RDONLY, 0); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("OpenFile after Close: %v", err)
		}
		if err := d.Rename(ctx, "a", d, "b", 0); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Rename after Close: %v", err)
		}
		if err := d.Close(ctx); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("second Close: %v", err)
		}
	})
}

// TestDirStays tries to get out of a directory.
func TestDirStays(t *testing.T) { // HAZARDS H46
	eachOpen(t, tryToLeave)
}

// eachOpen is each, on kernels that have openat2 and on those that have not.
func eachOpen(t *testing.T, f func(t *testing.T, ctx context.Context)) {
	each(t, f)
	t.Run("without openat2", func(t *testing.T) {
		defer fs.WithoutOpenat2()()
		each(t, f)
	})
}

func tryToLeave(t *testing.T, ctx context.Context) {
	base := t.TempDir()
	root := base + "/root"
	for _, err := range []error{
		os.Mkdir(root, 0o755),
		os.Mkdir(root+"/sub", 0o755),
		os.WriteFile(base+"/secret", []byte("secret"), 0o600),
		os.Symlink("../secret", root+"/link"),
		os.Symlink(base, root+"/up"),
		os.Symlink("sub", root+"/inside"),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	d, err := fs.OpenDir(ctx, root)
	if err != nil {
		t.Error(err)
		return
	}
	defer d.Close(ctx)
	for _, name := range []string{"link", "link/", "up/secret", "up", "inside", "inside/", "inside/x", "../secret", "..", "sub/../../secret",
		base + "/secret", "/", ""} {
		if f, err := d.OpenFile(ctx, name, os.O_RDONLY, 0); err == nil {
			t.Errorf("opened %q", name)
			f.Close(ctx)
		}
		if sub, err := d.OpenDir(ctx, name); err == nil {
			t.Errorf("opened directory %q", name)
			sub.Close(ctx)
		}
	}
	for _, name := range []string{"../secret", "..", "sub/x", "/", ""} {
		for what, call := range map[string]func() error{
			"Lstat":    func() error { _, err := d.Lstat(ctx, name); return err },
			"Mkdir":    func() error { return d.Mkdir(ctx, name, 0o755) },
			"Remove":   func() error { return d.Remove(ctx, name) },
			"Rename":   func() error { return d.Rename(ctx, name, d, "x", 0) },
			"RenameTo": func() error { return d.Rename(ctx, "link", d, name, 0) },
			"Symlink":  func() error { return d.Symlink(ctx, "x", name) },
			"Chmod":    func() error { return d.Chmod(ctx, name, 0) },
			"Mknod":    func() error { return d.Mknod(ctx, name, unix.S_IFIFO, 0) },
			"Readlink": func() error { _, err := d.Readlink(ctx, name); return err },
		} {
			want := syscall.EINVAL
			if name == "" {
				want = syscall.ENOENT
			}
			if err := call(); !errors.Is(err, want) {
				t.Errorf("%s(%q): %v, want %v", what, name, err, want)
			}
		}
	}
	for name, want := range map[string]syscall.Errno{"../secret": syscall.EXDEV, "..": syscall.EXDEV, "sub/../../secret": syscall.EXDEV,
		base + "/secret": syscall.EXDEV, "link": syscall.ELOOP, "up/secret": syscall.ELOOP, "": syscall.ENOENT} {
		_, err := d.OpenFile(ctx, name, os.O_RDONLY, 0)
		// Without openat2 only single components are looked up.
		if !errors.Is(err, want) && !(errors.Is(err, syscall.EINVAL) && (name == ".." || strings.Contains(name, "/"))) {
			t.Errorf("OpenFile(%q): %v, want %v", name, err, want)
		}
		for text, errno := range map[string]syscall.Errno{"out of the directory": syscall.EXDEV, "symbolic link": syscall.ELOOP} {
			var e syscall.Errno
			if errors.Is(err, errno) && !(strings.HasSuffix(err.Error(), text) && errors.As(err, &e) && e == errno) {
				t.Errorf("OpenFile(%q) says %v, and not %q", name, err, text)
			}
		}
	}
	if err := d.Chmod(ctx, "link", 0o777); !errors.Is(err, syscall.EOPNOTSUPP) {
		t.Errorf("Chmod of a link: %v", err)
	}
	if err := d.Chown(ctx, "link", -1, -1); err != nil {
		t.Errorf("Chown of a link: %v", err)
	}
	if f, err := d.OpenFile(ctx, "sub/", os.O_RDONLY, 0); err != nil {
		t.Error(err)
	} else if err := f.Close(ctx); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(base + "/secret"); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file outside: %v, %v", info.Mode(), err)
	}
}

// TestDirLinks opens symbolic links in ways that each have an error of their own in open(2), or none: it is ELOOP.
func TestDirLinks(t *testing.T) { // HAZARDS H46
	eachOpen(t, func(t *testing.T, ctx context.Context) {
		root := t.TempDir()
		for _, err := range []error{os.Mkdir(root+"/sub", 0o755), os.Symlink("sub", root+"/inside"), os.Symlink("nowhere", root+"/dangling")} {
			if err != nil {
				t.Error(err)
			}
		}
		d, err := fs.OpenDir(ctx, root)
		if err != nil {
			t.Error(err)
			return
		}
		defer d.Close(ctx)
		for _, name := range []string{"inside", "inside/", "dangling"} {
			for _, flag := range []int{os.O_RDONLY, os.O_RDWR | os.O_CREATE, unix.O_DIRECTORY, unix.O_PATH, unix.O_PATH | unix.O_DIRECTORY,
				unix.O_DIRECTORY | unix.O_NOFOLLOW} {
				f, err := d.OpenFile(ctx, name, flag, 0o600)
				if err == nil {
					f.Close(ctx)
				}
				if !errors.Is(err, syscall.ELOOP) && !(errors.Is(err, syscall.ENOTDIR) && flag&unix.O_NOFOLLOW != 0) {
					t.Errorf("OpenFile(%q, %#x): %v", name, flag, err)
				}
			}
			if sub, err := d.OpenDir(ctx, name); !errors.Is(err, syscall.ELOOP) {
				t.Errorf("OpenDir(%q): %v, %v", name, sub, err)
			}
			if err := d.MkdirAll(ctx, name, 0o700); !errors.Is(err, syscall.ELOOP) {
				t.Errorf("MkdirAll(%q): %v", name, err)
			}
			// Who asks for the link itself gets it.
			f, err := d.OpenFile(ctx, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
			if err != nil {
				t.Error(err)
				continue
			}
			if info, err := f.Stat(ctx); err != nil || info.Mode().Type() != fs.ModeSymlink {
				t.Errorf("%q is %v, %v", name, info, err)
			}
			if err := f.Close(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestDirRace opens files through directories that somebody swaps for symbolic links meanwhile.
func TestDirRace(t *testing.T) { // HAZARDS H46
	each(t, func(t *testing.T, ctx context.Context) {
		base := t.TempDir()
		for _, err := range []error{
			os.MkdirAll(base+"/root/dir", 0o755), os.MkdirAll(base+"/outside", 0o755),
			os.WriteFile(base+"/root/dir/file", []byte("inside"), 0o600), os.WriteFile(base+"/outside/file", []byte("OUTSIDE"), 0o600),
			os.Symlink("../outside", base+"/root/link"),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		d, err := fs.OpenDir(ctx, base+"/root")
		if err != nil {
			t.Error(err)
			return
		}
		defer d.Close(ctx)
		var stop atomic.Bool
		var swapper sync.WaitGroup
		swapper.Go(func() {
			for !stop.Load() {
				if err := unix.Renameat2(unix.AT_FDCWD, base+"/root/dir", unix.AT_FDCWD, base+"/root/link", unix.RENAME_EXCHANGE); err != nil {
					t.Error(err)
					return
				}
			}
		})
		opened := 0
		for range 300 {
			f, err := d.OpenFile(ctx, "dir/file", os.O_RDONLY, 0)
			if err != nil {
				continue
			}
			opened++
			if n, b, err := f.ReadAt(ctx, make([]byte, 10), 0); string(b[:n]) != "inside" {
				t.Errorf("read %q, %v", b[:n], err)
			}
			if err := f.Close(ctx); err != nil {
				t.Error(err)
			}
		}
		stop.Store(true)
		if _, err := executor.Block(ctx, func() (struct{}, error) { swapper.Wait(); return struct{}{}, nil }); err != nil {
			t.Error(err)
		}
		t.Logf("opened %d of 300 times", opened)
	})
}

func TestDirFS(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		dir := t.TempDir()
		for _, err := range []error{
			os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o755),
			os.WriteFile(filepath.Join(dir, "a/b/c/file.txt"), []byte("content"), 0o644),
			os.WriteFile(filepath.Join(dir, "empty"), nil, 0o644),
			os.Symlink("a/b", filepath.Join(dir, "link")),
			os.WriteFile(filepath.Join(dir, "a/big"), []byte(strings.Repeat("big", 5_000)), 0o644),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		fsys := fs.DirFS(ctx, dir)
		if err := fstest.TestFS(fsys, "a/b/c/file.txt", "empty", "a/big", "link"); err != nil {
			t.Error(err)
		}
		for _, bad := range []string{"/a", "../x", "a/", "", "nul\x00"} {
			var pe *fs.PathError
			if _, err := fsys.Open(bad); !errors.Is(err, fs.ErrInvalid) || !errors.As(err, &pe) || pe.Path != bad {
				t.Errorf("Open(%q): %v", bad, err)
			}
		}
		if b, err := iofs.ReadFile(fsys, "a/b/c/file.txt"); string(b) != "content" || err != nil {
			t.Errorf("ReadFile = %q, %v", b, err)
		}
		if target, err := iofs.ReadLink(fsys, "link"); target != "a/b" || err != nil {
			t.Errorf("ReadLink = %q, %v", target, err)
		}
		var pe *fs.PathError
		if _, err := iofs.Stat(fsys, "missing"); !errors.As(err, &pe) || pe.Path != "missing" || pe.Op != "stat" {
			t.Errorf("Stat: %v", err)
		}
	})
}

// TestDirFSFiles uses the files of a DirFS as those of os.DirFS: one that is a FIFO, and those that are closed.
func TestDirFSFiles(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		dir := t.TempDir()
		fifo := filepath.Join(dir, "fifo")
		if err := errors.Join(unix.Mkfifo(fifo, 0o600), os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o600)); err != nil {
			t.Error(err)
			return
		}
		for what, fsys := range map[string]iofs.FS{"os": os.DirFS(dir), "ours": fs.DirFS(ctx, dir)} {
			wrote := make(chan error, 1)
			go func() { wrote <- os.WriteFile(fifo, []byte("news"), 0) }()
			f, err := fsys.Open("fifo")
			if err != nil {
				t.Errorf("%s: %v", what, err)
				return
			}
			if b, err := io.ReadAll(f); string(b) != "news" || err != nil {
				t.Errorf("%s: of a FIFO: %q, %v", what, b, err)
			}
			if err := errors.Join(<-wrote, f.Close()); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if f, err = fsys.Open("file"); err != nil {
				t.Errorf("%s: %v", what, err)
				return
			}
			if err := f.Close(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if n, err := f.Read(nil); n != 0 || !errors.Is(err, iofs.ErrClosed) {
				t.Errorf("%s: reading nothing of a closed file: %d, %v", what, n, err)
			}
			if _, err := f.(io.Seeker).Seek(0, io.SeekCurrent); !errors.Is(err, iofs.ErrClosed) {
				t.Errorf("%s: Seek in a closed file: %v", what, err)
			}
			if f, err = fsys.Open("."); err != nil {
				t.Errorf("%s: %v", what, err)
				return
			}
			list, err := f.(iofs.ReadDirFile).ReadDir(1)
			if len(list) != 1 || err != nil {
				t.Errorf("%s: ReadDir(1) = %v, %v", what, list, err)
			}
			if err := f.Close(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if list, err := f.(iofs.ReadDirFile).ReadDir(1); len(list) > 0 || err == nil || err == io.EOF {
				t.Errorf("%s: ReadDir of a closed directory = %v, %v", what, list, err)
			}
		}
	})
}

// TestDirUnsearchable changes and describes a directory in which no name may be looked up, not even its own.
func TestDirUnsearchable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("needs an unprivileged user: root may do everything")
	}
	each(t, func(t *testing.T, ctx context.Context) {
		name := t.TempDir()
		if err := os.Chmod(name, 0o400); err != nil {
			t.Error(err)
		}
		defer os.Chmod(name, 0o700)
		d, err := fs.OpenDir(ctx, name)
		if err != nil {
			t.Error(err)
			return
		}
		defer d.Close(ctx)
		when := time.Unix(1234567890, 0)
		for what, err := range map[string]error{
			"Chown":   d.Chown(ctx, ".", -1, os.Getgid()),
			"Chtimes": d.Chtimes(ctx, "./", when, when),
			"Chmod":   d.Chmod(ctx, ".", 0o600),
		} {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		info, err := d.Lstat(ctx, "./")
		if err != nil || info.Name() != "." || info.Mode() != os.ModeDir|0o600 || !info.ModTime().Equal(when) {
			t.Errorf("Lstat = %v, %v", info, err)
		}
		if st, err := d.Statx(ctx, ".", unix.STATX_MODE); err != nil || st.Mode&0o777 != 0o600 {
			t.Errorf("Statx: %v", err)
		}
		if _, err := d.Lstat(ctx, "file"); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("Lstat of a name: %v", err)
		}
		if err := d.Close(ctx); err != nil {
			t.Error(err)
		}
		var pe *fs.PathError
		for what, err := range map[string]error{
			"chown":   d.Chown(ctx, ".", -1, -1),
			"chtimes": d.Chtimes(ctx, ".", when, when),
			"chmod":   d.Chmod(ctx, ".", 0o600),
		} {
			if !errors.Is(err, fs.ErrClosed) || !errors.As(err, &pe) || pe.Op != what || pe.Path != name+"/." {
				t.Errorf("%s after Close: %v", what, err)
			}
		}
	})
}

// TestDirUnreadable uses names in a directory that may be searched and not read.
func TestDirUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("needs an unprivileged user: root may do everything")
	}
	each(t, func(t *testing.T, ctx context.Context) {
		name := t.TempDir()
		for _, err := range []error{os.Mkdir(name+"/sub", 0o700), os.WriteFile(name+"/sub/file", []byte("data"), 0o600), os.Mkdir(name+"/closed", 0),
			os.Chmod(name+"/sub", 0o300), os.Chmod(name, 0o300)} {
			if err != nil {
				t.Error(err)
			}
		}
		defer os.Chmod(name, 0o700)
		defer os.Chmod(name+"/sub", 0o700)
		d, err := fs.OpenDir(ctx, name)
		if err != nil {
			t.Error(err)
			return
		}
		defer d.Close(ctx)
		sub, err := d.OpenDir(ctx, "sub")
		if err != nil {
			t.Error(err)
			return
		}
		defer sub.Close(ctx)

		f, err := sub.OpenFile(ctx, "file", os.O_RDONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		n, _, err := f.ReadAt(ctx, make([]byte, 10), 0)
		if n != 4 || err != nil {
			t.Errorf("ReadAt: %d, %v", n, err)
		}
		when := time.Unix(1234567890, 0)
		for what, err := range map[string]error{
			"Close":   f.Close(ctx),
			"Link":    sub.Link(ctx, "file", sub, "link"),
			"Rename":  sub.Rename(ctx, "link", sub, "other", 0),
			"Remove":  sub.Remove(ctx, "other"),
			"Mkdir":   sub.Mkdir(ctx, "dir", 0o700),
			"Rmdir":   sub.RemoveDir(ctx, "dir"),
			"new":     sub.WriteFileAtomic(ctx, "whole", []byte("1"), 0o600),
			"replace": fs.WriteFileAtomic(ctx, name+"/sub/file", []byte("2"), 0o600),
			"Chown":   sub.Chown(ctx, ".", -1, os.Getgid()),
			"Chtimes": sub.Chtimes(ctx, "./", when, when),
			"Chmod":   sub.Chmod(ctx, ".", 0o330),
		} {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		if info, err := sub.Stat(ctx); err != nil || info.Mode() != os.ModeDir|0o330 || !info.ModTime().Equal(when) {
			t.Errorf("Stat = %v, %v", info, err)
		}

		_, list := sub.ReadDir(ctx)
		_, closed := d.OpenDir(ctx, "closed")
		_, closedToo := fs.OpenDir(ctx, name+"/closed")
		_, listed := fs.ReadDir(ctx, name)
		for what, err := range map[string]error{
			"readdirent": list,
			"sync":       sub.Sync(ctx),
			"open":       closed,
			" open":      closedToo,
			"  open":     listed, // like package os
		} {
			var pe *fs.PathError
			if !errors.Is(err, fs.ErrPermission) || !errors.As(err, &pe) || pe.Op != strings.TrimSpace(what) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}
