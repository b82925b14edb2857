package fs_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
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
)

// TestEveryOpcodeMissing takes one opcode away after the other: what needs it is a plain call, with the same results.
func TestEveryOpcodeMissing(t *testing.T) { // N7
	testenv.SkipShort(t)
	if testenv.Engines(t)[0] != driver.Uring {
		t.Skip("needs io_uring")
	}
	for _, op := range operations {
		defer fs.Pin(op, fs.Pin(op, fs.Ring))
	}
	for _, op := range []ring.Op{ring.OpOpenat, ring.OpOpenat2, ring.OpClose, ring.OpRead, ring.OpWrite, ring.OpReadv, ring.OpWritev, ring.OpFsync,
		ring.OpFallocate, ring.OpFtruncate, ring.OpFadvise, ring.OpStatx, ring.OpFsetxattr, ring.OpFgetxattr, ring.OpMkdirat, ring.OpUnlinkat,
		ring.OpRenameat, ring.OpSymlinkat, ring.OpLinkat, ring.OpSyncFileRange, ring.OpReadFixed, ring.OpWriteFixed, ring.OpReadvFixed,
		ring.OpWritevFixed, ring.OpPollAdd, ring.OpTimeout, ring.OpAsyncCancel, ring.OpFilesUpdate, ring.OpFixedFdInstall} {
		for _, e := range []executor.Executor{executor.Goroutines(), executor.Local()} {
			t.Run(op.String()+"/"+e.String(), func(t *testing.T) {
				cfg := driver.OnKernel(driver.Config{Engine: driver.Uring}, ring.Lacking{Kernel: ring.Linux(), Op: op})
				run(t, e, cfg, func(t *testing.T, ctx context.Context) {
					d, err := driver.FromContext(ctx)
					if err != nil {
						t.Error(err)
						return
					}
					before := d.Stats().Calls
					someOfAll(t, ctx)
					theRest(t, ctx)
					if !optional[op] && d.Stats().Calls == before {
						t.Error("nothing was a plain call")
					}
				})
			})
		}
	}
}

// optional are opcodes without which others do, or which are about others.
var optional = map[ring.Op]bool{ring.OpReadFixed: true, ring.OpWriteFixed: true, ring.OpReadvFixed: true, ring.OpWritevFixed: true, ring.OpPollAdd: true,
	ring.OpTimeout: true, ring.OpAsyncCancel: true, ring.OpFilesUpdate: true, ring.OpFixedFdInstall: true}

// theRest does what someOfAll does not.
func theRest(t *testing.T, ctx context.Context) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	for _, size := range []int{10, 100_000} {
		if err := fs.WriteFileAtomic(ctx, name, pattern(size, 1), 0o600); err != nil {
			t.Error(err)
		}
	}
	d, err := fs.OpenDir(ctx, dir)
	if err != nil {
		t.Error(err)
		return
	}
	defer d.Close(ctx)
	f, err := d.OpenFile(ctx, "file", os.O_RDWR, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close(ctx)
	if err := errors.Join(f.SyncFileRange(ctx, 0, 0, unix.SYNC_FILE_RANGE_WRITE), f.Fadvise(ctx, 0, 0, unix.FADV_WILLNEED)); err != nil {
		t.Error(err)
	}
	if err := f.Fallocate(ctx, unix.FALLOC_FL_KEEP_SIZE, 0, 200_000); err != nil && !errors.Is(err, syscall.EOPNOTSUPP) {
		t.Error(err)
	}
	if err := f.SetXattr(ctx, "user.test", []byte("value"), 0); err == nil {
		if b, err := f.GetXattr(ctx, "user.test"); string(b) != "value" || err != nil {
			t.Errorf("GetXattr = %q, %v", b, err)
		}
	} else if !errors.Is(err, syscall.EOPNOTSUPP) {
		t.Error(err)
	}
	moveFixed(t, ctx, f)
	waitForPipe(t, ctx)
	moveInRing(t, ctx, name)
	r, err := f.NewStreamReader(ctx, 0, fs.StreamOptions{BlockSize: 8192})
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Close()
	var got bytes.Buffer
	if n, err := r.WriteTo(&got); n != 100_000 || err != nil || !bytes.Equal(got.Bytes(), pattern(100_000, 1)) {
		t.Errorf("the stream has %d bytes, %v", n, err)
	}
}

// moveFixed moves registered memory to a file and back, by one buffer and by several.
func moveFixed(t *testing.T, ctx context.Context, f *fs.File) {
	pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 2}}})
	want, err := os.ReadFile(f.Name())
	if err != nil {
		t.Error(err)
		return
	}
	var bs []*buf.Fixed
	for range 2 {
		b, err := pool.Get(ctx, 4096)
		if err != nil {
			t.Error(err)
			return
		}
		defer b.Release()
		bs = append(bs, b)
	}
	if n, _, err := f.ReadFixedAt(ctx, bs[0], 100); n != 4096 || err != nil || !bytes.Equal(bs[0].Bytes(), want[100:4196]) {
		t.Errorf("ReadFixedAt = %d, %v", n, err)
	}
	if n, _, err := f.WriteFixedAt(ctx, bs[0], 100); n != 4096 || err != nil {
		t.Errorf("WriteFixedAt = %d, %v", n, err)
	}
	if n, _, err := f.ReadvFixedAt(ctx, bs, 0); n != 8192 || err != nil || !bytes.Equal(bs[1].Bytes(), want[4096:8192]) {
		t.Errorf("ReadvFixedAt = %d, %v", n, err)
	}
	if n, _, err := f.WritevFixedAt(ctx, bs, 0); n != 8192 || err != nil {
		t.Errorf("WritevFixedAt = %d, %v", n, err)
	}
	if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the file changed, %v", err)
	}
}

