package fs_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
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

func TestWriteFileAtomic(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		dir := t.TempDir()
		name := filepath.Join(dir, "file")
		for i, size := range []int{0, 1, 100_000, 10, 300_000} {
			want := pattern(size, uint32(i))
			if err := fs.WriteFileAtomic(ctx, name, want, 0o640); err != nil {
				t.Error(err)
			}
			if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes of %d, %v", len(got), size, err)
			}
		}
		if info, err := os.Stat(name); err != nil || info.Mode() != 0o640 {
			t.Errorf("mode %v, %v", info, err)
		}
		if err := os.Symlink("file", dir+"/link"); err != nil {
			t.Error(err)
		}
		if err := fs.WriteFileAtomic(ctx, dir+"/link", []byte("x"), 0o600); err != nil {
			t.Error(err)
		}
		if info, err := os.Lstat(dir + "/link"); err != nil || !info.Mode().IsRegular() {
			t.Errorf("the link became %v, %v", info, err)
		}
		d, err := fs.OpenDir(ctx, dir)
		if err != nil {
			t.Error(err)
			return
		}
		defer d.Close(ctx)
		if err := d.WriteFileAtomic(ctx, "other", []byte("other"), 0o600); err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(dir + "/other"); string(got) != "other" {
			t.Errorf("%q, %v", got, err)
		}

		if err := os.Mkdir(dir+"/sub", 0o755); err != nil {
			t.Error(err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		for what, err := range map[string]error{
			"":           fs.WriteFileAtomic(ctx, "", nil, 0o600),
			"sub":        fs.WriteFileAtomic(ctx, dir+"/sub", nil, 0o600),
			"sub/":       fs.WriteFileAtomic(ctx, dir+"/sub/", nil, 0o600),
			"..":         d.WriteFileAtomic(ctx, "..", nil, 0o600),
			"sub/x":      d.WriteFileAtomic(ctx, "sub/x", nil, 0o600),
			"none/x":     fs.WriteFileAtomic(ctx, dir+"/none/x", nil, 0o600),
			"file/x":     fs.WriteFileAtomic(ctx, name+"/x", nil, 0o600),
			"ended":      fs.WriteFileAtomic(ended, name, nil, 0o600),
			"much ended": d.WriteFileAtomic(ended, "file", pattern(1<<20, 1), 0o600),
		} {
			var pe *fs.PathError
			if !errors.As(err, &pe) || strings.Contains(pe.Path, ".tmp-") {
				t.Errorf("%s: %v", what, err)
			}
		}
		if got, err := os.ReadFile(name); len(got) != 300_000 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 4 {
			t.Errorf("it left %v, %v", entries, err)
		}
	})
}

// TestWriteFileAtomicFails has a step fail: the old content stays, and nothing else. Only with the last one it is the new.
func TestWriteFileAtomicFails(t *testing.T) { // HAZARDS T26
	faulty(t, ring.FaultConfig{}, func(t *testing.T, ctx context.Context, faults *ring.Faults) {
		if !faults.CanInject() {
			t.Skip("needs IORING_NOP_INJECT_RESULT (6.10)")
		}
		for _, op := range []fs.Operation{fs.OpWrite, fs.OpSync, fs.OpCreate, fs.OpRename} {
			defer fs.Pin(op, fs.Pin(op, fs.Ring))
		}
		dir := t.TempDir()
		name := dir + "/file"
		for _, linked := range []bool{true, false} {
			if !linked {
				defer fs.AllRemote()()
			}
			for _, step := range []ring.Op{ring.OpOpenat2, ring.OpWrite, ring.OpFsync, ring.OpRenameat} {
				if err := fs.WriteFileAtomic(ctx, name, []byte("old"), 0o600); err != nil {
					t.Error(err)
				}
				before := linkedBy(t, ctx)
				faults.Set(ring.FaultConfig{Inject: 1, Results: []int32{-int32(syscall.EIO)},
					Match: func(e *ring.SQE) bool { return e.Op == step }})
				var pe *fs.PathError
				err := fs.WriteFileAtomic(ctx, name, []byte("new"), 0o600)
				if !errors.As(err, &pe) || pe.Path != name && pe.Path != dir+"/" || pe.Err != syscall.EIO {
					t.Errorf("linked %v, with a failing step %d: %v", linked, step, err)
				}
				faults.Set(ring.FaultConfig{})
				want := "old"
				if linked && step == ring.OpFsync { // there is one for the directory only
					want = "new"
				}
				if got, err := os.ReadFile(name); string(got) != want {
					t.Errorf("linked %v, with a failing step %d: %q, %v", linked, step, got, err)
				}
				if entries, err := os.ReadDir(dir); len(entries) != 1 {
					t.Errorf("linked %v, with a failing step %d it left %v, %v", linked, step, entries, err)
				}
				if n := linkedBy(t, ctx) - before; step != ring.OpOpenat2 && (n != 0) != linked {
					t.Errorf("linked %v, with a failing step %d: %d operations were linked", linked, step, n)
				}
			}
		}
	})
}

