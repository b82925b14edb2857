package bench

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"uringo/fs"
)

// copyBlock is large enough that the cost of an operation does not show: what is left is how well they overlap.
const copyBlock = 1 << 20

// BenchmarkCopy copies one big file. An operation is one block of it, read and written; the file is copied over and over
// into the same target, so the target's blocks exist but for the first time.
func BenchmarkCopy(b *testing.B) {
	name := newFile(b)
	target := filepath.Join(b.TempDir(), "copy")
	b.SetBytes(copyBlock)
	everywhere(b, []int{8}, func(ctx context.Context, tasks int, repeat func(step) error) error {
		src, err := fs.Open(ctx, name)
		if err != nil {
			return err
		}
		dst, err := fs.Create(ctx, target)
		if err != nil {
			return errors.Join(err, src.Close(ctx))
		}
		buffers := make([][]byte, tasks)
		at := make([]int64, tasks)
		for i := range buffers {
			buffers[i] = make([]byte, copyBlock)
			at[i] = int64(i) * copyBlock
		}
		err = repeat(func(ctx context.Context, task int) error {
			off := at[task]
			at[task] = (off + int64(tasks)*copyBlock) % fileSize
			_, buf, err := src.ReadExactAt(ctx, buffers[task], off)
			if err != nil {
				return err
			}
			_, buffers[task], err = dst.WriteAllAt(ctx, buf, off)
			return err
		})
		return errors.Join(err, dst.Close(ctx), src.Close(ctx))
	})
}
