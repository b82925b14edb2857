package fs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/fs"
)

// twins runs the same calls in two directories, by this package and by package os, and compares the errors, in which it writes the
// directory as DIR, and what is there in the end.
type twins struct {
	t          *testing.T
	ours, oses string
}

func newTwins(t *testing.T) *twins {
	tw := &twins{t: t, ours: filepath.Join(t.TempDir(), "d"), oses: filepath.Join(t.TempDir(), "d")}
	for _, dir := range []string{tw.ours, tw.oses} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Error(err)
		}
	}
	return tw
}

func (tw *twins) do(what string, ours, oses func(dir string) error) {
	tw.t.Helper()
	a, b := ours(tw.ours+"/"), oses(tw.oses+"/")
	like(tw.t, what, anonymous(a, tw.ours), anonymous(b, tw.oses))
}

// anonymous is an error whose text does not depend on the directory.
func anonymous(err error, dir string) error {
	if err == nil {
		return nil
	}
	return &inDir{strings.ReplaceAll(err.Error(), dir, "DIR"), err}
}

type inDir struct {
	text string
	err  error
}

func (e *inDir) Error() string { return e.text }
func (e *inDir) Unwrap() error { return e.err }

func (tw *twins) compare() {
	tw.t.Helper()
	if a, b := tree(tw.t, tw.ours), tree(tw.t, tw.oses); !slices.Equal(a, b) {
		tw.t.Errorf("the trees differ:\n%s\npackage os:\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
}

// tree lists what is under dir.
func tree(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %v", strings.TrimPrefix(path, dir), info.Mode())
		if info.Mode().IsRegular() {
			line += fmt.Sprintf(" %d", info.Size())
		}
		if target, err := os.Readlink(path); err == nil {
			line += " -> " + target
		}
		list = append(list, line)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return list
}

func TestPathsLikeOS(t *testing.T) { // T26, T30, T31, T41, M24, M26, M27
	each(t, func(t *testing.T, ctx context.Context) {
		tw := newTwins(t)
		mkdir := func(name string, perm fs.FileMode) {
			tw.do("Mkdir "+name, func(d string) error { return fs.Mkdir(ctx, d+name, perm) }, func(d string) error { return os.Mkdir(d+name, perm) })
		}
		mkdirAll := func(name string) {
			tw.do("MkdirAll "+name, func(d string) error { return fs.MkdirAll(ctx, d+name, 0o755) },
				func(d string) error { return os.MkdirAll(d+name, 0o755) })
		}
		write := func(name string, size int) {
			tw.do("WriteFile "+name, func(d string) error { return fs.WriteFile(ctx, d+name, pattern(size, 1), 0o640) },
				func(d string) error { return os.WriteFile(d+name, pattern(size, 1), 0o640) })
		}
		remove := func(name string) {
			tw.do("Remove "+name, func(d string) error { return fs.Remove(ctx, d+name) }, func(d string) error { return os.Remove(d + name) })
		}
		removeAll := func(name string) {
			tw.do("RemoveAll "+name, func(d string) error { return fs.RemoveAll(ctx, d+name) }, func(d string) error { return os.RemoveAll(d + name) })
		}
		rename := func(from, to string) {
			tw.do("Rename "+from+" "+to, func(d string) error { return fs.Rename(ctx, d+from, d+to) },
				func(d string) error { return os.Rename(d+from, d+to) })
		}
		symlink := func(says, name string) {
			tw.do("Symlink "+name, func(d string) error { return fs.Symlink(ctx, says, d+name) },
				func(d string) error { return os.Symlink(says, d+name) })
		}
		link := func(from, to string) {
			tw.do("Link "+to, func(d string) error { return fs.Link(ctx, d+from, d+to) }, func(d string) error { return os.Link(d+from, d+to) })
		}
		readlink := func(name string) {
			tw.do("Readlink "+name, func(d string) error { _, err := fs.Readlink(ctx, d+name); return err },
				func(d string) error { _, err := os.Readlink(d + name); return err })
		}

		mkdir("single", 0o700)
		mkdir("single", 0o700)
		mkdir("missing/nested", 0o755)
		mkdir("zero", 0)
		mkdir("spaced name\nand more äöü", 0o755)
		mkdir(strings.Repeat("x", 256), 0o755)
		mkdir(strings.Repeat("./", 2000)+"far", 0o755) // nearly as long as a path may be
		mkdir(strings.Repeat("./", 2100)+"too far", 0o755)
		mkdirAll(strings.Repeat("./", 2100) + "too far")
		mkdir("", 0o755)
		mkdir("nul\x00", 0o755)
		write("file", 1000)
		write("empty", 0)
		write("missing/file", 10)
		write("single", 10)
		mkdir("file", 0o755)
		mkdir("file/below", 0o755)
		mkdirAll("a/b/c/d")
		mkdirAll("a/b/c/d")
		mkdirAll("a/b/../e/")
		mkdirAll("a/./f/.")
		mkdirAll("file")
		mkdirAll("file/x")
		mkdirAll("")
		symlink("file", "link")
		symlink("file", "link")
		symlink("a/b", "dirlink")
		symlink("nowhere", "dangling")
		symlink("x", "missing/link")
		symlink("", "nothing")
		mkdir("dirlink/through", 0o755)
		mkdirAll("dirlink/deep/er")
		readlink("link")
		readlink("file")
		readlink("missing")
		link("file", "hard")
		link("file", "hard")
		link("missing", "hard2")
		link("single", "hard3")
		rename("file", "renamed")
		rename("file", "again")
		rename("renamed", "a/b/moved")
		rename("a/b", "single/b")
		rename("a/b", "missing/b")
		rename("empty", "hard")
		rename("single", "single/b/new")
		write("last", 5)
		remove("last")
		remove("last")
		remove("single")
		remove("zero")
		remove("link")
		remove("dangling")
		remove("dirlink")
		remove("hard/x")
		remove(".")
		removeAll("single")
		removeAll("single")
		removeAll("a/")
		removeAll("hard/x")
		for _, name := range []string{strings.Repeat("./", 2000) + "far", strings.Repeat("./", 2100) + "far"} {
			rename(name, "near")
			symlink("x", name+"/link")
			link("hard", name+"/hard")
			readlink(name)
			write(name+"/file", 1)
			remove(name)
		}
		removeAll("a/.")
		if err := fs.RemoveAll(ctx, ""); err != nil {
			t.Errorf("RemoveAll of nothing: %v", err)
		}
		tw.compare()
		removeAll("")
	})
}

func TestRename(t *testing.T) { // T26
	each(t, func(t *testing.T, ctx context.Context) {
		f := openNew(t, ctx, []byte("content"))
		if f == nil {
			return
		}
		defer f.Close(ctx)
		old, renamed := f.Name(), f.Name()+".new"
		if err := fs.Rename(ctx, old, renamed); err != nil {
			t.Error(err)
		}
		if n, b, err := f.ReadAt(ctx, make([]byte, 10), 0); string(b[:n]) != "content" || err != nil {
			t.Errorf("the open file reads %q, %v", b[:n], err)
		}
		if b, err := fs.ReadFile(ctx, renamed); string(b) != "content" || err != nil {
			t.Errorf("the new name reads %q, %v", b, err)
		}
		if _, err := fs.ReadFile(ctx, old); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the old name: %v", err)
		}
		if err := fs.WriteFile(ctx, old, []byte("other"), 0o600); err != nil {
			t.Error(err)
		}
		var le *fs.LinkError
		if err := fs.RenameFlags(ctx, old, renamed, unix.RENAME_NOREPLACE); !errors.Is(err, fs.ErrExist) || !errors.As(err, &le) {
			t.Errorf("NOREPLACE: %v", err)
		}
		if err := fs.RenameFlags(ctx, old, renamed, unix.RENAME_EXCHANGE); err != nil {
			t.Errorf("EXCHANGE: %v", err)
		}
		if b, err := fs.ReadFile(ctx, renamed); string(b) != "other" || err != nil {
			t.Errorf("after the exchange the name reads %q, %v", b, err)
		}
	})
}

func TestAttributes(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		f := openNew(t, ctx, []byte("content"))
		if f == nil {
			return
		}
		defer f.Close(ctx)
		name := f.Name()
		link := name + ".link"
		if err := fs.Symlink(ctx, name, link); err != nil {
			t.Error(err)
		}
		at := time.Date(2001, 2, 3, 4, 5, 6, 789_012_345, time.UTC)
		mt := at.Add(time.Hour)
		uid, gid := os.Getuid(), os.Getgid()
		check := func(what string, err error, mode fs.FileMode, mtime time.Time) {
			t.Helper()
			info, serr := os.Stat(name)
			if err != nil || serr != nil || info.Mode() != mode || !mtime.IsZero() && !info.ModTime().Equal(mtime) {
				t.Errorf("%s: %v; %v, %v, %v", what, err, info.Mode(), info.ModTime(), serr)
			}
		}
		check("File.Chmod", f.Chmod(ctx, 0o711), 0o711, time.Time{})
		check("Chmod", fs.Chmod(ctx, link, os.ModeSetuid|0o700), os.ModeSetuid|0o700, time.Time{})
		check("File.Chtimes", f.Chtimes(ctx, at, mt), os.ModeSetuid|0o700, mt)
		check("Chtimes", fs.Chtimes(ctx, link, mt, at), os.ModeSetuid|0o700, at)
		check("Chtimes of nothing", fs.Chtimes(ctx, link, time.Time{}, time.Time{}), os.ModeSetuid|0o700, at)
		check("Chmod back", fs.Chmod(ctx, link, 0o700), 0o700, at) // before what takes a set-id bit away
		check("Truncate", fs.Truncate(ctx, link, 3), 0o700, time.Time{})
		check("File.Chown", f.Chown(ctx, uid, -1), 0o700, time.Time{})
		check("Chown", fs.Chown(ctx, link, -1, gid), 0o700, time.Time{})
		check("Lchown", fs.Lchown(ctx, link, uid, gid), 0o700, time.Time{})
		if info, err := f.Stat(ctx); err != nil || info.Size() != 3 {
			t.Errorf("size %d, %v", info.Size(), err)
		}
		for what, err := range map[string]error{
			"chmod":    fs.Chmod(ctx, name+"-", 0),
			"chown":    fs.Chown(ctx, name+"-", 0, 0),
			"lchown":   fs.Lchown(ctx, name+"-", 0, 0),
			"chtimes":  fs.Chtimes(ctx, name+"-", at, mt),
			"truncate": fs.Truncate(ctx, name+"-", 0),
		} {
			var pe *fs.PathError
			if !errors.As(err, &pe) || pe.Op != what || pe.Path != name+"-" || pe.Err != syscall.ENOENT {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

func TestSpecialFiles(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		dir := t.TempDir()
		if err := fs.Mkfifo(ctx, dir+"/fifo", 0o600); err != nil {
			t.Error(err)
		}
		if err := fs.Mknod(ctx, dir+"/socket", unix.S_IFSOCK|0o600, 0); err != nil {
			t.Error(err)
		}
		for name, mode := range map[string]fs.FileMode{"/fifo": os.ModeNamedPipe | 0o600, "/socket": os.ModeSocket | 0o600} {
			if info, err := fs.Lstat(ctx, dir+name); err != nil || info.Mode() != mode {
				t.Errorf("%s: %v, %v", name, info, err)
			}
		}
		if _, err := fs.Open(ctx, dir+"/socket"); !errors.Is(err, syscall.ENXIO) {
			t.Errorf("opening a socket: %v", err)
		}
	})
}

// TestWholeFiles reads and writes files as a whole, of sizes around the buffers', and such that have no size.
func TestWholeFiles(t *testing.T) { // C33
	each(t, func(t *testing.T, ctx context.Context) {
		name := filepath.Join(t.TempDir(), "file")
		for _, size := range []int{0, 1, 511, 512, 513, 4096, 100_000, 3 << 20} {
			want := pattern(size, uint32(size))
			if err := fs.WriteFile(ctx, name, want, 0o600); err != nil {
				t.Error(err)
			}
			if got, err := os.ReadFile(name); err != nil || string(got) != string(want) {
				t.Errorf("wrote %d of %d bytes, %v", len(got), size, err)
			}
			if got, err := fs.ReadFile(ctx, name); err != nil || string(got) != string(want) {
				t.Errorf("read %d of %d bytes, %v", len(got), size, err)
			}
		}
		for _, name := range []string{"/proc/version", "/proc/filesystems", "/sys/kernel/mm/transparent_hugepage/enabled"} {
			want, err := os.ReadFile(name)
			if err != nil {
				continue // not everywhere
			}
			if got, err := fs.ReadFile(ctx, name); err != nil || string(got) != string(want) {
				t.Errorf("%s: read %q, %v", name, got, err)
			}
		}
		if err := fs.WriteFile(ctx, "/dev/null", []byte("data"), 0); err != nil {
			t.Error(err)
		}
		if err := fs.WriteFile(ctx, "/dev/full", []byte("data"), 0); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("writing to a full device: %v", err)
		}
	})
}

func TestReadDirSorted(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		dir := t.TempDir()
		const n = 600 // more than one call returns
		for i := range n {
			if err := os.WriteFile(fmt.Sprintf("%s/%d-%s", dir, i, strings.Repeat("x", i%100)), nil, 0o600); err != nil {
				t.Error(err)
				return
			}
		}
		if err := errors.Join(os.Mkdir(dir+"/dir", 0o700), os.Symlink("x", dir+"/link"), unix.Mkfifo(dir+"/fifo", 0o600)); err != nil {
			t.Error(err)
		}
		got, err := fs.ReadDir(ctx, dir)
		want, wantErr := os.ReadDir(dir)
		if err != nil || wantErr != nil || len(got) != len(want) {
			t.Errorf("%d entries, %v; package os has %d, %v", len(got), err, len(want), wantErr)
			return
		}
		for i := range got {
			if got[i].Name() != want[i].Name() || got[i].Type() != want[i].Type() || got[i].IsDir() != want[i].IsDir() {
				t.Errorf("entry %d is %v, package os has %v", i, got[i], want[i])
			}
		}
		info, err := got[n].Info()
		if err != nil {
			t.Error(err)
			return
		}
		wantInfo, _ := want[n].Info()
		sameInfo(t, info, wantInfo)
		for _, name := range []string{dir + "/link", dir + "/missing", dir + "/0-", dir + "/dir"} {
			_, err := fs.ReadDir(ctx, name)
			_, wantErr := os.ReadDir(name)
			like(t, "ReadDir "+name, err, wantErr)
		}
	})
}

