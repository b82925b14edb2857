package fs_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/executor"
	"uringo/fs"
)

// TestCopyRange copies a file, a part of one, and what goes beyond its end.
func TestCopyRange(t *testing.T) { // HAZARDS H49, G4
	each(t, func(t *testing.T, ctx context.Context) {
		want := pattern(1_000_000, 9)
		src := openNew(t, ctx, want)
		dst := openNew(t, ctx, []byte("old content"))
		if src == nil || dst == nil {
			return
		}
		defer src.Close(ctx)
		defer dst.Close(ctx)
		n, how, err := dst.CopyRange(ctx, 0, src, 0, -1)
		if n != int64(len(want)) || how == fs.CopiedNothing || err != nil {
			t.Errorf("CopyRange = %d, %v, %v", n, how, err)
		}
		if got, err := os.ReadFile(dst.Name()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("the copy has %d bytes, %v", len(got), err)
		}
		if n, how, err = dst.CopyRange(ctx, 10, src, 100, 5000); n != 5000 || err != nil {
			t.Errorf("CopyRange of a part = %d, %v, %v", n, how, err)
		}
		copy(want[10:5010], pattern(1_000_000, 9)[100:])
		if got, err := os.ReadFile(dst.Name()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("a part was copied wrong: %v", err)
		}
		if n, _, err = dst.CopyRange(ctx, 0, src, 999_000, 5000); n != 1000 || err != nil {
			t.Errorf("CopyRange over the end = %d, %v", n, err)
		}
		if n, how, err = dst.CopyRange(ctx, 0, src, 2_000_000, -1); n != 0 || how != fs.CopiedNothing || err != nil {
			t.Errorf("CopyRange beyond the end = %d, %v, %v", n, how, err)
		}
		if n, how, err = dst.CopyRange(ctx, 0, src, 0, 0); n != 0 || how != fs.CopiedNothing || err != nil {
			t.Errorf("CopyRange of nothing = %d, %v, %v", n, how, err)
		}
		// Forth and back within one file, apart and overlapping.
		if n, _, err = src.CopyRange(ctx, 500_000, src, 0, 100_000); n != 100_000 || err != nil {
			t.Errorf("CopyRange within a file = %d, %v", n, err)
		}
		if n, _, err = src.CopyRange(ctx, 10, src, 0, 100_000); n != 0 || !errors.Is(err, syscall.EINVAL) {
			t.Errorf("CopyRange onto itself = %d, %v", n, err)
		}
		// What it adds to the end is not copied in its turn.
		const end = 1_000_000
		for _, n := range []int64{3 * end, -1} {
			if n, _, err = src.CopyRange(ctx, end, src, 0, n); n != end || err != nil {
				t.Errorf("CopyRange of a file behind itself = %d, %v", n, err)
				break
			}
			if err := src.Truncate(ctx, end); err != nil {
				t.Error(err)
			}
		}
		var pe *fs.PathError
		for _, bad := range [][3]int64{{-1, 0, 1}, {0, -1, 1}, {math.MaxInt64, 0, 1}} {
			if _, _, err := dst.CopyRange(ctx, bad[0], src, bad[1], bad[2]); !errors.As(err, &pe) || pe.Op != "copy" {
				t.Errorf("CopyRange(%v): %v", bad, err)
			}
		}
	})
}

