package fs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
	"uringo/internal/testenv"
)

var client = driver.Credentials{UID: 4711, GID: 4712, Groups: []uint32{4713}}

// served is a tree of root's, of which others may do little.
//
//	          0777
//	secret    0600  root
//	shared    0640  root, group 4713
//	public    0644  root
//	loose     06777 root
//	closed/   0755  root
//	  file    0644
//	  dir/
//	  link -> file
//	hidden/   0700  root
//	  file    0644
//	  link -> file
//	dark/     0733  root
func served(t *testing.T) string {
	t.Helper()
	dir := testenv.Public(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	var errs []error
	for _, d := range []string{"closed", "closed/dir", "hidden", "dark"} {
		errs = append(errs, os.Mkdir(at(d), 0o755))
	}
	for _, f := range []string{"secret", "shared", "public", "loose", "closed/file", "hidden/file"} {
		errs = append(errs, os.WriteFile(at(f), []byte(f), 0o644))
	}
	errs = append(errs, os.Symlink("file", at("closed/link")), os.Symlink("file", at("hidden/link")),
		os.Chown(at("shared"), 0, 4713),
		unix.Chmod(at("secret"), 0o600), unix.Chmod(at("shared"), 0o640), unix.Chmod(at("loose"), 0o6777),
		unix.Chmod(at("hidden"), 0o700), unix.Chmod(at("dark"), 0o733))
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return dir
}

// dirCalls are all methods of a Dir that do something, each as one who may do nothing in it but search might try: in a directory such as
// closed. What it must not do has an error.
var dirCalls = map[string]struct {
	call func(ctx context.Context, d *fs.Dir) error
	want error // if the directory can be searched and read
}{
	"OpenDir": {func(ctx context.Context, d *fs.Dir) error {
		sub, err := d.OpenDir(ctx, "dir")
		if err == nil {
			err = sub.Close(ctx)
		}
		return err
	}, nil},
	"OpenFile": {func(ctx context.Context, d *fs.Dir) error {
		return closing(ctx)(d.OpenFile(ctx, "file", os.O_RDONLY, 0))
	}, nil},
	"OpenFile to write": {func(ctx context.Context, d *fs.Dir) error {
		return closing(ctx)(d.OpenFile(ctx, "file", os.O_WRONLY, 0))
	}, syscall.EACCES},
	"OpenFile to truncate": {func(ctx context.Context, d *fs.Dir) error {
		return closing(ctx)(d.OpenFile(ctx, "file", os.O_WRONLY|os.O_TRUNC, 0))
	}, syscall.EACCES},
	"OpenFile to create": {func(ctx context.Context, d *fs.Dir) error {
		return closing(ctx)(d.OpenFile(ctx, "new", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600))
	}, syscall.EACCES},
	"OpenIn": {func(ctx context.Context, d *fs.Dir) error {
		return closing(ctx)(fs.OpenOptions{Write: true, Create: true}.OpenIn(ctx, d, "new"))
	}, syscall.EACCES},
	"OpenIn unnamed": {func(ctx context.Context, d *fs.Dir) error {
		return closing(ctx)(fs.OpenOptions{Write: true, Unnamed: true}.OpenIn(ctx, d, "."))
	}, syscall.EACCES},
	"Stat":    {func(ctx context.Context, d *fs.Dir) error { _, err := d.Stat(ctx); return err }, nil},
	"Sync":    {func(ctx context.Context, d *fs.Dir) error { return d.Sync(ctx) }, nil},
	"ReadDir": {func(ctx context.Context, d *fs.Dir) error { _, err := d.ReadDir(ctx); return err }, nil},
	"Lstat":   {func(ctx context.Context, d *fs.Dir) error { _, err := d.Lstat(ctx, "file"); return err }, nil},
	"Statx": {func(ctx context.Context, d *fs.Dir) error {
		_, err := d.Statx(ctx, "file", unix.STATX_BASIC_STATS)
		return err
	}, nil},
	"Readlink":  {func(ctx context.Context, d *fs.Dir) error { _, err := d.Readlink(ctx, "link"); return err }, nil},
	"Mkdir":     {func(ctx context.Context, d *fs.Dir) error { return d.Mkdir(ctx, "new", 0o755) }, syscall.EACCES},
	"Remove":    {func(ctx context.Context, d *fs.Dir) error { return d.Remove(ctx, "file") }, syscall.EACCES},
	"RemoveDir": {func(ctx context.Context, d *fs.Dir) error { return d.RemoveDir(ctx, "dir") }, syscall.EACCES},
	"Symlink":   {func(ctx context.Context, d *fs.Dir) error { return d.Symlink(ctx, "file", "new") }, syscall.EACCES},
	"Rename":    {func(ctx context.Context, d *fs.Dir) error { return d.Rename(ctx, "file", d, "new", 0) }, syscall.EACCES},
	"Link":      {func(ctx context.Context, d *fs.Dir) error { return d.Link(ctx, "file", d, "new") }, nil}, // see below
	"LinkFile": {func(ctx context.Context, d *fs.Dir) error {
		f, err := d.OpenFile(ctx, "file", os.O_RDONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(d.LinkFile(ctx, f, "new"), f.Close(ctx))
	}, nil},
	"Mknod":   {func(ctx context.Context, d *fs.Dir) error { return d.Mknod(ctx, "new", unix.S_IFIFO|0o600, 0) }, syscall.EACCES},
	"Chown":   {func(ctx context.Context, d *fs.Dir) error { return d.Chown(ctx, "file", 4711, -1) }, syscall.EPERM},
	"Chown .": {func(ctx context.Context, d *fs.Dir) error { return d.Chown(ctx, ".", 4711, -1) }, syscall.EPERM},
	"Chtimes": {func(ctx context.Context, d *fs.Dir) error {
		return d.Chtimes(ctx, "file", time.Time{}, time.Unix(1, 0))
	}, syscall.EPERM},
	"Chtimes .": {func(ctx context.Context, d *fs.Dir) error {
		return d.Chtimes(ctx, ".", time.Time{}, time.Unix(1, 0))
	}, syscall.EPERM},
	"Chmod":   {func(ctx context.Context, d *fs.Dir) error { return d.Chmod(ctx, "file", 0o777) }, syscall.EPERM},
	"Chmod .": {func(ctx context.Context, d *fs.Dir) error { return d.Chmod(ctx, ".", 0o777) }, syscall.EPERM},
	"WriteFileAtomic": {func(ctx context.Context, d *fs.Dir) error {
		return d.WriteFileAtomic(ctx, "file", []byte("x"), 0o644)
	}, syscall.EACCES},
	"ReadFile":  {func(ctx context.Context, d *fs.Dir) error { _, err := d.ReadFile(ctx, "file"); return err }, nil},
	"WriteFile": {func(ctx context.Context, d *fs.Dir) error { return d.WriteFile(ctx, "file", nil, 0o644) }, syscall.EACCES},
	"MkdirAll":  {func(ctx context.Context, d *fs.Dir) error { return d.MkdirAll(ctx, "new", 0o755) }, syscall.EACCES},
	"RemoveAll": {func(ctx context.Context, d *fs.Dir) error { return d.RemoveAll(ctx, "dir") }, syscall.EACCES},
}

func closing(ctx context.Context) func(*fs.File, error) error {
	return func(f *fs.File, err error) error {
		if err == nil {
			err = f.Close(ctx)
		}
		return err
	}
}

// eachPin runs test with every way to say who performs operations.
func eachPin(t *testing.T, ctx context.Context, test func(t *testing.T, ctx context.Context)) {
	for _, r := range []fs.Route{fs.Auto, fs.Inline, fs.Call} {
		var was []fs.Route
		for op := fs.OpRead; op <= fs.OpClose; op++ {
			was = append(was, fs.Pin(op, r))
		}
		test(t, ctx)
		for op := fs.OpRead; op <= fs.OpClose; op++ {
			fs.Pin(op, was[op])
		}
		if t.Failed() {
			t.Logf("pinned to %v", r)
			return
		}
	}
}

// actAs opens a directory for a client, and closes all of it at the end.
func actAs(t *testing.T, ctx context.Context, dir string, c driver.Credentials, test func(own, his *fs.Dir)) {
	t.Helper()
	d, err := executor.DriverOf(ctx)
	if err != nil {
		t.Error(err)
		return
	}
	p, err := d.RegisterPersonality(ctx, c)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() {
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	own, err := fs.OpenDir(ctx, dir)
	if err != nil {
		t.Error(err)
		return
	}
	defer own.Close(ctx)
	his, err := own.As(p)
	if err != nil {
		t.Error(err)
		return
	}
	defer his.Close(ctx)
	test(own, his)
}

// Whoever has a directory with the rights of a user may do what that user may.
func TestAs(t *testing.T) {
	testenv.NeedsRoot(t)
	threads := testenv.Rights(t, fmt.Sprint(os.Getpid()))
	each(t, func(t *testing.T, ctx context.Context) {
		eachPin(t, ctx, testAs)
		if t.Failed() {
			return
		}
		defer fs.WithoutOpenat2()()
		testAs(t, ctx)
	})
	testenv.SameRights(t, threads)
}

func testAs(t *testing.T, ctx context.Context) {
	dir := served(t)
	actAs(t, ctx, dir+"/closed", client, func(_, his *fs.Dir) {
		for name, c := range dirCalls {
			switch err := c.call(ctx, his); {
			case name == "Link", name == "LinkFile": // which fail for one reason or another, see fs.protected_hardlinks
				if !errors.Is(err, syscall.EACCES) && !errors.Is(err, syscall.EPERM) {
					t.Errorf("closed: %s: %v", name, err)
				}
			case !errors.Is(err, c.want):
				t.Errorf("closed: %s: %v, want %v", name, err, c.want)
			}
		}
	})
	actAs(t, ctx, dir+"/hidden", client, func(_, his *fs.Dir) {
		for name, c := range dirCalls {
			err := c.call(ctx, his)
			switch name {
			case "Stat", "Sync": // of what is open
				if err != nil {
					t.Errorf("hidden: %s: %v", name, err)
				}
			case "Chown .", "Chtimes .", "Chmod .":
				if !errors.Is(err, syscall.EPERM) {
					t.Errorf("hidden: %s: %v", name, err)
				}
			default:
				if !errors.Is(err, syscall.EACCES) {
					t.Errorf("hidden: %s: %v", name, err)
				}
			}
		}
	})
	actAs(t, ctx, dir, client, func(own, his *fs.Dir) {
		for name, want := range map[string]string{"secret": "", "shared": "shared", "public": "public", "closed/file": "closed/file", "hidden/file": ""} {
			if fs.NoOpenat2() && filepath.Dir(name) != "." {
				continue
			}
			f, err := his.OpenFile(ctx, name, os.O_RDONLY, 0)
			if want == "" {
				if !errors.Is(err, syscall.EACCES) {
					t.Errorf("open %s: %v", name, err)
				}
				continue
			}
			if err != nil {
				t.Error(err)
				continue
			}
			n, b, err := f.ReadExactAt(ctx, make([]byte, len(want)), 0)
			if string(b[:n]) != want || err != nil {
				t.Errorf("%s has %q, %v", name, b[:n], err)
			}
			if err := f.Close(ctx); err != nil {
				t.Error(err)
			}
		}
		testMade(t, ctx, dir, his)
		testFile(t, ctx, dir, own, his)
		testList(t, ctx, own, his)
	})
}

// What is made is the user's.
func testMade(t *testing.T, ctx context.Context, dir string, his *fs.Dir) {
	errs := []error{
		closing(ctx)(his.OpenFile(ctx, "made file", os.O_WRONLY|os.O_CREATE, 0o600)),
		his.Mkdir(ctx, "made dir", 0o700),
		his.Symlink(ctx, "nowhere", "made link"),
		his.Mknod(ctx, "made fifo", unix.S_IFIFO|0o600, 0),
		his.WriteFileAtomic(ctx, "made whole", []byte("x"), 0o600),
	}
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"made file", "made dir", "made link", "made fifo", "made whole"} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil || st.Uid != client.UID || st.Gid != client.GID {
			t.Errorf("%s is owned by %d:%d, %v", name, st.Uid, st.Gid, err)
		}
	}
	sub, err := his.OpenDir(ctx, "made dir")
	if err != nil {
		t.Error(err)
		return
	}
	errs = []error{
		sub.WriteFileAtomic(ctx, "x", []byte("1"), 0o600),
		sub.WriteFileAtomic(ctx, "x", []byte("2"), 0o600), // in place of a file
		his.Rename(ctx, "made file", sub, "y", 0),
		his.Link(ctx, "made whole", sub, "z"),
		sub.Chmod(ctx, "y", 0o640),
		sub.Chmod(ctx, ".", 0o750),
		sub.Chown(ctx, "y", -1, 4713), // a group of his
		sub.Chtimes(ctx, "y", time.Time{}, time.Unix(1, 0)),
	}
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	entries, err := sub.ReadDir(ctx)
	if len(entries) != 3 || err != nil {
		t.Errorf("entries %v, %v", entries, err)
	}
	for _, e := range entries {
		errs = append(errs, sub.Remove(ctx, e.Name()))
	}
	errs = append(errs, sub.Close(ctx), his.RemoveDir(ctx, "made dir"), his.Remove(ctx, "made link"))
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

// A file that was opened with the rights is used with them, whatever it is pinned to.
func testFile(t *testing.T, ctx context.Context, dir string, own, his *fs.Dir) {
	f, err := his.OpenFile(ctx, "public", os.O_RDONLY, 0)
	if err != nil {
		t.Error(err)
		return
	}
	for _, r := range []fs.Route{fs.Auto, fs.Inline, fs.Ring, fs.Call} {
		for op := fs.OpRead; op <= fs.OpClose; op++ {
			f.Pin(op, r)
		}
		for what, err := range map[string]error{
			"chmod":       f.Chmod(ctx, 0o777),
			"chown":       f.Chown(ctx, 4711, 4712),
			"chtimes":     f.Chtimes(ctx, time.Time{}, time.Unix(1, 0)),
			"setxattr":    f.SetXattr(ctx, "user.x", []byte("x"), 0),
			"removexattr": f.RemoveXattr(ctx, "user.x"),
		} {
			if !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.EACCES) && !errors.Is(err, syscall.EOPNOTSUPP) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := f.Stat(ctx); err != nil {
			t.Error(err)
		}
	}
	if err := f.Close(ctx); err != nil {
		t.Error(err)
	}
	// Who writes to somebody else's set-id file takes the bits away, but for those with a privilege: a sign of whose rights the kernel saw.
	b := []byte("loose")
	fixed := []func(f *fs.File) error{
		func(f *fs.File) error { _, _, err := f.WriteAt(ctx, b, 0); return err },
		func(f *fs.File) error { _, _, err := f.WriteAllAt(ctx, b, 0); return err },
		func(f *fs.File) error { _, _, err := f.Write(ctx, b); return err },
		func(f *fs.File) error { _, _, err := f.WriteAtFlags(ctx, b, 0, unix.RWF_DSYNC); return err },
		func(f *fs.File) error { _, _, err := f.WritevAt(ctx, [][]byte{b, b}, 0); return err },
		func(f *fs.File) error { return f.Truncate(ctx, 3) },
		func(f *fs.File) error { return f.Fallocate(ctx, 0, 0, 4096) },
		func(f *fs.File) error {
			src, err := own.OpenFile(ctx, "public", os.O_RDONLY, 0)
			if err == nil {
				_, _, err = f.CopyRange(ctx, 0, src, 0, -1)
				err = errors.Join(err, src.Close(ctx))
			}
			return err
		},
		func(f *fs.File) error {
			w, err := f.NewStreamWriter(ctx, 0, fs.StreamOptions{})
			if err == nil {
				_, err = w.Write(b)
				err = errors.Join(err, w.Close())
			}
			return err
		},
		func(f *fs.File) error { return closing(ctx)(his.OpenFile(ctx, "loose", os.O_WRONLY|os.O_TRUNC, 0)) },
	}
	for i, write := range fixed {
		if err := unix.Chmod(filepath.Join(dir, "loose"), 0o6777); err != nil {
			t.Error(err)
		}
		f, err := his.OpenFile(ctx, "loose", os.O_RDWR, 0)
		if err != nil {
			t.Error(err)
			return
		}
		f.Pin(fs.OpWrite, fs.Inline) // in vain
		err = errors.Join(write(f), f.Close(ctx))
		var st unix.Stat_t
		if err2 := unix.Stat(filepath.Join(dir, "loose"), &st); err != nil || err2 != nil || st.Mode&unix.S_ISUID != 0 {
			t.Errorf("write %d: mode %o, %v, %v", i, st.Mode, err, err2)
		}
	}
}

// Entries are read by whoever may read the directory, and described by whoever may search it.
func testList(t *testing.T, ctx context.Context, own, his *fs.Dir) {
	entries, err := his.ReadDir(ctx)
	if err != nil || len(entries) < 7 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	for _, e := range entries {
		if _, err := e.Info(); err != nil {
			t.Error(err)
		}
	}
	dark, err := his.OpenDir(ctx, "dark") // which he may search, and not read
	if err != nil {
		t.Error(err)
		return
	}
	if entries, err := dark.ReadDir(ctx); !errors.Is(err, syscall.EACCES) {
		t.Errorf("read what cannot be read: %v, %v", entries, err)
	}
	if err := dark.Chmod(ctx, ".", 0o777); !errors.Is(err, syscall.EPERM) {
		t.Errorf("chmod of root's directory: %v", err)
	}
	if err := errors.Join(dark.Mkdir(ctx, "in it", 0o700), dark.RemoveDir(ctx, "in it"), dark.Close(ctx)); err != nil {
		t.Error(err)
	}
	if _, err := own.Lstat(ctx, "hidden/"); err != nil {
		t.Error(err)
	}
	if err := own.Rename(ctx, "public", his, "mixed", 0); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("rename from one's rights to another's: %v", err)
	}
	if err := his.Link(ctx, "public", own, "mixed"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("link from one's rights to another's: %v", err)
	}
	if _, err := own.Lstat(ctx, "mixed"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was done all the same: %v", err)
	}
}

// Info of an entry is asked for with the rights, too, though it looks like a path.
func TestAsInfo(t *testing.T) {
	testenv.NeedsRoot(t)
	each(t, func(t *testing.T, ctx context.Context) {
		dir := served(t)
		actAs(t, ctx, dir+"/closed", client, func(_, his *fs.Dir) {
			entries, err := his.ReadDir(ctx)
			if err != nil || len(entries) != 3 {
				t.Errorf("%d entries, %v", len(entries), err)
				return
			}
			if err := unix.Chmod(dir+"/closed", 0o744); err != nil {
				t.Error(err)
			}
			if _, err := entries[0].Info(); !errors.Is(err, syscall.EACCES) {
				t.Errorf("info of what cannot be searched: %v", err)
			}
		})
	})
}

// A directory is listed for whoever may read it, as package os does: he need not search it, and whoever opened it need not read it.
func TestAsReader(t *testing.T) {
	testenv.NeedsRoot(t)
	each(t, func(t *testing.T, ctx context.Context) {
		dir := served(t)
		if err := unix.Chmod(dir+"/closed", 0o744); err != nil {
			t.Error(err)
		}
		actAs(t, ctx, dir+"/closed", client, func(_, his *fs.Dir) {
			if entries, err := his.ReadDir(ctx); len(entries) != 3 || err != nil {
				t.Errorf("not to be searched: %v, %v", entries, err)
			}
		})
		actAs(t, ctx, dir, client, func(own, his *fs.Dir) {
			dark, err := his.OpenDir(ctx, "dark")
			if err != nil {
				t.Error(err)
				return
			}
			defer dark.Close(ctx)
			d, err := executor.DriverOf(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			owner, err := d.RegisterPersonality(ctx, driver.Credentials{UID: 4714, GID: 4714})
			if err != nil {
				t.Error(err)
				return
			}
			defer owner.Close(ctx)
			if err := own.Chown(ctx, "dark", 4714, 4714); err != nil {
				t.Error(err)
			}
			owners, err := dark.As(owner)
			if err != nil {
				t.Error(err)
				return
			}
			defer owners.Close(ctx)
			if err := owners.Mkdir(ctx, "sub", 0o700); err != nil {
				t.Error(err)
			}
			if entries, err := owners.ReadDir(ctx); len(entries) != 1 || err != nil {
				t.Errorf("opened by one who may not read: %v, %v", entries, err)
			}
			if entries, err := dark.ReadDir(ctx); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("read what cannot be read: %v, %v", entries, err)
			}
		})
	})
}

// A personality that is none refuses everything.
func TestAsNobody(t *testing.T) {
	testenv.NeedsRoot(t)
	each(t, func(t *testing.T, ctx context.Context) {
		d, err := executor.DriverOf(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		other, err := driver.Open(driver.Config{Engine: d.Engine()})
		if err != nil {
			t.Error(err)
			return
		}
		defer other.Close(context.WithoutCancel(ctx))
		var all [4]*driver.Personality // nil, zero, another driver's, and a closed one
		all[1] = new(driver.Personality)
		root := driver.Credentials{}
		if all[2], err = other.RegisterPersonality(ctx, root); err != nil {
			t.Error(err)
			return
		}
		if all[3], err = d.RegisterPersonality(ctx, root); err != nil {
			t.Error(err)
			return
		}
		if err := all[3].Close(ctx); err != nil {
			t.Error(err)
		}
		eachPin(t, ctx, func(t *testing.T, ctx context.Context) {
			dir := served(t)
			own, err := fs.OpenDir(ctx, dir+"/closed")
			if err != nil {
				t.Error(err)
				return
			}
			defer own.Close(ctx)
			for i, p := range all {
				his, err := own.As(p)
				if err != nil {
					t.Error(err)
					return
				}
				for name, c := range dirCalls {
					if err := c.call(ctx, his); !errors.Is(err, driver.ErrPersonality) {
						t.Errorf("%d: %s: %v", i, name, err)
					}
				}
				if err := his.Close(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	})
}

// Files are used with rights that end: then they are good for nothing but closing.
func TestAsClosedLater(t *testing.T) {
	testenv.NeedsRoot(t)
	each(t, func(t *testing.T, ctx context.Context) {
		dir := served(t)
		d, err := executor.DriverOf(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		p, err := d.RegisterPersonality(ctx, client)
		if err != nil {
			t.Error(err)
			return
		}
		own, err := fs.OpenDir(ctx, dir)
		if err != nil {
			t.Error(err)
			return
		}
		defer own.Close(ctx)
		his, err := own.As(p)
		if err != nil {
			t.Error(err)
			return
		}
		f, err := his.OpenFile(ctx, "loose", os.O_RDWR, 0)
		if err != nil {
			t.Error(err)
			return
		}
		if err := errors.Join(p.Close(ctx), p.Close(ctx)); err != nil {
			t.Error(err)
		}
		_, _, rerr := f.ReadAt(ctx, make([]byte, 1), 0)
		_, _, werr := f.WriteAt(ctx, make([]byte, 1), 0)
		for _, err := range []error{rerr, werr, f.Chmod(ctx, 0o600), f.SyncAll(ctx)} {
			if !errors.Is(err, driver.ErrPersonality) {
				t.Error(err)
			}
		}
		if err := errors.Join(f.Close(ctx), his.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
}

// Many tasks of two users and of the process, at the same time: everything is its maker's.
func TestAsManyAtOnce(t *testing.T) {
	testenv.NeedsRoot(t)
	threads := testenv.Rights(t, fmt.Sprint(os.Getpid()))
	each(t, func(t *testing.T, ctx context.Context) {
		dir := testenv.Public(t)
		second := driver.Credentials{UID: 4721, GID: 4722}
		actAs(t, ctx, dir, client, func(own, his *fs.Dir) {
			actAs(t, ctx, dir, second, func(_, hers *fs.Dir) {
				users := []struct {
					d        *fs.Dir
					uid, gid int
				}{{his, 4711, 4712}, {hers, 4721, 4722}, {own, 0, 0}}
				err := goAll(ctx, 30, func(ctx context.Context, i int) error {
					u := users[i%3]
					for k := range 4 {
						name := fmt.Sprintf("%d %d", i, k)
						if err := makeOne(ctx, u.d, name, k); err != nil {
							return err
						}
						var st unix.Stat_t
						if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil {
							return err
						}
						if int(st.Uid) != u.uid || int(st.Gid) != u.gid {
							return fmt.Errorf("%s is owned by %d:%d, want %d:%d", name, st.Uid, st.Gid, u.uid, u.gid)
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		})
	})
	testenv.SameRights(t, threads)
}

// makeOne makes something, in one way or another.
func makeOne(ctx context.Context, d *fs.Dir, name string, way int) error {
	switch way {
	case 0:
		return closing(ctx)(d.OpenFile(ctx, name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600))
	case 1:
		return d.Mkdir(ctx, name, 0o700)
	case 2:
		return d.Mknod(ctx, name, unix.S_IFIFO|0o600, 0)
	}
	return d.WriteFileAtomic(ctx, name, []byte(name), 0o600)
}

// In a directory where everybody may make files, but remove only his own, replacing somebody else's fails at the last step.
func TestAsReplacing(t *testing.T) {
	testenv.NeedsRoot(t)
	each(t, func(t *testing.T, ctx context.Context) {
		eachPin(t, ctx, func(t *testing.T, ctx context.Context) {
			dir := testenv.Public(t)
			if err := errors.Join(os.WriteFile(dir+"/root's", []byte("old"), 0o644), unix.Chmod(dir, 0o1777)); err != nil {
				t.Error(err)
			}
			actAs(t, ctx, dir, client, func(_, his *fs.Dir) {
				if err := his.WriteFileAtomic(ctx, "root's", []byte("new"), 0o644); !errors.Is(err, syscall.EPERM) {
					t.Errorf("replacing root's file: %v", err)
				}
				if b, err := os.ReadFile(dir + "/root's"); string(b) != "old" || err != nil {
					t.Errorf("it has %q, %v", b, err)
				}
				if entries, err := os.ReadDir(dir); len(entries) != 1 || err != nil {
					t.Errorf("left behind: %v, %v", entries, err)
				}
			})
		})
	})
}

// A FIFO waits for its other end, and is opened with the rights then, too.
func TestAsFIFO(t *testing.T) {
	testenv.NeedsRoot(t)
	each(t, func(t *testing.T, ctx context.Context) {
		dir := testenv.Public(t)
		actAs(t, ctx, dir, client, func(own, his *fs.Dir) {
			if err := errors.Join(his.Mknod(ctx, "his", unix.S_IFIFO|0o600, 0), own.Mknod(ctx, "own", unix.S_IFIFO|0o600, 0)); err != nil {
				t.Error(err)
			}
			if err := closing(ctx)(his.OpenFile(ctx, "own", os.O_RDONLY, 0)); !errors.Is(err, syscall.EACCES) {
				t.Errorf("open root's: %v", err)
			}
			short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			if err := closing(ctx)(his.OpenFile(short, "his", os.O_WRONLY, 0)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("open without a reader: %v", err)
			}
			cancel()
			err := goAll(ctx, 2, func(ctx context.Context, i int) error {
				return closing(ctx)(his.OpenFile(ctx, "his", []int{os.O_RDONLY, os.O_WRONLY}[i], 0))
			})
			if err != nil {
				t.Error(err)
			}
		})
	})
}