// TestWriteFileAtomicInterrupted has steps be interrupted, or cancelled by nobody: they are repeated.
func TestWriteFileAtomicInterrupted(t *testing.T) { // HAZARDS T10
	faulty(t, ring.FaultConfig{Inject: 0.3, Results: []int32{-int32(syscall.EINTR), -int32(syscall.EAGAIN), -512, -int32(syscall.ECANCELED)}},
		func(t *testing.T, ctx context.Context, faults *ring.Faults) {
			for _, op := range []fs.Operation{fs.OpWrite, fs.OpSync, fs.OpCreate, fs.OpRename} {
				defer fs.Pin(op, fs.Pin(op, fs.Ring))
			}
			name := filepath.Join(t.TempDir(), "file")
			for round := range uint64(30) {
				if err := fs.WriteFileAtomic(ctx, name, makeVersion(round), 0o600); err != nil {
					t.Error(err)
				}
				b, err := os.ReadFile(name)
				if version, ok := parseVersion(b); version != round || !ok {
					t.Errorf("round %d: version %d, %d bytes, %v", round, version, len(b), err)
				}
			}
			if faults.Stats().Injected == 0 {
				t.Error("no result was injected")
			}
		})
}

// TestWriteFileAtomicCancelled ends its context at random points: the file is whole, one version or the other, and nothing else is left.
func TestWriteFileAtomicCancelled(t *testing.T) {
	for _, grace := range []time.Duration{0, time.Nanosecond} {
		eachWith(t, driver.Config{CancelGrace: grace}, func(t *testing.T, ctx context.Context) {
			dir := t.TempDir()
			name := filepath.Join(dir, "file")
			if err := fs.WriteFileAtomic(ctx, name, makeVersion(0), 0o600); err != nil {
				t.Error(err)
			}
			newest, cut, rounds := uint64(0), 0, uint64(60)
			if testing.Short() {
				rounds = 20
			}
			for round := range rounds {
				soon, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(2000))*time.Microsecond)
				data := makeVersion(round + 1)
				err := fs.WriteFileAtomic(soon, name, data, 0o600)
				cancel()
				clear(data) // it is ours again
				if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, driver.ErrAbandoned) {
					t.Error(err)
				}
				b, rerr := os.ReadFile(name)
				version, ok := parseVersion(b)
				// What was abandoned may take place later.
				if !ok || rerr != nil || grace == 0 && (version < newest || err == nil && version != round+1) {
					t.Errorf("round %d, which said %v: version %d after %d, %d bytes, %v", round, err, version, newest, len(b), rerr)
				}
				newest = version
				if err != nil {
					cut++
				}
			}
			t.Logf("%d of %d were cut short", cut, rounds)
			if entries, err := os.ReadDir(dir); len(entries) != 1 && grace == 0 {
				t.Errorf("it left %v, %v", entries, err)
			}
		})
	}
}

