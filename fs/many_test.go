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

	"uringo/driver"
	"uringo/fs"
	"uringo/internal/ring"
)

// TestReadMany reads ranges near and far, overlapping, empty and beyond the end, in all ways.
func TestReadMany(t *testing.T) { // G6
	each(t, testReadMany)
}

func TestReadManyShort(t *testing.T) {
	shortened(t, testReadMany)
}

func testReadMany(t *testing.T, ctx context.Context) {
	want := pattern(300_077, 4)
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, want, 0o600); err != nil {
		t.Error(err)
		return
	}
	rng := rand.New(rand.NewPCG(1, 9))
	for _, flag := range []int{os.O_RDONLY, unix.O_DIRECT} {
		f, err := fs.OpenFile(ctx, name, flag, 0)
		if errors.Is(err, syscall.EINVAL) {
			t.Log("needs a file system with O_DIRECT")
			continue
		}
		if err != nil {
			t.Error(err)
			return
		}
		for round := range 12 {
			f.Pin(fs.OpRead, []fs.Route{fs.Auto, fs.Auto, fs.Ring, fs.Call}[round%4])
			if round%4 == 1 {
				forget(t, name)
			}
			o := fs.ManyOptions{MaxGap: rng.IntN(20_000) - 1, Depth: 1 + rng.IntN(8), MaxRead: rng.IntN(50_000)}
			ranges := make([]fs.Range, rng.IntN(60))
			for i := range ranges {
				ranges[i] = fs.Range{Off: rng.Int64N(310_000), Buf: make([]byte, rng.IntN(3000))}
			}
			if len(ranges) > 3 {
				ranges[1] = fs.Range{Off: 100, Buf: make([]byte, 70_000)}
				ranges[2].Off = -5
			}
			err := f.ReadMany(ctx, ranges, o)
			for i, r := range ranges {
				if r.Off < 0 {
					if r.Err == nil || r.N != 0 || err != r.Err {
						t.Errorf("at %d: %d, %v; in all: %v", r.Off, r.N, r.Err, err)
					}
					continue
				}
				have := want[min(r.Off, int64(len(want))):]
				have = have[:min(len(have), len(r.Buf))]
				var wantErr error
				if len(have) == 0 && len(r.Buf) > 0 {
					wantErr = io.EOF
				}
				if r.N != len(have) || r.Err != wantErr || !bytes.Equal(r.Buf[:r.N], have) {
					t.Errorf("range %d, %d at %d = %d, %v; want %d, %v", i, len(r.Buf), r.Off, r.N, r.Err, len(have), wantErr)
				}
			}
			if len(ranges) <= 3 && err != nil {
				t.Error(err)
			}
		}
		if err := f.Close(ctx); err != nil {
			t.Error(err)
		}
		rs := []fs.Range{{Buf: make([]byte, 1)}}
		if err := f.ReadMany(ctx, rs, fs.ManyOptions{}); !errors.Is(err, fs.ErrClosed) || !errors.Is(rs[0].Err, fs.ErrClosed) {
			t.Errorf("of a closed file: %v", err)
		}
	}
}

