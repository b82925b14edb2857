package fs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
	"uringo/internal/testenv"
)

// openDirect makes a file with O_DIRECT, or returns nil where the file system has none.
func openDirect(t *testing.T, ctx context.Context, content []byte) *fs.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, content, 0o644); err != nil {
		t.Error(err)
		return nil
	}
	f, err := fs.OpenFile(ctx, name, os.O_RDWR|unix.O_DIRECT, 0)
	if errors.Is(err, syscall.EINVAL) {
		t.Logf("no O_DIRECT on the file system of %s", name)
		return nil
	}
	if err != nil {
		t.Error(err)
		return nil
	}
	return f
}

// fixedOps returns how many operations the driver of ctx gave to its ring on registered memory.
func fixedOps(ctx context.Context) uint64 {
	d, err := driver.FromContext(ctx)
	if err != nil {
		return 0
	}
	return d.Stats().Fixed
}

// TestFixed reads and writes with views of pool buffers, on buffered and direct files: what arrives is what was sent, and where there is a
// ring, the memory is registered.
func TestFixed(t *testing.T) { // T27, T28, T34
	each(t, func(t *testing.T, ctx context.Context) {
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 16 << 10, Count: 4}}})
		for _, open := range []func(*testing.T, context.Context, []byte) *fs.File{openNew, openDirect} {
			content := pattern(64<<10, 7)
			f := open(t, ctx, content)
			if f == nil {
				continue
			}
			defer f.Close(ctx)
			one, err := pool.Get(ctx, 8192)
			if err != nil {
				t.Error(err)
				return
			}
			defer one.Release()
			two, err := pool.Get(ctx, 16<<10)
			if err != nil {
				t.Error(err)
				return
			}
			defer two.Release()

			n, got, err := f.ReadFixedAt(ctx, one, 4096)
			if n != 8192 || got != one || err != nil || !bytes.Equal(one.Bytes(), content[4096:4096+8192]) {
				t.Errorf("ReadFixedAt = %d, %v", n, err)
			}
			// A view in the middle leaves the rest alone.
			clear(two.Bytes())
			n, _, err = f.ReadFixedAt(ctx, two.View(4096, 8192), 0)
			if n != 4096 || err != nil {
				t.Errorf("ReadFixedAt = %d, %v", n, err)
			}
			want := make([]byte, 16<<10)
			copy(want[4096:8192], content)
			if !bytes.Equal(two.Whole().Bytes(), want) {
				t.Error("a read beside its view")
			}
			// From one buffer at two places, and from another.
			copy(two.Bytes(), pattern(16<<10, 9))
			for _, off := range []int64{0, 32 << 10} {
				if n, got, err := f.WriteFixedAt(ctx, two.View(4096, 12<<10), off); n != 8192 || got != two || err != nil {
					t.Errorf("WriteFixedAt = %d, %v", n, err)
				}
			}
			if n, _, err := f.WriteFixedAt(ctx, one, 48<<10); n != 8192 || err != nil {
				t.Errorf("WriteFixedAt = %d, %v", n, err)
			}
			copy(content, two.Bytes())
			copy(content[32<<10:], two.Bytes())
			copy(content[48<<10:], one.Bytes())
			whole, err := os.ReadFile(f.Name())
			if err != nil || !bytes.Equal(whole, content) {
				t.Errorf("the file is not what was written: %v", err)
			}
			if n, got, err := f.ReadFixedAt(ctx, two.Whole(), 60<<10); n != 4096 || got != two || err != nil {
				t.Errorf("at the tail: %d, %v", n, err)
			}
			if n, got, err := f.ReadFixedAt(ctx, two, 64<<10); n != 0 || got != two || err != io.EOF {
				t.Errorf("at the end: %d, %v", n, err)
			}
			if n, _, err := f.ReadFixedAt(ctx, two.View(3, 3), 64<<10); n != 0 || err != nil {
				t.Errorf("an empty view: %d, %v", n, err)
			}

			d, _ := driver.FromContext(ctx)
			if s := d.Stats(); (d.Engine() == driver.Uring && testenv.MayRegister(t)) != (s.Fixed > 0) && isDirect(f) {
				t.Errorf("%d operations on registered memory, %d bytes of it, on engine %v", s.Fixed, s.Registered, d.Engine())
			}
		}
	})
}

