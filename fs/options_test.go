package fs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/executor"
	"uringo/fs"
	"uringo/internal/ring"
)

// TestOpenOptions tries all combinations: each opens what its words say, or is refused before the kernel is asked.
func TestOpenOptions(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		dir := t.TempDir()
		d, err := fs.OpenDir(ctx, dir)
		if err != nil {
			t.Error(err)
			return
		}
		defer d.Close(ctx)
		for bits := range 64 {
			o := fs.OpenOptions{Read: bits&1 != 0, Write: bits&2 != 0, Append: bits&4 != 0, Truncate: bits&8 != 0, Create: bits&16 != 0,
				CreateNew: bits&32 != 0}
			writes := o.Write || o.Append
			valid := (o.Read || writes) && (writes || !o.Create && !o.CreateNew) && (!o.Truncate || o.CreateNew || o.Write && !o.Append)
			for _, exists := range []bool{false, true} {
				name := filepath.Join(dir, "file")
				if exists {
					if err := os.WriteFile(name, []byte("content"), 0o600); err != nil {
						t.Error(err)
					}
				}
				f, err := o.Open(ctx, name)
				if bits%2 == 0 && err == nil {
					if err := f.Close(ctx); err != nil {
						t.Error(err)
					}
					if !exists || o.CreateNew {
						os.Remove(name)
					}
					f, err = o.OpenIn(ctx, d, "file")
				}
				var want error
				switch {
				case !valid:
					want = syscall.EINVAL
				case exists && o.CreateNew:
					want = fs.ErrExist
				case !exists && !o.Create && !o.CreateNew:
					want = fs.ErrNotExist
				}
				if !errors.Is(err, want) {
					t.Errorf("%+v, exists %t: %v, want %v", o, exists, err, want)
				}
				if err == nil {
					checkOpened(t, ctx, f, o, exists)
					if err := f.Close(ctx); err != nil {
						t.Error(err)
					}
				}
				if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Error(err)
				}
			}
		}
		for _, o := range []fs.OpenOptions{{Read: true, Unnamed: true}, {Write: true, Unnamed: true, Create: true},
			{Write: true, Flags: os.O_CREATE}, {Read: true, Flags: os.O_WRONLY}, {Write: true, Create: true, Mode: os.ModeDir | 0o600}} {
			if _, err := o.Open(ctx, dir); !errors.Is(err, syscall.EINVAL) {
				t.Errorf("%+v: %v", o, err)
			}
		}
		f, err := fs.OpenOptions{Read: true, Write: true, Unnamed: true, Mode: 0o640}.Open(ctx, dir)
		if errors.Is(err, syscall.EOPNOTSUPP) {
			return // of the file system
		}
		if err != nil {
			t.Error(err)
			return
		}
		if st, err := f.Statx(ctx, 0, unix.STATX_BASIC_STATS); err != nil || st.Nlink != 0 || st.Mode&0o777 != 0o640 {
			t.Errorf("without a name: %+v, %v", st, err)
		}
		if err := f.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}

func checkOpened(t *testing.T, ctx context.Context, f *fs.File, o fs.OpenOptions, exists bool) {
	t.Helper()
	had := 0
	if exists && !o.Truncate {
		had = len("content")
	}
	info, err := f.Stat(ctx)
	if err != nil || info.Size() != int64(had) {
		t.Errorf("%+v: %v, %v", o, info, err)
	}
	if _, _, err := f.ReadAt(ctx, make([]byte, 1), 0); (err == nil || err == io.EOF) != o.Read {
		t.Errorf("%+v: reading: %v", o, err)
	}
	if _, _, err := f.Write(ctx, []byte("x")); (err == nil) != (o.Write || o.Append) {
		t.Errorf("%+v: writing: %v", o, err)
	}
	if info, err := f.Stat(ctx); o.Append && (err != nil || info.Size() != int64(had)+1) {
		t.Errorf("%+v: appended: %v, %v", o, info, err)
	}
}

func TestMakePipe(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		r, w, err := fs.Pipe(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		writing := executor.Go(ctx, func(ctx context.Context) (int, error) {
			n, _, err := w.Write(ctx, pattern(200_000, 3))
			return n, errors.Join(err, w.Close(ctx))
		})
		var got []byte
		for {
			n, b, err := r.Read(ctx, make([]byte, 5000))
			if got = append(got, b[:n]...); err != nil {
				if err != io.EOF {
					t.Error(err)
				}
				break
			}
		}
		if n, err := writing.Join(ctx); n != 200_000 || err != nil || !bytes.Equal(got, pattern(200_000, 3)) {
			t.Errorf("wrote %d, %v, read %d", n, err, len(got))
		}
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
		if _, _, err := fs.Pipe(context.Background()); err == nil {
			t.Error("a pipe without a driver")
		}
	})
}

