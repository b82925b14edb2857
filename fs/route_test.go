package fs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
	"uringo/internal/testenv"
)

var operations = []fs.Operation{fs.OpRead, fs.OpWrite, fs.OpSync, fs.OpStat, fs.OpAttr, fs.OpOpen, fs.OpCreate, fs.OpRemove, fs.OpMkdir,
	fs.OpRename, fs.OpLink, fs.OpList, fs.OpCopy, fs.OpClose}

// TestRoutes does a bit of everything by every route: what comes out is the same.
func TestRoutes(t *testing.T) {
	for _, route := range []fs.Route{fs.Auto, fs.Inline, fs.Ring, fs.Call} {
		t.Run(route.String(), func(t *testing.T) {
			for _, op := range operations {
				defer fs.Pin(op, fs.Pin(op, route))
			}
			each(t, func(t *testing.T, ctx context.Context) { someOfAll(t, ctx) })
		})
	}
}

func someOfAll(t *testing.T, ctx context.Context) {
	dir := t.TempDir()
	name := filepath.Join(dir, "sub/file")
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("Mkdir", fs.Mkdir(ctx, filepath.Dir(name), 0o755))
	f, err := fs.Create(ctx, name)
	if err != nil {
		t.Error(err)
		return
	}
	want := pattern(50_000, 4)
	_, _, err = f.WriteAllAt(ctx, want, 0)
	check("WriteAllAt", err)
	_, _, err = f.WritevAt(ctx, [][]byte{want[:10], want[10:20]}, 50_000)
	check("WritevAt", err)
	check("SyncAll", f.SyncAll(ctx))
	check("SyncData", f.SyncData(ctx))
	check("Truncate", f.Truncate(ctx, 50_000))
	check("Chmod", f.Chmod(ctx, 0o600))
	if info, err := f.Stat(ctx); err != nil || info.Size() != 50_000 || info.Mode() != 0o600 {
		t.Errorf("Stat = %v, %v", info, err)
	}
	if n, b, err := f.ReadExactAt(ctx, make([]byte, 50_000), 0); n != 50_000 || err != nil || !bytes.Equal(b, want) {
		t.Errorf("ReadExactAt = %d, %v", n, err)
	}
	two := [][]byte{make([]byte, 20_000), make([]byte, 40_000)}
	if n, _, err := f.ReadvAt(ctx, two, 0); n != 50_000 || err != nil || !bytes.Equal(append(two[0], two[1][:30_000]...), want) {
		t.Errorf("ReadvAt = %d, %v", n, err)
	}
	g, err := fs.OpenFile(ctx, name+".copy", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Error(err)
		return
	}
	if n, _, err := g.CopyRange(ctx, 0, f, 0, -1); n != 50_000 || err != nil {
		t.Errorf("CopyRange = %d, %v", n, err)
	}
	check("Close", errors.Join(f.Close(ctx), g.Close(ctx)))
	check("Rename", fs.Rename(ctx, name+".copy", name+".2"))
	check("Link", fs.Link(ctx, name, name+".3"))
	check("Symlink", fs.Symlink(ctx, "file", name+".4"))
	if info, err := fs.Lstat(ctx, name+".4"); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("Lstat = %v, %v", info, err)
	}
	if b, err := fs.ReadFile(ctx, name+".2"); err != nil || !bytes.Equal(b, want) {
		t.Errorf("ReadFile = %d bytes, %v", len(b), err)
	}
	if list, err := fs.ReadDir(ctx, filepath.Dir(name)); err != nil || len(list) != 4 {
		t.Errorf("ReadDir = %v, %v", list, err)
	}
	check("Remove", fs.Remove(ctx, name))
	check("RemoveAll", fs.RemoveAll(ctx, filepath.Dir(name)))
	if _, err := fs.Stat(ctx, name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat of what was removed: %v", err)
	}
}