// TestCopyOddSources copies what copy_file_range cannot, or copies nothing of and says that is all.
func TestCopyOddSources(t *testing.T) { // HAZARDS H49
	each(t, func(t *testing.T, ctx context.Context) {
		for _, name := range []string{"/proc/version", "/proc/filesystems", "/sys/kernel/mm/transparent_hugepage/enabled", "/dev/null"} {
			want, err := os.ReadFile(name)
			if err != nil {
				continue // not everywhere
			}
			src, err := fs.Open(ctx, name)
			if err != nil {
				t.Error(err)
				continue
			}
			dst := openNew(t, ctx, nil)
			if dst == nil {
				return
			}
			n, how, err := dst.CopyRange(ctx, 0, src, 0, -1)
			got, rerr := os.ReadFile(dst.Name())
			if n != int64(len(want)) || err != nil || rerr != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: copied %d of %d bytes by %v, %v", name, n, len(want), how, err)
			}
			if err := errors.Join(src.Close(ctx), dst.Close(ctx)); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestCopySaysWhy copies what cannot be: nothing was copied then, and the error names the file that it is about.
func TestCopySaysWhy(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		file := openNew(t, ctx, pattern(10_001, 1))
		other := openNew(t, ctx, nil)
		r, w := pipe(t, ctx)
		if file == nil || other == nil || r == nil {
			return
		}
		writeOnly, err1 := fs.OpenFile(ctx, file.Name(), os.O_WRONLY, 0)
		readOnly, err2 := fs.Open(ctx, other.Name())
		if err := errors.Join(err1, err2); err != nil {
			t.Error(err)
			return
		}
		for _, c := range []struct {
			dst, src, bad *fs.File
			want          syscall.Errno
		}{
			{w, r, r, syscall.ESPIPE}, // both ends of one pipe
			{other, r, r, syscall.ESPIPE},
			{w, file, w, syscall.ESPIPE},
			{other, writeOnly, writeOnly, syscall.EBADF},
			{readOnly, file, readOnly, syscall.EBADF},
		} {
			n, how, err := c.dst.CopyRange(ctx, 0, c.src, 0, 10)
			var pe *fs.PathError
			if n != 0 || how != fs.CopiedNothing || !errors.Is(err, c.want) || !errors.As(err, &pe) || pe.Op != "copy" || pe.Path != c.bad.Name() {
				t.Errorf("CopyRange from %s to %s = %d, %v, %v; want %v of %s", c.src.Name(), c.dst.Name(), n, how, err, c.want, c.bad.Name())
			}
		}
		for _, f := range []*fs.File{file, other, r, w, writeOnly, readOnly} {
			if err := f.Close(ctx); err != nil {
				t.Error(err)
			}
		}
		// A device that has no end has none either if it is copied onto itself.
		zero, err := fs.OpenFile(ctx, "/dev/zero", os.O_RDWR, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer zero.Close(ctx)
		if n, _, err := zero.CopyRange(ctx, 0, zero, 0, 10); n != 10 || err != nil {
			t.Errorf("CopyRange from zero to zero = %d, %v", n, err)
		}
	})
}

// TestCopyUnaligned copies to and from files opened with O_DIRECT what is not aligned: all of it is copied, or the error says what is needed.
func TestCopyUnaligned(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		want := pattern(10_001, 1)
		file := openNew(t, ctx, want)
		if file == nil {
			return
		}
		defer file.Close(ctx)
		other := openNew(t, ctx, nil)
		if other == nil {
			return
		}
		defer other.Close(ctx)
		direct := func(name string) *fs.File {
			f, err := fs.OpenFile(ctx, name, os.O_RDWR|unix.O_DIRECT, 0)
			if errors.Is(err, syscall.EINVAL) {
				t.Log("needs a file system with O_DIRECT")
			} else if err != nil {
				t.Error(err)
			}
			return f
		}
		src, dst := direct(file.Name()), direct(other.Name())
		if src == nil {
			return
		}
		defer src.Close(ctx)
		if dst == nil {
			return
		}
		defer dst.Close(ctx)
		for _, c := range []struct{ dst, src, bad *fs.File }{{other, src, src}, {dst, file, dst}, {dst, src, nil}} {
			if err := other.Truncate(ctx, 0); err != nil {
				t.Error(err)
			}
			n, _, err := c.dst.CopyRange(ctx, 1, c.src, 3, 5000)
			if err == nil {
				b := make([]byte, 5000)
				if _, _, err := other.ReadExactAt(ctx, b, 1); n != 5000 || err != nil || !bytes.Equal(b, want[3:][:5000]) {
					t.Errorf("CopyRange = %d, and the file has something else, %v", n, err)
				}
				continue
			}
			var pe *fs.PathError
			if !errors.Is(err, syscall.EINVAL) || !strings.Contains(err.Error(), "direct I/O needs") || !errors.As(err, &pe) ||
				c.bad != nil && pe.Path != c.bad.Name() {
				t.Errorf("CopyRange = %d, %v, which does not say what is needed", n, err)
			}
		}
	})
}