func isDirect(f *fs.File) bool {
	flag, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	return err == nil && flag&unix.O_DIRECT != 0
}

// TestFixedMisuse calls with buffers, offsets and files that are not right: the error says so, and the buffer comes back.
func TestFixedMisuse(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 2}}})
		f := openNew(t, ctx, pattern(4096, 1))
		if f == nil {
			return
		}
		b, err := pool.Get(ctx, 100)
		if err != nil {
			t.Error(err)
			return
		}
		calls := map[string]func(ctx context.Context, b *buf.Fixed, off int64) (int, *buf.Fixed, error){
			"read": f.ReadFixedAt, "write": f.WriteFixedAt, "write all": f.WriteFixedAllAt,
			"readv": one(f.ReadvFixedAt), "writev": one(f.WritevFixedAt),
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		fails := func(name string, ctx context.Context, b *buf.Fixed, off int64, want error) {
			t.Helper()
			n, got, err := calls[name](ctx, b, off)
			var pe *fs.PathError
			if n != 0 || got != b || !errors.As(err, &pe) || want != nil && !errors.Is(err, want) {
				t.Errorf("%s at %d: %d, %v", name, off, n, err)
			}
		}
		for name := range calls {
			fails(name, ctx, b, -1, nil)
			fails(name, ctx, b, 1<<63-50, syscall.EINVAL)
			fails(name, ctx, nil, 0, nil)
		}
		for _, route := range []fs.Route{fs.Auto, fs.Ring, fs.Call, fs.Inline} {
			f.Pin(fs.OpRead, route)
			f.Pin(fs.OpWrite, route)
			for name := range calls {
				fails(name, ended, b, 0, context.Canceled)
			}
		}
		gone, err := pool.Get(ctx, 1)
		if err != nil {
			t.Error(err)
			return
		}
		gone.Release()
		for name := range calls {
			fails(name, ctx, gone, 0, buf.ErrReleased)
		}
		f.Close(ctx)
		for name := range calls {
			fails(name, ctx, b, 0, fs.ErrClosed)
		}
		b.Release()

		appending, err := fs.OpenFile(ctx, f.Name(), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer appending.Close(ctx)
		if b, err = pool.Get(ctx, 1); err != nil {
			t.Error(err)
			return
		}
		defer b.Release()
		if _, _, err := appending.WriteFixedAt(ctx, b, 0); err == nil {
			t.Error("a positional write to a file opened to append")
		}
		if _, _, err := appending.ReadFixedAt(ctx, b, 0); !errors.Is(err, syscall.EBADF) {
			t.Errorf("reading what is open for writing: %v", err)
		}
		r, w := pipe(t, ctx)
		if r == nil {
			return
		}
		defer r.Close(ctx)
		defer w.Close(ctx)
		if _, _, err := r.ReadFixedAt(ctx, b, 0); !errors.Is(err, syscall.ESPIPE) {
			t.Errorf("reading a pipe at an offset: %v", err)
		}
		if _, _, err := w.WritevFixedAt(ctx, []*buf.Fixed{b}, 0); !errors.Is(err, syscall.ESPIPE) {
			t.Errorf("writing a pipe at an offset: %v", err)
		}
	})
}

// one makes a call for one buffer of one for several.
func one(f func(context.Context, []*buf.Fixed, int64) (int, []*buf.Fixed, error)) func(context.Context, *buf.Fixed, int64) (int, *buf.Fixed, error) {
	return func(ctx context.Context, b *buf.Fixed, off int64) (int, *buf.Fixed, error) {
		n, bs, err := f(ctx, []*buf.Fixed{b}, off)
		return n, bs[0], err
	}
}

