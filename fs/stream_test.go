package fs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	stdnet "net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
	"uringo/internal/testenv"
)

func TestPipe(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		r, w := pipe(t, ctx)
		if r == nil {
			return
		}
		const size = 300_000 // more than a pipe holds
		writing := executor.Go(ctx, func(ctx context.Context) (int, error) {
			n, _, err := w.Write(ctx, pattern(size, 7))
			return n, errors.Join(err, w.Close(ctx))
		})
		var got []byte
		buf := make([]byte, 10_000)
		for {
			n, b, err := r.Read(ctx, buf)
			got = append(got, b[:n]...)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Error(err)
				break
			}
		}
		if n, err := writing.Join(ctx); n != size || err != nil || !bytes.Equal(got, pattern(size, 7)) {
			t.Errorf("wrote %d, %v; read %d bytes", n, err, len(got))
		}
		if _, _, err := r.ReadAt(ctx, buf, 0); !errors.Is(err, unix.ESPIPE) {
			t.Errorf("ReadAt on a pipe: %v", err)
		}
		if _, _, err := r.ReadvAt(ctx, [][]byte{buf}, 0); !errors.Is(err, unix.ESPIPE) {
			t.Errorf("ReadvAt on a pipe: %v", err)
		}
		r.Pin(fs.OpRead, fs.Ring)
		if _, _, err := r.ReadAt(ctx, buf, 0); !errors.Is(err, unix.ESPIPE) {
			t.Errorf("ReadAt on a pipe by the ring: %v", err)
		}
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestBrokenPipe writes to a pipe at an offset, and to one that nobody reads: both are errors, and no signal.
func TestBrokenPipe(t *testing.T) { // HAZARDS T35
	each(t, func(t *testing.T, ctx context.Context) {
		r, w := pipe(t, ctx)
		if r == nil {
			return
		}
		defer w.Close(ctx)
		if _, _, err := w.WriteAt(ctx, []byte("x"), 0); !errors.Is(err, unix.ESPIPE) {
			t.Errorf("WriteAt on a pipe: %v", err)
		}
		if _, _, err := w.WritevAt(ctx, [][]byte{{'x'}}, 0); !errors.Is(err, unix.ESPIPE) {
			t.Errorf("WritevAt on a pipe: %v", err)
		}
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
		for range 10 {
			if n, _, err := w.Write(ctx, []byte("x")); n != 0 || !errors.Is(err, unix.EPIPE) {
				t.Errorf("Write = %d, %v", n, err)
			}
		}
	})
}

// fifo makes a FIFO and opens it for reading. What it opens is nil if that fails.
func fifo(t *testing.T, ctx context.Context) (name string, r *fs.File) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Error(err)
		return name, nil
	}
	r, err := fs.OpenFile(ctx, name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Error(err)
		return name, nil
	}
	return name, r
}

// TestFIFOWithoutWriter reads a FIFO that has no writer, which is its end, and has never had one, of which poll(2) says nothing.
func TestFIFOWithoutWriter(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		name, r := fifo(t, ctx)
		if r == nil {
			return
		}
		defer r.Close(ctx)
		buf := make([]byte, 10)
		read := func(what string, want string, wantErr error) bool {
			waiting, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			n, _, err := r.Read(waiting, buf)
			if string(buf[:n]) != want || err != wantErr {
				t.Errorf("%s: %q, %v", what, buf[:n], err)
				return false
			}
			return true
		}
		if !read("never written", "", io.EOF) || !read("still not", "", io.EOF) {
			return
		}
		w, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer w.Close()
		if _, err := w.WriteString("news"); err != nil {
			t.Error(err)
		}
		read("written", "news", nil)
		reading := executor.Go(ctx, func(ctx context.Context) (string, error) {
			b := make([]byte, 10)
			n, _, err := r.Read(ctx, b)
			return string(b[:n]), err
		})
		if err := executor.Sleep(ctx, time.Millisecond); err != nil { // most of the time it is waiting by then
			t.Error(err)
		}
		if _, err := w.WriteString("more"); err != nil {
			t.Error(err)
		}
		if got, err := reading.Join(ctx); got != "more" || err != nil {
			t.Errorf("waiting for a writer that is there: %q, %v", got, err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		read("closed", "", io.EOF)
	})
}

