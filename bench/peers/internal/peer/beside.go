package peer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"uringo/bench/peers/internal/job"
	"uringo/bench/peers/internal/meter"
	"uringo/bench/peers/internal/slowfs"
	"uringo/bench/peers/internal/testdir"
)

// A besideRuntime runs tasks some of which wait for a slow file system.
type besideRuntime interface {
	blockRuntime
	pulse(ctx context.Context) error
}

// beside measures one task that reads from the page cache and gives a sign of life in between, while all others read from a slow file
// system, if they are there.
func beside(rt besideRuntime, company bool) Measure {
	return func(ctx context.Context, j job.Job) ([]job.Sample, error) {
		others := 0
		if company {
			stop, err := slowfs.Start(ctx, testdir.Slow(j.Dir))
			if err != nil {
				return nil, err
			}
			defer stop()
			others = j.Tasks - 1
		}
		buffers, err := alignedBuffers(1 + others)
		if err != nil {
			return nil, err
		}
		s, err := meter.Steady(j, 1, func(m *meter.Meter) error {
			return rt.run(ctx, 1+others, func(ctx context.Context) error {
				over, stop := context.WithCancel(ctx)
				defer stop()
				cached, err := rt.open(ctx, testdir.Cached(j.Dir), os.O_RDONLY)
				if err != nil {
					return err
				}
				slow := cached
				if others > 0 {
					if slow, err = rt.open(ctx, filepath.Join(testdir.Slow(j.Dir), slowfs.Name), os.O_RDONLY|syscall.O_DIRECT); err != nil {
						return err
					}
				}
				err = rt.each(ctx, 1+others, func(ctx context.Context, i int) error {
					if i > 0 {
						return readUntil(ctx, over, slow, buffers[i], offsets(i, slowfs.Size))
					}
					defer stop()
					next := offsets(i, testdir.CachedSize)
					return m.Loop(func() (int, error) {
						if err := rt.pulse(ctx); err != nil {
							return 0, err
						}
						n, err := cached.readAt(ctx, buffers[0], next())
						if err == nil && n != testdir.Block {
							err = fmt.Errorf("%s: read %d bytes", testdir.Cached(j.Dir), n)
						}
						return 1, err
					})
				})
				if others > 0 {
					err = firstError(err, slow.close(ctx))
				}
				return firstError(err, cached.close(ctx))
			})
		})
		return []job.Sample{s}, err
	}
}

// readUntil reads until over ends, and then does not wait for the last read.
func readUntil(ctx, over context.Context, f blockFile, b []byte, next func() int64) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(over, stop)()
	for {
		_, err := f.readAt(ctx, b, next())
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