// TestRemote does a bit of everything as if it were on file systems that may not answer.
func TestRemote(t *testing.T) {
	defer fs.AllRemote()()
	each(t, func(t *testing.T, ctx context.Context) {
		someOfAll(t, ctx)
		f := openNew(t, ctx, pattern(4096, 1))
		if f == nil {
			return
		}
		d, err := driver.FromContext(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		before := d.Stats().Routes
		for range 50 {
			if _, _, err := f.ReadAt(ctx, make([]byte, 4096), 0); err != nil {
				t.Error(err)
			}
			if _, _, err := f.WriteAt(ctx, make([]byte, 4096), 0); err != nil {
				t.Error(err)
			}
			if _, err := f.Stat(ctx); err != nil {
				t.Error(err)
			}
		}
		after := d.Stats().Routes
		for _, route := range []string{"inline", "direct"} {
			if after[route] != before[route] {
				t.Errorf("%d operations took the route %s", after[route]-before[route], route)
			}
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if err := f.Close(ended); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Close: %v", err)
		}
	})
}

// TestPinFile pins one file, which precedes the program.
func TestPinFile(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		f := openNew(t, ctx, pattern(4096, 1))
		if f == nil {
			return
		}
		defer f.Close(ctx)
		for _, op := range operations {
			for _, route := range []fs.Route{fs.Ring, fs.Call, fs.Inline, fs.Auto} {
				f.Pin(op, route)
				if was := f.Pin(op, route); was != route {
					t.Errorf("pinned %v, found %v", route, was)
				}
			}
		}
		d, err := driver.FromContext(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		buf := make([]byte, 4096)
		for _, route := range []fs.Route{fs.Auto, fs.Inline} {
			f.Pin(fs.OpRead, route)
			before := d.Stats().Routes
			for range 16 { // which are counted at once
				if _, _, err := f.ReadAt(ctx, buf, 0); err != nil {
					t.Error(err)
				}
			}
			after := d.Stats().Routes
			tried, direct := after["inline"]-before["inline"], after["direct"]-before["direct"]
			// On some file systems, nothing can be tried; and what proves slow is handed over.
			if tried+direct == 0 || route == fs.Inline && direct != 16 {
				t.Errorf("%v: %d tried, %d direct", route, tried, direct)
			}
		}
	})
}

// TestPinPipe pins what reads a pipe to plain calls. The task that waits for something to come holds up no other, such as the one that brings it.
func TestPinPipe(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for _, route := range []fs.Route{fs.Auto, fs.Inline, fs.Ring, fs.Call} {
			r, w := pipe(t, ctx)
			if r == nil {
				return
			}
			r.Pin(fs.OpRead, route)
			fd := int(w.Fd())
			held := time.AfterFunc(time.Minute, func() { // or the test would never end
				t.Errorf("%v: the task that waits holds up the others", route)
				_, _ = unix.Write(fd, []byte("late"))
			})
			var reading atomic.Bool
			read := executor.GoHere(ctx, func(ctx context.Context) (string, error) {
				reading.Store(true)
				n, buf, err := r.Read(ctx, make([]byte, 4))
				return string(buf[:n]), err
			})
			for !reading.Load() {
				if err := executor.Yield(ctx); err != nil {
					t.Error(err)
					return
				}
			}
			if _, _, err := w.Write(ctx, []byte("came")); err != nil {
				t.Error(err)
			}
			held.Stop()
			if s, err := read.Join(ctx); s != "came" || err != nil {
				t.Errorf("%v: Read = %q, %v", route, s, err)
			}
			r.Close(ctx)
			w.Close(ctx)
		}
	})
}

// TestDirect reads and writes past the page cache.
func TestDirect(t *testing.T) { // T12
	each(t, func(t *testing.T, ctx context.Context) {
		name := filepath.Join(t.TempDir(), "direct")
		f, err := fs.OpenFile(ctx, name, os.O_RDWR|os.O_CREATE|unix.O_DIRECT, 0o600)
		if errors.Is(err, unix.EINVAL) {
			t.Skip("needs a file system with O_DIRECT")
		}
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close(ctx)
		mem, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS) // which is aligned
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Munmap(mem)
		copy(mem, pattern(1<<20, 8))
		if n, _, err := f.WriteAllAt(ctx, mem, 0); n != 1<<20 || err != nil {
			t.Errorf("WriteAllAt = %d, %v", n, err)
		}
		clear(mem)
		if n, _, err := f.ReadExactAt(ctx, mem, 0); n != 1<<20 || err != nil || !bytes.Equal(mem, pattern(1<<20, 8)) {
			t.Errorf("ReadExactAt = %d, %v", n, err)
		}
	})
}

// TestColdRead reads a file that has been dropped from the page cache, and one of which a part is there.
func TestColdRead(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		const size = 4 << 20
		want := pattern(size, 6)
		f := openNew(t, ctx, want)
		if f == nil {
			return
		}
		defer f.Close(ctx)
		for round := range 3 {
			if err := errors.Join(f.SyncAll(ctx), f.Fadvise(ctx, 0, 0, unix.FADV_DONTNEED)); err != nil {
				t.Error(err)
			}
			if round > 0 { // pages here and there
				for range 20 {
					if _, err := unix.Pread(int(f.Fd()), make([]byte, 10), rand.Int64N(size)); err != nil {
						t.Error(err)
					}
				}
			}
			for off := 0; off < size; {
				n, b, err := f.ReadAt(ctx, make([]byte, 300_000), int64(off))
				if n <= 0 || err != nil || !bytes.Equal(b[:n], want[off:off+n]) {
					t.Errorf("ReadAt(%d) = %d, %v", off, n, err)
					return
				}
				if n < 300_000 && off+n != size {
					t.Errorf("ReadAt(%d) = %d, short before the end", off, n)
				}
				off += n
			}
		}
	})
}

