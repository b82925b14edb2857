package fs_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
	"uringo/internal/ring"
	"uringo/internal/testenv"
)

func TestClose(t *testing.T) { // T22, M21, N14
	each(t, func(t *testing.T, ctx context.Context) {
		f := openNew(t, ctx, []byte("data"))
		if f == nil {
			return
		}
		fd := int(f.Fd())
		if err := f.Close(ctx); err != nil {
			t.Error(err)
		}
		if to, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)); err == nil && to == f.Name() {
			t.Error("the descriptor is still open")
		}
		if f.Fd() != ^uintptr(0) {
			t.Errorf("Fd after Close = %d", f.Fd())
		}
		buf := make([]byte, 1)
		calls := map[string]func() error{
			"close":       func() error { return f.Close(ctx) },
			"read":        func() error { _, _, err := f.ReadAt(ctx, buf, 0); return err },
			"write":       func() error { _, _, err := f.WriteAt(ctx, buf, 0); return err },
			"sync":        func() error { return f.SyncAll(ctx) },
			"truncate":    func() error { return f.Truncate(ctx, 0) },
			"stat":        func() error { _, err := f.Stat(ctx); return err },
			"chmod":       func() error { return f.Chmod(ctx, 0o600) },
			"fallocate":   func() error { return f.Fallocate(ctx, 0, 0, 1) },
			"seek":        func() error { _, err := f.SeekData(ctx, 0); return err },
			"getxattr":    func() error { _, err := f.GetXattr(ctx, "user.x"); return err },
			"copy":        func() error { _, _, err := f.CopyRange(ctx, 0, f, 0, 1); return err },
			"listxattr":   func() error { _, err := f.ListXattr(ctx); return err },
			"removexattr": func() error { return f.RemoveXattr(ctx, "user.x") },
		}
		for verb, call := range calls {
			var pe *fs.PathError
			err := call()
			if !errors.As(err, &pe) || pe.Op != verb || pe.Path != f.Name() || pe.Err != fs.ErrClosed {
				t.Errorf("%s after Close: %v", verb, err)
			}
		}
		for verb, call := range map[string]func() error{
			"Read":    func() error { _, _, err := f.Read(ctx, buf); return err },
			"Write":   func() error { _, _, err := f.Write(ctx, buf); return err },
			"ReadvAt": func() error { _, _, err := f.ReadvAt(ctx, [][]byte{buf}, 0); return err },
		} {
			if err := call(); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("%s after Close: %v", verb, err)
			}
		}
	})
}

// TestCloseEndsWaiting closes a pipe under reads that wait: they end with ErrClosed, and Close returns when they have.
func TestCloseEndsWaiting(t *testing.T) { // N14, H32
	each(t, func(t *testing.T, ctx context.Context) {
		r, w := pipe(t, ctx)
		if r == nil {
			return
		}
		defer w.Close(ctx)
		var ended atomic.Int32
		var tasks []*executor.JoinHandle[error]
		for range 3 { // which leaves a place of Pool(4) for the root
			tasks = append(tasks, executor.Go(ctx, func(ctx context.Context) (error, error) {
				_, buf, err := r.Read(ctx, make([]byte, 10))
				ended.Add(1)
				if len(buf) != 10 {
					t.Errorf("the buffer came back with %d bytes", len(buf))
				}
				return err, nil
			}))
		}
		if err := executor.Sleep(ctx, 20*time.Millisecond); err != nil {
			t.Error(err)
		}
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
		for _, task := range tasks {
			if err, joined := task.Join(ctx); !errors.Is(err, fs.ErrClosed) || joined != nil {
				t.Errorf("Read = %v, %v", err, joined)
			}
		}
		if err := r.Close(ctx); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("second Close: %v", err)
		}
	})
}

// TestCloseGivesUp closes a file under an operation that nothing can end, with a context that ends first: Close returns its error, and
// the file is closed when the operation has ended.
func TestCloseGivesUp(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		r, w := pipe(t, ctx)
		if r == nil {
			return
		}
		defer w.Close(ctx)
		r.Pin(fs.OpRead, fs.Call) // a plain read(2), which cannot be cancelled on the uring engine
		reading := executor.Go(ctx, func(ctx context.Context) (int, error) {
			n, _, err := r.Read(ctx, make([]byte, 10))
			return n, err
		})
		if err := executor.Sleep(ctx, 20*time.Millisecond); err != nil {
			t.Error(err)
		}
		fd := int(r.Fd())
		short, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
		defer cancel()
		start := time.Now()
		err := r.Close(short)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Close = %v", err)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("Close took %v", took)
		}
		if _, _, err := w.Write(ctx, []byte("late")); err != nil && !errors.Is(err, unix.EPIPE) {
			t.Error(err)
		}
		if n, err := reading.Join(ctx); n != 4 && !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Read = %d, %v", n, err)
		}
		untilClosed(t, ctx, fd)
	})
}

