package fs_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/fs"
	"uringo/internal/testenv"
)

// TestLinkOpenFile gives files without a name, and others, names by what is open.
func TestLinkOpenFile(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		path := t.TempDir()
		d, err := fs.OpenDir(ctx, path)
		if err != nil {
			t.Error(err)
			return
		}
		defer d.Close(ctx)
		f, err := fs.OpenOptions{Write: true, Unnamed: true, Mode: 0o600}.OpenIn(ctx, d, ".")
		if errors.Is(err, syscall.EOPNOTSUPP) {
			t.Skip("needs a file system with O_TMPFILE")
		}
		if err != nil {
			t.Error(err)
			return
		}
		if _, _, err := f.WriteAllAt(ctx, []byte("content"), 0); err != nil {
			t.Error(err)
		}
		first, second := filepath.Join(path, "first"), filepath.Join(path, "second")
		holds := func(name string) {
			t.Helper()
			if b, err := os.ReadFile(name); string(b) != "content" {
				t.Errorf("%q, %v", b, err)
			}
		}
		if err := f.Link(ctx, first); err != nil {
			t.Error(err)
		}
		holds(first)
		if err := d.LinkFile(ctx, f, "second/"); err != nil {
			t.Error(err)
		}
		holds(second)

		var link *fs.LinkError
		for what, c := range map[string]struct{ err, want error }{
			"a name that exists":            {f.Link(ctx, first), fs.ErrExist},
			"one in the directory":          {d.LinkFile(ctx, f, "first"), fs.ErrExist},
			"a directory that is missing":   {f.Link(ctx, filepath.Join(path, "no", "such")), fs.ErrNotExist},
			"no name":                       {f.Link(ctx, ""), fs.ErrNotExist},
			"two components":                {d.LinkFile(ctx, f, "a/b"), syscall.EINVAL},
			"the directory above":           {d.LinkFile(ctx, f, ".."), syscall.EINVAL},
			"a name that ends in its midst": {f.Link(ctx, first+"\x00"), syscall.EINVAL},
		} {
			if !errors.Is(c.err, c.want) || !errors.As(c.err, &link) || link.Op != "link" {
				t.Errorf("%s: %v, want %v", what, c.err, c.want)
			}
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if err := f.Link(ended, filepath.Join(path, "third")); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}

		for _, name := range []string{first, second} {
			if err := fs.Remove(ctx, name); err != nil {
				t.Error(err)
			}
		}
		if err := f.Link(ctx, first); !errors.Is(err, fs.ErrNotExist) { // it has lost its last name
			t.Error(err)
		}
		if err := f.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := f.Link(ctx, first); !errors.Is(err, fs.ErrClosed) {
			t.Error(err)
		}
		if err := d.LinkFile(ctx, f, "first"); !errors.Is(err, fs.ErrClosed) {
			t.Error(err)
		}
		closed, err := fs.OpenDir(ctx, path)
		if err != nil {
			t.Error(err)
			return
		}
		if err := closed.Close(ctx); err != nil {
			t.Error(err)
		}
		f, err = fs.Create(ctx, first)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close(ctx)
		if err := closed.LinkFile(ctx, f, "second"); !errors.Is(err, fs.ErrClosed) {
			t.Error(err)
		}
	})
}

const linkedVar = "URINGO_TEST_LINKED"

// TestLinkWithoutRight is where the kernel takes no descriptor for a name: somebody else has opened the file.
func TestLinkWithoutRight(t *testing.T) {
	testenv.NeedsRoot(t)
	dir := t.TempDir()
	f, err := os.CreateTemp(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	without, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip("needs setpriv")
	}
	child := exec.Command(without, "--bounding-set", "-dac_read_search", os.Args[0], "-test.run=^TestLinkChild$")
	child.Env = testenv.Environ(linkedVar + "=" + dir)
	child.ExtraFiles = []*os.File{f}
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestLinkChild runs without the capability, with the file as its third descriptor.
func TestLinkChild(t *testing.T) {
	dir := os.Getenv(linkedVar)
	if dir == "" {
		t.Skip("for TestLinkWithoutRight")
	}
	if err := unix.Linkat(3, "", unix.AT_FDCWD, filepath.Join(dir, "plainly"), unix.AT_EMPTY_PATH); err != syscall.ENOENT {
		t.Fatalf("this is not what was to be tested: %v", err)
	}
	each(t, func(t *testing.T, ctx context.Context) {
		own, err := unix.FcntlInt(3, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		f, err := fs.NewFile(ctx, own, "inherited")
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close(ctx)
		d, err := fs.OpenDir(ctx, dir)
		if err != nil {
			t.Error(err)
			return
		}
		defer d.Close(ctx)
		if err := f.Link(ctx, filepath.Join(dir, "linked")); err != nil {
			t.Error(err)
		}
		if err := d.LinkFile(ctx, f, "linked, too"); err != nil {
			t.Error(err)
		}
		for _, name := range []string{"linked", "linked, too"} {
			if err := d.Remove(ctx, name); err != nil {
				t.Error(err)
			}
		}
	})
}