func TestTemp(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		dir := t.TempDir()
		seen := make(map[string]bool)
		for range 10 {
			f, err := fs.CreateTemp(ctx, dir, "a*b")
			if err != nil {
				t.Error(err)
				return
			}
			base := filepath.Base(f.Name())
			if seen[base] || !strings.HasPrefix(base, "a") || !strings.HasSuffix(base, "b") {
				t.Errorf("the name is %s", f.Name())
			}
			seen[base] = true
			if info, err := f.Stat(ctx); err != nil || info.Mode() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			if err := f.Close(ctx); err != nil {
				t.Error(err)
			}
			d, err := fs.MkdirTemp(ctx, dir, "dir")
			if info, serr := os.Stat(d); err != nil || serr != nil || info.Mode() != fs.ModeDir|0o700 || seen[d] {
				t.Errorf("MkdirTemp = %s, %v", d, err)
			}
			seen[d] = true
		}
		for _, bad := range [][2]string{{dir, "a/b*"}, {dir + "/missing", "x"}} {
			_, err := fs.CreateTemp(ctx, bad[0], bad[1])
			_, wantErr := os.CreateTemp(bad[0], bad[1])
			if (err == nil) != (wantErr == nil) || errors.Is(err, fs.ErrNotExist) != errors.Is(wantErr, fs.ErrNotExist) {
				t.Errorf("CreateTemp(%q): %v, package os: %v", bad, err, wantErr)
			}
		}
	})
}