// untilClosed waits until a descriptor is closed.
func untilClosed(t *testing.T, ctx context.Context, fd int) {
	t.Helper()
	for range 1000 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			return
		}
		if err := executor.Sleep(ctx, time.Millisecond); err != nil {
			t.Error(err)
		}
	}
	t.Error("the descriptor stays open")
}

// TestAbandon lets the caller of a read go that cannot be cancelled. The descriptor stays until the kernel has let go of it.
func TestAbandon(t *testing.T) {
	eachWith(t, driver.Config{CancelGrace: 20 * time.Millisecond}, func(t *testing.T, ctx context.Context) {
		r, w := pipe(t, ctx)
		if r == nil {
			return
		}
		defer w.Close(ctx)
		r.Pin(fs.OpRead, fs.Call)
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		n, buf, err := r.Read(short, make([]byte, 10))
		if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, driver.ErrAbandoned) {
			r.Close(ctx)
			return // this engine could cancel it
		}
		if n != 0 || buf != nil || !errors.Is(err, driver.ErrAbandoned) {
			t.Errorf("Read = %d, %v, %v", n, buf, err)
		}
		fd := int(r.Fd())
		closing, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		if err := r.Close(closing); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close while the kernel has an operation: %v", err)
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			t.Errorf("closed under the operation: %v", err)
		}
		if _, _, err := w.Write(ctx, []byte("late")); err != nil {
			t.Error(err)
		}
		untilClosed(t, ctx, fd)
	})
}

// TestDropped drops files without closing them, inside the runtime and after it: they are closed all the same.
func TestDropped(t *testing.T) { // T24
	var kept []*fs.File
	each(t, func(t *testing.T, ctx context.Context) {
		name := filepath.Join(t.TempDir(), "dropped")
		for range 20 {
			if _, err := fs.Create(ctx, name); err != nil {
				t.Error(err)
			}
		}
		outlives, err := fs.Create(ctx, name)
		if err != nil {
			t.Error(err)
			return
		}
		kept = append(kept, outlives)
		for range 200 {
			runtime.GC()
			if open := countOpen(t, name); open == 1 {
				kept = nil // the check for leaks will wait for it
				return
			}
			if err := executor.Sleep(ctx, 5*time.Millisecond); err != nil {
				t.Error(err)
			}
		}
		t.Errorf("%d descriptors are open", countOpen(t, name))
	})
}

func countOpen(t *testing.T, name string) (n int) {
	for _, to := range testenv.Descriptors(t) {
		if to == name {
			n++
		}
	}
	return n
}

