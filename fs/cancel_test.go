package fs_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
	"uringo/internal/testenv"
)

// TestCancelRead cancels reads that wait, by a deadline and by Abort. The buffer comes back, the error says why, and the next read gets
// the data.
func TestCancelRead(t *testing.T) { // T21, M6, M7
	each(t, func(t *testing.T, ctx context.Context) {
		r, w := pipe(t, ctx)
		if r == nil {
			return
		}
		defer r.Close(ctx)
		defer w.Close(ctx)
		buf := make([]byte, 10)
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		var pe *fs.PathError
		n, got, err := r.Read(short, buf)
		if n != 0 || &got[0] != &buf[0] || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, os.ErrDeadlineExceeded) ||
			!errors.As(err, &pe) || pe.Op != "read" || !pe.Timeout() {
			t.Errorf("Read with a deadline = %d, %v", n, err)
		}
		task := executor.Go(ctx, func(ctx context.Context) (int, error) {
			n, got, err := r.Read(ctx, make([]byte, 10))
			if len(got) != 10 {
				t.Errorf("the buffer has %d bytes", len(got))
			}
			return n, err
		})
		if err := executor.Sleep(ctx, 10*time.Millisecond); err != nil {
			t.Error(err)
		}
		task.Abort()
		if n, err := task.Join(ctx); n != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("aborted Read = %d, %v", n, err)
		}
		if _, _, err := w.Write(ctx, []byte("after")); err != nil {
			t.Error(err)
		}
		if n, got, err := r.Read(ctx, buf); string(got[:n]) != "after" || err != nil {
			t.Errorf("Read = %q, %v", got[:n], err)
		}
	})
}

