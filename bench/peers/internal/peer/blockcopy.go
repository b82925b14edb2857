package peer

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"

	"uringo/bench/peers/internal/job"
	"uringo/bench/peers/internal/meter"
	"uringo/bench/peers/internal/testdir"
)

// copyBlock is the unit of a parallel copy: large enough that the cost of an operation does not show.
const copyBlock = 1 << 20

// blockCopy copies one big file: each task takes the next block that nobody has taken, reads it and writes it.
func blockCopy(rt blockRuntime) Measure {
	return func(ctx context.Context, j job.Job) ([]job.Sample, error) {
		s, err := meter.Whole(j.Work, testdir.CachedSize>>20, func() error {
			return rt.run(ctx, j.Tasks, func(ctx context.Context) error { return copyParallel(ctx, rt, j) })
		})
		return []job.Sample{s}, err
	}
}

func copyParallel(ctx context.Context, rt blockRuntime, j job.Job) error {
	src, err := rt.open(ctx, testdir.Cached(j.Dir), os.O_RDONLY)
	if err != nil {
		return err
	}
	dst, err := rt.open(ctx, testdir.CopyTarget(j.Dir), os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return firstError(err, src.close(ctx))
	}
	var taken atomic.Int64
	err = rt.each(ctx, j.Tasks, func(ctx context.Context, _ int) error {
		b := make([]byte, copyBlock)
		for {
			off := taken.Add(copyBlock) - copyBlock
			if off >= testdir.CachedSize {
				return nil
			}
			if err := moveWhole(ctx, src.readAt, b, off); err != nil {
				return fmt.Errorf("read: %w", err)
			}
			if err := moveWhole(ctx, dst.writeAt, b, off); err != nil {
				return fmt.Errorf("write: %w", err)
			}
		}
	})
	return firstError(err, dst.close(ctx), src.close(ctx))
}

// moveWhole goes on after a short read or write. The file's size is a multiple of the block's, so the end of the file
// is an error here.
func moveWhole(ctx context.Context, move func(context.Context, []byte, int64) (int, error), b []byte, off int64) error {
	for len(b) > 0 {
		n, err := move(ctx, b, off)
		if err != nil {
			return err
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}