// TestLocks locks one file by several Files.
func TestLocks(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		a := openNew(t, ctx, nil)
		if a == nil {
			return
		}
		defer a.Close(ctx)
		b, err := fs.OpenFile(ctx, a.Name(), os.O_RDWR, 0)
		if err != nil {
			t.Error(err)
			return
		}
		try := func(what string, got bool, err error, want bool) {
			t.Helper()
			if got != want || err != nil {
				t.Errorf("%s = %t, %v", what, got, err)
			}
		}
		if err := a.RLock(ctx); err != nil {
			t.Error(err)
		}
		ok, err := b.TryRLock(ctx)
		try("TryRLock beside RLock", ok, err, true)
		ok, err = b.TryLock(ctx)
		try("TryLock beside RLock", ok, err, false)
		if err := a.Unlock(ctx); err != nil {
			t.Error(err)
		}
		ok, err = b.TryLock(ctx)
		try("TryLock", ok, err, true)
		short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		defer cancel()
		var pe *fs.PathError
		if err := a.Lock(short); !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &pe) || pe.Path != a.Name() {
			t.Errorf("Lock of what is locked: %v", err)
		}
		waiting := executor.Go(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, a.Lock(ctx) })
		if err := executor.Sleep(ctx, 3*time.Millisecond); err != nil {
			t.Error(err)
		}
		if err := b.Close(ctx); err != nil { // gives the lock up
			t.Error(err)
		}
		if _, err := waiting.Join(ctx); err != nil {
			t.Error(err)
		}
		if err := b.Lock(ctx); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Lock of what is closed: %v", err)
		}
		r, err := fs.Open(ctx, a.Name())
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Close(ctx)
		if err := r.Lock(ctx); !errors.Is(err, syscall.EBADF) {
			t.Errorf("Lock of a file to read: %v", err)
		}

		// Many tasks, each with a File of its own, one at a time. Whoever defers Unlock may do so with a ctx that has ended by then.
		ended, end := context.WithCancel(ctx)
		end()
		if err := a.Unlock(ended); err != nil {
			t.Error(err)
		}
		var inside atomic.Bool
		var count atomic.Int32
		err = goAll(ctx, 6, func(ctx context.Context, i int) error {
			f, err := fs.OpenFile(ctx, a.Name(), os.O_RDWR, 0)
			if err != nil {
				return err
			}
			for range 3 {
				if err := f.Lock(ctx); err != nil {
					return err
				}
				if inside.Swap(true) {
					t.Error("two at once")
				}
				if err := executor.Yield(ctx); err != nil {
					return err
				}
				inside.Store(false)
				count.Add(1)
				if err := f.Unlock(ctx); err != nil {
					return err
				}
			}
			return f.Close(ctx)
		})
		if err != nil || count.Load() != 18 {
			t.Errorf("%d, %v", count.Load(), err)
		}
	})
}

