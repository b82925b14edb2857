package peer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/bench/peers/internal/job"
	"uringo/bench/peers/internal/meter"
	"uringo/bench/peers/internal/testdir"
)

// A blockFile is a file as random reads and writes need it.
type blockFile interface {
	readAt(ctx context.Context, b []byte, off int64) (int, error)
	writeAt(ctx context.Context, b []byte, off int64) (int, error)
	close(ctx context.Context) error
}

// A blockRuntime runs tasks that read and write blocks.
type blockRuntime interface {
	runtime
	open(ctx context.Context, name string, flag int) (blockFile, error)
}

// A blockTarget is what one work does to which file.
type blockTarget struct {
	name  string
	size  int64
	flag  int
	write bool
}

func target(j job.Job) blockTarget {
	switch j.Work {
	case job.Cached:
		return blockTarget{testdir.Cached(j.Dir), testdir.CachedSize, os.O_RDONLY, false}
	case job.Direct, job.Flood:
		return blockTarget{testdir.Direct(j.Dir), testdir.DirectSize, os.O_RDONLY | syscall.O_DIRECT, false}
	case job.Write:
		return blockTarget{testdir.Write(j.Dir), testdir.WriteSize, os.O_RDWR, true}
	}
	panic("not a block work: " + j.Work)
}

// randomIO reads or writes random blocks from j.Tasks tasks, each with one block in flight.
func randomIO(rt blockRuntime) Measure {
	return func(ctx context.Context, j job.Job) ([]job.Sample, error) {
		t := target(j)
		buffers, err := alignedBuffers(j.Tasks)
		if err != nil {
			return nil, err
		}
		s, err := meter.Steady(j, j.Tasks, func(m *meter.Meter) error {
			return rt.run(ctx, j.Tasks, func(ctx context.Context) error {
				f, err := rt.open(ctx, t.name, t.flag)
				if err != nil {
					return err
				}
				err = rt.each(ctx, j.Tasks, func(ctx context.Context, i int) error {
					return m.Loop(randomStep(ctx, f, t, buffers[i], offsets(i, t.size)))
				})
				return firstError(err, f.close(ctx))
			})
		})
		return []job.Sample{s}, err
	}
}

// floodReads is how many reads each task of a flood makes.
const floodReads = 4

// flood is randomIO for tasks that come all at once and end after a few reads: with so many, some might not get to their first one while
// others make thousands.
func flood(rt blockRuntime) Measure {
	return func(ctx context.Context, j job.Job) ([]job.Sample, error) {
		t := target(j)
		buffers, err := alignedBuffers(j.Tasks)
		if err != nil {
			return nil, err
		}
		return wholly(rt, int64(j.Tasks)*floodReads, func(ctx context.Context, j job.Job) error {
			f, err := rt.open(ctx, t.name, t.flag)
			if err != nil {
				return err
			}
			err = rt.each(ctx, j.Tasks, func(ctx context.Context, i int) error {
				step := randomStep(ctx, f, t, buffers[i], offsets(i, t.size))
				for range floodReads {
					if _, err := step(); err != nil {
						return err
					}
				}
				return nil
			})
			return firstError(err, f.close(ctx))
		})(ctx, j)
	}
}

func randomStep(ctx context.Context, f blockFile, t blockTarget, b []byte, next func() int64) func() (int, error) {
	move := f.readAt
	if t.write {
		move = f.writeAt
	}
	return func() (int, error) {
		n, err := move(ctx, b, next())
		if err == nil && n != len(b) {
			err = fmt.Errorf("%s: moved %d of %d bytes", t.name, n, len(b))
		}
		return 1, err
	}
}

// offsets is an endless sequence of block offsets, the same for every contender and different for every task.
func offsets(task int, size int64) func() int64 {
	r := rand.New(rand.NewPCG(uint64(task), 1))
	blocks := size / testdir.Block
	return func() int64 { return r.Int64N(blocks) * testdir.Block }
}

// alignedBuffers are blocks that O_DIRECT takes. They live to the end of the process, outside the heap: a request
// that is still in flight when a loop ends may go on writing to its block.
func alignedBuffers(n int) ([][]byte, error) {
	mem, err := unix.Mmap(-1, 0, n*testdir.Block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		return nil, err
	}
	buffers := make([][]byte, n)
	for i := range buffers {
		buffers[i] = mem[i*testdir.Block : (i+1)*testdir.Block : (i+1)*testdir.Block]
	}
	return buffers, nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
