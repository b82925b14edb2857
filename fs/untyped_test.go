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

// untyped returns a directory on a file system that does not say in its directories of what type the names are.
func untyped(t *testing.T) string {
	t.Helper()
	testenv.NeedsRoot(t)
	device := blockDevice(t, make([]byte, 1<<20))
	if out, err := exec.Command("mkfs.ext2", "-q", "-O", "^filetype", device).CombinedOutput(); err != nil {
		t.Skipf("needs mkfs.ext2: %v: %s", err, out)
	}
	dir := filepath.Join(testenv.Public(t), "untyped")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(device, dir, "ext2", 0, ""); err != nil {
		t.Skipf("needs to mount ext2: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestUntyped reads directories whose names have to be looked up for their types: where that cannot be done, nobody takes the directory for an
// empty one.
func TestUntyped(t *testing.T) {
	dir := untyped(t)
	dark := filepath.Join(dir, "dark")
	if err := errors.Join(os.Mkdir(dark, 0o755), os.WriteFile(dark+"/file", nil, 0o644), os.Mkdir(dark+"/sub", 0o755), os.Symlink("file", dark+"/link"),
		os.Chmod(dark, 0o744)); err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, ctx context.Context) {
		list, err := fs.ReadDir(ctx, dark)
		want, err2 := os.ReadDir(dark)
		if err != nil || err2 != nil || len(list) != len(want) {
			t.Errorf("%v, %v; want %v, %v", list, err, want, err2)
			return
		}
		for i, e := range list {
			if e.Name() != want[i].Name() || e.Type() != want[i].Type() {
				t.Errorf("%v, want %v", e, want[i])
			}
		}
		actAs(t, ctx, dark, client, func(_, theirs *fs.Dir) {
			var pe *fs.PathError
			entries, err := theirs.ReadDir(ctx)
			if !errors.As(err, &pe) || pe.Op != "lstat" || pe.Err != syscall.EACCES || filepath.Dir(pe.Path) != dark {
				t.Errorf("for who may read it and not search it: %v, %v", entries, err)
			}
		})
	})
}
