package peer

import (
	"context"
	"os"
	"syscall"

	"github.com/iceber/iouring-go"

	"uringo/bench/peers/internal/job"
	"uringo/bench/peers/internal/meter"
)

// iouringGo is the high-level API of iouring-go as its users call it: a goroutine per task, each submitting a request
// and waiting for its own result.
func iouringGo() Contender {
	return Contender{Name: "iouring-go", Works: map[string]Measure{
		job.Nop:    iouringGoNop,
		job.Cached: iouringGoIO,
		job.Direct: iouringGoIO,
		job.Write:  iouringGoIO,
	}}
}

// ringEntries is the size of every contender's submission queue.
const ringEntries = 1024

func iouringGoNop(ctx context.Context, j job.Job) ([]job.Sample, error) {
	ring, err := iouring.New(ringEntries)
	if err != nil {
		return nil, err
	}
	defer ring.Close()
	n := inRow(j)
	s, err := meter.Steady(j, j.Tasks, func(m *meter.Meter) error {
		return goroutines{}.each(ctx, j.Tasks, func(context.Context, int) error {
			return m.Loop(func() (int, error) {
				for range n {
					if _, err := awaitIouringGo(ring, iouring.Nop()); err != nil {
						return 0, err
					}
				}
				return n, nil
			})
		})
	})
	return []job.Sample{s}, err
}

func iouringGoIO(ctx context.Context, j job.Job) ([]job.Sample, error) {
	ring, err := iouring.New(ringEntries)
	if err != nil {
		return nil, err
	}
	defer ring.Close()
	return randomIO(iouringGoRuntime{ring: ring})(ctx, j)
}

type iouringGoRuntime struct {
	goroutines
	ring *iouring.IOURing
}

func (r iouringGoRuntime) open(_ context.Context, name string, flag int) (blockFile, error) {
	f, err := os.OpenFile(name, flag, 0)
	if err != nil {
		return nil, err
	}
	return iouringGoFile{r.ring, f, int(f.Fd())}, nil
}

type iouringGoFile struct {
	ring *iouring.IOURing
	f    *os.File
	fd   int
}

func (f iouringGoFile) readAt(_ context.Context, b []byte, off int64) (int, error) {
	return awaitIouringGo(f.ring, iouring.Pread(f.fd, b, uint64(off)))
}

func (f iouringGoFile) writeAt(_ context.Context, b []byte, off int64) (int, error) {
	return awaitIouringGo(f.ring, iouring.Pwrite(f.fd, b, uint64(off)))
}

func (f iouringGoFile) close(context.Context) error { return f.f.Close() }

// awaitIouringGo reads the raw result: the library's resolver boxes it, which would cost the peer an allocation more.
func awaitIouringGo(ring *iouring.IOURing, request iouring.PrepRequest) (int, error) {
	r, err := ring.SubmitRequest(request, nil)
	if err != nil {
		return 0, err
	}
	<-r.Done()
	n, err := r.GetRes()
	if err == nil && n < 0 {
		err = syscall.Errno(-n)
	}
	return n, err
}
