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
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
	"uringo/internal/ring"
	"uringo/internal/testenv"
)

// TestStreamWriteOut counts the operations of a stream that is to be written out, and of one that is not.
func TestStreamWriteOut(t *testing.T) {
	defer fs.WriteOutEvery(64 << 10)()
	data := make([]byte, 1<<20)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	each(t, func(t *testing.T, ctx context.Context) {
		d, err := driver.FromContext(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		told := func(out bool) uint64 {
			f := openNew(t, ctx, nil)
			if f == nil {
				return 0
			}
			defer f.Close(ctx)
			w, err := f.NewStreamWriter(ctx, 0, fs.StreamOptions{BlockSize: 16 << 10, WriteOut: out})
			if err != nil {
				t.Error(err)
				return 0
			}
			before := d.Stats().Submitted
			for from := 0; from < len(data); from += 32 << 10 {
				if _, err := w.Write(data[from:][:32<<10]); err != nil {
					t.Error(err)
				}
				_ = executor.Yield(ctx) // the driver may be this thread's
			}
			err = errors.Join(w.Flush(), w.Close())
			n := d.Stats().Submitted - before
			if got, err2 := os.ReadFile(f.Name()); err != nil || err2 != nil || !bytes.Equal(got, data) {
				t.Errorf("wrote %v, read %d bytes, %v", err, len(got), err2)
			}
			return n
		}
		blocks := told(false)
		if n := told(true) - blocks; n < 1 || n > 16 {
			t.Errorf("%d operations beside %d blocks, for 16 times 64 KiB to be written out", n, blocks)
		}
	})
}

// plain hides what a reader or writer can do beside the one thing.
type (
	plainReader struct{ io.Reader }
	plainWriter struct{ io.Writer }
)

// forget has the kernel drop what it has of a file in its cache.
func forget(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	if err := errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)); err != nil {
		t.Error(err)
	}
}

// streamKinds are the files and options that a stream shall work with alike.
func streamKinds(t *testing.T, ctx context.Context, name string, flag int, test func(what string, f *fs.File, o fs.StreamOptions)) {
	pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 8192, Count: 3}}})
	for _, kind := range []struct {
		what   string
		direct bool
		pin    fs.Route
		opts   fs.StreamOptions
	}{
		{what: "default"},
		{what: "small", opts: fs.StreamOptions{BlockSize: 1000, Depth: 2}},
		{what: "ring", pin: fs.Ring, opts: fs.StreamOptions{BlockSize: 4096, Depth: 5}},
		{what: "call", pin: fs.Call, opts: fs.StreamOptions{BlockSize: 5000, Depth: 1}},
		{what: "pool", pin: fs.Ring, opts: fs.StreamOptions{BlockSize: 8000, Depth: 8, Pool: pool}},
		{what: "direct", direct: true, opts: fs.StreamOptions{BlockSize: 5000, Depth: 3}},
		{what: "direct with a pool", direct: true, opts: fs.StreamOptions{BlockSize: 8192, Pool: pool}},
	} {
		flag := flag
		if kind.direct {
			flag |= unix.O_DIRECT
		}
		f, err := fs.OpenFile(ctx, name, flag, 0o600)
		if kind.direct && errors.Is(err, syscall.EINVAL) {
			t.Log("needs a file system with O_DIRECT")
			continue
		}
		if err != nil {
			t.Error(err)
			return
		}
		f.Pin(fs.OpRead, kind.pin)
		f.Pin(fs.OpWrite, kind.pin)
		test(kind.what, f, kind.opts)
		if err := f.Close(ctx); err != nil {
			t.Error(err)
		}
	}
}

// TestStreamReader reads files in all ways, cached, not cached and in part, in pieces of any size, and skips and seeks.
func TestStreamReader(t *testing.T) { // G5
	each(t, testStreamReader)
}

func TestStreamReaderShort(t *testing.T) {
	shortened(t, testStreamReader)
}

