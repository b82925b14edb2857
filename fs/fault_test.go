package fs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
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
	"uringo/ops"
)

// faulty runs test on every executor over io_uring with faults.
func faulty(t *testing.T, cfg ring.FaultConfig, test func(t *testing.T, ctx context.Context, faults *ring.Faults)) {
	for i, e := range executors() {
		t.Run(e.String(), func(t *testing.T) {
			if testenv.Engines(t)[0] != driver.Uring {
				t.Skip("needs io_uring")
			}
			faults := ring.NewFaults(ring.Linux(), uint64(i+1), cfg)
			if cfg.Inject > 0 && !faults.CanInject() {
				t.Skip("needs IORING_NOP_INJECT_RESULT (6.10)")
			}
			run(t, e, driver.OnKernel(driver.Config{Engine: driver.Uring}, faults), func(t *testing.T, ctx context.Context) {
				test(t, ctx, faults)
			})
		})
	}
}

// shortened runs test while the kernel moves less than it is asked for, in whole blocks as O_DIRECT needs them.
func shortened(t *testing.T, test func(t *testing.T, ctx context.Context)) {
	faulty(t, ring.FaultConfig{Shorten: 0.3, Align: 4096}, func(t *testing.T, ctx context.Context, faults *ring.Faults) {
		test(t, ctx)
		if faults.Stats().Shortened == 0 {
			t.Error("nothing was made shorter")
		}
	})
}

// TestShortTransfers has the kernel move less than it was asked for: what is to be exact is exact.
func TestShortTransfers(t *testing.T) { // HAZARDS T10, N2
	faulty(t, ring.FaultConfig{Shorten: 0.5}, func(t *testing.T, ctx context.Context, faults *ring.Faults) {
		f := openNew(t, ctx, nil)
		if f == nil {
			return
		}
		defer f.Close(ctx)
		f.Pin(fs.OpRead, fs.Ring)
		f.Pin(fs.OpWrite, fs.Ring)
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 16 << 10, Count: 1}}})
		fixed, err := pool.Get(ctx, 16<<10)
		if err != nil {
			t.Error(err)
			return
		}
		defer fixed.Release()
		for round := range 50 {
			want := pattern(20_000+round*100, uint32(round))
			n, _, err := f.WriteAllAt(ctx, want, 7)
			if n != len(want) || err != nil {
				t.Errorf("WriteAllAt = %d, %v", n, err)
			}
			n, got, err := f.ReadExactAt(ctx, make([]byte, len(want)), 7)
			if n != len(want) || err != nil || !bytes.Equal(got, want) {
				t.Errorf("ReadExactAt = %d, %v", n, err)
			}
			if err := fixedExact(ctx, f, fixed.View(round, round+10_000), want); err != nil {
				t.Errorf("WriteFixedAllAt: %v", err)
			}
			two := [][]byte{bytes.Clone(want[:100]), want[100:]}
			if n, _, err := f.WritevAt(ctx, two, 7); n <= 0 || n > len(want) || err != nil {
				t.Errorf("WritevAt = %d, %v", n, err)
			}
		}
		if faults.Stats().Shortened == 0 {
			t.Error("no transfer was shortened")
		}
	})
}

// fixedExact writes the view of b and sees that all of it was written, and that the view is what it was.
func fixedExact(ctx context.Context, f *fs.File, b *buf.Fixed, data []byte) error {
	lo, hi := b.Bounds()
	copy(b.Bytes(), data)
	n, back, err := f.WriteFixedAllAt(ctx, b, 3)
	if err != nil {
		return err
	}
	if l, h := back.Bounds(); n != hi-lo || back != b || l != lo || h != hi {
		return fmt.Errorf("%d bytes of a view from %d to %d, which is one from %d to %d then", n, lo, hi, l, h)
	}
	if n, got, err := f.ReadExactAt(ctx, make([]byte, n), 3); err != nil || !bytes.Equal(got, b.Bytes()) {
		return fmt.Errorf("read back %d, %w", n, err)
	}
	return nil
}

// TestTransientResults injects results that mean "again".
func TestTransientResults(t *testing.T) { // HAZARDS T10, N8
	faulty(t, ring.FaultConfig{Inject: 0.1, Results: []int32{-int32(syscall.EINTR), -int32(syscall.EAGAIN), -512}},
		func(t *testing.T, ctx context.Context, faults *ring.Faults) {
			for _, op := range operations {
				defer fs.Pin(op, fs.Pin(op, fs.Ring))
			}
			for range 5 {
				someOfAll(t, ctx)
			}
			if faults.Stats().Injected == 0 {
				t.Error("no result was injected")
			}
		})
}

