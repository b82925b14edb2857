package fs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/executor"
	"uringo/fs"
)

func TestReadShortFile(t *testing.T) { // T15
	each(t, func(t *testing.T, ctx context.Context) {
		want := []byte("hello, world")
		f := openNew(t, ctx, want)
		if f == nil {
			return
		}
		defer f.Close(ctx)
		buf := make([]byte, 4096)
		n, got, err := f.ReadAt(ctx, buf, 0)
		if n != len(want) || err != nil || !bytes.Equal(got[:n], want) || &got[0] != &buf[0] {
			t.Errorf("ReadAt = %d, %q, %v", n, got[:n], err)
		}
		n, got, err = f.ReadAt(ctx, buf, int64(len(want)))
		if n != 0 || err != io.EOF || &got[0] != &buf[0] {
			t.Errorf("ReadAt at the end = %d, %v", n, err)
		}
	})
}

func TestWriteReadBack(t *testing.T) { // T16, T17, T20
	each(t, func(t *testing.T, ctx context.Context) {
		f := openNew(t, ctx, nil)
		if f == nil {
			return
		}
		defer f.Close(ctx)
		want := pattern(14000, 1)
		n, got, err := f.WriteAllAt(ctx, want, 0)
		if n != len(want) || err != nil || &got[0] != &want[0] {
			t.Errorf("WriteAllAt = %d, %v", n, err)
		}
		if onDisk, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(onDisk, pattern(14000, 1)) {
			t.Errorf("package os reads %d bytes, %v", len(onDisk), err)
		}
		buf := make([]byte, len(want))
		n, buf, err = f.ReadExactAt(ctx, buf, 0)
		if n != len(want) || err != nil || !bytes.Equal(buf, want) {
			t.Errorf("ReadExactAt = %d, %v", n, err)
		}
		n, buf, err = f.ReadExactAt(ctx, buf, 1)
		if n != len(want)-1 || err != io.ErrUnexpectedEOF || !bytes.Equal(buf[:n], want[1:]) {
			t.Errorf("ReadExactAt over the end = %d, %v", n, err)
		}
		n, _, err = f.ReadExactAt(ctx, buf, int64(len(want)))
		if n != 0 || err != io.EOF {
			t.Errorf("ReadExactAt at the end = %d, %v", n, err)
		}
	})
}