func testStreamReader(t *testing.T, ctx context.Context) {
	want := pattern(200_123, 3)
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, want, 0o600); err != nil {
		t.Error(err)
		return
	}
	rng := rand.New(rand.NewPCG(5, 6))
	streamKinds(t, ctx, name, os.O_RDONLY, func(what string, f *fs.File, o fs.StreamOptions) {
		for round := range 3 {
			if round%2 == 0 {
				forget(t, name)
			}
			pos := rng.IntN(20_000)
			r, err := f.NewStreamReader(ctx, int64(pos), o)
			if err != nil {
				t.Error(err)
				return
			}
			if round < 2 {
				var got bytes.Buffer
				if n, err := io.Copy(&got, r); n != int64(len(want)-pos) || err != nil || !bytes.Equal(got.Bytes(), want[pos:]) {
					t.Errorf("%s: io.Copy from %d = %d, %v", what, pos, n, err)
				}
				if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Errorf("%s: after the end: %d, %v", what, n, err)
				}
				pos = len(want)
			}
			for range 25 {
				p := make([]byte, 1+rng.IntN(20_000))
				switch rng.IntN(8) {
				case 0, 1:
					pos = rng.IntN(len(want) + 1000)
					if got, err := r.Seek(int64(pos), io.SeekStart); got != int64(pos) || err != nil {
						t.Errorf("%s: Seek to %d = %d, %v", what, pos, got, err)
					}
				case 2:
					pos += rng.IntN(5000)
					if got, err := r.Seek(int64(pos), io.SeekStart); got != int64(pos) || err != nil {
						t.Errorf("%s: Seek to %d = %d, %v", what, pos, got, err)
					}
				}
				n, err := r.Read(p)
				left := want[min(pos, len(want)):]
				if len(left) == 0 && (n != 0 || err != io.EOF) || len(left) > 0 && (n == 0 || err != nil) || !bytes.HasPrefix(left, p[:n]) {
					t.Errorf("%s: reading %d at %d = %d, %v", what, len(p), pos, n, err)
					break
				}
				pos += n
			}
			if n, err := r.Read(nil); n != 0 || err != nil {
				t.Errorf("%s: reading nothing: %d, %v", what, n, err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if err := r.Close(); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("%s: second Close: %v", what, err)
			}
			if _, err := r.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("%s: after Close: %v", what, err)
			}
		}
	})
}

// TestStreamEnd follows a file that grows, reads an empty one, and leaves streams unread.
func TestStreamEnd(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Error(err)
			return
		}
		var have []byte
		streamKinds(t, ctx, name, os.O_RDWR, func(what string, f *fs.File, o fs.StreamOptions) {
			r, err := f.NewStreamReader(ctx, 0, o)
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			for range 3 {
				if got, err := io.ReadAll(r); err != nil || !bytes.HasSuffix(have, got) {
					t.Errorf("%s: %d bytes, %v", what, len(got), err)
				}
				if pos, err := r.Seek(0, io.SeekCurrent); pos != int64(len(have)) || err != nil {
					t.Errorf("%s: at %d of %d, %v", what, pos, len(have), err)
				}
				more := pattern(10_001, uint32(len(have)))
				have = append(have, more...)
				g, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := g.Write(more); err != nil {
					t.Error(err)
				}
				g.Close()
			}
			part := make([]byte, 10)
			if n, err := io.ReadFull(r, part); err != nil || !bytes.Equal(part, have[len(have)-10_001:][:10]) {
				t.Errorf("%s: the new part: %d, %v", what, n, err)
			}
		})
		if f, err := fs.Open(ctx, name); err != nil {
			t.Error(err)
		} else {
			if _, err := f.NewStreamReader(ctx, -1, fs.StreamOptions{}); err == nil {
				t.Error("a stream from -1")
			}
			for _, o := range []fs.StreamOptions{{BlockSize: -1}, {Depth: -1}, {BlockSize: 1<<30 + 1}} {
				if _, err := f.NewStreamReader(ctx, 0, o); err == nil {
					t.Errorf("a stream of %+v", o)
				}
			}
			if _, err := f.NewStreamReader(context.Background(), 0, fs.StreamOptions{}); err == nil {
				t.Error("a stream without a driver")
			}
			f.Close(ctx)
			if _, err := f.NewStreamReader(ctx, 0, fs.StreamOptions{}); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("a stream of a closed file: %v", err)
			}
		}
		if r, w := pipe(t, ctx); r != nil {
			if _, err := r.NewStreamReader(ctx, 0, fs.StreamOptions{}); !errors.Is(err, unix.ESPIPE) {
				t.Errorf("a stream of a pipe: %v", err)
			}
			if _, err := w.NewStreamWriter(ctx, 0, fs.StreamOptions{}); !errors.Is(err, unix.ESPIPE) {
				t.Errorf("a stream into a pipe: %v", err)
			}
			r.Close(ctx)
			w.Close(ctx)
		}
	})
}

