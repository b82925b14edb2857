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

// hasTable reports whether files can be in the ring of ctx.
func hasTable(ctx context.Context) bool {
	d, err := driver.FromContext(ctx)
	return err == nil && d.Engine() == driver.Uring
}

// TestRingFile reads and writes a file that is in the ring's table, and one with a descriptor made of it.
func TestRingFile(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 1}}})
		b, err := pool.Get(ctx, 4096)
		if err != nil {
			t.Error(err)
			return
		}
		defer b.Release()
		name := filepath.Join(t.TempDir(), "file")
		before := testenv.Files(t)
		f, err := fs.OpenInRing(ctx, name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close(ctx)
		if f.InRing() != hasTable(ctx) || f.InRing() != (len(testenv.Files(t)) == len(before)) || f.Name() != name {
			t.Errorf("in the ring: %v; %d descriptors more", f.InRing(), len(testenv.Files(t))-len(before))
		}
		want := pattern(8192, 4)
		if n, _, err := f.WriteAt(ctx, want[:5000], 0); n != 5000 || err != nil {
			t.Errorf("WriteAt = %d, %v", n, err)
		}
		copy(b.Bytes(), want[4096:])
		if n, got, err := f.WriteFixedAt(ctx, b, 4096); n != 4096 || got != b || err != nil {
			t.Errorf("WriteFixedAt = %d, %v", n, err)
		}
		if err := errors.Join(f.SyncData(ctx), f.SyncAll(ctx)); err != nil {
			t.Error(err)
		}
		if n, got, err := f.ReadAt(ctx, make([]byte, 8192), 0); n != 8192 || err != nil || !bytes.Equal(got, want) {
			t.Errorf("ReadAt = %d, %v", n, err)
		}
		clear(b.Bytes())
		if n, got, err := f.ReadFixedAt(ctx, b, 1000); n != 4096 || got != b || err != nil || !bytes.Equal(b.Bytes(), want[1000:5096]) {
			t.Errorf("ReadFixedAt = %d, %v", n, err)
		}
		if n, _, err := f.ReadAt(ctx, make([]byte, 1), 8192); n != 0 || err != io.EOF {
			t.Errorf("at the end: %d, %v", n, err)
		}
		if n, _, err := f.ReadFixedAt(ctx, b, 8192); n != 0 || err != io.EOF {
			t.Errorf("at the end: %d, %v", n, err)
		}
		if n, _, err := f.ReadAt(ctx, nil, 9000); n != 0 || err != nil {
			t.Errorf("nothing: %d, %v", n, err)
		}
		var pe *fs.PathError
		if _, _, err := f.ReadAt(ctx, b.Bytes(), -1); !errors.As(err, &pe) {
			t.Errorf("at -1: %v", err)
		}
		if _, _, err := f.WriteFixedAt(ctx, b, -1); !errors.As(err, &pe) {
			t.Errorf("at -1: %v", err)
		}
		if _, _, err := f.ReadFixedAt(ctx, nil, 0); !errors.As(err, &pe) {
			t.Errorf("no buffer: %v", err)
		}

		g, err := f.Install(ctx)
		if errors.Is(err, errors.ErrUnsupported) {
			t.Log("needs FIXED_FD_INSTALL (6.8)")
		} else if err != nil {
			t.Error(err)
		} else {
			if flag, err := unix.FcntlInt(g.Fd(), unix.F_GETFD, 0); err != nil || flag&unix.FD_CLOEXEC == 0 {
				t.Errorf("a child would inherit the descriptor: %v", err)
			}
			if info, err := g.Stat(ctx); err != nil || info.Size() != 8192 {
				t.Errorf("Stat: %v", err)
			}
			if err := f.Close(ctx); err != nil {
				t.Error(err)
			}
			if n, got, err := g.ReadAt(ctx, make([]byte, 8192), 0); n != 8192 || err != nil || !bytes.Equal(got, want) {
				t.Errorf("ReadAt = %d, %v", n, err)
			}
			if err := g.Close(ctx); err != nil {
				t.Error(err)
			}
			if err := f.Close(ctx); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("a second Close: %v", err)
			}
			if _, _, err := f.ReadAt(ctx, b.Bytes(), 0); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
			if _, err := f.Install(ctx); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
	})
}

// TestRingFileErrors opens what cannot be opened: the errors are those of Open.
func TestRingFileErrors(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		dir := t.TempDir()
		for name, want := range map[string]error{"missing": fs.ErrNotExist, "a\x00b": syscall.EINVAL} {
			var pe *fs.PathError
			_, err := fs.OpenInRing(ctx, filepath.Join(dir, name), os.O_RDONLY, 0)
			if !errors.As(err, &pe) || pe.Op != "open" || !errors.Is(err, want) {
				t.Errorf("%q: %v", name, err)
			}
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := fs.OpenInRing(ended, dir, os.O_RDONLY, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want context.Canceled", err)
		}
	})
	if _, err := fs.OpenInRing(t.Context(), "/", os.O_RDONLY, 0); !errors.Is(err, driver.ErrNoDriver) {
		t.Errorf("%v, want ErrNoDriver", err)
	}
}