// TestFixedVector moves several buffers at once, of one arena and of two.
func TestFixedVector(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		near := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 4}}})
		far := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 1}}})
		content := pattern(64<<10, 3)
		for _, open := range []func(*testing.T, context.Context, []byte) *fs.File{openNew, openDirect} {
			f := open(t, ctx, content)
			if f == nil {
				continue
			}
			defer f.Close(ctx)
			for _, last := range []*buf.Pool{near, far} {
				fixedVector(t, ctx, f, content, near, near, last)
				// As it was, for the next.
				if err := os.WriteFile(f.Name(), content, 0); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

func fixedVector(t *testing.T, ctx context.Context, f *fs.File, content []byte, pools ...*buf.Pool) {
	var bs []*buf.Fixed
	for _, p := range pools {
		b, err := p.Get(ctx, 4096)
		if err != nil {
			t.Error(err)
			return
		}
		defer b.Release()
		bs = append(bs, b)
	}
	n, got, err := f.ReadvFixedAt(ctx, bs, 8192)
	if n != 12<<10 || len(got) != 3 || err != nil {
		t.Errorf("ReadvFixedAt = %d, %v", n, err)
	}
	for i, b := range bs {
		if !bytes.Equal(b.Bytes(), content[8192+i*4096:][:4096]) {
			t.Errorf("buffer %d differs", i)
		}
	}
	bs[0], bs[2] = bs[2], bs[0]
	if n, _, err = f.WritevFixedAt(ctx, bs, 16<<10); n != 12<<10 || err != nil {
		t.Errorf("WritevFixedAt = %d, %v", n, err)
	}
	want := bytes.Clone(content)
	for i, b := range bs {
		copy(want[16<<10+i*4096:], b.Bytes())
	}
	if whole, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(whole, want) {
		t.Errorf("the file is not what was written: %v", err)
	}
	if n, _, err := f.ReadvFixedAt(ctx, bs, 64<<10); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	if n, _, err := f.ReadvFixedAt(ctx, nil, 0); n != 0 || err != nil {
		t.Errorf("no buffers: %d, %v", n, err)
	}
}

// TestFixedTogether has more tasks than buffers read and write blocks of one file, each its own, and compare.
func TestFixedTogether(t *testing.T) { // T25
	each(t, func(t *testing.T, ctx context.Context) {
		const tasks, rounds, block = 24, 20, 4096
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: block, Count: 8}}, Scrub: true})
		f := openDirect(t, ctx, make([]byte, tasks*block))
		if f == nil {
			if f = openNew(t, ctx, make([]byte, tasks*block)); f == nil {
				return
			}
		}
		defer f.Close(ctx)
		err := goAll(ctx, tasks, func(ctx context.Context, i int) error {
			rng := rand.New(rand.NewPCG(5, uint64(i)))
			for range rounds {
				want := pattern(block, rng.Uint32())
				b, err := pool.Get(ctx, block)
				if err != nil {
					return err
				}
				copy(b.Bytes(), want)
				if n, _, err := f.WriteFixedAt(ctx, b, int64(i*block)); n != block || err != nil {
					return fmt.Errorf("wrote %d, %w", n, err)
				}
				b.Release()
				if b, err = pool.Get(ctx, block); err != nil {
					return err
				}
				if n, _, err := f.ReadFixedAt(ctx, b, int64(i*block)); n != block || err != nil {
					return fmt.Errorf("read %d, %w", n, err)
				}
				if !bytes.Equal(b.Bytes(), want) {
					return fmt.Errorf("block %d is not what was written", i)
				}
				b.Release()
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestFixedCancelled cancels reads at all times: the buffer comes back with each, or home by itself, and never twice.
func TestFixedCancelled(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 1}}})
		f := openNew(t, ctx, pattern(1<<20, 1))
		if f == nil {
			return
		}
		defer f.Close(ctx)
		f.Pin(fs.OpRead, fs.Ring)
		for i := range 200 {
			b, err := pool.Get(ctx, 4096)
			if err != nil {
				t.Error(err)
				return
			}
			inner, cancel := context.WithCancel(ctx)
			task := executor.Go(inner, func(ctx context.Context) (int, error) {
				n, got, err := f.ReadFixedAt(ctx, b, int64(i)*4096)
				if (got == nil) != errors.Is(err, driver.ErrAbandoned) {
					t.Errorf("%v, %v", got, err)
				}
				return n, err
			})
			if i%2 == 0 {
				_ = executor.Yield(ctx)
			}
			cancel()
			_, err = task.Join(ctx)
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			b.Release()
		}
	})
}

