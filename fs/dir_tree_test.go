package fs_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	iofs "io/fs"

	"uringo/fs"
)

// TestDirTree makes a tree in a directory, writes and reads a file in it, and removes it.
func TestDirTree(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		root := t.TempDir()
		d, err := fs.OpenDir(ctx, root)
		if err != nil {
			t.Error(err)
			return
		}
		defer d.Close(ctx)
		for _, path := range []string{"a/b/c", "a/b/c", "a/b/c/", "a//b", "./x", "x/.", "y/z/..", "y/../y/new", "."} {
			if err := d.MkdirAll(ctx, path, 0o750); err != nil {
				t.Errorf("MkdirAll(%q): %v", path, err)
			}
			if info, err := os.Stat(root + "/" + path); err != nil || !info.IsDir() || path != "." && info.Mode() != fs.ModeDir|0o750 {
				t.Errorf("MkdirAll(%q) made %v, %v", path, info, err)
			}
		}
		for i, content := range []string{"first, and longer", "second", ""} {
			if err := d.WriteFile(ctx, "a/b/file", []byte(content), 0o640); err != nil {
				t.Errorf("WriteFile: %v", err)
			}
			if b, err := d.ReadFile(ctx, "a/b/file"); string(b) != content || err != nil {
				t.Errorf("ReadFile %d = %q, %v", i, b, err)
			}
		}
		if info, err := os.Stat(root + "/a/b/file"); err != nil || info.Mode() != 0o640 {
			t.Errorf("WriteFile made %v, %v", info, err)
		}
		big := pattern(1_000_000, 3)
		if err := d.WriteFile(ctx, "big", big, 0o600); err != nil {
			t.Error(err)
		}
		if b, err := d.ReadFile(ctx, "big"); !slices.Equal(b, big) || err != nil {
			t.Errorf("ReadFile = %d bytes, %v", len(b), err)
		}

		if err := d.MkdirAll(ctx, "a/b/file/x", 0o755); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("MkdirAll beneath a file: %v", err)
		}
		var pe *fs.PathError
		if err := d.MkdirAll(ctx, "a/b/file", 0o755); !errors.As(err, &pe) || pe.Op != "mkdir" || pe.Path != root+"/a/b/file" || !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("MkdirAll of a file: %v", err)
		}
		if err := d.RemoveAll(ctx, "a/b/file/x"); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("RemoveAll beneath a file: %v", err)
		}
		if _, err := d.ReadFile(ctx, "missing"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ReadFile of nothing: %v", err)
		}
		if _, err := d.ReadFile(ctx, "a"); !errors.Is(err, syscall.EISDIR) {
			t.Errorf("ReadFile of a directory: %v", err)
		}
		if err := d.WriteFile(ctx, "missing/file", nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("WriteFile in no directory: %v", err)
		}
		if err := d.MkdirAll(ctx, "", 0o755); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("MkdirAll of nothing: %v", err)
		}
		for _, path := range []string{"", "missing", "missing/x", "big/", "a/b", "a", "x", "y/"} {
			if err := d.RemoveAll(ctx, path); err != nil {
				t.Errorf("RemoveAll(%q): %v", path, err)
			}
		}
		if left, err := os.ReadDir(root); len(left) != 0 || err != nil {
			t.Errorf("%v is left, %v", left, err)
		}

		ended, cancel := context.WithCancel(ctx)
		cancel()
		for what, err := range map[string]error{
			"MkdirAll":  d.MkdirAll(ended, "new/dir", 0o755),
			"RemoveAll": d.RemoveAll(ended, "new"),
			"WriteFile": d.WriteFile(ended, "new", nil, 0o600),
		} {
			if !errors.As(err, &pe) || !errors.Is(err, context.Canceled) {
				t.Errorf("%s under a context that has ended: %v", what, err)
			}
		}
		sub, err := d.OpenDir(ctx, ".")
		if err != nil {
			t.Error(err)
			return
		}
		if err := sub.Close(ctx); err != nil {
			t.Error(err)
		}
		_, read := sub.ReadFile(ctx, "x")
		for what, err := range map[string]error{"MkdirAll": sub.MkdirAll(ctx, "x/y", 0o755), "RemoveAll": sub.RemoveAll(ctx, "x"),
			"WriteFile": sub.WriteFile(ctx, "x", nil, 0o600), "ReadFile": read} {
			if !errors.As(err, &pe) || !errors.Is(err, fs.ErrClosed) {
				t.Errorf("%s after Close: %v", what, err)
			}
		}
	})
}

