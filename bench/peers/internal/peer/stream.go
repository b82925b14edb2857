package peer

import (
	"context"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"uringo/buf"
	"uringo/fs"

	"uringo/bench/peers/internal/job"
	"uringo/bench/peers/internal/testdir"
)

// A streamRuntime reads and writes files from their beginning to their end.
type streamRuntime interface {
	runtime
	readStream(ctx context.Context, name string, flag int, to io.Writer) error
	writeStream(ctx context.Context, name string, flag int, from io.Reader) error // to stable storage
}

// stream reads or writes one big file.
func stream(rt streamRuntime) Measure {
	return wholly(rt, testdir.DirectSize>>20, func(ctx context.Context, j job.Job) error {
		switch j.Work {
		case job.StreamRead:
			return rt.readStream(ctx, testdir.Direct(j.Dir), os.O_RDONLY, sink{})
		case job.StreamReadDirect:
			return rt.readStream(ctx, testdir.Direct(j.Dir), os.O_RDONLY|syscall.O_DIRECT, sink{})
		case job.StreamWrite:
			return rt.writeStream(ctx, testdir.Stream(j.Dir), os.O_WRONLY, newSource(testdir.DirectSize))
		}
		return rt.writeStream(ctx, testdir.Stream(j.Dir), os.O_RDWR|syscall.O_DIRECT, newSource(testdir.DirectSize))
	})
}

// sink takes what is written to it, and unlike io.Discard it leaves the size of blocks to whoever copies.
type sink struct{}

func (sink) Write(b []byte) (int, error) { return len(b), nil }

// newSource returns a reader of n bytes, which costs a copy in memory.
func newSource(n int64) io.Reader { return io.LimitReader(source(make([]byte, copyBlock)), n) }

type source []byte

func (s source) Read(b []byte) (int, error) { return copy(b, s), nil }

// streamed has the stream's blocks in registered memory where they go to the device themselves.
func streamed(flag int) (fs.StreamOptions, func() error, error) {
	if flag&syscall.O_DIRECT == 0 {
		return fs.StreamOptions{}, func() error { return nil }, nil
	}
	pool, err := buf.NewPool(buf.PoolConfig{Classes: []buf.Class{{Size: streamBlock, Count: streamDepth + 1}}})
	if err != nil {
		return fs.StreamOptions{}, nil, err
	}
	return fs.StreamOptions{BlockSize: streamBlock, Depth: streamDepth, Pool: pool}, pool.Close, nil
}

// Direct streams are compared with fio's at the same size and number of blocks.
const (
	streamBlock = 256 << 10
	streamDepth = 8
)

func (uringoRuntime) readStream(ctx context.Context, name string, flag int, to io.Writer) error {
	o, release, err := streamed(flag)
	if err != nil {
		return err
	}
	f, err := fs.OpenFile(ctx, name, flag, 0)
	if err != nil {
		return err
	}
	r, err := f.NewStreamReader(ctx, 0, o)
	if err == nil {
		_, err = io.Copy(to, r)
		err = firstError(err, r.Close())
	}
	return firstError(err, f.Close(ctx), release())
}

func (uringoRuntime) writeStream(ctx context.Context, name string, flag int, from io.Reader) error {
	o, release, err := streamed(flag)
	if err != nil {
		return err
	}
	f, err := fs.OpenFile(ctx, name, flag, 0)
	if err != nil {
		return err
	}
	o.WriteOut = true // it will be synced
	w, err := f.NewStreamWriter(ctx, 0, o)
	if err == nil {
		_, err = io.Copy(w, from)
		if err == nil {
			err = w.Flush()
		}
		if err == nil {
			err = f.SyncAll(ctx)
		}
		err = firstError(err, w.Close())
	}
	return firstError(err, f.Close(ctx), release())
}

// dd is the program. Its rows include starting a process, about a millisecond.
func dd() Contender {
	return Contender{
		Name:    "dd",
		Prepare: func(context.Context, string) error { return missing("dd") },
		Works: map[string]Measure{
			job.StreamRead: func(ctx context.Context, j job.Job) ([]job.Sample, error) {
				return runDD(ctx, j, "if="+testdir.Direct(j.Dir), "of=/dev/null", "bs=1M")
			},
			job.StreamWrite: func(ctx context.Context, j job.Job) ([]job.Sample, error) {
				return runDD(ctx, j, "if=/dev/zero", "of="+testdir.Stream(j.Dir), "bs=1M", "count=1024", "conv=notrunc,fsync")
			},
		},
	}
}

func runDD(ctx context.Context, j job.Job, args ...string) ([]job.Sample, error) {
	cmd := exec.CommandContext(ctx, "dd", args...)
	at := time.Now()
	if _, err := output(cmd); err != nil {
		return nil, err
	}
	return []job.Sample{{
		Work:    j.Work,
		Ops:     testdir.DirectSize >> 20,
		Elapsed: time.Since(at),
		CPU:     cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(),
		Allocs:  job.NotCounted,
		Threads: job.NotCounted,
	}}, nil
}