// TestRingFileReuse has tasks open, write, close and read back tagged files, so that places are used again all the time: none gets what
// was meant for another.
func TestRingFileReuse(t *testing.T) { // HAZARDS T4
	each(t, func(t *testing.T, ctx context.Context) {
		const tasks, rounds = 16, 25
		dir := t.TempDir()
		err := goAll(ctx, tasks, func(ctx context.Context, i int) error {
			rng := rand.New(rand.NewPCG(7, uint64(i)))
			name := filepath.Join(dir, fmt.Sprint(i))
			for round := range rounds {
				tag := fmt.Appendf(nil, "%32d%32d", i, round)
				f, err := fs.OpenInRing(ctx, name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
				if err != nil {
					return err
				}
				if n, _, err := f.WriteAt(ctx, bytes.Clone(tag), 0); n != len(tag) || err != nil {
					return fmt.Errorf("wrote %d, %w", n, err)
				}
				var reading *executor.JoinHandle[int]
				if rng.IntN(2) == 0 { // Close races with it
					reading = executor.Go(ctx, func(ctx context.Context) (int, error) {
						n, got, err := f.ReadAt(ctx, make([]byte, 64), 0)
						if err == nil && !bytes.Equal(got[:n], tag[:n]) {
							t.Errorf("task %d read %q", i, got[:n])
						}
						return n, err
					})
				}
				if err := f.Close(ctx); err != nil {
					return err
				}
				if reading != nil {
					if _, err := reading.Join(ctx); err != nil && !errors.Is(err, fs.ErrClosed) {
						return err
					}
				}
				if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, tag) {
					return fmt.Errorf("file %d has %q, %w", i, got, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestRingFileExhaustion opens more files than the table holds: the rest have descriptors, and all of them work.
func TestRingFileExhaustion(t *testing.T) { // G11
	each(t, func(t *testing.T, ctx context.Context) {
		const most = 5000
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 2*most {
			t.Skipf("needs %d open files, the limit is %d", 2*most, limit.Cur)
		}
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, []byte("content"), 0o600); err != nil {
			t.Error(err)
			return
		}
		var all []*fs.RingFile
		defer func() {
			for _, f := range all {
				if err := f.Close(ctx); err != nil {
					t.Error(err)
				}
			}
		}()
		outside := 0
		for len(all) < most && outside < 3 {
			f, err := fs.OpenInRing(ctx, name, os.O_RDONLY, 0)
			if err != nil {
				t.Error(err)
				return
			}
			if all = append(all, f); !f.InRing() {
				outside++
			}
		}
		if outside != 3 || hasTable(ctx) != (len(all) > 3) {
			t.Errorf("%d files, %d of them not in the ring", len(all), outside)
		}
		for _, f := range []*fs.RingFile{all[0], all[len(all)-1], all[len(all)/2]} {
			if n, got, err := f.ReadAt(ctx, make([]byte, 10), 0); n != 7 || err != nil || string(got[:n]) != "content" {
				t.Errorf("ReadAt = %d, %v", n, err)
			}
		}
		if g, err := all[len(all)-1].Install(ctx); err != nil {
			t.Error(err)
		} else if err := g.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestRingFileElsewhere uses a file with another driver, where its place would be another file.
func TestRingFileElsewhere(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		if !hasTable(ctx) {
			return
		}
		f, err := fs.OpenInRing(ctx, os.Args[0], os.O_RDONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		_, err = executor.Block(ctx, func() (struct{}, error) {
			d, err := driver.Open(driver.Config{Engine: driver.Uring})
			if err != nil {
				return struct{}{}, err
			}
			other := driver.NewContext(context.Background(), d)
			b := make([]byte, 10)
			if n, got, err := f.ReadAt(other, b, 0); n != 0 || err == nil || &got[0] != &b[0] {
				t.Errorf("read %d bytes by way of another driver", n)
			}
			if _, err := f.Install(other); err == nil {
				t.Error("installed by way of another driver")
			}
			if err := f.Close(other); err != nil { // by way of its own
				t.Error(err)
			}
			return struct{}{}, d.Close(context.Background())
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestRingFileAllocs sees that reading and writing allocates nothing.
func TestRingFileAllocs(t *testing.T) {
	testenv.CountsAllocs(t, raceEnabled)
	each(t, func(t *testing.T, ctx context.Context) {
		if !hasTable(ctx) {
			return
		}
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 1}}})
		b, err := pool.Get(ctx, 4096)
		if err != nil {
			t.Error(err)
			return
		}
		defer b.Release()
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, pattern(4096, 1), 0o600); err != nil {
			t.Error(err)
			return
		}
		f, err := fs.OpenInRing(ctx, name, os.O_RDWR, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close(ctx)
		plain := make([]byte, 4096)
		for name, call := range map[string]func() error{
			"WriteAt":      func() error { _, _, err := f.WriteAt(ctx, plain, 0); return err },
			"ReadAt":       func() error { _, _, err := f.ReadAt(ctx, plain, 0); return err },
			"WriteFixedAt": func() error { _, _, err := f.WriteFixedAt(ctx, b, 0); return err },
			"ReadFixedAt":  func() error { _, _, err := f.ReadFixedAt(ctx, b, 0); return err },

			"WriteFixedAllAt": func() error { _, _, err := f.WriteFixedAllAt(ctx, b, 0); return err },
		} {
			if err := call(); err != nil {
				t.Error(err)
			}
			if n := testing.AllocsPerRun(100, func() {
				if err := call(); err != nil {
					t.Error(err)
				}
			}); n >= 1 {
				t.Errorf("%s allocates %.1f times", name, n)
			}
		}
	})
}

// TestRingFileAppend opens a file to append, which a RingFile has no way to do: it says so at once, and makes no file.
func TestRingFileAppend(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		name := filepath.Join(t.TempDir(), "file")
		f, err := fs.OpenInRing(ctx, name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		var pe *fs.PathError
		if !errors.As(err, &pe) || pe.Op != "open" || pe.Path != name || !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%v", err)
		}
		if f != nil {
			t.Error(f.Close(ctx))
		}
		if _, err := os.Lstat(name); !os.IsNotExist(err) {
			t.Errorf("the file is there: %v", err)
		}
	})
}