// TestPosition reads and writes at the file position from many tasks: nothing is read twice, and nothing lost.
func TestPosition(t *testing.T) { // HAZARDS P18, T25
	each(t, func(t *testing.T, ctx context.Context) {
		f := openNew(t, ctx, nil)
		if f == nil {
			return
		}
		defer f.Close(ctx)
		const tasks = 8
		each := frames()
		err := goAll(ctx, tasks, func(ctx context.Context, i int) error {
			for round := range each {
				if _, _, err := f.Write(ctx, frame(i, round)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		checkFrames(t, f.Name(), tasks, each)
		if _, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_SET); err != nil {
			t.Error(err)
		}
		var mu sync.Mutex
		seen := make(map[string]int)
		err = goAll(ctx, tasks, func(ctx context.Context, i int) error {
			for {
				n, b, err := f.Read(ctx, make([]byte, frameSize))
				if err == io.EOF {
					return nil
				}
				if err != nil {
					return err
				}
				mu.Lock()
				seen[string(b[:n])]++
				mu.Unlock()
			}
		})
		if err != nil {
			t.Error(err)
		}
		for i := range tasks {
			for round := range each {
				if n := seen[string(frame(i, round))]; n != 1 {
					t.Errorf("%q was read %d times", frame(i, round), n)
				}
			}
		}
		if len(seen) != tasks*each {
			t.Errorf("%d different frames were read, want %d", len(seen), tasks*each)
		}
	})
}

// TestAppend has many tasks append to one file, which several have open: nothing is written over, and what one task writes stays in order.
func TestAppend(t *testing.T) { // HAZARDS P19, T25
	each(t, func(t *testing.T, ctx context.Context) {
		for _, route := range []fs.Route{fs.Auto, fs.Ring, fs.Call} {
			name := filepath.Join(t.TempDir(), "log")
			var files [2]*fs.File
			for i := range files {
				f, err := fs.OpenFile(ctx, name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
				if err != nil {
					t.Error(err)
					return
				}
				defer f.Close(ctx)
				f.Pin(fs.OpWrite, route)
				files[i] = f
			}
			if n, _, err := files[0].WriteAt(ctx, []byte("x"), 0); n != 0 || err == nil {
				t.Errorf("WriteAt on a file to append to = %d, %v", n, err)
			}
			const tasks = 8
			each := frames()
			err := goAll(ctx, tasks, func(ctx context.Context, i int) error {
				for round := range each {
					if _, _, err := files[i%2].Write(ctx, frame(i, round)); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			checkFrames(t, name, tasks, each)
		}
	})
}

// frames is how many each of several tasks writes.
func frames() int {
	if testenv.Nightly() {
		return 10_000
	}
	return 200
}

// frame is what a task writes in one of its rounds.
func frame(task, round int) []byte { return fmt.Appendf(nil, "%c%0*d", 'a'+task, frameSize-1, round) }

const frameSize = 16

// checkFrames sees that every frame is there once and whole, and that those of one task are in order.
func checkFrames(t *testing.T, name string, tasks, each int) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil || len(got) != tasks*each*frameSize {
		t.Errorf("the file has %d bytes, want %d, %v", len(got), tasks*each*frameSize, err)
	}
	next := make([]int, tasks)
	for b := range slices.Chunk(got, frameSize) {
		i := int(b[0]) - 'a'
		if i < 0 || i >= tasks || !bytes.Equal(b, frame(i, next[i])) {
			t.Errorf("%q, where frame %d of its writer is due", b, next[max(0, min(i, tasks-1))])
			return
		}
		next[i]++
	}
}

// TestReaderWriter uses a file through package io.
func TestReaderWriter(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		f := openNew(t, ctx, nil)
		if f == nil {
			return
		}
		defer f.Close(ctx)
		want := pattern(100_000, 5)
		if n, err := io.Copy(f.NewWriter(ctx, 10), bytes.NewReader(want)); n != int64(len(want)) || err != nil {
			t.Errorf("io.Copy to it = %d, %v", n, err)
		}
		r := f.NewReader(ctx, 10)
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
			t.Errorf("io.ReadAll = %d bytes, %v", len(got), err)
		}
		if pos, err := r.Seek(-5, io.SeekEnd); pos != 100_005 || err != nil {
			t.Errorf("Seek = %d, %v", pos, err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want[len(want)-5:]) {
			t.Errorf("io.ReadAll after Seek = %d bytes, %v", len(got), err)
		}
		part := make([]byte, 50)
		if n, err := r.ReadAt(part, 20); n != 50 || err != nil || !bytes.Equal(part, want[10:60]) {
			t.Errorf("ReadAt = %d, %v", n, err)
		}
		if n, err := r.ReadAt(part, 100_000); n != 10 || err != io.EOF {
			t.Errorf("ReadAt over the end = %d, %v", n, err)
		}
		if _, err := r.Seek(-1, io.SeekStart); err == nil {
			t.Error("Seek before the start succeeded")
		}
		if _, err := f.NewWriter(ctx, 0).WriteAt([]byte("x"), -1); err == nil {
			t.Error("WriteAt before the start succeeded")
		}
	})
}

// TestReaderWriterWithoutOffsets uses a pipe and a file opened to append through package io, as one does standard input and a log.
func TestReaderWriterWithoutOffsets(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		r, w := pipe(t, ctx)
		if r == nil || w == nil {
			return
		}
		defer r.Close(ctx)
		want := pattern(300_000, 6) // more than a pipe holds
		writing := executor.Go(ctx, func(ctx context.Context) (int64, error) {
			n, err := io.Copy(w.NewWriter(ctx, 0), bytes.NewReader(want))
			return n, errors.Join(err, w.Close(ctx))
		})
		in := r.NewReader(ctx, 0)
		if got, err := io.ReadAll(in); err != nil || !bytes.Equal(got, want) {
			t.Errorf("io.ReadAll of a pipe = %d bytes, %v", len(got), err)
		}
		if n, err := writing.Join(ctx); n != int64(len(want)) || err != nil {
			t.Errorf("io.Copy into a pipe = %d, %v", n, err)
		}
		if _, err := in.Seek(0, io.SeekCurrent); !errors.Is(err, unix.ESPIPE) {
			t.Errorf("Seek in a pipe: %v", err)
		}
		if _, err := in.ReadAt(make([]byte, 1), 0); !errors.Is(err, unix.ESPIPE) {
			t.Errorf("ReadAt of a pipe: %v", err)
		}

		name := filepath.Join(t.TempDir(), "log")
		f, err := fs.OpenFile(ctx, name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil {
			t.Error(err)
			return
		}
		err = goAll(ctx, 4, func(ctx context.Context, i int) error {
			out := f.NewWriter(ctx, 0)
			for round := range 25 {
				if n, err := out.Write(frame(i, round)); n != frameSize || err != nil {
					return fmt.Errorf("%d, %w", n, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Errorf("Write at the end: %v", err)
		}
		checkFrames(t, name, 4, 25)
		out := f.NewWriter(ctx, 0)
		if n, err := out.WriteAt([]byte("x"), 0); n != 0 || !errors.Is(err, unix.EINVAL) {
			t.Errorf("WriteAt on a file to append to = %d, %v", n, err)
		}
		if err := f.Close(ctx); err != nil {
			t.Error(err)
		}
		if _, err := out.Write([]byte("x")); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Write on a closed file: %v", err)
		}
	})
}

// TestReaderWriterLetGo reads and writes with contexts that end at any moment, on a driver that lets callers go before the kernel: a Reader and a
// Writer wait for that, so every byte arrives once, and their buffers are their callers' again.
func TestReaderWriterLetGo(t *testing.T) {
	eachWith(t, driver.Config{CancelGrace: time.Nanosecond}, testReaderWriterLetGo)
}

func testReaderWriterLetGo(t *testing.T, ctx context.Context) {
	r, w := pipe(t, ctx)
	if r == nil || w == nil {
		return
	}
	defer r.Close(ctx)
	want := pattern(2_000_000, 3)
	const rounds = 300 // and then the rest, without haste
	hasty := func(ctx context.Context, round int) (context.Context, context.CancelFunc) {
		if round > rounds {
			return ctx, func() {}
		}
		return context.WithTimeout(ctx, time.Duration(round%20*10)*time.Microsecond)
	}
	writing := executor.Go(ctx, func(ctx context.Context) (int, error) {
		done := 0
		for round := 0; done < len(want); round++ {
			part := bytes.Clone(want[done:min(len(want), done+100_000)])
			soon, cancel := hasty(ctx, round)
			n, err := w.NewWriter(soon, 0).Write(part)
			cancel()
			clear(part)
			done += n
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				return done, errors.Join(err, w.Close(ctx))
			}
		}
		return done, w.Close(ctx)
	})
	var got []byte
	part := make([]byte, 10_000)
	for round := 0; ; round++ {
		soon, cancel := hasty(ctx, round)
		n, err := r.NewReader(soon, 0).Read(part)
		cancel()
		got = append(got, part[:n]...)
		clear(part)
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
			break
		}
	}
	if n, err := writing.Join(ctx); n != len(want) || err != nil || !bytes.Equal(got, want) {
		t.Errorf("wrote %d of %d, %v; read %d", n, len(want), err, len(got))
	}
}

// TestWriteFileLetGo writes a file that is a FIFO which nobody empties, on a driver that lets callers go before the kernel: what is in it in the end
// is what WriteFile was given, whatever becomes of that afterwards.
func TestWriteFileLetGo(t *testing.T) {
	eachWith(t, driver.Config{CancelGrace: time.Nanosecond}, func(t *testing.T, ctx context.Context) {
		name, r := fifo(t, ctx)
		if r == nil {
			return
		}
		defer r.Close(ctx)
		want := pattern(1<<20, 2)
		data := bytes.Clone(want)
		writing, cancel := context.WithCancel(ctx)
		over := make(chan struct{})
		go func() { // when the FIFO is open and has something
			defer close(over)
			defer cancel()
			for writing.Err() == nil {
				n, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ)
				if err != nil {
					t.Error(err)
				}
				if n > 0 || err != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		if err := fs.WriteFile(writing, name, data, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("WriteFile = %v", err)
		}
		cancel()
		<-over
		clear(data)
		if got, err := io.ReadAll(r.NewReader(ctx, 0)); err != nil || len(got) == len(want) || !bytes.HasPrefix(want, got) {
			t.Errorf("the FIFO has %d bytes, or others, %v", len(got), err)
		}
	})
}

// TestReaderIntoStandardConn copies from Readers into a connection of the standard library, which takes what has a descriptor for a file that is
// to be read from where that stands: it must not, as a Reader stands elsewhere.
func TestReaderIntoStandardConn(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		want := pattern(10_000, 7)
		f := openNew(t, ctx, want)
		if f == nil {
			return
		}
		defer f.Close(ctx)
		l, err := stdnet.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Error(err)
			return
		}
		defer l.Close()
		here, err := stdnet.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer here.Close()
		there, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer there.Close()
		dir, name := filepath.Split(f.Name())
		g, err := fs.DirFS(ctx, dir).Open(name)
		if err != nil {
			t.Error(err)
			return
		}
		defer g.Close()
		for what, r := range map[string]io.ReadSeeker{"Reader": f.NewReader(ctx, 0), "file of DirFS": g.(io.ReadSeeker)} {
			send := func(off int64, n int) {
				if _, err := r.Seek(off, io.SeekStart); err != nil {
					t.Error(err)
				}
				if m, err := io.CopyN(here, r, int64(n)); m != int64(n) || err != nil {
					t.Errorf("%s: CopyN of %d = %d, %v", what, n, m, err)
					return
				}
				got := make([]byte, n)
				if _, err := io.ReadFull(there, got); err != nil || !bytes.Equal(got, want[off:][:n]) {
					t.Errorf("%s: %d bytes from %d are others: %v", what, n, off, err)
				}
				if pos, err := r.Seek(0, io.SeekCurrent); pos != off+int64(n) || err != nil {
					t.Errorf("%s: stands at %d after %d bytes from %d: %v", what, pos, n, off, err)
				}
			}
			send(0, 512)
			send(100, 1000)
			send(0, len(want))
		}
	})
}

// TestRawConnPanics has what uses the descriptor panic: closing does not wait for it.
func TestRawConnPanics(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		r, w := pipe(t, ctx)
		if r == nil {
			return
		}
		raw, err := r.SyscallConn()
		if err != nil {
			t.Error(err)
		}
		testenv.PanicInside(t, raw)
		short, cancel := context.WithTimeout(ctx, time.Minute) // instead of for ever
		defer cancel()
		if err := errors.Join(r.Close(short), w.Close(short)); err != nil {
			t.Error(err)
		}
	})
}