// waitForPipe reads from a pipe before there is something, and gives up before.
func waitForPipe(t *testing.T, ctx context.Context) {
	r, w, err := fs.Pipe(ctx)
	if err != nil {
		t.Error(err)
		return
	}
	short, cancel := context.WithTimeout(ctx, 3*time.Millisecond)
	defer cancel()
	if n, _, err := r.Read(short, make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read of an empty pipe = %d, %v", n, err)
	}
	reading := executor.Go(ctx, func(ctx context.Context) (string, error) {
		n, b, err := r.Read(ctx, make([]byte, 10))
		return string(b[:n]), err
	})
	if err := executor.Sleep(ctx, time.Millisecond); err != nil {
		t.Error(err)
	}
	if _, _, err := w.Write(ctx, []byte("late")); err != nil {
		t.Error(err)
	}
	if got, err := reading.Join(ctx); got != "late" || err != nil {
		t.Errorf("Read = %q, %v", got, err)
	}
	if err := errors.Join(r.Close(ctx), w.Close(ctx)); err != nil {
		t.Error(err)
	}
}

// moveInRing reads and writes a file in the ring's table, if there is one.
func moveInRing(t *testing.T, ctx context.Context, name string) {
	f, err := fs.OpenInRing(ctx, name, os.O_RDWR, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close(ctx)
	n, b, err := f.ReadAt(ctx, make([]byte, 100), 50)
	if n != 100 || err != nil || !bytes.Equal(b, pattern(150, 1)[50:]) {
		t.Errorf("ReadAt = %d, %v", n, err)
	}
	if n, _, err := f.WriteAt(ctx, b, 50); n != 100 || err != nil {
		t.Errorf("WriteAt = %d, %v", n, err)
	}
	if err := errors.Join(f.SyncData(ctx), f.SyncAll(ctx)); err != nil {
		t.Error(err)
	}
	g, err := f.Install(ctx)
	if err == nil {
		err = g.Close(ctx)
	}
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

// TestGone sees files that have no name, or not any more: each is a file of its own, and tells.
func TestGone(t *testing.T) { // G3
	each(t, func(t *testing.T, ctx context.Context) {
		dir := t.TempDir()
		var files []*fs.File
		for i := range 3 {
			f, err := fs.OpenOptions{Read: true, Write: true, Unnamed: true}.Open(ctx, dir)
			if errors.Is(err, syscall.EOPNOTSUPP) || i == 2 {
				name := filepath.Join(dir, "file")
				if f != nil {
					f.Close(ctx)
				}
				if f, err = fs.Create(ctx, name); err == nil {
					err = fs.Remove(ctx, name)
				}
			}
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close(ctx)
			files = append(files, f)
			if _, _, err := f.WriteAllAt(ctx, pattern(1000+i, uint32(i)), 0); err != nil {
				t.Error(err)
			}
		}
		inodes := map[uint64]bool{}
		for i, f := range files {
			st, err := f.Statx(ctx, 0, unix.STATX_BASIC_STATS)
			if err != nil || st.Nlink != 0 || st.Size != uint64(1000+i) || inodes[st.Ino] {
				t.Errorf("file %d: %+v, %v", i, st, err)
				return
			}
			inodes[st.Ino] = true
			if n, b, err := f.ReadExactAt(ctx, make([]byte, 1000+i), 0); err != nil || !bytes.Equal(b, pattern(1000+i, uint32(i))) {
				t.Errorf("file %d has %d bytes, %v", i, n, err)
			}
		}
		if left, err := os.ReadDir(dir); len(left) != 0 || err != nil {
			t.Errorf("%v, %v", left, err)
		}
	})
}

// TestOneBufferTwoFiles writes the same memory to several files at once: who only reads it does not get into another's way.
func TestOneBufferTwoFiles(t *testing.T) { // G4
	each(t, func(t *testing.T, ctx context.Context) {
		want := pattern(50_000, 3)
		err := goAll(ctx, 4, func(ctx context.Context, i int) error {
			f := openNew(t, ctx, nil)
			if f == nil {
				return nil
			}
			defer f.Close(ctx)
			f.Pin(fs.OpWrite, []fs.Route{fs.Ring, fs.Auto}[i%2])
			if _, _, err := f.WriteAllAt(ctx, want, 7); err != nil {
				return err
			}
			if _, b, err := f.ReadExactAt(ctx, make([]byte, len(want)), 7); err != nil || !bytes.Equal(b, want) {
				t.Errorf("file %d: %v", i, err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}