// TestRemoveAllDeep removes a tree with what can be in it, and stops when it is told to.
func TestRemoveAllDeep(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		dir := filepath.Join(t.TempDir(), "tree")
		outside := filepath.Join(t.TempDir(), "outside")
		if err := os.WriteFile(outside, []byte("stays"), 0o600); err != nil {
			t.Error(err)
		}
		plant := func() {
			for i := range 50 {
				deep := filepath.Join(dir, strings.Repeat("d/", i%20), fmt.Sprint(i))
				err := errors.Join(os.MkdirAll(deep, 0o755), os.WriteFile(deep+"/file", nil, 0o600), os.Symlink(outside, deep+"/link"),
					os.Symlink(filepath.Dir(outside), deep+"/dirlink"))
				if err != nil {
					t.Error(err)
				}
			}
		}
		plant()
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if err := fs.RemoveAll(ended, dir); !errors.Is(err, context.Canceled) {
			t.Errorf("RemoveAll with an ended context: %v", err)
		}
		if err := fs.RemoveAll(ctx, dir); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the tree is still there: %v", err)
		}
		if b, err := os.ReadFile(outside); string(b) != "stays" || err != nil {
			t.Errorf("what a link led to is gone: %v", err)
		}
	})
}

// TestChtimes sets times of all ages, each way: as package os does, where that can say them, and always what was asked for, as far as the
// file system can keep it. A zero Time is none.
func TestChtimes(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		dir := t.TempDir()
		d, err := fs.OpenDir(ctx, dir)
		if err != nil {
			t.Error(err)
			return
		}
		defer d.Close(ctx)
		f, err := fs.OpenFile(ctx, dir+"/file", os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close(ctx)
		ways := map[string]func(a, m time.Time) error{
			"Chtimes":      func(a, m time.Time) error { return fs.Chtimes(ctx, dir+"/file", a, m) },
			"File.Chtimes": func(a, m time.Time) error { return f.Chtimes(ctx, a, m) },
			"Dir.Chtimes":  func(a, m time.Time) error { return d.Chtimes(ctx, "file", a, m) },
		}
		if err := os.WriteFile(dir+"/twin", nil, 0o600); err != nil {
			t.Error(err)
		}
		east := time.FixedZone("east", 3600)
		before := time.Unix(1234567890, 987654321)
		times := []time.Time{{}, time.Time{}.In(east), time.Unix(0, 0), time.Unix(-1, 999_999_999), time.Unix(-2_000_000_000, 1),
			time.Date(1901, 1, 1, 0, 0, 0, 5, east), time.Unix(1<<31, 7), time.Date(2106, 3, 1, 0, 0, 0, 1, time.UTC),
			time.Date(2300, 1, 1, 0, 0, 0, 123456789, time.UTC), time.Date(2446, 1, 1, 0, 0, 0, 0, time.UTC),
			time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)}
		for what, set := range ways {
			for i, a := range times {
				for _, m := range []time.Time{{}, a, before, times[(i+5)%len(times)]} {
					for _, pair := range [][2]time.Time{{a, m}, {m, a}} {
						err := errors.Join(os.Chtimes(dir+"/file", before, before), os.Chtimes(dir+"/twin", before, before))
						if err != nil {
							t.Error(err)
						}
						want := chtimes(dir+"/twin", pair)
						if err := set(pair[0], pair[1]); err != want {
							if pe := new(fs.PathError); !errors.As(err, &pe) || pe.Err != want {
								t.Errorf("%s%v: %v, want %v", what, pair, err, want)
							}
						}
						var has, twin unix.Stat_t
						if err := errors.Join(unix.Stat(dir+"/file", &has), unix.Stat(dir+"/twin", &twin)); err != nil || has.Atim != twin.Atim || has.Mtim != twin.Mtim {
							t.Errorf("%s%v: %v, %v, want %v, %v; %v", what, pair, has.Atim, has.Mtim, twin.Atim, twin.Mtim, err)
						}
					}
				}
			}
		}
	})
}

