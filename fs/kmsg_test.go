package fs_test

import (
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"uringo/buf"
	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
	"uringo/internal/testenv"
)

// onKernelLog is eachWith for tests of a regular file whose reads wait for news.
func onKernelLog(t *testing.T, cfg driver.Config, test func(t *testing.T, ctx context.Context, f *fs.File)) {
	t.Helper()
	const name = "/proc/kmsg"
	log, err := os.Open(name)
	if err != nil {
		t.Skipf("needs the right to read the kernel's log: %v", err)
	}
	log.Close()
	eachWith(t, cfg, func(t *testing.T, ctx context.Context) {
		f, err := fs.Open(ctx, name)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close(ctx)
		test(t, ctx, f)
	})
}

// TestReadOfKernelLog reads a regular file whose reads wait for news: other tasks go on, and the end of the context ends it.
func TestReadOfKernelLog(t *testing.T) {
	onKernelLog(t, driver.Config{}, func(t *testing.T, ctx context.Context, f *fs.File) {
		var turns atomic.Int32
		var over atomic.Bool
		other := executor.GoHere(ctx, func(ctx context.Context) (struct{}, error) {
			for !over.Load() {
				turns.Add(1)
				if err := executor.Sleep(ctx, time.Millisecond); err != nil {
					return struct{}{}, err
				}
			}
			return struct{}{}, nil
		})
		var short context.Context
		var err error
		b := make([]byte, 4096)
		for off, tries := int64(0), 0; tries == 0 || turns.Load() < 10 && tries < 20; tries++ { // a busy machine may leave time for few turns
			var cancel context.CancelFunc
			short, cancel = context.WithTimeout(ctx, 200*time.Millisecond)
			defer cancel()
			for err = nil; err == nil || err == io.EOF; { // what was logged so far, and then what is to come
				var n int
				n, _, err = f.ReadAt(short, b, off)
				off += int64(n)
			}
		}
		if _, _, err := f.ReadvAt(short, [][]byte{b}, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a vectored read under a context that has ended: %v", err)
		}
		again, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		if _, _, err := f.ReadvAt(again, [][]byte{b}, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a vectored read of what does not come: %v", err)
		}
		over.Store(true)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a read of what does not come: %v", err)
		}
		if _, err := other.Join(ctx); err != nil || turns.Load() < 10 {
			t.Errorf("another task had %d turns meanwhile: %v", turns.Load(), err)
		}
	})
}

// TestReadOfKernelLogLetGo waits for news of the kernel's log with the only buffer of a pool, on a driver that lets callers go before the kernel:
// the kernel does not have the buffer yet, so that it comes back.
func TestReadOfKernelLogLetGo(t *testing.T) {
	onKernelLog(t, driver.Config{CancelGrace: time.Nanosecond}, func(t *testing.T, ctx context.Context, f *fs.File) {
		pool, err := buf.NewPool(buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 1}}})
		if err != nil {
			t.Error(err)
			return
		}
		for off, waits := int64(0), 0; waits < 5; {
			b, err := pool.TryGet(4096)
			if err != nil {
				t.Errorf("after %d reads that waited: %v", waits, err)
				return
			}
			short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			n, b, err := f.ReadFixedAt(short, b, off)
			cancel()
			off += int64(n)
			switch {
			case errors.Is(err, context.DeadlineExceeded):
				waits++
			case err != nil && err != io.EOF:
				t.Error(err)
				return
			}
			if b == nil {
				t.Errorf("the buffer did not come back: %v", err)
				return
			}
			b.Release()
		}
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestReadOfKernelLogInASignalStorm waits for news of the kernel's log while signals interrupt every thread: one that comes as the file is asked
// whether it has any does not mean that it has, or the task would be in a plain call that nothing ends.
func TestReadOfKernelLogInASignalStorm(t *testing.T) {
	onKernelLog(t, driver.Config{}, func(t *testing.T, ctx context.Context, f *fs.File) {
		end := testenv.Signals(t)
		defer end()
		b := make([]byte, 4096)
		for off, waits := int64(0), 0; waits < 300; {
			short, cancel := context.WithTimeout(ctx, 100*time.Microsecond)
			n, _, err := f.ReadAt(short, b, off)
			cancel()
			off += int64(n)
			switch {
			case errors.Is(err, context.DeadlineExceeded):
				waits++
			case err != nil && err != io.EOF:
				t.Error(err)
				return
			}
		}
	})
}