// TestFixedOfTwoDrivers uses one buffer with two drivers in turn: each registers it for itself.
func TestFixedOfTwoDrivers(t *testing.T) {
	if !testenv.MayRegister(t) {
		t.Skip("needs more memory to lock")
	}
	each(t, func(t *testing.T, ctx context.Context) {
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 1}}})
		b, err := pool.Get(ctx, 4096)
		if err != nil {
			t.Error(err)
			return
		}
		defer b.Release()
		ours, _ := driver.FromContext(ctx)
		content := pattern(4096, 5)
		use := func(ctx context.Context) {
			f := openDirect(t, ctx, content)
			if f == nil {
				return
			}
			defer f.Close(ctx)
			clear(b.Bytes())
			if n, _, err := f.ReadFixedAt(ctx, b, 0); n != 4096 || err != nil || !bytes.Equal(b.Bytes(), content) {
				t.Errorf("ReadFixedAt = %d, %v", n, err)
			}
			if got := fixedOps(ctx); (got > 0) != (ours.Engine() == driver.Uring) {
				t.Errorf("%d operations on registered memory on engine %v", got, ours.Engine())
			}
		}
		use(ctx)
		_, err = executor.Block(ctx, func() (struct{}, error) {
			d, err := driver.Open(driver.Config{Engine: ours.Engine()})
			if err != nil {
				return struct{}{}, err
			}
			use(driver.NewContext(context.Background(), d))
			return struct{}{}, d.Close(context.Background())
		})
		if err != nil {
			t.Error(err)
		}
		use(ctx)
	})
}

// TestFixedAllocs sees that reading and writing with registered buffers allocates nothing.
func TestFixedAllocs(t *testing.T) {
	testenv.CountsAllocs(t, raceEnabled)
	each(t, func(t *testing.T, ctx context.Context) {
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 1}}})
		b, err := pool.Get(ctx, 4096)
		if err != nil {
			t.Error(err)
			return
		}
		defer b.Release()
		d, _ := driver.FromContext(ctx)
		for _, open := range []func(*testing.T, context.Context, []byte) *fs.File{openNew, openDirect} {
			f := open(t, ctx, pattern(8192, 1))
			if f == nil {
				continue
			}
			defer f.Close(ctx)
			if d.Engine() == driver.Portable && isDirect(f) {
				continue // which has goroutines to start
			}
			read := testing.AllocsPerRun(100, func() {
				if _, _, err := f.ReadFixedAt(ctx, b, 4096); err != nil {
					t.Error(err)
				}
			})
			write := testing.AllocsPerRun(100, func() {
				if _, _, err := f.WriteFixedAt(ctx, b, 4096); err != nil {
					t.Error(err)
				}
				if _, _, err := f.WriteFixedAllAt(ctx, b, 4096); err != nil {
					t.Error(err)
				}
			})
			if read >= 1 || write >= 1 {
				t.Errorf("ReadFixedAt allocates %.1f times, WriteFixedAt and WriteFixedAllAt %.1f times", read, write)
			}
		}
	})
}