// TestStreamWriter writes files in all ways, from any offset, in pieces of any size, over what was there.
func TestStreamWriter(t *testing.T) { // G5
	each(t, testStreamWriter)
}

func TestStreamWriterShort(t *testing.T) {
	shortened(t, testStreamWriter)
}

func testStreamWriter(t *testing.T, ctx context.Context) {
	name := filepath.Join(t.TempDir(), "file")
	rng := rand.New(rand.NewPCG(7, 8))
	var model []byte
	put := func(off int, b []byte) {
		if len(b) > 0 && off+len(b) > len(model) {
			model = append(model, make([]byte, off+len(b)-len(model))...)
		}
		copy(model[min(off, len(model)):], b)
	}
	streamKinds(t, ctx, name, os.O_RDWR|os.O_CREATE, func(what string, f *fs.File, o fs.StreamOptions) {
		for round := range 2 {
			pos := rng.IntN(30_000)
			w, err := f.NewStreamWriter(ctx, int64(pos), o)
			if err != nil {
				t.Errorf("%s: %v", what, err)
				return
			}
			for i := range 20 {
				b := pattern(rng.IntN(12_000), rng.Uint32())
				if i == 7 {
					n, err := w.ReadFrom(plainReader{bytes.NewReader(b)})
					if n != int64(len(b)) || err != nil {
						t.Errorf("%s: ReadFrom %d = %d, %v", what, len(b), n, err)
					}
				} else if n, err := w.Write(b); n != len(b) || err != nil {
					t.Errorf("%s: writing %d at %d = %d, %v", what, len(b), pos, n, err)
				}
				put(pos, b)
				pos += len(b)
				if w.Offset() != int64(pos) || w.Flushed() > int64(pos) {
					t.Errorf("%s: at %d, flushed to %d; want %d", what, w.Offset(), w.Flushed(), pos)
				}
				if rng.IntN(5) > 0 {
					continue
				}
				flush := w.Flush
				if i%2 == 0 {
					flush = w.Sync
				}
				if err := flush(); err != nil || w.Flushed() != int64(pos) {
					t.Errorf("%s: flushed to %d of %d, %v", what, w.Flushed(), pos, err)
				}
				if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, model) {
					t.Errorf("%s: after Flush, the file has %d bytes and should have %d, %v", what, len(got), len(model), err)
				}
			}
			if err := w.Close(); err != nil || w.Flushed() != int64(pos) {
				t.Errorf("%s: Close: %v, flushed to %d of %d", what, err, w.Flushed(), pos)
			}
			if err := w.Close(); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("%s: second Close: %v", what, err)
			}
			if _, err := w.Write([]byte("x")); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("%s: after Close: %v", what, err)
			}
			if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, model) {
				t.Errorf("%s, round %d: the file has %d bytes and should have %d, %v", what, round, len(got), len(model), err)
				return
			}
		}
	})
}

// TestStreamCopy copies from stream to stream.
func TestStreamCopy(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		want := pattern(3<<20+77, 9)
		from := openNew(t, ctx, want)
		to := openNew(t, ctx, nil)
		if from == nil || to == nil {
			return
		}
		defer from.Close(ctx)
		defer to.Close(ctx)
		for _, plain := range []bool{false, true} {
			r, err1 := from.NewStreamReader(ctx, 0, fs.StreamOptions{})
			w, err2 := to.NewStreamWriter(ctx, 5, fs.StreamOptions{BlockSize: 100_000})
			if err := errors.Join(err1, err2); err != nil {
				t.Error(err)
				return
			}
			var n int64
			var err error
			if plain {
				n, err = io.Copy(plainWriter{w}, plainReader{r})
			} else {
				n, err = io.Copy(w, r)
			}
			if err := errors.Join(err, w.Close(), r.Close()); n != int64(len(want)) || err != nil {
				t.Errorf("copied %d, %v", n, err)
			}
			if got, err := os.ReadFile(to.Name()); err != nil || !bytes.Equal(got[5:], want) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		}
	})
}

