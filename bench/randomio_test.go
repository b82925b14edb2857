package bench

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"

	"uringo/fs"
)

// A transfer is ReadAt or WriteAt of an open file.
type transfer func(ctx context.Context, b []byte, off int64) (int, []byte, error)

// random moves random blocks of an open file, one at a time in every task.
func random(b *testing.B, tasks []int, name string, flag int, of func(*fs.File) transfer) {
	everywhere(b, tasks, func(ctx context.Context, tasks int, repeat func(step) error) error {
		t, err := newTraffic(tasks)
		if err != nil {
			return err
		}
		f, err := fs.OpenFile(ctx, name, flag, 0)
		if err != nil {
			return err
		}
		move := of(f)
		err = repeat(func(ctx context.Context, task int) error {
			n, buf, err := move(ctx, t.buffers[task], t.offset(task))
			t.buffers[task] = buf
			if err == nil && n != block {
				err = io.ErrUnexpectedEOF
			}
			return err
		})
		return errors.Join(err, f.Close(ctx))
	})
}

// BenchmarkReadCached reads 4 KiB blocks that are in the page cache: writing the file has put them there.
func BenchmarkReadCached(b *testing.B) {
	random(b, []int{1, 32, 64}, newFile(b), os.O_RDONLY, func(f *fs.File) transfer { return f.ReadAt })
}

// BenchmarkReadDirect reads 4 KiB blocks from the device.
func BenchmarkReadDirect(b *testing.B) {
	name := newFile(b)
	needDevice(b, name)
	random(b, []int{1, 32, 64}, name, os.O_RDONLY|syscall.O_DIRECT, func(f *fs.File) transfer { return f.ReadAt })
}

// BenchmarkWriteBuffered overwrites 4 KiB blocks in the page cache.
func BenchmarkWriteBuffered(b *testing.B) {
	random(b, []int{1, 64}, newFile(b), os.O_RDWR, func(f *fs.File) transfer { return f.WriteAt })
}
