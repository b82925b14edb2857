package fs

import (
	"context"
	"errors"
	"os"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/handle"
)

// AllRemote has every file system count as remote until restore is called.
func AllRemote() (restore func()) {
	was := mounts.Swap(&mountTable{points: []mountPoint{{path: "/"}}})
	return func() { mounts.Store(was) }
}

// WithoutOpenat2 has the package believe that the kernel has no openat2 until restore is called.
func WithoutOpenat2() (restore func()) {
	was := noOpenat2.Swap(true)
	return func() { noOpenat2.Store(was) }
}

// Pace makes calls of several kinds in turn that a worker's tasks would make in place, and returns how many of each kind would have taken
// another route.
func Pace(ctx context.Context, rounds int, calls ...func() error) (elsewhere []int) {
	pacers := make([]pacer, len(calls))
	elsewhere = make([]int, len(calls))
	for range rounds {
		for i, call := range calls {
			if done, _ := pacers[i].inPlace(ctx, executor.CallerOf(ctx), brisk, call); !done {
				elsewhere[i]++
			}
		}
	}
	return elsewhere
}

// WriteOutEvery has streams tell the kernel more often what to write out until restore is called.
func WriteOutEvery(bytes int64) (restore func()) {
	was := writeOutEvery
	writeOutEvery = bytes
	return func() { writeOutEvery = was }
}

// Slow has so many of the next calls on names, of one kind, take another route, as after one that was slow.
func Slow(op Operation, calls int) { onNames[op].skip.Store(int32(calls)) }

// Remote reports whether the file counts as one on a file system that may not answer.
func Remote(f *File) bool { return f.known()&traitRemote != 0 }

// NoOpenat2 reports whether the package believes that the kernel has no openat2.
func NoOpenat2() bool { return noOpenat2.Load() }

// Overtaken waits for a block that is abandoned when its reader has just found that its context has ended. It reports whether the reader knows
// that the kernel has the memory, and what it got for an error.
func Overtaken() (known bool, err error) {
	b := &block{t: new(flight)}
	b.t.err = driver.ErrAbandoned
	err = b.arrive(&overtaken{context.Background(), b.t}, nil, 1)
	if b.t != nil {
		b.err = b.t.err
	}
	return handle.Abandoned(b.err), err
}

// CancelOpened opens the FIFO name as the portable engine does, where that does not have to wait, and cancels it when it has ended. It calls before
// and after for that.
func CancelOpened(ctx context.Context, name string, before, after func()) error {
	o := &opening{fd: -1}
	if err := o.byHand(ctx, place{dirfd: cwd}, name, os.O_RDONLY); err != nil {
		return err
	}
	if err := o.ended.Wait(ctx); err != nil {
		return err
	}
	before()
	release, ok := o.cancel()
	after()
	if ok {
		release()
	}
	o.discard(ctx)
	return o.err
}

// overtaken is a context that has ended. While somebody looks at it, t comes to its end.
type overtaken struct {
	context.Context
	t *flight
}

func (o *overtaken) Err() error {
	o.t.over.Set()
	return errors.New("ended")
}