// TestStreamErrors has the kernel fail: the error comes out at its place, once, and is not lost.
func TestStreamErrors(t *testing.T) { // HAZARDS T20
	faulty(t, ring.FaultConfig{}, func(t *testing.T, ctx context.Context, faults *ring.Faults) {
		want := pattern(50_000, 2)
		f := openNew(t, ctx, want)
		if f == nil {
			return
		}
		defer f.Close(ctx)
		f.Pin(fs.OpRead, fs.Ring)
		f.Pin(fs.OpWrite, fs.Ring)
		o := fs.StreamOptions{BlockSize: 4096, Depth: 3}
		bad := func(op ring.Op, off uint64) {
			faults.Set(ring.FaultConfig{Inject: 1, Results: []int32{-int32(syscall.EIO)},
				Match: func(s *ring.SQE) bool { return s.Op == op && s.Off == off }})
		}
		isEIO := func(what string, err error, verb string) {
			t.Helper()
			var pe *fs.PathError
			if !errors.As(err, &pe) || pe.Err != syscall.EIO || pe.Op != verb || pe.Path != f.Name() {
				t.Errorf("%s: %v, want EIO", what, err)
			}
		}

		bad(ring.OpRead, 3*4096)
		r, err := f.NewStreamReader(ctx, 0, o)
		if err != nil {
			t.Error(err)
			return
		}
		got, err := io.ReadAll(r)
		if len(got) != 3*4096 {
			t.Errorf("%d bytes before the bad block", len(got))
		}
		isEIO("ReadAll", err, "read")
		faults.Set(ring.FaultConfig{})
		more, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(append(got, more...), want) {
			t.Errorf("%d bytes after it, %v", len(more), err)
		}
		bad(ring.OpRead, 4096)
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			t.Error(err)
		}
		if n, err := r.Read(make([]byte, 10)); n != 10 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("Close tells of what nobody read: %v", err)
		}

		// Nobody asks before Close.
		bad(ring.OpWrite, 2*4096)
		w, err := f.NewStreamWriter(ctx, 0, fs.StreamOptions{BlockSize: 4096, Depth: 30})
		if err != nil {
			t.Error(err)
			return
		}
		if n, err := w.Write(want[:4*4096-1]); n != 4*4096-1 || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
		isEIO("Close", w.Close(), "write")
		if w.Flushed() != 2*4096 {
			t.Errorf("flushed to %d", w.Flushed())
		}

		// Somebody does.
		if w, err = f.NewStreamWriter(ctx, 0, o); err != nil {
			t.Error(err)
			return
		}
		n, err := io.Copy(plainWriter{w}, bytes.NewReader(want))
		isEIO("io.Copy", err, "write")
		if n < 3*4096 || n >= 10*4096 {
			t.Errorf("%d bytes were taken", n)
		}
		isEIO("Flush", w.Flush(), "write")
		_, err = w.Write([]byte("x"))
		isEIO("Write", err, "write")
		if err := w.Close(); err != nil {
			t.Errorf("Close tells it again: %v", err)
		}
		// The source fails: the stream does not.
		faults.Set(ring.FaultConfig{})
		if w, err = f.NewStreamWriter(ctx, 0, o); err != nil {
			t.Error(err)
			return
		}
		failing := io.MultiReader(bytes.NewReader(want[:100]), readFunc(func([]byte) (int, error) { return 0, io.ErrClosedPipe }))
		if n, err := w.ReadFrom(failing); n != 100 || err != io.ErrClosedPipe {
			t.Errorf("ReadFrom = %d, %v", n, err)
		}
		if n, err := w.ReadFrom(readFunc(func([]byte) (int, error) { return 0, nil })); n != 0 || err != io.ErrNoProgress {
			t.Errorf("ReadFrom = %d, %v", n, err)
		}
		if err := w.Close(); err != nil || w.Flushed() != 100 {
			t.Errorf("Close: %v, flushed to %d", err, w.Flushed())
		}
	})
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// TestStreamCancel ends the context, or the file, under streams.
func TestStreamCancel(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		f := openNew(t, ctx, pattern(100_000, 1))
		if f == nil {
			return
		}
		defer f.Close(ctx)
		f.Pin(fs.OpRead, fs.Ring)
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 20}}})
		o := fs.StreamOptions{BlockSize: 4096, Pool: pool}
		ending, cancel := context.WithCancel(ctx)
		r, err1 := f.NewStreamReader(ending, 0, o)
		w, err2 := f.NewStreamWriter(ending, 0, o)
		if err := errors.Join(err1, err2); err != nil {
			t.Error(err)
			cancel()
			return
		}
		if n, err := r.Read(make([]byte, 10)); n != 10 || err != nil {
			t.Errorf("Read = %d, %v", n, err)
		}
		if n, err := w.Write(pattern(10_000, 1)); n != 10_000 || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
		cancel()
		if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
			t.Errorf("reading: %v", err)
		}
		if err := w.Close(); !errors.Is(err, context.Canceled) {
			t.Errorf("closing the writer: %v", err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}

		r, err1 = f.NewStreamReader(ctx, 0, o)
		w, err2 = f.NewStreamWriter(ctx, 0, o)
		if err := errors.Join(err1, err2); err != nil {
			t.Error(err)
			return
		}
		if n, err := r.Read(make([]byte, 10)); n != 10 || err != nil {
			t.Errorf("Read = %d, %v", n, err)
		}
		if n, err := w.Write(pattern(10_000, 1)); n != 10_000 || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
		if err := f.Close(ctx); err != nil {
			t.Error(err)
		}
		if _, err := io.Copy(io.Discard, r); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("reading a closed file: %v", err)
		}
		if err := w.Close(); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("closing the writer of a closed file: %v", err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if b, err := pool.Get(ctx, 4096); err != nil { // all are back: closing the pool will tell
			t.Error(err)
		} else {
			b.Release()
		}
	})
}