// TestEnded calls everything with a context that has ended: nothing happens, and buffers come back.
func TestEnded(t *testing.T) {
	each(t, func(t *testing.T, live context.Context) {
		f := openNew(t, live, []byte("data"))
		if f == nil {
			return
		}
		ctx, cancel := context.WithCancel(live)
		cancel()
		buf := make([]byte, 4)
		name := f.Name()
		calls := map[string]func() error{
			"ReadAt": func() error {
				n, b, err := f.ReadAt(ctx, buf, 0)
				if n != 0 || len(b) != 4 {
					t.Errorf("ReadAt = %d, %v", n, b)
				}
				return err
			},
			"WriteAt":  func() error { _, _, err := f.WriteAt(ctx, buf, 0); return err },
			"ReadvAt":  func() error { _, _, err := f.ReadvAt(ctx, [][]byte{buf}, 0); return err },
			"WritevAt": func() error { _, _, err := f.WritevAt(ctx, [][]byte{buf}, 0); return err },
			"SyncAll":  func() error { return f.SyncAll(ctx) },
			"Stat":     func() error { _, err := f.Stat(ctx); return err },
			"Truncate": func() error { return f.Truncate(ctx, 0) },
			"Chmod":    func() error { return f.Chmod(ctx, 0) },
			"SeekData": func() error { _, err := f.SeekData(ctx, 0); return err },
			"Open":     func() error { _, err := fs.Open(ctx, name); return err },
			"Create":   func() error { _, err := fs.Create(ctx, name); return err },
			"stat":     func() error { _, err := fs.Stat(ctx, name); return err },
			"Remove":   func() error { return fs.Remove(ctx, name) },
			"Rename":   func() error { return fs.Rename(ctx, name, name+"2") },
			"Mkdir":    func() error { return fs.Mkdir(ctx, name+"dir", 0o700) },
			"Symlink":  func() error { return fs.Symlink(ctx, "x", name+"link") },
			"ReadDir":  func() error { _, err := fs.ReadDir(ctx, "/"); return err },
		}
		for verb, call := range calls {
			if err := call(); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", verb, err)
			}
		}
		if got, err := os.ReadFile(name); string(got) != "data" || err != nil {
			t.Errorf("something happened: %q, %v", got, err)
		}
		if list, err := os.ReadDir(filepath.Dir(name)); len(list) != 1 || err != nil {
			t.Errorf("something happened: %v, %v", list, err)
		}
		// Close does what it must, and has nothing to wait for.
		if err := f.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

// TestOpenBeneathLetGo lets the caller of an open that waits go before the kernel has let go of the directory. That is closed when it has.
func TestOpenBeneathLetGo(t *testing.T) {
	eachWith(t, driver.Config{CancelGrace: time.Nanosecond}, func(t *testing.T, ctx context.Context) {
		name := t.TempDir()
		d, err := fs.OpenDir(ctx, name)
		if err == nil {
			err = fs.Mkfifo(ctx, filepath.Join(name, "fifo"), 0o600)
		}
		if err != nil {
			t.Error(err)
			return
		}
		for range 10 {
			short, cancel := context.WithTimeout(ctx, time.Millisecond)
			f, err := d.OpenFile(short, "fifo", os.O_WRONLY, 0)
			cancel()
			if err == nil {
				t.Error("a FIFO without another end was opened")
				f.Close(ctx)
			} else if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, driver.ErrAbandoned) {
				t.Error(err)
			}
		}
		if err := d.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestOpenCanceled cancels the opening of a FIFO that waits for its other end, and sees that descriptors do not leak.
func TestOpenCanceled(t *testing.T) { // T23, C19, P10, P11
	each(t, func(t *testing.T, ctx context.Context) {
		name := filepath.Join(t.TempDir(), "fifo")
		if err := fs.Mkfifo(ctx, name, 0o600); err != nil {
			t.Error(err)
			return
		}
		for _, flag := range []int{os.O_RDONLY, os.O_WRONLY} {
			short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			f, err := fs.OpenFile(short, name, flag, 0)
			cancel()
			if err == nil {
				t.Errorf("flag %x: a FIFO without another end was opened", flag)
				f.Close(ctx)
			} else if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("flag %x: %v", flag, err)
			}
		}
		if f, err := fs.OpenFile(ctx, name, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
			t.Errorf("O_NONBLOCK: %v", err)
		} else if err := f.Close(ctx); err != nil {
			t.Error(err)
		}

		reading := executor.Go(ctx, func(ctx context.Context) (string, error) {
			r, err := fs.Open(ctx, name)
			if err != nil {
				return "", err
			}
			defer r.Close(ctx)
			n, buf, err := r.Read(ctx, make([]byte, 10))
			return string(buf[:n]), err
		})
		w, err := fs.OpenFile(ctx, name, os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		if _, _, err := w.Write(ctx, []byte("met")); err != nil {
			t.Error(err)
		}
		if err := w.Close(ctx); err != nil {
			t.Error(err)
		}
		if got, err := reading.Join(ctx); got != "met" || err != nil {
			t.Errorf("Read = %q, %v", got, err)
		}
	})
}

// TestOpenOnClosedDriver closes the driver of somebody who opens a FIFO and waits for its writer: no file is opened.
func TestOpenOnClosedDriver(t *testing.T) {
	for _, engine := range testenv.Engines(t) {
		t.Run(engine.String(), func(t *testing.T) {
			testenv.Leakless(t, func(ctx context.Context) error {
				d, err := driver.Open(driver.Config{Engine: engine})
				if err != nil {
					return err
				}
				name := filepath.Join(t.TempDir(), "fifo")
				if err := unix.Mkfifo(name, 0o600); err != nil {
					return err
				}
				opened := make(chan error, 1)
				go func() {
					f, err := fs.Open(driver.NewContext(ctx, d), name)
					if err == nil {
						_ = f.Close(ctx)
					}
					opened <- err
				}()
				for countOpen(t, name) == 0 && ctx.Err() == nil { // then it waits, or is about to
					time.Sleep(time.Millisecond)
				}
				if err := d.Close(ctx); err != nil {
					t.Error(err)
				}
				if err := <-opened; !errors.Is(err, driver.ErrClosed) {
					t.Errorf("Open = %v", err)
				}
				return nil
			})
		})
	}
}

// TestOpenBeneathClosedDriver closes the driver of somebody who opens a FIFO beneath a directory, without waiting for what is under way: the
// directory can be closed all the same.
func TestOpenBeneathClosedDriver(t *testing.T) {
	for _, engine := range testenv.Engines(t) {
		t.Run(engine.String(), func(t *testing.T) {
			testenv.Leakless(t, func(ctx context.Context) error {
				d, err := driver.Open(driver.Config{Engine: engine})
				if err != nil {
					return err
				}
				on, name := driver.NewContext(ctx, d), t.TempDir()
				fifo := filepath.Join(name, "fifo")
				dir, err := fs.OpenDir(on, name)
				if err == nil {
					err = unix.Mkfifo(fifo, 0o600)
				}
				if err != nil {
					return errors.Join(err, d.Close(ctx))
				}
				opened := make(chan error, 1)
				go func() {
					f, err := dir.OpenFile(on, "fifo", os.O_RDONLY, 0)
					if err == nil {
						_ = f.Close(ctx)
					}
					opened <- err
				}()
				for (countOpen(t, fifo) == 0 || d.Stats().InFlight == 0) && ctx.Err() == nil { // then it waits, or is about to
					time.Sleep(time.Millisecond)
				}
				ended, cancel := context.WithCancel(ctx)
				cancel()
				_ = d.Close(ended) // which may be so quick that it succeeds
				if err := <-opened; !errors.Is(err, driver.ErrClosed) {
					t.Errorf("OpenFile = %v", err)
				}
				return errors.Join(dir.Close(ctx), d.Close(ctx))
			})
		})
	}
}

// TestOpenCanceledTooLate cancels the opening of a FIFO that has just ended on the portable engine. To free the thread, the other end is opened by
// way of a descriptor: that of the FIFO still, not of a file that somebody has opened since.
func TestOpenCanceledTooLate(t *testing.T) {
	before := testenv.Descriptors(t)
	ctx := context.Background()
	dir := t.TempDir()
	fifo, other := filepath.Join(dir, "fifo"), filepath.Join(dir, "other")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	both, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var others []*os.File
	defer func() {
		for _, f := range append(others, both) {
			f.Close()
		}
		testenv.NoneLeft(t, before)
	}()
	open := func(name string) (n int) {
		for _, to := range testenv.Files(t) {
			if to == name {
				n++
			}
		}
		return n
	}
	err = fs.CancelOpened(ctx, fifo, func() {
		for range 100 { // one of them has the number of a descriptor that was closed meanwhile
			f, err := os.Create(other)
			if err != nil {
				t.Fatal(err)
			}
			others = append(others, f)
		}
	}, func() {
		if n := open(other); n != len(others) {
			t.Errorf("of the other file there are %d descriptors instead of %d", n, len(others))
		}
	})
	if err != nil {
		t.Error(err)
	}
}