// chtimes is os.Chtimes, and the same for times that it cannot say.
func chtimes(name string, times [2]time.Time) error {
	var ts [2]unix.Timespec
	nanos := true
	for i, t := range times {
		if t.IsZero() {
			ts[i].Nsec = unix.UTIME_OMIT
			continue
		}
		nanos = nanos && t.Equal(time.Unix(0, t.UnixNano()))
		var err error
		if ts[i], err = unix.TimeToTimespec(t); err != nil {
			return err
		}
	}
	if nanos {
		if err := os.Chtimes(name, times[0], times[1]); err != nil {
			return errors.Unwrap(err)
		}
		return nil
	}
	return unix.UtimesNano(name, ts[:])
}

// TestNoPermission asks for what only root may do.
func TestNoPermission(t *testing.T) { // T41, M24, M26
	if os.Geteuid() == 0 {
		t.Skip("needs an unprivileged user: root may do everything")
	}
	each(t, func(t *testing.T, ctx context.Context) {
		dir := t.TempDir()
		locked := dir + "/locked"
		for _, err := range []error{os.Mkdir(locked, 0o700), os.WriteFile(locked+"/file", nil, 0o600), os.Mkdir(locked+"/sub", 0o700),
			os.WriteFile(dir+"/unreadable", nil, 0), os.Chmod(locked, 0o500)} {
			if err != nil {
				t.Error(err)
			}
		}
		defer os.Chmod(locked, 0o700)
		_, openErr := fs.Open(ctx, dir+"/unreadable")
		_, readErr := fs.ReadFile(ctx, dir+"/unreadable")
		for what, err := range map[string]error{
			"Open":      openErr,
			"ReadFile":  readErr,
			"Mkdir":     fs.Mkdir(ctx, locked+"/new", 0o755),
			"MkdirAll":  fs.MkdirAll(ctx, locked+"/new/er", 0o755),
			"WriteFile": fs.WriteFile(ctx, locked+"/new", nil, 0o644),
			"Remove":    fs.Remove(ctx, locked+"/file"),
			"RemoveDir": fs.Remove(ctx, locked+"/sub"),
			"RemoveAll": fs.RemoveAll(ctx, locked),
			"Rename":    fs.Rename(ctx, locked+"/file", locked+"/other"),
			"RenameOut": fs.Rename(ctx, locked+"/file", dir+"/other"),
			"Symlink":   fs.Symlink(ctx, "x", locked+"/link"),
			"Link":      fs.Link(ctx, locked+"/file", locked+"/hard"),
			"Chown":     fs.Chown(ctx, locked+"/file", 0, 0),
		} {
			if !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if list, err := fs.ReadDir(ctx, locked); err != nil || len(list) != 2 {
			t.Errorf("ReadDir = %v, %v", list, err)
		}
	})
}

// A group ends because one of its calls found nothing, or something: of the others' files that says nothing.
func TestEndBecauseOfAnotherName(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		dir := t.TempDir()
		beneath, err := fs.OpenDir(ctx, dir)
		if err := errors.Join(err, os.MkdirAll(dir+"/tree/sub", 0o700)); err != nil {
			t.Error(err)
			return
		}
		defer beneath.Close(ctx)
		for _, errno := range []syscall.Errno{syscall.ENOENT, syscall.EEXIST, syscall.ENOTDIR} {
			group, cancel := context.WithCancelCause(ctx)
			cancel(&fs.PathError{Op: "open", Path: "another", Err: errno})
			for what, call := range map[string]func() error{
				"RemoveAll":     func() error { return fs.RemoveAll(group, dir+"/tree") },
				"Dir.RemoveAll": func() error { return beneath.RemoveAll(group, "tree/sub") },
				"Dir.MkdirAll":  func() error { return beneath.MkdirAll(group, "tree/sub", 0o700) },
				"MkdirTemp":     func() error { _, err := fs.MkdirTemp(group, dir, "x"); return err },
				"CreateTemp":    func() error { _, err := fs.CreateTemp(group, dir, "x"); return err },
			} {
				if err := call(); !errors.Is(err, context.Canceled) {
					t.Errorf("%s, ended because of %v: %v", what, errno, err)
				}
			}
		}
		if _, err := os.Stat(dir + "/tree/sub"); err != nil {
			t.Error(err)
		}
	})
}