// TestReadManyMerges counts the operations that ranges take.
func TestReadManyMerges(t *testing.T) { // G6
	each(t, func(t *testing.T, ctx context.Context) {
		d, err := driver.FromContext(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		f := openNew(t, ctx, pattern(100_000, 1))
		if f == nil {
			return
		}
		defer f.Close(ctx)
		f.Pin(fs.OpRead, fs.Ring)
		for _, c := range []struct {
			gap, most int
			want      uint64
		}{{-1, 0, 3}, {99, 0, 3}, {100, 0, 2}, {1000, 0, 1}, {1000, 1500, 2}, {-1, 1, 4}} {
			rs := []fs.Range{ // two that touch, one 100 bytes further on, and one 1000 bytes further on
				{Off: 2400, Buf: make([]byte, 200)}, {Off: 0, Buf: make([]byte, 500)}, {Off: 500, Buf: make([]byte, 500)}, {Off: 1100, Buf: make([]byte, 300)},
			}
			before := d.Stats().Submitted
			if err := f.ReadMany(ctx, rs, fs.ManyOptions{MaxGap: c.gap, MaxRead: c.most}); err != nil {
				t.Error(err)
			}
			if n := d.Stats().Submitted - before; n != c.want {
				t.Errorf("gap %d, at most %d: %d operations, want %d", c.gap, c.most, n, c.want)
			}
		}
	})
}

// TestReadManyErrors has a part of the file unreadable: the ranges that have it fail, and others do not.
func TestReadManyErrors(t *testing.T) {
	faulty(t, ring.FaultConfig{}, func(t *testing.T, ctx context.Context, faults *ring.Faults) {
		want := pattern(100_000, 1)
		f := openNew(t, ctx, want)
		if f == nil {
			return
		}
		defer f.Close(ctx)
		f.Pin(fs.OpRead, fs.Ring)
		faults.Set(ring.FaultConfig{Inject: 1, Results: []int32{-int32(syscall.EIO)},
			Match: func(s *ring.SQE) bool { return s.Op == ring.OpRead && s.Off <= 2000 && s.Off+uint64(s.Len) > 2000 }})
		rs := []fs.Range{{Off: 1000, Buf: make([]byte, 500)}, {Off: 1900, Buf: make([]byte, 500)}, {Off: 2500, Buf: make([]byte, 500)},
			{Off: 50_000, Buf: make([]byte, 500)}}
		err := f.ReadMany(ctx, rs, fs.ManyOptions{})
		var pe *fs.PathError
		if !errors.As(err, &pe) || pe.Err != syscall.EIO || pe.Path != f.Name() || rs[1].Err != err || rs[1].N != 0 {
			t.Errorf("%v; the bad one has %d, %v", err, rs[1].N, rs[1].Err)
		}
		for _, i := range []int{0, 2, 3} {
			if r := rs[i]; r.N != 500 || r.Err != nil || !bytes.Equal(r.Buf, want[r.Off:][:500]) {
				t.Errorf("range %d = %d, %v", i, r.N, r.Err)
			}
		}
		faults.Set(ring.FaultConfig{})
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if err := f.ReadMany(ended, rs, fs.ManyOptions{}); !errors.Is(err, context.Canceled) || !errors.Is(rs[3].Err, context.Canceled) {
			t.Errorf("%v, want context.Canceled", err)
		}
	})
}

func ExampleFile_ReadMany() {
	start(func(ctx context.Context, dir string) error {
		f, err := fs.Create(ctx, filepath.Join(dir, "alphabet"))
		if err != nil {
			return err
		}
		defer f.Close(ctx)
		if _, _, err := f.WriteAllAt(ctx, []byte("abcdefghijklmnopqrstuvwxyz"), 0); err != nil {
			return err
		}
		ranges := []fs.Range{
			{Off: 23, Buf: make([]byte, 5)},
			{Off: 0, Buf: make([]byte, 3)},
			{Off: 4, Buf: make([]byte, 2)},
		}
		if err := f.ReadMany(ctx, ranges, fs.ManyOptions{}); err != nil {
			return err
		}
		for _, r := range ranges {
			fmt.Printf("%s\n", r.Buf[:r.N])
		}
		return nil
	})
	// Output:
	// xyz
	// abc
	// ef
}

// TestOvertaken has an operation end, abandoned, between the look at its end and that at its context, which has ended: whoever waits either
// leaves it under way or knows that the kernel has the memory.
func TestOvertaken(t *testing.T) {
	if known, err := fs.Overtaken(); !known {
		t.Errorf("%v, and the memory counts as free", err)
	}
}

// TestReadManyFar reads ranges that lie far apart with options that would have them read together: the memory for that is bounded.
func TestReadManyFar(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		f := openNew(t, ctx, []byte("content"))
		if f == nil {
			return
		}
		defer f.Close(ctx)
		rs := []fs.Range{{Off: 0, Buf: make([]byte, 7)}, {Off: 1 << 60, Buf: make([]byte, 7)}, {Off: math.MaxInt64 - 7, Buf: make([]byte, 7)}}
		if err := f.ReadMany(ctx, rs, fs.ManyOptions{MaxGap: math.MaxInt, MaxRead: math.MaxInt}); rs[0].N != 7 || string(rs[0].Buf) != "content" {
			t.Errorf("%+v, %v", rs[0], err)
		}
		if rs[1].N != 0 || rs[1].Err != io.EOF || rs[2].N != 0 || rs[2].Err == nil {
			t.Errorf("behind the end: %+v, %+v", rs[1], rs[2])
		}
	})
}