// TestRealErrors injects what means trouble: it comes out as an error with the file's name, once, and everything goes on.
func TestRealErrors(t *testing.T) { // HAZARDS T20
	faulty(t, ring.FaultConfig{}, func(t *testing.T, ctx context.Context, faults *ring.Faults) {
		f := openNew(t, ctx, pattern(1000, 1))
		if f == nil {
			return
		}
		defer f.Close(ctx)
		for _, op := range operations {
			f.Pin(op, fs.Ring)
		}
		b := make([]byte, 100)
		calls := map[string]func() error{
			"read":      func() error { _, _, err := f.ReadAt(ctx, b, 0); return err },
			"write":     func() error { _, _, err := f.WriteAt(ctx, b, 0); return err },
			"sync":      func() error { return f.SyncAll(ctx) },
			"stat":      func() error { _, err := f.Stat(ctx); return err },
			"truncate":  func() error { return f.Truncate(ctx, 1000) },
			"fallocate": func() error { return f.Fallocate(ctx, 0, 0, 100) },
		}
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.ENOMEM, syscall.ESTALE} {
			faults.Set(ring.FaultConfig{Inject: 1, Results: []int32{-int32(errno)}})
			for verb, call := range calls {
				var pe *fs.PathError
				if err := call(); !errors.As(err, &pe) || pe.Op != verb || pe.Path != f.Name() || pe.Err != errno {
					t.Errorf("%s with %v: %v", verb, errno, err)
				}
			}
			faults.Set(ring.FaultConfig{})
			for verb, call := range calls {
				if err := call(); err != nil {
					t.Errorf("%s after %v: %v", verb, errno, err)
				}
			}
		}
		// A write that writes nothing, for ever.
		faults.Set(ring.FaultConfig{Inject: 1, Results: []int32{0}})
		if n, _, err := f.WriteAllAt(ctx, b, 0); n != 0 || err == nil || err.Error() != fmt.Sprintf("write %s: short write", f.Name()) {
			t.Errorf("WriteAllAt that writes nothing = %d, %v", n, err)
		}
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 1}}})
		if fixed, err := pool.Get(ctx, 4096); err != nil {
			t.Error(err)
		} else {
			if n, back, err := f.WriteFixedAllAt(ctx, fixed, 0); n != 0 || back != fixed || !errors.Is(err, io.ErrShortWrite) {
				t.Errorf("WriteFixedAllAt that writes nothing = %d, %v", n, err)
			}
			fixed.Release()
		}
		// More than was asked for.
		faults.Set(ring.FaultConfig{Inject: 1, Results: []int32{101}})
		if n, b, err := f.ReadAt(ctx, b, 0); n != 0 || err == nil || len(b) != 100 {
			t.Errorf("ReadAt that reads too much = %d, %v", n, err)
		}
		faults.Set(ring.FaultConfig{})
		if err := executor.Yield(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestQuietPipes has a write to a pipe fail with what might also mean that the kernel does not know RWF_NOSIGNAL: it is about that write alone,
// and others still raise no SIGPIPE.
func TestQuietPipes(t *testing.T) { // HAZARDS T35
	heard := make(chan os.Signal, 100)
	signal.Notify(heard, syscall.SIGPIPE)
	defer signal.Stop(heard)
	faulty(t, ring.FaultConfig{}, func(t *testing.T, ctx context.Context, faults *ring.Faults) {
		raises := func(w *fs.File) bool {
			if n, _, err := w.Write(ctx, []byte("x")); n != 0 || !errors.Is(err, syscall.EPIPE) {
				t.Errorf("Write without a reader = %d, %v", n, err)
			}
			select {
			case <-heard:
				return true
			case <-time.After(20 * time.Millisecond):
				return false
			}
		}
		r, w := pipe(t, ctx)
		if r == nil {
			return
		}
		defer w.Close(ctx)
		faults.Set(ring.FaultConfig{Inject: 1, Results: []int32{-int32(syscall.EINVAL)}})
		if n, _, err := w.Write(ctx, []byte("x")); n != 0 || !errors.Is(err, syscall.EINVAL) {
			t.Errorf("Write = %d, %v", n, err)
		}
		faults.Set(ring.FaultConfig{})
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
		if o := executor.Do(ctx, ops.WriteAtFlags(int(w.Fd()), []byte("x"), -1, unix.RWF_NOSIGNAL)); o.Err != syscall.EPIPE {
			t.Skip("no RWF_NOSIGNAL (6.18): ", o.Err)
		}
		if raises(w) {
			t.Error("SIGPIPE from the pipe whose write failed")
		}
		r2, w2 := pipe(t, ctx)
		if r2 == nil {
			return
		}
		defer w2.Close(ctx)
		if err := r2.Close(ctx); err != nil {
			t.Error(err)
		}
		if raises(w2) {
			t.Error("SIGPIPE from another pipe")
		}
	})
}
