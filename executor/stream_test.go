package executor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
)

// receiver is a stream of what is written to the other end of a socket.
type receiver struct {
	in, out int
	bufs    *driver.BufferRing
	stream  *driver.Stream[driver.Chunk]
}

func newReceiver(ctx context.Context, n int) (*receiver, error) {
	d, err := driver.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	b, err := driver.NewBufferRing(d, n, 32)
	if err != nil {
		return nil, err
	}
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &receiver{p[0], p[1], b, driver.RecvMulti(d, p[0], b, 0, nil)}, nil
}

func (r *receiver) write(s string) error {
	for {
		if _, err := unix.Write(r.out, []byte(s)); err != syscall.EINTR {
			return err
		}
	}
}

// close ends the stream and sees that no buffer is missing.
func (r *receiver) close(ctx context.Context) error {
	r.stream.Discard()
	for r.stream.Err() == nil {
		_, _ = executor.Next(ctx, r.stream)
	}
	unix.Close(r.in)
	unix.Close(r.out)
	if st := r.bufs.Stats(); st.Held != 0 {
		return fmt.Errorf("buffers: %+v", st)
	}
	return r.bufs.Close()
}

// A task waits for a stream while others run, may give up waiting, and is woken by whatever comes.
func TestNext(t *testing.T) {
	everywhere(t, func(w *world) {
		w.ok(func(ctx context.Context) error {
			r, err := newReceiver(ctx, 8)
			if err != nil {
				return err
			}
			for i := range 20 {
				other := executor.Go(ctx, task(func(ctx context.Context) error {
					if err := nop(ctx); err != nil {
						return err
					}
					return r.write(fmt.Sprint("message ", i))
				}))
				c, err := executor.Next(ctx, r.stream)
				if err != nil {
					return err
				}
				if want := fmt.Sprint("message ", i); string(c.Bytes()) != want {
					w.Errorf("%q; want %q", c.Bytes(), want)
				}
				c.Release()
				if _, err := other.Join(ctx); err != nil {
					return err
				}
			}
			short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
			defer cancel()
			_, err = executor.Next(short, r.stream)
			is(w, err, context.DeadlineExceeded)

			ended := executor.Go(ctx, task(func(ctx context.Context) error {
				_, err := executor.Next(ctx, r.stream)
				return err
			}))
			if err := nop(ctx); err != nil {
				return err
			}
			unix.Shutdown(r.out, unix.SHUT_WR)
			if _, err := ended.Join(ctx); !errors.Is(err, io.EOF) {
				w.Errorf("the end: %v", err)
			}
			if _, err := executor.Next(ctx, r.stream); err != io.EOF {
				w.Errorf("after the end: %v", err)
			}
			return r.close(ctx)
		})
	})
}

// Once a multishot stream flows, receiving allocates nothing.
func TestNextDoesNotAllocate(t *testing.T) {
	if raceEnabled || pureGo {
		t.Skip("the race detector allocates, and so does finding out who one is without assembly")
	}
	where(t, func(w *world) bool { return w.engine == driver.Uring }, func(w *world) {
		w.ok(func(ctx context.Context) error {
			defer debug.SetGCPercent(debug.SetGCPercent(-1)) // what empties pools
			r, err := newReceiver(ctx, 64)
			if err != nil {
				return err
			}
			msg := []byte("hello")
			n, err := allocations(func() error {
				if _, err := unix.Write(r.out, msg); err != nil && err != syscall.EINTR {
					return err
				}
				c, err := executor.Next(ctx, r.stream)
				if err != nil {
					return err
				}
				c.Release()
				return nil
			})
			if n > 0.02 {
				w.Errorf("%.2f allocations for each message", n)
			}
			return errors.Join(err, r.close(ctx))
		})
	})
}
