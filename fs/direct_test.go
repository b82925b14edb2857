package fs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
	"uringo/internal/ring"
	"uringo/internal/testenv"
)

// TestUnaligned reads and writes without regard to alignment, and compares with what should be there.
func TestUnaligned(t *testing.T) { // G3
	each(t, testDirect)
}

// TestUnalignedShort does so while the kernel moves less than it was asked for.
func TestUnalignedShort(t *testing.T) {
	shortened(t, testDirect)
}

func testDirect(t *testing.T, ctx context.Context) {
	name := filepath.Join(t.TempDir(), "file")
	f, err := fs.OpenOptions{Read: true, Write: true, Create: true, Direct: true}.Open(ctx, name)
	if errors.Is(err, syscall.EINVAL) {
		t.Skip("needs a file system with O_DIRECT")
	}
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close(ctx)
	a, err := f.DirectIO(ctx)
	if err != nil || a.Memory <= 0 || a.Offset <= 0 || a.Offset&(a.Offset-1) != 0 {
		t.Errorf("DirectIO = %+v, %v", a, err)
		return
	}
	if a.Offset > 1 {
		n, _, err := f.WriteDirectAt(ctx, make([]byte, 10), 3, fs.Refuse)
		if n != 0 || !errors.Is(err, syscall.EINVAL) || len(err.Error()) < 60 {
			t.Errorf("unaligned write = %d, %v", n, err)
		}
	}
	var model []byte
	rng := rand.New(rand.NewPCG(1, 2))
	write := func(off, n int) {
		b := pattern(n, rng.Uint32())
		if m, back, err := f.WriteDirectAt(ctx, b, int64(off), fs.Pad); m != n || err != nil || len(back) != n {
			t.Errorf("writing %d at %d = %d, %v", n, off, m, err)
		}
		if n > 0 && off+n > len(model) {
			model = append(model, make([]byte, off+n-len(model))...)
		}
		copy(model[min(off, len(model)):], b)
	}
	read := func(b []byte, off int) {
		n, back, err := f.ReadDirectAt(ctx, b, int64(off))
		want := model[min(off, len(model)):]
		want = want[:min(len(b), len(want))]
		var wantErr error
		switch {
		case len(b) > 0 && len(want) == 0:
			wantErr = io.EOF
		case len(want) < len(b):
			wantErr = io.ErrUnexpectedEOF
		}
		if n != len(want) || err != wantErr || len(back) != len(b) || !bytes.Equal(b[:n], want) {
			t.Errorf("reading %d at %d of %d = %d, %v; want %d, %v", len(b), off, len(model), n, err, len(want), wantErr)
		}
	}
	for range 40 {
		write(rng.IntN(60_000), rng.IntN(20_000))
		read(make([]byte, rng.IntN(30_000)), rng.IntN(70_000))
		read(buf.Aligned(4096*(1+rng.IntN(6)), 4096), 4096*rng.IntN(18))
		if info, err := f.Stat(ctx); err != nil || info.Size() != int64(len(model)) {
			t.Errorf("size %d, want %d, %v", info.Size(), len(model), err)
		}
	}
	write(100, 2_500_000) // in several pieces
	read(make([]byte, 2_600_000), 7)
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, model) {
		t.Errorf("the file differs, %v", err)
	}

	plain, err := fs.OpenFile(ctx, name, os.O_RDWR, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer plain.Close(ctx)
	if n, _, err := plain.WriteDirectAt(ctx, []byte("xyz"), 5, fs.Refuse); n != 3 || err != nil {
		t.Errorf("without O_DIRECT: %d, %v", n, err)
	}
	if n, b, err := plain.ReadDirectAt(ctx, make([]byte, 3), 5); n != 3 || err != nil || string(b) != "xyz" {
		t.Errorf("without O_DIRECT: %q, %v", b, err)
	}
	null, err := fs.OpenFile(ctx, "/dev/null", os.O_RDWR|unix.O_DIRECT, 0)
	if err == nil {
		defer null.Close(ctx)
		if n, _, err := null.ReadDirectAt(ctx, make([]byte, 10), 0); n != 0 || err == nil {
			t.Errorf("/dev/null = %d, %v", n, err)
		}
	}
}

