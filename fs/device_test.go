package fs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/fs"
)

// blockDevice returns the name of a block device with the given content, which is gone after the test.
func blockDevice(t *testing.T, content []byte) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, content, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", image).Output()
	if err != nil {
		t.Skipf("needs a loop device: %v", err)
	}
	name := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", name).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return name
}

// TestBlockDevice uses a file whose size no stat tells.
func TestBlockDevice(t *testing.T) {
	const size = 64 << 10
	name := blockDevice(t, pattern(size, 1))
	each(t, func(t *testing.T, ctx context.Context) {
		model, err := os.ReadFile(name)
		if err != nil || len(model) != size {
			t.Errorf("%d bytes, %v", len(model), err)
			return
		}
		f, err := fs.OpenFile(ctx, name, os.O_RDWR, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close(ctx)
		if end, err := f.NewReader(ctx, 0).Seek(-1, io.SeekEnd); end != size-1 || err != nil {
			t.Errorf("Seek = %d, %v", end, err)
		}
		if n, how, err := f.CopyRange(ctx, 4096, f, 0, -1); n != 0 || !errors.Is(err, syscall.EINVAL) {
			t.Errorf("copied %d bytes onto themselves by %v, %v", n, how, err)
		}
		if n, _, err := f.CopyRange(ctx, 0, f, size-5000, -1); n != 5000 || err != nil {
			t.Errorf("copied %d bytes, %v", n, err)
		}
		copy(model, model[size-5000:])
		if _, err := unix.Seek(int(f.Fd()), size-1000, io.SeekStart); err != nil {
			t.Error(err)
		}
		if n, _, err := f.Write(ctx, pattern(3000, 3)); n != 1000 || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("wrote %d bytes over the end, %v", n, err)
		}
		copy(model[size-1000:], pattern(3000, 3))

		d, err := fs.OpenFile(ctx, name, os.O_RDWR|unix.O_DIRECT, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer d.Close(ctx)
		part := pattern(10_000, 2)
		if n, _, err := d.WriteDirectAt(ctx, part, 1001, fs.Pad); n != len(part) || err != nil {
			t.Errorf("wrote %d bytes, %v", n, err)
		}
		copy(model[1001:], part)
		w, err := d.NewStreamWriter(ctx, 30_000, fs.StreamOptions{})
		if err != nil {
			t.Error(err)
			return
		}
		if n, err := w.Write(part); n != len(part) || err != nil {
			t.Errorf("wrote %d bytes, %v", n, err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		copy(model[30_000:], part)
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, model) {
			t.Errorf("the device differs, %v", err)
		}
	})
}