func ExampleFile_NewStreamWriter() {
	start(func(ctx context.Context, dir string) error {
		f, err := fs.Create(ctx, filepath.Join(dir, "numbers"))
		if err != nil {
			return err
		}
		defer f.Close(ctx)
		w, err := f.NewStreamWriter(ctx, 0, fs.StreamOptions{})
		if err != nil {
			return err
		}
		for i := range 100_000 {
			fmt.Fprintln(w, i) // an error is kept for Close
		}
		if err := w.Close(); err != nil {
			return err
		}

		r, err := f.NewStreamReader(ctx, 0, fs.StreamOptions{BlockSize: 1 << 20, Depth: 4})
		if err != nil {
			return err
		}
		defer r.Close()
		lines := 0
		_, err = io.Copy(writeFunc(func(p []byte) { lines += bytes.Count(p, []byte("\n")) }), r)
		fmt.Println(lines, "lines")
		return err
	})
	// Output: 100000 lines
}

type writeFunc func(p []byte)

func (f writeFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

// TestStreamReaderBehindError goes on behind the place where a block ended, which has nothing to say about what is there now.
func TestStreamReaderBehindError(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		content := pattern(1000, 1)
		f := openNew(t, ctx, content[:100])
		if f == nil {
			return
		}
		defer f.Close(ctx)
		f.Pin(fs.OpRead, fs.Ring) // so that blocks are read
		r, err := f.NewStreamReader(ctx, 0, fs.StreamOptions{})
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Close()
		if n, err := io.ReadFull(r, make([]byte, 100)); n != 100 || err != nil {
			t.Errorf("Read = %d, %v", n, err)
		}
		if _, _, err := f.WriteAllAt(ctx, bytes.Clone(content[100:]), 100); err != nil {
			t.Error(err)
		}
		if off, err := r.Seek(500, io.SeekStart); off != 500 || err != nil {
			t.Errorf("Seek = %d, %v", off, err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content[500:]) {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
	})
}

// TestStreamWriterAtTheEnd writes up to where offsets end: what does not fit is refused, and not forgotten.
func TestStreamWriterAtTheEnd(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		f, err := fs.Create(ctx, filepath.Join(t.TempDir(), "file"))
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close(ctx)
		for _, all := range []bool{false, true} {
			w, err := f.NewStreamWriter(ctx, math.MaxInt64-10, fs.StreamOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			n := 0
			if all {
				var m int64
				m, err = w.ReadFrom(bytes.NewReader(make([]byte, 100)))
				n = int(m)
			} else {
				n, err = w.Write(make([]byte, 100))
			}
			if n != 10 || !errors.Is(err, fs.ErrInvalid) && !errors.Is(err, syscall.EINVAL) || w.Offset() != math.MaxInt64 {
				t.Errorf("all %v: took %d, %v; then at %d", all, n, err, w.Offset())
			}
			if err := w.Close(); err != nil {
				t.Errorf("all %v: Close: %v", all, err)
			}
		}
	})
}