// TestDirectAtTheLastOffset moves what would end, widened to whole blocks, behind the largest offset there is: it is refused, not done in part.
func TestDirectAtTheLastOffset(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		f := openDirect(t, ctx, pattern(8192, 1))
		if f == nil {
			return
		}
		defer f.Close(ctx)
		if a, err := f.DirectIO(ctx); err != nil || a.Offset == 1 {
			t.Skipf("needs a file system with blocks: %v", err)
		}
		for _, n := range []int{5, 2<<20 + 5} {
			off := math.MaxInt64 - int64(n) - 3
			b := make([]byte, n)
			if m, back, err := f.ReadDirectAt(ctx, b, off); m != 0 || !errors.Is(err, syscall.EINVAL) || len(back) != n {
				t.Errorf("ReadDirectAt = %d, %v", m, err)
			}
			if m, back, err := f.WriteDirectAt(ctx, b, off, fs.Pad); m != 0 || !errors.Is(err, syscall.EINVAL) || len(back) != n {
				t.Errorf("WriteDirectAt = %d, %v", m, err)
			}
			ranges := []fs.Range{{Off: off, Buf: b}, {Off: 1, Buf: make([]byte, 10)}}
			if err := f.ReadMany(ctx, ranges, fs.ManyOptions{}); !errors.Is(err, syscall.EINVAL) || ranges[0].N != 0 || ranges[1].N != 10 {
				t.Errorf("ReadMany: %v, %v", err, ranges[1].Err)
			}
		}
		if info, err := f.Stat(ctx); err != nil || info.Size() != 8192 {
			t.Errorf("the size is %d, %v", info.Size(), err)
		}
	})
}

// TestDirectSaysWhy moves what is not aligned by calls that leave that to their caller: the error says what is needed, and is EINVAL.
func TestDirectSaysWhy(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		f := openDirect(t, ctx, pattern(8192, 1))
		if f == nil {
			return
		}
		defer f.Close(ctx)
		a, err := f.DirectIO(ctx)
		if err != nil || a.Offset == 1 {
			t.Skipf("needs a file system with blocks: %v", err)
		}
		end, err := fs.OpenFile(ctx, f.Name(), os.O_WRONLY|os.O_APPEND|unix.O_DIRECT, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer end.Close(ctx)
		n := a.Offset
		b := buf.Aligned(2*n, max(n, a.Memory))
		rest := func() []byte { return b[1 : 1+n] }
		needs := fmt.Sprintf("multiples of %d, and a buffer at a multiple of %d", a.Offset, a.Memory)
		for what, call := range map[string]func(b []byte, off int64) error{
			"ReadAt":       func(b []byte, off int64) error { _, _, err := f.ReadAt(ctx, b, off); return err },
			"ReadExactAt":  func(b []byte, off int64) error { _, _, err := f.ReadExactAt(ctx, b, off); return err },
			"ReadvAt":      func(b []byte, off int64) error { _, _, err := f.ReadvAt(ctx, [][]byte{b}, off); return err },
			"ReadAtFlags":  func(b []byte, off int64) error { _, _, err := f.ReadAtFlags(ctx, b, off, 0); return err },
			"WriteAt":      func(b []byte, off int64) error { _, _, err := f.WriteAt(ctx, b, off); return err },
			"WriteAllAt":   func(b []byte, off int64) error { _, _, err := f.WriteAllAt(ctx, b, off); return err },
			"WritevAt":     func(b []byte, off int64) error { _, _, err := f.WritevAt(ctx, [][]byte{b}, off); return err },
			"WriteAtFlags": func(b []byte, off int64) error { _, _, err := f.WriteAtFlags(ctx, b, off, 0); return err },
			"Reader":       func(b []byte, off int64) error { _, err := f.NewReader(ctx, off).Read(b); return err },
			"Writer":       func(b []byte, off int64) error { _, err := f.NewWriter(ctx, off).Write(b); return err },
		} {
			for _, c := range []struct {
				b   []byte
				off int64
			}{{b[:n], 1}, {b[:n-1], 0}, {rest(), 0}} {
				err := call(c.b, c.off)
				if err == nil && c.off == 0 && len(c.b) == n {
					continue // the kernel is not as strict with memory as it says
				}
				var errno syscall.Errno
				if !errors.Is(err, syscall.EINVAL) || !errors.As(err, &errno) || !strings.Contains(err.Error(), needs) || !strings.Contains(err.Error(), fmt.Sprintf("offset %d", c.off)) {
					t.Errorf("%s of %d bytes at %d: %v", what, len(c.b), c.off, err)
				}
			}
			if err := call(b[:n], int64(n)); err != nil {
				t.Errorf("%s, aligned: %v", what, err)
			}
		}
		for what, call := range map[string]func() error{
			"Read":   func() error { _, _, err := f.Read(ctx, b[:n-1]); return err },
			"Write":  func() error { _, _, err := f.Write(ctx, b[:n-1]); return err },
			"append": func() error { _, _, err := end.Write(ctx, b[:n-1]); return err },
		} {
			if err := call(); !errors.Is(err, syscall.EINVAL) || !strings.Contains(err.Error(), needs) || !strings.Contains(err.Error(), "length") {
				t.Errorf("%s: %v", what, err)
			}
		}
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 2 * n, Count: 1}}})
		fixed, err := pool.Get(ctx, 2*n)
		if err != nil {
			t.Error(err)
			return
		}
		defer fixed.Release()
		for what, call := range map[string]func(context.Context, []*buf.Fixed, int64) (int, []*buf.Fixed, error){
			"ReadvFixedAt": f.ReadvFixedAt, "WritevFixedAt": f.WritevFixedAt,
		} {
			for _, c := range []struct {
				n   int
				off int64
			}{{n, 1}, {n - 1, 0}} {
				_, _, err := call(ctx, []*buf.Fixed{fixed.View(0, c.n)}, c.off)
				if !errors.Is(err, syscall.EINVAL) || !strings.Contains(err.Error(), needs) || !strings.Contains(err.Error(), fmt.Sprintf("offset %d, length %d", c.off, c.n)) {
					t.Errorf("%s of %d bytes at %d: %v", what, c.n, c.off, err)
				}
			}
		}
		// What is refused for another reason is refused as it was.
		ro, err := fs.OpenFile(ctx, f.Name(), os.O_RDONLY|unix.O_DIRECT, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer ro.Close(ctx)
		var pe *fs.PathError
		if _, _, err := ro.WriteAt(ctx, b[:n], 0); !errors.As(err, &pe) || pe.Err != syscall.EBADF {
			t.Errorf("WriteAt of a file for reading: %v", err)
		}
	})
}

