package driver_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/internal/testenv"
	"uringo/ops"
)

// oneByOne is a kernel that reads only once at a time into buffers of a ring, as those before 6.7.
var oneByOne = way{"one by one", driver.Uring, func(_ *rig, cfg driver.Config) (*driver.Driver, error) {
	cfg.Engine = driver.Uring
	return driver.Open(driver.OnKernel(cfg, ring.Lacking{Kernel: ring.Linux(), Op: ring.OpReadMultishot}))
}}

// Of several pipes that share a few buffers, every byte arrives once and in order, and while nothing does they hold no buffer.
func TestReadMulti(t *testing.T) { // HAZARDS T27, N11
	for _, w := range wishes {
		t.Run(w.name, func(t *testing.T) {
			on(t, append(slices.Clone(everywhere), oneByOne), func(e *rig) {
				d := e.open(driver.Config{})
				const bufs, pipes, length = 8, 5, 100
				total := size(20_000, 500_000)
				b, err := driver.NewBufferRing(d, bufs, length, w.options...)
				if err != nil {
					e.Fatal(err)
				}
				streams, ends := make([]*driver.Stream[driver.Chunk], pipes), make([]int, pipes)
				for i := range pipes {
					var p [2]int
					if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK*(i%2)); err != nil {
						e.Fatal(err)
					}
					e.keep(p[0], nil)
					streams[i], ends[i] = driver.ReadMulti(d, p[0], b, nil), p[1]
				}
				must(e, d, ops.Nop())
				if st := b.Stats(); st.Held != 0 {
					e.Errorf("idle streams hold %+v", st)
				}
				want := func(i, at int) byte { return byte(at * (2*i + 1)) }
				for i, out := range ends {
					rng := e.random(100 + i)
					go func() {
						defer unix.Close(out)
						if err := unix.SetNonblock(out, false); err != nil {
							return // the reader sees too little
						}
						for n := 0; n < total; {
							some := make([]byte, min(total-n, 1+rng.IntN(1+rng.IntN(5*length))))
							for k := range some {
								some[k] = want(i, n+k)
							}
							k, err := unix.Write(out, some)
							if err != nil && err != unix.EINTR {
								return
							}
							n += max(k, 0)
						}
					}()
				}
				ctx := inTime(e)
				e.together(pipes, func(i int) {
					got := 0
					for {
						c, err := streams[i].Next(ctx)
						if err == io.EOF {
							break
						}
						if err != nil {
							e.Errorf("pipe %d after %d bytes: %v", i, got, err)
							return
						}
						for _, x := range c.Bytes() {
							if x != want(i, got) {
								e.Errorf("pipe %d: byte %d is wrong", i, got)
								return
							}
							got++
						}
						c.Release()
					}
					if got != total {
						e.Errorf("pipe %d: %d bytes of %d", i, got, total)
					}
				})
				if st := b.Stats(); st.Held != 0 || st.Free != bufs {
					e.Errorf("%+v", st)
				}
				if err := b.Close(); err != nil {
					e.Error(err)
				}
			})
		})
	}
}

// A stream that is cancelled says all that it took by then; the rest is in the pipe.
func TestReadMultiCancelled(t *testing.T) {
	on(t, append(slices.Clone(engines), oneByOne), func(e *rig) {
		d := e.open(driver.Config{})
		ctx := inTime(e)
		b, err := driver.NewBufferRing(d, 16, 16)
		if err != nil {
			e.Fatal(err)
		}
		for range size(100, 2000) {
			in, out := e.pipe()
			s := driver.ReadMulti(d, in, b, nil)
			written := make([]byte, 1+e.rng.IntN(200))
			for i := range written {
				written[i] = byte(e.rng.Uint32())
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				for rest := written; len(rest) > 0; {
					n, _ := unix.Write(out, rest[:min(7, len(rest))])
					rest = rest[max(n, 0):]
				}
			}()
			var got []byte
			for cancelled := false; ; {
				if !cancelled && e.rng.IntN(4) == 0 {
					cancelled = true
					s.Cancel()
				}
				if !cancelled && len(got) == len(written) {
					break
				}
				c, err := s.Next(ctx)
				if err != nil {
					if !errors.Is(err, syscall.ECANCELED) || !cancelled {
						e.Error(err)
					}
					break
				}
				got = append(got, c.Bytes()...)
				c.Release()
			}
			if err := s.Close(ctx); err != nil {
				e.Fatal(err)
			}
			<-done
			if len(got) < len(written) {
				rest := make([]byte, len(written))
				n, err := unix.Read(in, rest)
				if err != nil {
					e.Fatal(err)
				}
				got = append(got, rest[:n]...)
			}
			if !bytes.Equal(got, written) {
				e.Fatalf("%d bytes of %d, or other ones", len(got), len(written))
			}
			unix.Close(in)
			unix.Close(out)
			e.fds = e.fds[:len(e.fds)-2]
		}
		if st := b.Stats(); st.Held != 0 {
			e.Errorf("%+v", st)
		}
	})
}