// TestReadOnlyMemory writes from memory that nobody may write to, neither the kernel nor we.
func TestReadOnlyMemory(t *testing.T) { // T37
	const size = 64 << 10
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	copy(mem, pattern(size, 6))
	if err := unix.Mprotect(mem, unix.PROT_READ); err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, ctx context.Context) {
		for _, route := range []fs.Route{fs.Auto, fs.Ring, fs.Call} {
			f := openNew(t, ctx, nil)
			if f == nil {
				return
			}
			f.Pin(fs.OpWrite, route)
			if n, _, err := f.WriteAllAt(ctx, mem[:size/2], 0); n != size/2 || err != nil {
				t.Errorf("%v: WriteAllAt = %d, %v", route, n, err)
			}
			if n, _, err := f.WritevAllAt(ctx, [][]byte{mem[size/2 : size/2+5], mem[size/2+5:]}, size/2); n != size/2 || err != nil {
				t.Errorf("%v: WritevAllAt = %d, %v", route, n, err)
			}
			if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, mem) {
				t.Errorf("%v: %d bytes, %v", route, len(got), err)
			}
			if err := f.Close(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestVectored(t *testing.T) { // T18, T19
	each(t, func(t *testing.T, ctx context.Context) {
		f := openNew(t, ctx, nil)
		if f == nil {
			return
		}
		defer f.Close(ctx)
		out := [][]byte{[]byte("hello"), nil, []byte(" vectored"), {}}
		n, back, err := f.WritevAt(ctx, out, 3)
		if n != 14 || err != nil || &back[0] != &out[0] {
			t.Errorf("WritevAt = %d, %v", n, err)
		}
		in := [][]byte{make([]byte, 5), make([]byte, 9)}
		n, back, err = f.ReadvAt(ctx, in, 3)
		if n != 14 || err != nil || &back[0] != &in[0] || string(in[0]) != "hello" || string(in[1]) != " vectored" {
			t.Errorf("ReadvAt = %d, %q, %v", n, in, err)
		}
		n, _, err = f.ReadvAt(ctx, [][]byte{make([]byte, 10), make([]byte, 10)}, 3)
		if n != 14 || err != nil {
			t.Errorf("ReadvAt at the tail = %d, %v", n, err)
		}
		if n, _, err = f.ReadvAt(ctx, in, 17); n != 0 || err != io.EOF {
			t.Errorf("ReadvAt at the end = %d, %v", n, err)
		}
		for _, empty := range [][][]byte{nil, {}, {nil, {}}} {
			if n, _, err := f.ReadvAt(ctx, empty, 100); n != 0 || err != nil {
				t.Errorf("ReadvAt of nothing = %d, %v", n, err)
			}
			if n, _, err := f.WritevAt(ctx, empty, 100); n != 0 || err != nil {
				t.Errorf("WritevAt of nothing = %d, %v", n, err)
			}
		}
		many := make([][]byte, 1025)
		for i := range many {
			many[i] = []byte{byte(i)}
		}
		if n, _, err := f.WritevAt(ctx, many, 0); n != 1024 || err != nil {
			t.Errorf("WritevAt of 1025 buffers = %d, %v", n, err)
		}
	})
}

func TestSync(t *testing.T) { // T25
	each(t, func(t *testing.T, ctx context.Context) {
		f := openNew(t, ctx, nil)
		if f == nil {
			return
		}
		defer f.Close(ctx)
		for i := range 3 {
			if err := f.SyncAll(ctx); err != nil {
				t.Error(err)
			}
			if err := f.SyncData(ctx); err != nil {
				t.Error(err)
			}
			if _, _, err := f.WriteAllAt(ctx, []byte("data"), int64(4*i)); err != nil {
				t.Error(err)
			}
		}
		r, err := fs.Open(ctx, "/proc/version")
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Close(ctx)
		var pe *fs.PathError
		if err := r.SyncAll(ctx); !errors.Is(err, unix.EINVAL) || !errors.As(err, &pe) || pe.Op != "sync" || pe.Path != "/proc/version" {
			t.Errorf("SyncAll in proc: %v", err)
		}
	})
}

func TestFallocate(t *testing.T) { // T29
	each(t, func(t *testing.T, ctx context.Context) {
		f := openNew(t, ctx, nil)
		if f == nil {
			return
		}
		defer f.Close(ctx)
		size := func() int64 {
			info, err := f.Stat(ctx)
			if err != nil {
				t.Error(err)
				return -1
			}
			return info.Size()
		}
		if err := f.Fallocate(ctx, unix.FALLOC_FL_KEEP_SIZE, 0, 4096); errors.Is(err, unix.EOPNOTSUPP) {
			t.Skip("needs a file system with fallocate")
		} else if err != nil || size() != 0 {
			t.Errorf("KEEP_SIZE: size %d, %v", size(), err)
		}
		if err := f.Fallocate(ctx, 0, 0, 1000); err != nil || size() != 1000 {
			t.Errorf("reserving: size %d, %v", size(), err)
		}
		if err := f.Fallocate(ctx, unix.FALLOC_FL_ZERO_RANGE, 0, 1024); !errors.Is(err, unix.EOPNOTSUPP) && (err != nil || size() != 1024) {
			t.Errorf("ZERO_RANGE: size %d, %v", size(), err)
		}
		for _, bad := range [][2]int64{{-1, 10}, {0, -1}, {1<<63 - 1, 1}} {
			var pe *fs.PathError
			if err := f.Fallocate(ctx, 0, bad[0], bad[1]); !errors.As(err, &pe) {
				t.Errorf("Fallocate(%v) = %v", bad, err)
			}
		}
		if err := f.Truncate(ctx, 10); err != nil || size() != 10 {
			t.Errorf("Truncate: size %d, %v", size(), err)
		}
		if err := f.Truncate(ctx, -1); err == nil {
			t.Error("Truncate(-1) succeeded")
		}
		if err := f.Fadvise(ctx, 0, 0, unix.FADV_SEQUENTIAL); err != nil {
			t.Error(err)
		}
	})
}

func TestAdopt(t *testing.T) { // M22
	each(t, func(t *testing.T, ctx context.Context) {
		name := filepath.Join(t.TempDir(), "file")
		g, err := os.Create(name)
		if err != nil {
			t.Error(err)
			return
		}
		f, err := fs.FromOS(ctx, g)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := g.Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
			t.Errorf("the adopted os.File can still write: %v", err)
		}
		if n, _, err := f.WriteAt(ctx, []byte("adopted"), 0); n != 7 || err != nil || f.Name() != name {
			t.Errorf("WriteAt = %d, %v", n, err)
		}
		if err := f.Close(ctx); err != nil {
			t.Error(err)
		}
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		if f, err = fs.NewFile(ctx, fd, "by number"); err != nil {
			t.Error(err)
			return
		}
		buf := make([]byte, 10)
		if n, _, err := f.ReadAt(ctx, buf, 0); string(buf[:n]) != "adopted" || err != nil || f.Fd() != uintptr(fd) {
			t.Errorf("ReadAt = %q, %v", buf[:n], err)
		}
		if err := f.Close(ctx); err != nil {
			t.Error(err)
		}
		if _, err := fs.NewFile(ctx, fd, "closed"); !errors.Is(err, unix.EBADF) {
			t.Errorf("NewFile of a closed descriptor: %v", err)
		}
		if _, err := fs.FromOS(ctx, g); !errors.Is(err, os.ErrClosed) {
			t.Errorf("FromOS of a closed file: %v", err)
		}
	})
}

// TestDetach takes descriptors back: they stay open, whatever becomes of the File, and what waited has ended.
func TestDetach(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		f := openNew(t, ctx, []byte("content"))
		if f == nil {
			return
		}
		name := f.Name()
		fd, err := f.Detach(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		var pe *fs.PathError
		for what, call := range map[string]func() error{
			"Detach": func() error { _, err := f.Detach(ctx); return err },
			"Close":  func() error { return f.Close(ctx) },
			"ReadAt": func() error { _, _, err := f.ReadAt(ctx, make([]byte, 1), 0); return err },
		} {
			if err := call(); !errors.Is(err, fs.ErrClosed) || !errors.As(err, &pe) || pe.Path != name {
				t.Errorf("%s of what was detached: %v", what, err)
			}
		}
		f = nil
		for range 3 {
			runtime.GC()
		}
		g := os.NewFile(uintptr(fd), name)
		if got, err := io.ReadAll(g); string(got) != "content" || err != nil {
			t.Errorf("package os reads %q, %v", got, err)
		}
		back, err := fs.FromOS(ctx, g)
		if err != nil {
			t.Error(err)
			return
		}
		if n, b, err := back.ReadAt(ctx, make([]byte, 10), 3); string(b[:n]) != "tent" || err != nil {
			t.Errorf("ReadAt = %q, %v", b[:n], err)
		}
		if err := back.Close(ctx); err != nil {
			t.Error(err)
		}

		r, w := pipe(t, ctx)
		if r == nil {
			return
		}
		reading := executor.Go(ctx, func(ctx context.Context) (int, error) {
			n, _, err := r.Read(ctx, make([]byte, 10))
			return n, err
		})
		if err := executor.Sleep(ctx, 5*time.Millisecond); err != nil {
			t.Error(err)
		}
		if fd, err = r.Detach(ctx); err != nil {
			t.Error(err)
			return
		}
		if n, err := reading.Join(ctx); n != 0 || !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Read that waited = %d, %v", n, err)
		}
		if _, _, err := w.Write(ctx, []byte("later")); err != nil {
			t.Error(err)
		}
		b := make([]byte, 10)
		if n, err := unix.Read(fd, b); string(b[:max(n, 0)]) != "later" || err != nil {
			t.Errorf("read(2) = %d, %v", n, err)
		}
		if err := errors.Join(unix.Close(fd), w.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
}

func TestXattr(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		f := openNew(t, ctx, nil)
		if f == nil {
			return
		}
		defer f.Close(ctx)
		value := pattern(700, 3)
		err := f.SetXattr(ctx, "user.origin", value, 0)
		if errors.Is(err, unix.EOPNOTSUPP) {
			t.Skip("needs a file system with extended attributes of users")
		}
		if err != nil {
			t.Error(err)
			return
		}
		if got, err := f.GetXattr(ctx, "user.origin"); err != nil || !bytes.Equal(got, value) {
			t.Errorf("GetXattr = %d bytes, %v", len(got), err)
		}
		if err := f.SetXattr(ctx, "user.origin", nil, unix.XATTR_CREATE); !errors.Is(err, fs.ErrExist) {
			t.Errorf("SetXattr of one that exists: %v", err)
		}
		if err := f.SetXattr(ctx, "user.empty", nil, 0); err != nil {
			t.Error(err)
		}
		if got, err := f.GetXattr(ctx, "user.empty"); err != nil || len(got) != 0 {
			t.Errorf("GetXattr of an empty one = %q, %v", got, err)
		}
		if names, err := f.ListXattr(ctx); err != nil || len(names) < 2 {
			t.Errorf("ListXattr = %q, %v", names, err)
		}
		if err := f.RemoveXattr(ctx, "user.origin"); err != nil {
			t.Error(err)
		}
		var pe *fs.PathError
		if _, err := f.GetXattr(ctx, "user.origin"); !errors.Is(err, unix.ENODATA) || !errors.As(err, &pe) || pe.Op != "getxattr" {
			t.Errorf("GetXattr of a removed one: %v", err)
		}
	})
}

// openNew makes a file with the given content in a new directory, and opens it to read and write.
func openNew(t *testing.T, ctx context.Context, content []byte) *fs.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, content, 0o644); err != nil {
		t.Error(err)
		return nil
	}
	f, err := fs.OpenFile(ctx, name, os.O_RDWR, 0)
	if err != nil {
		t.Error(err)
		return nil
	}
	return f
}

// pattern returns n bytes that depend on seed and do not repeat soon. Nobody else has them yet, for the race detector to watch.
//
//go:norace
func pattern(n int, seed uint32) []byte {
	b := make([]byte, n)
	x := seed*2654435761 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return b
}