// TestStreamReaderBadWriter hands blocks to a Writer that says that it took what it cannot have: the stream stays where it is.
func TestStreamReaderBadWriter(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, []byte("content"), 0o600); err != nil {
			t.Error(err)
		}
		f, err := fs.Open(ctx, name)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close(ctx)
		for _, says := range []int{-1, 8} {
			r, err := f.NewStreamReader(ctx, 0, fs.StreamOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			if n, err := r.WriteTo(badWriter(says)); n != 0 || err == nil {
				t.Errorf("WriteTo one that says %d: %d, %v", says, n, err)
			}
			if b, err := io.ReadAll(r); string(b) != "content" || err != nil {
				t.Errorf("after one that says %d: %q, %v", says, b, err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

type badWriter int

func (w badWriter) Write([]byte) (int, error) { return int(w), nil }

// TestStreamWriterBadReader has sources say that they read what they cannot have: what they read before stays whole, and is all there is.
func TestStreamWriterBadReader(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		f := openNew(t, ctx, nil)
		if f == nil {
			return
		}
		defer f.Close(ctx)
		for _, bad := range []int{-1, 1 << 20, math.MaxInt} {
			w, err := f.NewStreamWriter(ctx, 0, fs.StreamOptions{BlockSize: 8192})
			if err != nil {
				t.Error(err)
				return
			}
			reads := 0
			n, err := w.ReadFrom(readFunc(func(p []byte) (int, error) {
				if reads++; reads > 1 {
					return bad, nil
				}
				return copy(p, "content"), nil
			}))
			if n != 7 || err == nil || w.Offset() != 7 {
				t.Errorf("ReadFrom = %d, %v, and the stream is at %d", n, err, w.Offset())
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			if b, err := os.ReadFile(f.Name()); string(b) != "content" || err != nil {
				t.Errorf("the file has %q, %v", b, err)
			}
		}
	})
}

// TestFlushedStays has the kernel refuse to write a block that is in the file in part, from a padded Flush: that part stays, and Flushed says so.
func TestFlushedStays(t *testing.T) {
	faulty(t, ring.FaultConfig{}, func(t *testing.T, ctx context.Context, faults *ring.Faults) {
		f := openDirect(t, ctx, nil)
		if f == nil {
			return
		}
		defer f.Close(ctx)
		for _, more := range []int{100, 3096} { // which is padded again, or whole
			w, err := f.NewStreamWriter(ctx, 0, fs.StreamOptions{BlockSize: 4096})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := w.Write(pattern(1000, 1)); err != nil {
				t.Error(err)
			}
			if err := w.Flush(); err != nil || w.Flushed() != 1000 {
				t.Errorf("Flush: %v, flushed to %d", err, w.Flushed())
			}
			faults.Set(ring.FaultConfig{Inject: 1, Results: []int32{-int32(syscall.EIO)},
				Match: func(e *ring.SQE) bool { return e.Op == ring.OpWrite }})
			if _, err := w.Write(pattern(more, 2)); err != nil {
				t.Error(err)
			}
			if err := w.Close(); !errors.Is(err, syscall.EIO) || w.Flushed() != 1000 {
				t.Errorf("Close: %v, flushed to %d", err, w.Flushed())
			}
			faults.Set(ring.FaultConfig{})
		}
	})
}