// TestCopyToFull copies to where there is no space, and from what cannot be read.
func TestCopyToFull(t *testing.T) { // HAZARDS T22
	each(t, func(t *testing.T, ctx context.Context) {
		src := openNew(t, ctx, pattern(10_000, 1))
		if src == nil {
			return
		}
		defer src.Close(ctx)
		dst, err := fs.OpenFile(ctx, "/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer dst.Close(ctx)
		if n, _, err := dst.CopyRange(ctx, 0, src, 0, -1); n != 0 || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("CopyRange to a full device = %d, %v", n, err)
		}
		if n, _, err := src.CopyRange(ctx, 0, dst, 0, 1); n != 0 || !errors.Is(err, syscall.EBADF) {
			t.Errorf("CopyRange from a file open to write = %d, %v", n, err)
		}
		ro, err := fs.Open(ctx, src.Name())
		if err != nil {
			t.Error(err)
			return
		}
		defer ro.Close(ctx)
		if n, _, err := ro.CopyRange(ctx, 0, src, 0, 1); n != 0 || !errors.Is(err, syscall.EBADF) && !errors.Is(err, syscall.EINVAL) {
			t.Errorf("CopyRange to a file open to read = %d, %v", n, err)
		}
	})
}

// TestSparse finds data and holes in a file of 4 GiB, most of which is a hole.
func TestSparse(t *testing.T) { // HAZARDS H50
	each(t, func(t *testing.T, ctx context.Context) {
		name := filepath.Join(t.TempDir(), "sparse")
		f, err := fs.Create(ctx, name)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close(ctx)
		const island, size = 1 << 30, 4 << 30
		if _, _, err := f.WriteAllAt(ctx, pattern(8192, 1), island); err != nil {
			t.Error(err)
		}
		if err := errors.Join(f.Truncate(ctx, size), f.SyncAll(ctx)); err != nil {
			t.Error(err)
		}
		data, err := f.SeekData(ctx, 0)
		if err == nil && data == 0 {
			t.Skip("needs a file system that knows holes")
		}
		if data != island || err != nil {
			t.Errorf("SeekData(0) = %d, %v", data, err)
		}
		if hole, err := f.SeekHole(ctx, data); hole != island+8192 || err != nil {
			t.Errorf("SeekHole = %d, %v", hole, err)
		}
		if hole, err := f.SeekHole(ctx, 0); hole != 0 || err != nil {
			t.Errorf("SeekHole(0) = %d, %v", hole, err)
		}
		var pe *fs.PathError
		if _, err := f.SeekData(ctx, island+8192); !errors.Is(err, unix.ENXIO) || !errors.As(err, &pe) || pe.Op != "seek" {
			t.Errorf("SeekData in the last hole: %v", err)
		}
		if _, err := f.SeekHole(ctx, size); !errors.Is(err, unix.ENXIO) {
			t.Errorf("SeekHole at the end: %v", err)
		}
		if _, err := f.SeekData(ctx, -1); err == nil {
			t.Error("SeekData(-1) succeeded")
		}
		if n, b, err := f.ReadExactAt(ctx, make([]byte, 10), size-10); n != 10 || err != nil || !bytes.Equal(b, make([]byte, 10)) {
			t.Errorf("reading a hole: %d, %v", n, err)
		}
	})
}

// TestCopyClosed closes either file while a copy that would never end is under way: that ends with ErrClosed, as other operations do.
func TestCopyClosed(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for _, which := range []string{"source", "destination"} {
			src, err := fs.Open(ctx, "/dev/zero")
			if err != nil {
				t.Error(err)
				return
			}
			dst, err := fs.OpenFile(ctx, "/dev/null", os.O_WRONLY, 0)
			if err != nil {
				t.Error(err)
				return
			}
			// With a deadline, a copy that goes on fails the test, and does not hang it.
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			under := new(executor.Event)
			copied := executor.Go(ctx, func(ctx context.Context) (int64, error) {
				n, _, err := dst.CopyRange(&looks{Context: ctx, most: 50, under: under}, 0, src, 0, -1)
				return n, err
			})
			if err := under.Wait(ctx); err != nil {
				t.Error(err)
			}
			first, second := src, dst
			if which == "destination" {
				first, second = dst, src
			}
			if err := first.Close(ctx); err != nil {
				t.Errorf("closing the %s: %v", which, err)
			}
			if n, err := copied.Join(ctx); n == 0 || !errors.Is(err, fs.ErrClosed) {
				t.Errorf("%s closed: %d, %v", which, n, err)
			}
			if err := second.Close(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

// looks is a context that tells when it was asked for its error often: then what is to end with it is under way.
type looks struct {
	context.Context
	most  int32
	asked atomic.Int32
	under *executor.Event
}

func (l *looks) Err() error {
	if l.asked.Add(1) == l.most {
		l.under.Set()
	}
	return l.Context.Err()
}