// TestPaddedToLimit writes padded blocks of which the file takes the first ones only: the count says so.
func TestPaddedToLimit(t *testing.T) {
	const most, begin = 1 << 30, 1<<30 - 8192 + 100
	limitSize(t, most)
	each(t, func(t *testing.T, ctx context.Context) {
		f, err := fs.OpenFile(ctx, filepath.Join(t.TempDir(), "file"), os.O_RDWR|os.O_CREATE|unix.O_DIRECT, 0o600)
		if errors.Is(err, syscall.EINVAL) {
			t.Log("needs a file system with O_DIRECT")
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close(ctx)
		want := pattern(20_001, 1)
		n, _, err := f.WriteDirectAt(ctx, want, begin, fs.Pad)
		if n != most-begin || !errors.Is(err, syscall.EFBIG) {
			t.Errorf("WriteDirectAt = %d, %v; want %d", n, err, most-begin)
		}
		if n, b, err := f.ReadDirectAt(ctx, make([]byte, 20_001), begin); n != most-begin || err != io.ErrUnexpectedEOF || !bytes.Equal(b[:n], want[:n]) {
			t.Errorf("it has %d bytes there, or others than were written, %v", n, err)
		}
	})
}

// TestPaddedBeside pads writes to one file at once, to the same block and to others, while the end of the file moves: nothing is lost.
func TestPaddedBeside(t *testing.T) { // G3
	each(t, func(t *testing.T, ctx context.Context) {
		f := openDirect(t, ctx, nil)
		if f == nil {
			return
		}
		defer f.Close(ctx)
		for round := range uint32(20) {
			if err := f.Truncate(ctx, 0); err != nil {
				t.Error(err)
			}
			const size = 700
			at := [...]int64{0, size, 2 * size, 9000, 9000 + size, 20_000}
			err := goAll(ctx, len(at), func(ctx context.Context, i int) error {
				n, _, err := f.WriteDirectAt(ctx, pattern(size, round+uint32(i)), at[i], fs.Pad)
				if err == nil && n != size {
					err = fmt.Errorf("%d bytes", n)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
			want := make([]byte, at[len(at)-1]+size)
			for i, off := range at {
				copy(want[off:], pattern(size, round+uint32(i)))
			}
			if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, want) {
				t.Errorf("round %d: the file has %d bytes of %d, or others, %v", round, len(got), len(want), err)
				return
			}
		}
	})
}

// TestPaddedBesideOthers has somebody else make the file longer, or shorter, after a padded write has looked where it ends: it stays so.
func TestPaddedBesideOthers(t *testing.T) {
	faulty(t, ring.FaultConfig{}, func(t *testing.T, ctx context.Context, faults *ring.Faults) {
		f := openDirect(t, ctx, nil)
		if f == nil {
			return
		}
		defer f.Close(ctx)
		for _, size := range []int64{5_000_000, 0} {
			if err := f.Truncate(ctx, 0); err != nil {
				t.Error(err)
			}
			other := false
			faults.Set(ring.FaultConfig{Shorten: 1e-9, Match: func(s *ring.SQE) bool {
				if size > 0 && s.Op == ring.OpWrite {
					other = true
					if err := os.Truncate(f.Name(), size); err != nil {
						t.Error(err)
					}
				}
				return false
			}})
			if n, _, err := f.WriteDirectAt(ctx, []byte("hello"), 0, fs.Pad); n != 5 || err != nil {
				t.Errorf("WriteDirectAt = %d, %v", n, err)
			}
			faults.Set(ring.FaultConfig{})
			if want := max(size, 5); other != (size > 0) {
				t.Error("the write took another way")
			} else if info, err := f.Stat(ctx); err != nil || info.Size() != want {
				t.Errorf("the file has %d bytes, want %d, %v", info.Size(), want, err)
			}
		}
	})
}

// TestPaddedLetGo has padded writes end at any moment, on a driver that lets callers go before the kernel. What is written beside one afterwards
// stays, and the file gets no longer than it has to.
func TestPaddedLetGo(t *testing.T) {
	eachWith(t, driver.Config{CancelGrace: time.Nanosecond}, func(t *testing.T, ctx context.Context) {
		const size = 700
		want := make([]byte, 2*size)
		rounds, later := uint32(200), 5*time.Microsecond
		if testing.Short() {
			rounds, later = 50, 20*time.Microsecond
		}
		for round := range rounds {
			f := openDirect(t, ctx, nil)
			if f == nil {
				return
			}
			soon, cancel := context.WithTimeout(ctx, time.Duration(round)*later)
			n, _, err := f.WriteDirectAt(soon, pattern(size, round), 0, fs.Pad)
			cancel()
			if n != size && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, driver.ErrAbandoned) { // before it writes
				t.Errorf("WriteDirectAt = %d, %v", n, err)
			}
			if n, _, err := f.WriteDirectAt(ctx, pattern(size, ^round), size, fs.Pad); n != size || err != nil {
				t.Errorf("WriteDirectAt beside it = %d, %v", n, err)
			}
			if err := f.Close(ctx); err != nil {
				t.Error(err)
			}
			got, err := os.ReadFile(f.Name())
			copy(want, pattern(size, round))
			copy(want[size:], pattern(size, ^round))
			if !bytes.HasPrefix(got, want[:size]) {
				clear(want[:size])
			}
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("round %d: the file has %d bytes of %d, or others, %v", round, len(got), len(want), err)
				return
			}
		}
	})
}

// TestPaddedAndClosed closes the file while a padded write is at its end: whatever becomes of the write, the file is not left too long.
func TestPaddedAndClosed(t *testing.T) {
	faulty(t, ring.FaultConfig{}, func(t *testing.T, ctx context.Context, faults *ring.Faults) {
		d, err := driver.FromContext(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		for _, size := range []int64{0, 100, 5000} {
			f := openDirect(t, ctx, pattern(int(size), 1))
			if f == nil {
				return
			}
			f.Pin(fs.OpWrite, fs.Ring)
			closed := make(chan error, 1)
			var once sync.Once
			faults.Set(ring.FaultConfig{Inject: 1, Match: func(e *ring.SQE) bool {
				if e.Op == ring.OpWrite {
					once.Do(func() {
						go func() { closed <- f.Close(driver.NewContext(context.Background(), d)) }()
						for f.Fd() != ^uintptr(0) {
							runtime.Gosched()
						}
					})
				}
				return false
			}})
			n, _, err := f.WriteDirectAt(ctx, pattern(1000, 2), size, fs.Pad)
			faults.Set(ring.FaultConfig{})
			once.Do(func() { closed <- f.Close(ctx) }) // it has not come to that
			if err != nil && !errors.Is(err, fs.ErrClosed) || n != 0 && n != 1000 {
				t.Errorf("WriteDirectAt = %d, %v", n, err)
			}
			if _, err := executor.Block(ctx, func() (struct{}, error) { return struct{}{}, <-closed }); err != nil {
				t.Errorf("Close: %v", err)
			}
			if info, err := os.Stat(f.Name()); err != nil || info.Size() != size+int64(n) {
				t.Errorf("%d bytes were written behind %d: the file has %d, %v", n, size, info.Size(), err)
			}
		}
	})
}