// TestDescriptorReuse has many tasks open, write, read and close small files of their own while others close them under their hands.
// A descriptor whose number goes to the next file too early shows as a foreign tag.
func TestDescriptorReuse(t *testing.T) { // HAZARDS T4
	rounds := 100
	switch {
	case testenv.Nightly():
		rounds = 500_000 / 16 / 2 / len(executors())
	case testing.Short():
		rounds = 10
	}
	each(t, func(t *testing.T, ctx context.Context) {
		dir := t.TempDir()
		var closed, ran atomic.Int64
		err := goAll(ctx, 16, func(ctx context.Context, i int) error {
			name := filepath.Join(dir, strconv.Itoa(i))
			for round := range rounds {
				if err := reuseRound(ctx, name, uint64(i+1)<<32|uint64(round), &closed, &ran); err != nil {
					return fmt.Errorf("task %d, round %d: %w", i, round, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		t.Logf("%d operations ran, %d found the file closed", ran.Load(), closed.Load())
	})
}

func reuseRound(ctx context.Context, name string, tag uint64, closed, ran *atomic.Int64) error {
	f, err := fs.OpenFile(ctx, name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if tag%3 == 0 {
		f.Pin(fs.OpWrite, fs.Ring)
		f.Pin(fs.OpRead, fs.Ring)
	}
	write := func(ctx context.Context, off int64) error {
		buf := make([]byte, 64)
		for i := 0; i < len(buf); i += 8 {
			binary.LittleEndian.PutUint64(buf[i:], tag)
		}
		_, _, err := f.WriteAllAt(ctx, buf, off)
		return outcome(err, closed, ran)
	}
	if err := write(ctx, 0); err != nil {
		return err
	}
	others := executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
		for i := range 3 {
			if err := write(ctx, int64(64*i)); err != nil {
				return struct{}{}, err
			}
			buf := make([]byte, 64)
			if n, buf, err := f.ReadAt(ctx, buf, 0); err != nil {
				if err := outcome(err, closed, ran); err != nil {
					return struct{}{}, err
				}
			} else if got := binary.LittleEndian.Uint64(buf); n != 64 || got != tag {
				return struct{}{}, fmt.Errorf("read %d bytes with tag %x, want %x", n, got, tag)
			}
		}
		return struct{}{}, nil
	})
	for range tag % 5 {
		_ = executor.Yield(ctx) // to close it at other moments
	}
	err = f.Close(ctx)
	if err2 := f.Close(ctx); err == nil && !errors.Is(err2, fs.ErrClosed) {
		err = fmt.Errorf("second Close: %w", err2)
	}
	if _, err2 := others.Join(ctx); err == nil {
		err = err2
	}
	if err != nil {
		return err
	}
	got, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	for i := 0; i+8 <= len(got); i += 8 {
		if x := binary.LittleEndian.Uint64(got[i:]); x != tag && x != 0 {
			return fmt.Errorf("foreign tag %x in the file of %x", x, tag)
		}
	}
	return nil
}

func outcome(err error, closed, ran *atomic.Int64) error {
	switch {
	case err == nil:
		ran.Add(1)
	case errors.Is(err, fs.ErrClosed):
		closed.Add(1)
	default:
		return err
	}
	return nil
}

// TestCloseRace closes one handle from many goroutines: one succeeds.
func TestCloseRace(t *testing.T) { // N14
	each(t, func(t *testing.T, ctx context.Context) {
		for range 20 {
			f := openNew(t, ctx, nil)
			if f == nil {
				return
			}
			d, err1 := fs.OpenDir(ctx, filepath.Dir(f.Name()))
			r, err2 := fs.OpenInRing(ctx, f.Name(), os.O_RDWR, 0)
			if err := errors.Join(err1, err2); err != nil {
				t.Error(err)
				return
			}
			for what, closes := range map[string]func(ctx context.Context) error{"File": f.Close, "Dir": d.Close, "RingFile": r.Close} {
				closeAtOnce(t, ctx, what, closes)
			}
		}
	})
}

// TestCloseErrors has closing fail, as it may when the data goes to a server only then: the error surfaces once. The file is closed all the same, and
// that it was interrupted is no reason to close it, or what has its number by then, again.
func TestCloseErrors(t *testing.T) { // HAZARDS T22, N14
	defer fs.Pin(fs.OpClose, fs.Pin(fs.OpClose, fs.Ring))
	faulty(t, ring.FaultConfig{}, func(t *testing.T, ctx context.Context, faults *ring.Faults) {
		if !faults.CanInject() {
			t.Skip("needs IORING_NOP_INJECT_RESULT (6.10)")
		}
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EINTR} {
			f := openNew(t, ctx, nil)
			if f == nil {
				return
			}
			r, err := fs.OpenInRing(ctx, f.Name(), os.O_RDWR, 0)
			if err != nil {
				t.Error(err)
				return
			}
			d, err := fs.OpenDir(ctx, filepath.Dir(f.Name()))
			if err != nil {
				t.Error(err)
				return
			}
			before := testenv.Files(t)
			fd := int(f.Fd())
			for what, h := range map[string]interface{ Close(context.Context) error }{"File": f, "Dir": d, "RingFile": r} {
				faults.Set(ring.FaultConfig{Inject: 1, Results: []int32{-int32(errno)}, Match: func(e *ring.SQE) bool { return e.Op == ring.OpClose }})
				was := faults.Stats().Injected
				var pe *fs.PathError
				if err := h.Close(ctx); !errors.As(err, &pe) || pe.Op != "close" || pe.Err != errno || pe.Path == "" {
					t.Errorf("%s: closing with %v: %v", what, errno, err)
				}
				if err := h.Close(ctx); !errors.Is(err, fs.ErrClosed) {
					t.Errorf("%s: a second Close: %v", what, err)
				}
				if n := faults.Stats().Injected - was; n != 1 {
					t.Errorf("%s: closed %d times with %v", what, n, errno)
				}
				faults.Set(ring.FaultConfig{})
			}
			// What was injected was not done.
			if after := testenv.Files(t); len(after) != len(before) {
				t.Errorf("%d descriptors were open, %d are: somebody closed them again", len(before), len(after))
			}
			for n, to := range before {
				if n == strconv.Itoa(fd) || to == filepath.Dir(f.Name()) {
					n, _ := strconv.Atoi(n)
					if err := unix.Close(n); err != nil {
						t.Error(err)
					}
				}
			}
		}
	})
}

func closeAtOnce(t *testing.T, ctx context.Context, what string, closes func(ctx context.Context) error) {
	var ok, closed atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { // not a task: it has only lent the context
			switch err := closes(ctx); {
			case err == nil:
				ok.Add(1)
			case errors.Is(err, fs.ErrClosed):
				closed.Add(1)
			default:
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	if _, err := executor.Block(ctx, func() (struct{}, error) { wg.Wait(); return struct{}{}, nil }); err != nil {
		t.Error(err)
	}
	if ok.Load() != 1 || closed.Load() != 7 {
		t.Errorf("%s: %d closed it, %d found it closed", what, ok.Load(), closed.Load())
	}
}

// pipe returns both ends of a pipe.
func pipe(t *testing.T, ctx context.Context) (r, w *fs.File) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Error(err)
		return nil, nil
	}
	r, err := fs.NewFile(ctx, fds[0], "reader")
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	if w, err = fs.NewFile(ctx, fds[1], "writer"); err != nil {
		t.Error(err)
		return nil, nil
	}
	return r, w
}