// TestColdWholeFile writes and reads files whole by every route, when the page cache has nothing of them.
func TestColdWholeFile(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		want := pattern(1<<20, 7)
		name := filepath.Join(t.TempDir(), "whole")
		for _, r := range []fs.Route{fs.Auto, fs.Inline, fs.Ring, fs.Call} {
			read, write := fs.Pin(fs.OpRead, r), fs.Pin(fs.OpWrite, r)
			err := fs.WriteFile(ctx, name, want, 0o600)
			forget(t, name)
			b, rerr := fs.ReadFile(ctx, name)
			if err = errors.Join(err, rerr); err != nil || !bytes.Equal(b, want) {
				t.Errorf("%v: %d bytes, %v", r, len(b), err)
			}
			fs.Pin(fs.OpRead, read)
			fs.Pin(fs.OpWrite, write)
		}

		// What is opened to stay waits for the disk on whatever route it will take.
		f, err := fs.OpenFile(ctx, name, os.O_RDWR, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close(ctx)
		if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
			t.Errorf("flags of the descriptor: %#x, %v", flags, err)
		}
	})
}

// TestConcurrent has many tasks read and write their parts of one file, and compares with what they know.
func TestConcurrent(t *testing.T) { // HAZARDS T25
	each(t, func(t *testing.T, ctx context.Context) {
		const tasks, part = 16, 64 << 10
		f := openNew(t, ctx, make([]byte, tasks*part))
		if f == nil {
			return
		}
		defer f.Close(ctx)
		err := goAll(ctx, tasks, func(ctx context.Context, i int) error {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			oracle := make([]byte, part)
			for round := range 60 {
				off := rng.IntN(part)
				b := make([]byte, 1+rng.IntN(min(9000, part-off)))
				if round%3 == 0 {
					copy(b, pattern(len(b), rng.Uint32()))
					if n, _, err := f.WriteAllAt(ctx, b, int64(i*part+off)); n != len(b) || err != nil {
						return fmt.Errorf("WriteAllAt = %d, %w", n, err)
					}
					copy(oracle[off:], b)
					continue
				}
				if n, _, err := f.ReadExactAt(ctx, b, int64(i*part+off)); n != len(b) || err != nil {
					return fmt.Errorf("ReadExactAt = %d, %w", n, err)
				}
				if !bytes.Equal(b, oracle[off:off+len(b)]) {
					return fmt.Errorf("task %d, round %d: %d bytes at %d differ", i, round, len(b), off)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestAllocs sees that reading and writing allocate nothing.
func TestAllocs(t *testing.T) {
	testenv.CountsAllocs(t, raceEnabled)
	each(t, func(t *testing.T, ctx context.Context) {
		f := openNew(t, ctx, pattern(8192, 1))
		if f == nil {
			return
		}
		defer f.Close(ctx)
		buf := make([]byte, 4096)
		d, _ := driver.FromContext(ctx)
		for _, route := range []fs.Route{fs.Auto, fs.Ring} {
			if d.Engine() == driver.Portable && route == fs.Ring {
				continue // which has goroutines to start
			}
			f.Pin(fs.OpRead, route)
			f.Pin(fs.OpWrite, route)
			read := testing.AllocsPerRun(200, func() {
				if _, _, err := f.ReadAt(ctx, buf, 4096); err != nil {
					t.Error(err)
				}
			})
			write := testing.AllocsPerRun(200, func() {
				if _, _, err := f.WriteAt(ctx, buf, 4096); err != nil {
					t.Error(err)
				}
			})
			if read >= 1 || write >= 1 {
				t.Errorf("%v: ReadAt allocates %.1f times, WriteAt %.1f times", route, read, write)
			}
		}
	})
}

// TestOutside uses files from a plain goroutine whose context carries a driver, and from one whose context carries none.
func TestOutside(t *testing.T) {
	for _, engine := range testenv.Engines(t) {
		t.Run(engine.String(), func(t *testing.T) {
			before := testenv.Descriptors(t)
			d, err := driver.Open(driver.Config{Engine: engine})
			if err != nil {
				t.Fatal(err)
			}
			ctx := driver.NewContext(t.Context(), d)
			someOfAll(t, ctx)
			if _, err := fs.Open(t.Context(), "/"); !errors.Is(err, driver.ErrNoDriver) {
				t.Errorf("Open without a driver: %v", err)
			}
			if _, _, err := fs.Pipe(t.Context()); !errors.Is(err, driver.ErrNoDriver) || !errors.As(err, new(*fs.PathError)) {
				t.Errorf("Pipe without a driver: %T %v", err, err)
			}
			f := openNew(t, ctx, []byte("outlives"))
			g := openNew(t, ctx, []byte("closed without"))
			if err := g.Close(context.Background()); err != nil {
				t.Errorf("Close without a driver: %v", err)
			}
			if err := d.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if _, _, err := f.ReadAt(ctx, make([]byte, 10), 100); err != nil && !errors.Is(err, driver.ErrClosed) && err.Error() != "EOF" {
				t.Errorf("ReadAt after the driver's end: %v", err)
			}
			f.Pin(fs.OpRead, fs.Ring)
			if _, _, err := f.ReadAt(ctx, make([]byte, 10), 0); !errors.Is(err, driver.ErrClosed) {
				t.Errorf("ReadAt by the ring after the driver's end: %v", err)
			}
			if err := f.Close(ctx); err != nil {
				t.Errorf("Close after the driver's end: %v", err)
			}
			testenv.NoneLeft(t, before)
		})
	}
}

// TestFairness has one task work without end, on what is cached, beside one that only wants to run now and then. Neither route spares the
// others their turn.
func TestFairness(t *testing.T) { // HAZARDS T31
	each(t, func(t *testing.T, ctx context.Context) {
		f := openNew(t, ctx, make([]byte, 4096))
		if f == nil {
			return
		}
		defer f.Close(ctx)
		buf, most := make([]byte, 4096), 100_000
		if executor.CallerOf(ctx).MayBlock() {
			most = 1_000_000 // it is between the scheduler and a busy machine
		}
		for _, route := range []fs.Route{fs.Auto, fs.Inline} {
			for op, work := range map[fs.Operation]func(ctx context.Context) error{
				fs.OpRead: func(ctx context.Context) error { _, _, err := f.ReadAt(ctx, buf, 0); return err },
				fs.OpAttr: func(ctx context.Context) error { return f.Chmod(ctx, 0o600) },
			} {
				f.Pin(op, route)
				rounds, turns := 0, 0
				done := new(executor.Event)
				greedy := executor.GoHere(ctx, func(ctx context.Context) (struct{}, error) {
					for ; !done.IsSet() && rounds < 2*most; rounds++ {
						if err := work(ctx); err != nil {
							return struct{}{}, err
						}
					}
					return struct{}{}, nil
				})
				for ; turns < 20; turns++ {
					if err := executor.Yield(ctx); err != nil {
						t.Error(err)
					}
				}
				done.Set()
				if _, err := greedy.Join(ctx); err != nil {
					t.Error(err)
				}
				if rounds > most {
					t.Errorf("operation %d by route %v: %d of them went by before another task had run %d times", op, route, rounds, turns)
				}
			}
		}
	})
}

// TestReadBesideDirect reads from the page cache while many other tasks read past it. They have the ring busy, but nothing to do with how such
// a read is done best.
func TestReadBesideDirect(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		f := openNew(t, ctx, pattern(4096, 1))
		if f == nil {
			return
		}
		defer f.Close(ctx)
		direct, err := fs.OpenFile(ctx, f.Name(), os.O_RDONLY|unix.O_DIRECT, 0)
		if errors.Is(err, unix.EINVAL) {
			t.Skip("needs a file system with O_DIRECT")
		}
		if err != nil {
			t.Error(err)
			return
		}
		defer direct.Close(ctx)
		mem, err := unix.Mmap(-1, 0, 32*4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Munmap(mem)
		d, err := driver.FromContext(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		var over atomic.Bool
		err = goAll(ctx, 1+len(mem)/4096, func(ctx context.Context, i int) error {
			if i > 0 {
				b := mem[(i-1)*4096 : i*4096]
				for j := 0; j < 500 && !over.Load(); j++ { // a pool has no room for all: somebody has to come to an end
					if _, _, err := direct.ReadAt(ctx, b, 0); err != nil {
						return err
					}
				}
				return nil
			}
			defer over.Store(true)
			b := make([]byte, 4096)
			if _, _, err := f.ReadAt(ctx, b, 0); err != nil { // which may fetch it
				return err
			}
			const n = 100
			before := d.Stats().Routes
			for range n {
				if _, _, err := f.ReadAt(ctx, b, 0); err != nil {
					return err
				}
				if err := executor.Sleep(ctx, 100*time.Microsecond); err != nil { // the others have something to do
					return err
				}
			}
			after := d.Stats().Routes
			if in := after["inline"] + after["direct"] - before["inline"] - before["direct"]; in < n*3/4 {
				t.Errorf("of %d reads, %d in place", n, in)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}