// TestWriteFileAtomicShort has the write do nothing: that is an error of the write.
func TestWriteFileAtomicShort(t *testing.T) { // HAZARDS T22
	faulty(t, ring.FaultConfig{}, func(t *testing.T, ctx context.Context, faults *ring.Faults) {
		for _, linked := range []bool{true, false} {
			if !linked {
				defer fs.AllRemote()()
			}
			dir := t.TempDir()
			name := dir + "/file"
			if err := fs.WriteFileAtomic(ctx, name, []byte("old"), 0o600); err != nil {
				t.Error(err)
			}
			faults.Set(ring.FaultConfig{Inject: 1, Results: []int32{0}, Match: func(e *ring.SQE) bool { return e.Op == ring.OpWrite }})
			var pe *fs.PathError
			if err := fs.WriteFileAtomic(ctx, name, []byte("new"), 0o600); !errors.As(err, &pe) || pe.Op != "write" || pe.Err != io.ErrShortWrite {
				t.Errorf("linked %v: %v", linked, err)
			}
			faults.Set(ring.FaultConfig{})
			// An injected result breaks no link, as a short write would.
			if got, err := os.ReadFile(name); string(got) != "old" && !linked {
				t.Errorf("linked %v: %q, %v", linked, got, err)
			}
			if entries, err := os.ReadDir(dir); len(entries) != 1 {
				t.Errorf("linked %v: it left %v, %v", linked, entries, err)
			}
		}
	})
}

// TestWriteFileAtomicClosed closes the directory meanwhile: the file is whole, one version or the other, and nothing else is left.
func TestWriteFileAtomicClosed(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		dir := t.TempDir()
		closed := 0
		for round := range uint64(40) {
			d, err := fs.OpenDir(ctx, dir)
			if err != nil {
				t.Error(err)
				return
			}
			writer := executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
				return struct{}{}, d.WriteFileAtomic(ctx, "file", makeVersion(round), 0o600)
			})
			if err := executor.Sleep(ctx, time.Duration(rand.IntN(1000))*time.Microsecond); err != nil {
				t.Error(err)
			}
			if err := d.Close(ctx); err != nil {
				t.Error(err)
			}
			if _, err := writer.Join(ctx); errors.Is(err, fs.ErrClosed) {
				closed++
			} else if err != nil {
				t.Error(err)
			}
			b, err := os.ReadFile(dir + "/file")
			if _, ok := parseVersion(b); !ok && err == nil {
				t.Errorf("round %d: %d bytes that are no version", round, len(b))
			}
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) > 1 {
			t.Errorf("of 40, %d were closed; %d names are left, %v", closed, len(entries), err)
		}
	})
}

// linkedBy returns how many operations the driver has linked so far.
func linkedBy(t *testing.T, ctx context.Context) uint64 {
	t.Helper()
	d, err := driver.FromContext(ctx)
	if err != nil {
		t.Error(err)
		return 0
	}
	return d.Stats().Linked
}

// TestWriteFileAtomicLinked sees that the steps are one submission, of which every member has its result, and that what cannot be linked
// is done step by step.
func TestWriteFileAtomicLinked(t *testing.T) {
	for _, pinned := range []bool{false, true} {
		for _, e := range executors() {
			t.Run(fmt.Sprintf("pinned %v/%v", pinned, e), func(t *testing.T) {
				if testenv.Engines(t)[0] != driver.Uring {
					t.Skip("needs io_uring")
				}
				run(t, e, driver.Config{Engine: driver.Uring, Entries: 1}, func(t *testing.T, ctx context.Context) {
					want := uint64(4 * 10 * 3)
					if pinned {
						defer fs.Pin(fs.OpRename, fs.Pin(fs.OpRename, fs.Call))
						want = 0
					}
					name := filepath.Join(t.TempDir(), "file")
					err := goAll(ctx, 4, func(ctx context.Context, i int) error { // all replace the same file
						for round := range uint64(10) {
							if err := fs.WriteFileAtomic(ctx, name, makeVersion(round), 0o600); err != nil {
								return err
							}
							b, err := fs.ReadFile(ctx, name)
							if _, ok := parseVersion(b); err != nil || !ok {
								return fmt.Errorf("a mix of %d bytes, %v", len(b), err)
							}
						}
						return nil
					})
					if err != nil {
						t.Error(err)
					}
					if n := linkedBy(t, ctx); n != want {
						t.Errorf("%d operations were linked, want %d", n, want)
					}
					if err := fs.WriteFileAtomic(ctx, name, nil, 0o600); err != nil { // there is no write to link
						t.Error(err)
					}
					if info, err := os.Stat(name); err != nil || info.Size() != 0 {
						t.Errorf("%v, %v", info, err)
					}
				})
			})
		}
	}
}