// TestCloseUnlocks closes a locked file that somebody else has open as well, as the kernel has for a moment when one of its threads has
// done something with it: the lock is gone when Close returns.
func TestCloseUnlocks(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		a := openNew(t, ctx, []byte("content"))
		if a == nil {
			return
		}
		defer a.Close(ctx)
		for _, remote := range []bool{false, true} {
			if remote {
				defer fs.AllRemote()()
			}
			for _, route := range []fs.Route{fs.Auto, fs.Ring, fs.Call, fs.Inline} {
				b, err := fs.OpenFile(ctx, a.Name(), os.O_RDWR, 0)
				if err != nil {
					t.Error(err)
					return
				}
				b.Pin(fs.OpClose, route)
				other, err := unix.FcntlInt(b.Fd(), unix.F_DUPFD_CLOEXEC, 0)
				if err != nil {
					t.Error(err)
					return
				}
				if err := errors.Join(b.Lock(ctx), b.Close(ctx)); err != nil {
					t.Error(err)
				}
				if ok, err := a.TryLock(ctx); !ok || err != nil {
					t.Errorf("closed by %v, remote %t: TryLock = %t, %v", route, remote, ok, err)
				}
				if err := errors.Join(a.Unlock(ctx), unix.Close(other)); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// TestLateCloseUnlocks closes a locked file that somebody else has open as well, or takes its descriptor away, with a context that has ended, while
// something is under way on it: the lock is gone when the file is closed, in the background.
func TestLateCloseUnlocks(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		a := openNew(t, ctx, []byte("content"))
		if a == nil {
			return
		}
		defer a.Close(ctx)
		for what, end := range map[string]func(ctx context.Context, f *fs.File) error{
			"Close":  func(ctx context.Context, f *fs.File) error { return f.Close(ctx) },
			"Detach": func(ctx context.Context, f *fs.File) error { _, err := f.Detach(ctx); return err },
		} {
			b, err := fs.OpenFile(ctx, a.Name(), os.O_RDWR, 0)
			if err != nil {
				t.Error(err)
				return
			}
			other, err := unix.FcntlInt(b.Fd(), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer unix.Close(other)
			conn, err := b.SyscallConn()
			if err := errors.Join(err, b.Lock(ctx)); err != nil {
				t.Error(err)
				return
			}
			err = conn.Control(func(uintptr) {
				ended, cancel := context.WithCancel(ctx)
				cancel()
				if err := end(ended, b); !errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v", what, err)
				}
			})
			if err != nil {
				t.Error(err)
			}
			soon, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			if err := a.Lock(soon); err != nil {
				t.Errorf("%s: the lock stays: %v", what, err)
				return
			}
			if err := a.Unlock(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestCallFlags gives single calls options of their own.
func TestCallFlags(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		f := openNew(t, ctx, []byte("0123456789"))
		if f == nil {
			return
		}
		defer f.Close(ctx)
		if n, _, err := f.WriteAtFlags(ctx, []byte("ab"), 2, unix.RWF_DSYNC); n != 2 || err != nil {
			t.Errorf("RWF_DSYNC: %d, %v", n, err)
		}
		if n, _, err := f.WriteAtFlags(ctx, []byte("end"), -1, unix.RWF_APPEND); n != 3 || err != nil {
			t.Errorf("RWF_APPEND: %d, %v", n, err)
		}
		n, b, err := f.ReadAtFlags(ctx, make([]byte, 20), 0, 0)
		if string(b[:n]) != "01ab456789end" || err != nil {
			t.Errorf("read %q, %v", b[:n], err)
		}
		if n, _, err := f.ReadAtFlags(ctx, b, 13, 0); n != 0 || err != io.EOF {
			t.Errorf("at the end: %d, %v", n, err)
		}
		// What is in the page cache need not wait for.
		if n, _, err := f.ReadAtFlags(ctx, b, 0, unix.RWF_NOWAIT); (n != 13 || err != nil) && !errors.Is(err, syscall.EOPNOTSUPP) {
			t.Errorf("RWF_NOWAIT: %d, %v", n, err)
		}
		if n, _, err := f.ReadAtFlags(ctx, b, 0, unix.RWF_DONTCACHE); (n != 13 || err != nil) && !errors.Is(err, syscall.EOPNOTSUPP) {
			t.Errorf("RWF_DONTCACHE: %d, %v", n, err)
		}
		appending, err := fs.OpenFile(ctx, f.Name(), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer appending.Close(ctx)
		if n, _, err := appending.WriteAtFlags(ctx, []byte("more"), 1, unix.RWF_APPEND|unix.RWF_DSYNC); n != 4 || err != nil {
			t.Errorf("RWF_APPEND with O_APPEND: %d, %v", n, err)
		}
		if _, _, err := appending.WriteAtFlags(ctx, []byte("more"), 1, unix.RWF_DSYNC); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("at an offset with O_APPEND: %v", err)
		}
		if n, _, err := f.ReadAtFlags(ctx, b, 13, 0); string(b[:n]) != "more" || err != nil {
			t.Errorf("read %q behind the end, %v", b[:n], err)
		}
		if _, _, err := f.WriteAtFlags(ctx, b, 0, 1<<30); !errors.Is(err, syscall.EOPNOTSUPP) && !errors.Is(err, syscall.EINVAL) {
			t.Errorf("an unknown flag: %v", err)
		}
		if _, _, err := f.WriteAtFlags(ctx, b, -1, 0); err == nil {
			t.Error("a negative offset was written to")
		}
		for _, n := range []int64{0, 10, 5 << 30} {
			if err := f.SyncFileRange(ctx, 0, n, unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER); err != nil {
				t.Errorf("SyncFileRange of %d: %v", n, err)
			}
		}
		if err := f.SyncFileRange(ctx, -1, 0, 0); err == nil {
			t.Error("SyncFileRange from a negative offset")
		}
	})
}

// TestVectorAll moves more buffers than one operation takes.
func TestVectorAll(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) { testVectorAll(t, ctx) })
}

func TestVectorAllShort(t *testing.T) {
	for _, op := range []fs.Operation{fs.OpRead, fs.OpWrite} {
		defer fs.Pin(op, fs.Pin(op, fs.Ring))
	}
	faulty(t, ring.FaultConfig{Shorten: 0.7}, func(t *testing.T, ctx context.Context, faults *ring.Faults) { testVectorAll(t, ctx) })
}

// TestVectorAllInside has the first operation say that it moved some bytes, up to somewhere inside a buffer, to its edge, or nothing: the
// next one begins right there.
func TestVectorAllInside(t *testing.T) { // N2
	for _, op := range []fs.Operation{fs.OpRead, fs.OpWrite} {
		defer fs.Pin(op, fs.Pin(op, fs.Ring))
	}
	faulty(t, ring.FaultConfig{}, func(t *testing.T, ctx context.Context, faults *ring.Faults) {
		if !faults.CanInject() {
			t.Skip("needs IORING_NOP_INJECT_RESULT (6.10)")
		}
		want := pattern(13, 1)
		cut := func(b []byte) [][]byte { return [][]byte{{}, b[:5], {}, b[5:12], b[12:], {}} }
		for said := range len(want) + 1 {
			once := func() {
				var seen atomic.Bool
				faults.Set(ring.FaultConfig{Inject: 1, Results: []int32{int32(said)},
					Match: func(e *ring.SQE) bool { return (e.Op == ring.OpReadv || e.Op == ring.OpWritev) && !seen.Swap(true) }})
			}
			f := openNew(t, ctx, nil)
			if f == nil {
				return
			}
			defer f.Close(ctx)
			once()
			n, _, err := f.WritevAllAt(ctx, cut(want), 0)
			if said == 0 {
				if n != 0 || !errors.Is(err, io.ErrShortWrite) {
					t.Errorf("writing that writes nothing: %d, %v", n, err)
				}
				continue
			}
			left := append(make([]byte, said), want[said:]...) // nothing was written that the kernel did not see
			if said == len(want) {
				left = nil
			}
			if got, rerr := os.ReadFile(f.Name()); n != len(want) || err != nil || rerr != nil || !bytes.Equal(got, left) {
				t.Errorf("writing after %d: %d, %v; %x, %v", said, n, err, got, rerr)
			}
			faults.Set(ring.FaultConfig{})
			if _, _, err := f.WriteAllAt(ctx, want, 0); err != nil {
				t.Error(err)
			}
			once()
			b := make([]byte, len(want))
			n, _, err = f.ReadvExactAt(ctx, cut(b), 0)
			if n != len(want) || err != nil || !bytes.Equal(b, append(make([]byte, said), want[said:]...)) {
				t.Errorf("reading after %d: %d, %v; %x", said, n, err, b)
			}
			faults.Set(ring.FaultConfig{})
		}
	})
}

func testVectorAll(t *testing.T, ctx context.Context) {
	f := openNew(t, ctx, nil)
	if f == nil {
		return
	}
	defer f.Close(ctx)
	cut := func(b []byte) (bufs [][]byte) {
		for i := 0; len(b) > 0; i++ {
			n := min(i%40, len(b))
			bufs = append(bufs, b[:n])
			b = b[n:]
		}
		return bufs
	}
	want := pattern(30_000, 4)
	bufs := cut(want)
	n, back, err := f.WritevAllAt(ctx, bufs, 5)
	if n != len(want) || err != nil || len(back) != len(bufs) || !bytes.Equal(bytes.Join(back, nil), want) {
		t.Errorf("WritevAllAt = %d, %v", n, err)
	}
	got := make([]byte, len(want))
	if n, _, err = f.ReadvExactAt(ctx, cut(got), 5); n != len(want) || err != nil || !bytes.Equal(got, want) {
		t.Errorf("ReadvExactAt = %d, %v", n, err)
	}
	if n, _, err = f.ReadvExactAt(ctx, cut(got), 105); n != len(want)-100 || err != io.ErrUnexpectedEOF || !bytes.Equal(got[:n], want[100:]) {
		t.Errorf("ReadvExactAt over the end = %d, %v", n, err)
	}
	if n, _, err = f.ReadvExactAt(ctx, cut(got), 1e6); n != 0 || err != io.EOF {
		t.Errorf("ReadvExactAt after the end = %d, %v", n, err)
	}
	if n, _, err = f.ReadvExactAt(ctx, [][]byte{{}, nil}, 1e6); n != 0 || err != nil {
		t.Errorf("ReadvExactAt of nothing = %d, %v", n, err)
	}
	for _, off := range []int64{-1, 1<<63 - 10} {
		if n, _, err := f.ReadvExactAt(ctx, cut(got), off); n != 0 || err == nil {
			t.Errorf("ReadvExactAt %d = %d, %v", off, n, err)
		}
		if n, _, err := f.WritevAllAt(ctx, cut(got), off); n != 0 || err == nil {
			t.Errorf("WritevAllAt %d = %d, %v", off, n, err)
		}
	}
}