// With all buffers in a reader's hands a stream waits, and loses nothing.
func TestReadMultiStarved(t *testing.T) {
	on(t, append(slices.Clone(engines), oneByOne), func(e *rig) {
		d := e.open(driver.Config{})
		ctx := inTime(e)
		b, err := driver.NewBufferRing(d, 2, 8)
		if err != nil {
			e.Fatal(err)
		}
		in, out := e.pipe()
		s := driver.ReadMulti(d, in, b, nil)
		var held []driver.Chunk
		var got []byte
		for i := range 20 {
			e.write(out, fmt.Appendf(nil, "%8d", i))
			c, err := s.Next(ctx)
			if err != nil {
				e.Fatal(err)
			}
			got = append(got, c.Bytes()...)
			if held = append(held, c); len(held) == 2 {
				for _, c := range held {
					c.Release()
				}
				held = held[:0]
			}
		}
		if want := fmt.Sprintf("%8d", 0); len(got) != 20*8 || string(got[:8]) != want {
			e.Errorf("%q", got)
		}
		if err := s.Close(ctx); err != nil {
			e.Error(err)
		}
	})
}

// What is read may be no pipe: each item is one read.
func TestReadMultiEvents(t *testing.T) {
	on(t, append(slices.Clone(engines), oneByOne), func(e *rig) {
		d := e.open(driver.Config{})
		ctx := inTime(e)
		b, err := driver.NewBufferRing(d, 64, 64) // a quarter of them is what the stream may hold
		if err != nil {
			e.Fatal(err)
		}
		for _, flags := range []int{unix.EFD_CLOEXEC, unix.EFD_CLOEXEC | unix.EFD_NONBLOCK} {
			fd := e.keep(unix.Eventfd(0, flags))
			before := d.Stats().Submitted
			s := driver.ReadMulti(d, fd, b, nil)
			for i := range uint64(10) {
				must(e, d, ops.Nop()) // by then the kernel waits for something; what it finds at first, it reads once
				e.write(fd, binary.NativeEndian.AppendUint64(nil, i+1))
				c, err := s.Next(ctx)
				if err != nil {
					e.Fatal(err)
				}
				if v := binary.NativeEndian.Uint64(c.Bytes()); v != i+1 || len(c.Bytes()) != 8 {
					e.Errorf("%d in %d bytes; want %d", v, len(c.Bytes()), i+1)
				}
				c.Release()
			}
			// O_NONBLOCK has the kernel give up where it would wait.
			if n := d.Stats().Submitted - before - 10; flags&unix.EFD_NONBLOCK == 0 && e.name != oneByOne.name && d.Engine() == driver.Uring &&
				release(e) >= 607 && testenv.MayRegister(e) && n != 1 {
				e.Errorf("%d submissions for one stream", n)
			}
			if err := s.Close(ctx); err != nil {
				e.Error(err)
			}
		}
	})
}

func TestReadMultiRefuses(t *testing.T) {
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{})
		ctx := inTime(e)
		plain, err := driver.NewBufferRing(d, 2, 64)
		if err != nil {
			e.Fatal(err)
		}
		small, err := driver.NewBufferRing(d, 2, 64, driver.Incremental())
		if err != nil {
			e.Fatal(err)
		}
		dir := e.keep(unix.Open(e.TempDir(), unix.O_RDONLY|unix.O_CLOEXEC, 0))
		event := e.keep(unix.Eventfd(0, unix.EFD_CLOEXEC))
		for what, c := range map[string]struct {
			fd   int
			b    *driver.BufferRing
			want error
		}{
			"file": {e.file([]byte("hello")), plain, syscall.EINVAL}, "directory": {dir, plain, syscall.EINVAL},
			"nothing": {-1, plain, syscall.EBADF}, "events into buffers that are filled bit by bit": {event, small, syscall.EINVAL},
		} {
			ended := make(chan struct{})
			s := driver.ReadMulti(d, c.fd, c.b, func() { close(ended) })
			if _, err := s.Next(ctx); !errors.Is(err, c.want) {
				e.Errorf("%s: %v, want %v", what, err, c.want)
			}
			<-ended
		}
	})
}