// TestWriteFileAtomicFull has the disk run full within the write, which is cut short and then fails: there is no rename.
func TestWriteFileAtomicFull(t *testing.T) { // HAZARDS T22
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	each(t, func(t *testing.T, ctx context.Context) {
		name := dir + "/file"
		if err := fs.WriteFileAtomic(ctx, name, []byte("old"), 0o600); err != nil {
			t.Error(err)
		}
		if err := fs.WriteFileAtomic(ctx, name, pattern(200_000, 1), 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%v, want ENOSPC", err)
		}
		if got, err := os.ReadFile(name); string(got) != "old" {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if entries, err := os.ReadDir(dir); len(entries) != 1 {
			t.Errorf("it left %v, %v", entries, err)
		}
	})
}

// TestWriteFileAtomicUnreadable replaces files in a directory that the user may search and write to, and not read: that is a drop box.
func TestWriteFileAtomicUnreadable(t *testing.T) {
	testenv.NeedsRoot(t)
	each(t, func(t *testing.T, ctx context.Context) {
		dir := served(t)
		actAs(t, ctx, dir, client, func(_, his *fs.Dir) {
			dark, err := his.OpenDir(ctx, "dark")
			if err != nil {
				t.Error(err)
				return
			}
			defer dark.Close(ctx)
			for _, want := range []string{"", "old", strings.Repeat("new", 100_000)} {
				if err := dark.WriteFileAtomic(ctx, "file", []byte(want), 0o600); err != nil {
					t.Error(err)
				}
				if got, err := os.ReadFile(dir + "/dark/file"); string(got) != want || err != nil {
					t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
				}
			}
			if err := dark.Mkdir(ctx, "dir", 0o700); err != nil {
				t.Error(err)
			}
			ended, cancel := context.WithCancel(ctx)
			cancel()
			for op, err := range map[string]error{
				"write":  dark.WriteFileAtomic(ended, "file", nil, 0o600),
				"rename": dark.WriteFileAtomic(ctx, "dir", []byte("x"), 0o600),
			} {
				var pe *fs.PathError
				if !errors.As(err, &pe) || pe.Op != op && err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v", op, err)
				}
			}
		})
		if got, err := os.ReadFile(dir + "/dark/file"); len(got) != 300_000 {
			t.Errorf("%d bytes after errors, %v", len(got), err)
		}
		if entries, err := os.ReadDir(dir + "/dark"); len(entries) != 2 || err != nil {
			t.Errorf("it left %v, %v", entries, err)
		}
	})
}

// makeVersion returns content that tells its version, and whether it is whole.
func makeVersion(version uint64) []byte {
	b := make([]byte, 16, 70_000)
	binary.LittleEndian.PutUint64(b, version)
	b = append(b, pattern(1000+int(version*7919%60_000), uint32(version))...)
	binary.LittleEndian.PutUint64(b[8:], uint64(crc32.ChecksumIEEE(b[16:]))<<32|uint64(len(b)))
	return b
}

func parseVersion(b []byte) (version uint64, ok bool) {
	if len(b) < 16 {
		return 0, false
	}
	version = binary.LittleEndian.Uint64(b)
	return version, bytes.Equal(b, makeVersion(version))
}