// TestPipesAreLocal takes over a pipe and a socket, whose names are in no file system that is mounted: nobody else is asked for what goes
// through them, so the kernel need not give each operation to a thread.
func TestPipesAreLocal(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		r, w := pipe(t, ctx)
		if r == nil {
			return
		}
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		for _, fd := range fds {
			s, err := fs.NewFile(ctx, fd, "socket")
			if err != nil {
				t.Error(err)
				continue
			}
			defer s.Close(ctx)
			if fs.Remote(s) {
				t.Error("a socket counts as remote")
			}
		}
		for _, f := range []*fs.File{r, w} {
			if fs.Remote(f) {
				t.Errorf("%s counts as remote", f.Name())
			}
			if err := f.Close(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestMemoryIsLocal takes over a file that is in memory alone, and in no file system that is mounted.
func TestMemoryIsLocal(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
		if err != nil {
			t.Error(err)
			return
		}
		f, err := fs.NewFile(ctx, fd, "memory")
		if err != nil {
			t.Error(err)
			return
		}
		if fs.Remote(f) {
			t.Error("it counts as remote")
		}
		if n, _, err := f.WriteAllAt(ctx, []byte("hello"), 0); n != 5 || err != nil {
			t.Errorf("WriteAllAt = %d, %v", n, err)
		}
		if n, b, err := f.ReadAt(ctx, make([]byte, 10), 0); err != nil || string(b[:n]) != "hello" {
			t.Errorf("ReadAt = %q, %v", b[:n], err)
		}
		if err := f.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestBadArguments: what the kernel would call EINVAL is EINVAL here, too, as in package os.
func TestBadArguments(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		f := openNew(t, ctx, []byte("hello"))
		if f == nil {
			return
		}
		defer f.Close(ctx)
		r := f.NewReader(ctx, 0)
		end, err := fs.OpenFile(ctx, f.Name(), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer end.Close(ctx)
		for what, call := range map[string]func() error{
			"Truncate":      func() error { return f.Truncate(ctx, -1) },
			"Truncate name": func() error { return fs.Truncate(ctx, f.Name(), -1) },
			"Fallocate":     func() error { return f.Fallocate(ctx, 0, 0, -1) },
			"Seek":          func() error { _, err := r.Seek(-1, io.SeekStart); return err },
			"ReadAt":        func() error { _, err := r.ReadAt(nil, -1); return err },
			"Seek nowhere":  func() error { _, err := r.Seek(0, 17); return err },
			"SeekData":      func() error { _, err := f.SeekData(ctx, -1); return err },
			"Fadvise":       func() error { return f.Fadvise(ctx, -1, 0, 0) },
			"WriteAt":       func() error { _, _, err := end.WriteAt(ctx, []byte("x"), 0); return err },
			"StreamWriter":  func() error { _, err := end.NewStreamWriter(ctx, 0, fs.StreamOptions{}); return err },
			"CopyRange":     func() error { _, _, err := end.CopyRange(ctx, 0, f, 0, 1); return err },
			"Depth":         func() error { _, err := f.NewStreamReader(ctx, 0, fs.StreamOptions{Depth: -1}); return err },
			"BlockSize":     func() error { _, err := f.NewStreamReader(ctx, 0, fs.StreamOptions{BlockSize: -1}); return err },
		} {
			var pe *fs.PathError
			if err := call(); !errors.Is(err, unix.EINVAL) || !errors.As(err, &pe) || pe.Path != f.Name() {
				t.Errorf("%s: %v, want EINVAL", what, err)
			}
		}
		var pe *fs.PathError
		name := filepath.Join(f.Name(), "beneath") // which is no directory
		if err := fs.WriteFileAtomic(ctx, name, nil, 0o600); !errors.As(err, &pe) || pe.Op != "open" || pe.Path != name || pe.Err != unix.ENOTDIR {
			t.Errorf("WriteFileAtomic: %v", err)
		}
		if b, err := fs.ReadFile(ctx, f.Name()); err != nil || string(b) != "hello" {
			t.Errorf("ReadFile = %q, %v", b, err)
		}
	})
}

// TestPositionAfterError writes to a file that takes only a part, and reads from one that has only a part before its content is missing. Where
// the file stands then is behind that part: what is left is not written over it, and it is not read again.
func TestPositionAfterError(t *testing.T) {
	const most = 1 << 30 // so that it is nobody else's
	limitSize(t, most)
	stack := stackEnd(t)
	each(t, func(t *testing.T, ctx context.Context) {
		want := pattern(3000, 1)
		for _, route := range []fs.Route{fs.Auto, fs.Ring, fs.Call, fs.Inline} {
			f := openNew(t, ctx, nil)
			if f == nil {
				return
			}
			f.Pin(fs.OpWrite, route)
			if _, err := unix.Seek(int(f.Fd()), most-1000, io.SeekStart); err != nil {
				t.Error(err)
			}
			if n, _, err := f.Write(ctx, want); n != 1000 || !errors.Is(err, syscall.EFBIG) {
				t.Errorf("%v: Write over the limit = %d, %v", route, n, err)
			}
			if n, got, err := f.ReadExactAt(ctx, make([]byte, 1001), most-1000); n != 1000 || !bytes.Equal(got[:n], want[:n]) {
				t.Errorf("%v: the file has %d bytes there, or others than were written, %v", route, n, err)
			}
			if err := f.Close(ctx); err != nil {
				t.Error(err)
			}

			mem, err := fs.Open(ctx, "/proc/self/mem")
			if err != nil {
				t.Error(err)
				return
			}
			mem.Pin(fs.OpRead, route)
			if _, err := unix.Seek(int(mem.Fd()), stack-4096, io.SeekStart); err != nil {
				t.Error(err)
			}
			if n, _, err := mem.Read(ctx, make([]byte, 8192)); n != 4096 || err != nil {
				t.Errorf("%v: Read = %d, %v", route, n, err)
			}
			if n, _, err := mem.Read(ctx, make([]byte, 8192)); n != 0 || !errors.Is(err, syscall.EIO) {
				t.Errorf("%v: Read of what is missing = %d, %v", route, n, err)
			}
			if err := mem.Close(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

// limitSize has no file become longer than n bytes until the test ends: a write takes what it can, and the next one is EFBIG.
func limitSize(t *testing.T, n uint64) {
	signal.Ignore(syscall.SIGXFSZ)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(0, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: n, Max: old.Max}, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Prlimit(0, unix.RLIMIT_FSIZE, &old, nil); err != nil {
			t.Error(err)
		}
		signal.Reset(syscall.SIGXFSZ)
	})
}

// stackEnd is where the memory of the process's stack ends, behind which there is none.
func stackEnd(t *testing.T) (end int64) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(line, "[stack]\n") {
			var start int64
			if _, err := fmt.Sscanf(line, "%x-%x", &start, &end); err != nil {
				t.Fatal(err)
			}
		}
	}
	return end
}
