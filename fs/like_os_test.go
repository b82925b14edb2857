package fs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/fs"
	"uringo/internal/testenv"
)

// like compares an error with that of package os: the same text, the same wrapped error.
func like(t *testing.T, what string, got, want error) {
	t.Helper()
	if (got == nil) != (want == nil) || got != nil && got.Error() != want.Error() {
		t.Errorf("%s: %v; package os says %v", what, got, want)
		return
	}
	var a, b syscall.Errno
	if errors.As(want, &b) && (!errors.As(got, &a) || a != b) {
		t.Errorf("%s: errno %v, package os has %v", what, a, b)
	}
	for _, kind := range []error{fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, fs.ErrClosed, io.EOF} {
		if errors.Is(got, kind) != errors.Is(want, kind) {
			t.Errorf("%s: is %v: %t, with package os %t", what, kind, errors.Is(got, kind), errors.Is(want, kind))
		}
	}
}

// TestReadLikeOS compares reads at many places with those of package os.
func TestReadLikeOS(t *testing.T) { // HAZARDS T16
	each(t, func(t *testing.T, ctx context.Context) {
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, pattern(10_000, 2), 0o644); err != nil {
			t.Error(err)
		}
		sparse := name + ".sparse"
		if err := os.WriteFile(sparse, nil, 0o644); err != nil {
			t.Error(err)
		}
		if err := os.Truncate(sparse, 5<<30); err != nil {
			t.Error(err)
		}
		for _, name := range []string{name, sparse, "/dev/null", "/dev/zero", "/proc/self/status"} {
			f, err := fs.Open(ctx, name)
			if err != nil {
				t.Error(err)
				return
			}
			g, err := os.Open(name)
			if err != nil {
				t.Error(err)
				return
			}
			for _, off := range []int64{-1, 0, 1, 4095, 4096, 9_999, 10_000, 10_001, 1<<31 - 1, 1 << 31, 1 << 32, 5<<30 - 3, 5 << 30,
				math.MaxInt64 - 10, math.MaxInt64} {
				for _, size := range []int{0, 1, 10, 4096, 70_000} {
					if strings.HasPrefix(name, "/proc") && size > 10 {
						continue // it changes between two reads
					}
					got, want := make([]byte, size), make([]byte, size)
					n, back, err := f.ReadExactAt(ctx, got, off)
					m, wantErr := g.ReadAt(want, off)
					if len(back) != size || size > 0 && &back[0] != &got[0] {
						t.Errorf("%s: another buffer came back", name)
					}
					// io.EOF of ReaderAt after a part is io.ErrUnexpectedEOF of a read that was to be exact.
					if err == io.ErrUnexpectedEOF {
						err = io.EOF
					}
					if !strings.HasPrefix(name, "/proc") && string(got[:n]) != string(want[:m]) {
						t.Errorf("%s: %d bytes at %d differ", name, size, off)
					}
					if n != m || off <= math.MaxInt64-int64(size) && (err == nil) != (wantErr == nil) {
						t.Errorf("%s: reading %d at %d: %d, %v; package os says %d, %v", name, size, off, n, err, m, wantErr)
					}
					if off <= math.MaxInt64-int64(size) {
						like(t, name, err, wantErr)
					} else if size > 0 && !errors.Is(err, syscall.EINVAL) {
						t.Errorf("%s: reading %d at %d: %v", name, size, off, err)
					}
				}
			}
			if err := errors.Join(f.Close(ctx), g.Close()); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestHugeLengths moves more than 32 bits of length in one call.
func TestHugeLengths(t *testing.T) { // HAZARDS T16, N15, C9
	huge := testenv.Huge(t)
	each(t, func(t *testing.T, ctx context.Context) {
		null, err := fs.OpenFile(ctx, "/dev/null", os.O_RDWR, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer null.Close(ctx)
		for _, size := range []int64{1<<30 + 1, 2<<30 - 1, 2 << 30, 4 << 30, 4<<30 + 1} {
			if size > int64(len(huge)) {
				break
			}
			size, b := int(size), huge[:size]
			if n, back, err := null.WriteAt(ctx, b, 0); n != 1<<30 || err != nil || len(back) != size {
				t.Errorf("WriteAt of %d = %d, %v", size, n, err)
			}
			if n, back, err := null.WriteAllAt(ctx, b, 0); n != size || err != nil || len(back) != size {
				t.Errorf("WriteAllAt of %d = %d, %v", size, n, err)
			}
			if n, _, err := null.ReadAt(ctx, b, 0); n != 0 || err != io.EOF {
				t.Errorf("ReadAt of %d = %d, %v", size, n, err)
			}
			if n, _, err := null.WritevAt(ctx, [][]byte{b[:size/2], b[size/2:]}, 0); n < 1<<30-1 || n > 1<<30 || err != nil {
				t.Errorf("WritevAt of %d = %d, %v", size, n, err)
			}
		}
		// What has less is no file at its end, whatever is left of the length in 32 bits.
		f := openNew(t, ctx, pattern(100, 1))
		if f == nil {
			return
		}
		defer f.Close(ctx)
		for _, route := range []fs.Route{fs.Auto, fs.Ring, fs.Call} {
			f.Pin(fs.OpRead, route)
			for _, size := range []int64{2 << 30, 4 << 30, 4<<30 + 1} {
				if size > int64(len(huge)) {
					break
				}
				b := huge[:int(size)]
				for what, read := range map[string]func() (int, error){
					"ReadAt":   func() (int, error) { n, _, err := f.ReadAt(ctx, b, 0); return n, err },
					"ReadvAt":  func() (int, error) { n, _, err := f.ReadvAt(ctx, [][]byte{b[:size/2], b[size/2:]}, 0); return n, err },
					"ReadvAt1": func() (int, error) { n, _, err := f.ReadvAt(ctx, [][]byte{b}, 0); return n, err },
				} {
					clear(b[:100])
					if n, err := read(); n != 100 || err != nil || !bytes.Equal(b[:n], pattern(100, 1)) {
						t.Errorf("%v: %s of %d = %d, %v", route, what, size, n, err)
					}
				}
				if n, _, err := f.ReadExactAt(ctx, b, 0); n != 100 || err != io.ErrUnexpectedEOF {
					t.Errorf("%v: ReadExactAt of %d = %d, %v", route, size, n, err)
				}
			}
		}
		if n, _, err := null.WriteAllAt(ctx, huge, math.MaxInt64-1<<20); n != 0 || !errors.Is(err, syscall.EINVAL) {
			t.Errorf("WriteAllAt over the largest offset = %d, %v", n, err)
		}
	})
}

// TestHugeReads fills more memory than one operation does, or has a length for in 32 bits.
func TestHugeReads(t *testing.T) { // HAZARDS T16, N15, C9
	testenv.SkipShort(t)
	size := 1<<30 + 4097
	if testenv.Nightly() {
		size = min(4<<30+1, math.MaxInt/8*5)
	}
	mem := manyTimes(t, size)
	each(t, func(t *testing.T, ctx context.Context) {
		zero, err := fs.Open(ctx, "/dev/zero")
		if err != nil {
			t.Error(err)
			return
		}
		defer zero.Close(ctx)
		mem[size-1] = 1
		if n, back, err := zero.ReadExactAt(ctx, mem, 0); n != size || err != nil || len(back) != size || mem[size-1] != 0 {
			t.Errorf("ReadExactAt of %d = %d, %v; the last byte is %d", size, n, err, mem[size-1])
		}
		mem[size-1] = 1
		if n, _, err := zero.ReadvExactAt(ctx, [][]byte{mem[:size/2], mem[size/2:]}, 0); n != size || err != nil || mem[size-1] != 0 {
			t.Errorf("ReadvExactAt of %d = %d, %v; the last byte is %d", size, n, err, mem[size-1])
		}
	})
}

// manyTimes returns memory that is the same two MiB again and again.
func manyTimes(t *testing.T, size int) []byte {
	t.Helper()
	const piece = 2 << 20
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, piece); err != nil {
		t.Fatal(err)
	}
	all := (size + piece - 1) / piece * piece
	mem, err := unix.Mmap(-1, 0, all, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		t.Skipf("needs address space: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	for off := 0; off < all; off += piece {
		at := unsafe.Pointer(&mem[off])
		if _, err := unix.MmapPtr(fd, 0, at, piece, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED|unix.MAP_POPULATE); err != nil {
			t.Fatal(err)
		}
	}
	return mem[:size]
}

// TestWriteLikeOS compares writes that fail.
func TestWriteLikeOS(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		dir := t.TempDir()
		name := filepath.Join(dir, "file")
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Error(err)
		}
		check := func(name string, flag int, off int64, size int) {
			f, err := fs.OpenFile(ctx, name, flag, 0)
			g, wantErr := os.OpenFile(name, flag, 0)
			like(t, "open "+name, err, wantErr)
			if err != nil || wantErr != nil {
				return
			}
			defer f.Close(ctx)
			defer g.Close()
			n, _, err := f.WriteAllAt(ctx, make([]byte, size), off)
			m, wantErr := g.WriteAt(make([]byte, size), off)
			if n != m {
				t.Errorf("%s: wrote %d, package os %d", name, n, m)
			}
			like(t, "write "+name, err, wantErr)
		}
		check(name, os.O_RDONLY, 0, 10)
		check(name, os.O_RDWR, -1, 10)
		check(name, os.O_RDWR, 3, 0)
		check(name, os.O_WRONLY, 3, 100)
		check("/dev/full", os.O_WRONLY, 0, 10)
		check(dir, os.O_RDONLY, 0, 10)
		check(dir, os.O_RDWR, 0, 10)
		check(name+"/x", os.O_RDWR, 0, 10)
		check(dir+"/missing", os.O_RDWR, 0, 10)
		check("", os.O_RDONLY, 0, 10)
		check(strings.Repeat("x", 300), os.O_RDONLY, 0, 10)
		check("nul\x00inside", os.O_RDONLY, 0, 10)

		f, err := fs.Open(ctx, dir)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close(ctx)
		g, err := os.Open(dir)
		if err != nil {
			t.Error(err)
			return
		}
		defer g.Close()
		_, _, err = f.ReadAt(ctx, make([]byte, 10), 0)
		_, wantErr := g.ReadAt(make([]byte, 10), 0)
		like(t, "reading a directory", err, wantErr)
		_, _, err = f.Read(ctx, make([]byte, 10))
		_, wantErr = g.Read(make([]byte, 10))
		like(t, "reading a directory", err, wantErr)
	})
}

// TestInfoLikeOS compares what is said about files of every type.
func TestInfoLikeOS(t *testing.T) { // M25
	each(t, func(t *testing.T, ctx context.Context) {
		dir := t.TempDir()
		at := func(name string) string { return filepath.Join(dir, name) }
		old := time.Date(1999, 12, 31, 23, 59, 59, 123456789, time.UTC)
		for _, err := range []error{
			os.WriteFile(at("file"), []byte("12345"), 0o640),
			os.Mkdir(at("dir"), 0o750),
			os.Mkdir(at("sticky"), 0o777),
			os.Chmod(at("sticky"), os.ModeSticky|0o777),
			os.WriteFile(at("setid"), nil, 0o755),
			os.Chmod(at("setid"), os.ModeSetuid|os.ModeSetgid|0o711),
			os.Symlink("file", at("link")),
			os.Symlink("nowhere", at("dangling")),
			unix.Mkfifo(at("fifo"), 0o600),
			os.Chtimes(at("file"), old, old.Add(time.Hour)),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		for _, name := range []string{at("file"), at("dir"), at("dir") + "/", at("sticky"), at("setid"), at("link"), at("dangling"),
			at("fifo"), at("missing"), at("file") + "/x", "/dev/null", "/dev/tty", "/", ".", "", "/proc/self/exe"} {
			got, err := fs.Stat(ctx, name)
			want, wantErr := os.Stat(name)
			like(t, "Stat "+name, err, wantErr)
			sameInfo(t, got, want)
			got, err = fs.Lstat(ctx, name)
			want, wantErr = os.Lstat(name)
			like(t, "Lstat "+name, err, wantErr)
			sameInfo(t, got, want)
		}
		f, err := fs.Open(ctx, at("file"))
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close(ctx)
		got, err := f.Stat(ctx)
		if err != nil {
			t.Error(err)
		}
		want, _ := os.Stat(at("file"))
		sameInfo(t, got, want)
		if st, err := f.Statx(ctx, 0, unix.STATX_ALL); err != nil || st.Size != 5 || st.Mask&unix.STATX_INO == 0 {
			t.Errorf("Statx = %+v, %v", st, err)
		}
		if st, err := fs.Statx(ctx, at("link"), unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
			t.Errorf("Statx of a link = %+v, %v", st, err)
		}
	})
}

func sameInfo(t *testing.T, got, want fs.FileInfo) {
	t.Helper()
	if want == nil {
		if got != nil {
			t.Errorf("information on what is not there: %v", got)
		}
		return
	}
	if got == nil {
		t.Errorf("no information on %s", want.Name())
		return
	}
	a := []any{got.Name(), got.Size(), got.Mode(), got.ModTime().UnixNano(), got.IsDir()}
	b := []any{want.Name(), want.Size(), want.Mode(), want.ModTime().UnixNano(), want.IsDir()}
	if want.Name() == "exe" || want.Name() == "null" || want.Name() == "tty" {
		a[3], b[3] = nil, nil // made up, or moving
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("%v; package os says %v", a, b)
	}
	if !fs.SameFile(got, want) || !fs.SameFile(got, got) {
		t.Errorf("%s is another file for package os", got.Name())
	}
	st, ok := got.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatalf("Sys is a %T", got.Sys())
	}
	x, y := *st, *want.Sys().(*syscall.Stat_t)
	x.Atim, y.Atim = syscall.Timespec{}, syscall.Timespec{}
	if short := reflect.ValueOf(&y).Elem().FieldByName("X__st_ino"); short.IsValid() {
		short.SetZero() // on 32 bits a cut copy of the inode's number, which only stat fills in
		reflect.ValueOf(&x).Elem().FieldByName("X__st_ino").SetZero()
	}
	if a[3] == nil {
		x.Mtim, y.Mtim, x.Ctim, y.Ctim = x.Atim, x.Atim, x.Atim, x.Atim
	}
	if x != y {
		t.Errorf("Sys of %s is %+v; that of package os %+v", got.Name(), x, y)
	}
}

// TestUmask creates files and directories with many permissions under two umasks.
func TestUmask(t *testing.T) { // T41
	each(t, func(t *testing.T, ctx context.Context) {
		for _, mask := range []int{0o022, 0o077} {
			old := unix.Umask(mask)
			dir := t.TempDir()
			for _, perm := range []fs.FileMode{0, 0o600, 0o644, 0o700, 0o755, 0o777, 0o777 | os.ModeSticky} {
				name := filepath.Join(dir, perm.String())
				if f, err := fs.OpenFile(ctx, name, os.O_CREATE|os.O_WRONLY, perm); err != nil {
					t.Error(err)
				} else if err := f.Close(ctx); err != nil {
					t.Error(err)
				}
				if g, err := os.OpenFile(name+".os", os.O_CREATE|os.O_WRONLY, perm); err == nil {
					g.Close()
				}
				if err := fs.Mkdir(ctx, name+".dir", perm); err != nil {
					t.Error(err)
				}
				if err := os.Mkdir(name+".dir.os", perm); err != nil {
					t.Error(err)
				}
				for _, kind := range []string{"", ".dir"} {
					got, err1 := os.Stat(name + kind)
					want, err2 := os.Stat(name + kind + ".os")
					if err1 != nil || err2 != nil || got.Mode() != want.Mode() {
						t.Errorf("umask %o, perm %v, kind %q: %v, %v", mask, perm, kind, err1, err2)
					}
				}
			}
			unix.Umask(old)
		}
	})
}