// TestDirTreeStays tries to read, write, make and remove what is not in the directory.
func TestDirTreeStays(t *testing.T) { // HAZARDS H46
	eachOpen(t, treeStays)
}

func treeStays(t *testing.T, ctx context.Context) {
	base := t.TempDir()
	root := base + "/root"
	for _, err := range []error{
		os.MkdirAll(root+"/sub/dir", 0o755),
		os.Mkdir(base+"/outside", 0o755),
		os.WriteFile(base+"/outside/secret", []byte("secret"), 0o600),
		os.Symlink("../outside", root+"/up"),
		os.Symlink("../outside/secret", root+"/link"),
		os.Symlink("../../outside", root+"/sub/dir/up"),
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
	tree := func() (names []string) {
		_ = iofs.WalkDir(os.DirFS(base), ".", func(path string, _ iofs.DirEntry, err error) error {
			names = append(names, path)
			return err
		})
		return names
	}
	before := tree()
	for _, name := range []string{"../outside", "../outside/secret", "..", "/", base + "/outside", "up/secret", "up/new", "sub/../../outside",
		"inside/dir", ".", "sub/..", "sub/dir/up/secret"} {
		if err := d.RemoveAll(ctx, name); err == nil {
			t.Errorf("RemoveAll(%q) succeeded", name)
		}
		if !strings.HasSuffix(name, ".") { // which is in it, and there
			if err := d.MkdirAll(ctx, name, 0o755); err == nil && name != "inside/dir" {
				t.Errorf("MkdirAll(%q) succeeded", name)
			}
			if err := d.MkdirAll(ctx, name+"/new", 0o755); err == nil {
				t.Errorf("MkdirAll(%q) succeeded", name+"/new")
			}
		}
		if _, err := d.ReadFile(ctx, name); err == nil {
			t.Errorf("ReadFile(%q) succeeded", name)
		}
		if err := d.WriteFile(ctx, name, []byte("x"), 0o600); err == nil {
			t.Errorf("WriteFile(%q) succeeded", name)
		}
	}
	for _, name := range []string{"link", "up"} {
		if _, err := d.ReadFile(ctx, name); !errors.Is(err, syscall.ELOOP) {
			t.Errorf("ReadFile(%q): %v", name, err)
		}
		if err := d.WriteFile(ctx, name, []byte("x"), 0o600); !errors.Is(err, syscall.ELOOP) {
			t.Errorf("WriteFile(%q): %v", name, err)
		}
		if err := d.MkdirAll(ctx, name, 0o755); err == nil {
			t.Errorf("MkdirAll(%q) succeeded", name)
		}
	}
	if after := tree(); !slices.Equal(after, before) {
		t.Errorf("the tree is %q, and was %q", after, before)
	}
	// A link goes, and not what it says.
	for _, name := range []string{"up", "link", "sub"} {
		if err := d.RemoveAll(ctx, name); err != nil {
			t.Errorf("RemoveAll(%q): %v", name, err)
		}
	}
	if b, err := os.ReadFile(base + "/outside/secret"); string(b) != "secret" || err != nil {
		t.Errorf("the file outside is %q, %v", b, err)
	}
	if err := d.MkdirAll(ctx, "one", 0o700); err != nil { // also without openat2
		t.Error(err)
	}
}
