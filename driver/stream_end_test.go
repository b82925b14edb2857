package driver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/internal/testenv"
	"uringo/ops"
)

// A stream that begins after the end of the driver says so, whatever became of the buffers.
func TestStreamAfterClose(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		own, err := driver.NewBufferRing(d, 4, 16)
		if err != nil {
			e.Fatal(err)
		}
		shared, err := d.Buffers()
		if err != nil {
			e.Fatal(err)
		}
		a, _ := e.sockets()
		r, _ := e.pipe()
		e.shut(d)
		for _, b := range []*driver.BufferRing{own, shared} {
			for what, s := range map[string]*driver.Stream[driver.Chunk]{
				"receiving": driver.RecvMulti(d, a, b, 0, nil),
				"reading":   driver.ReadMulti(d, r, b, nil),
			} {
				if _, err := s.Next(inTime(e)); err != driver.ErrClosed {
					e.Errorf("%s: %v", what, err)
				}
			}
		}
	})
}

// The end of a driver with streams and zero-copy sends in flight, read and unread, while clients connect and send: it is soon, every
// stream says why it has ended, and no descriptor, buffer or port is left over.
func TestCloseWithStreams(t *testing.T) { // HAZARDS T7
	on(t, everywhere, func(e *rig) {
		var slowest time.Duration
		for range size(10, 500) {
			d, err := e.make(e, driver.Config{})
			d = e.opened(d, err)
			ctx := inTime(e)
			b, err := driver.NewBufferRing(d, 8, 16)
			if err != nil {
				e.Fatal(err)
			}
			l, addr := e.listener()
			in, out := e.tcp()
			var all sync.WaitGroup
			for range 2 { // one of them has a reader
				ended := make(chan struct{})
				accept := driver.SubmitMulti(d, ops.Multi{Many: ops.AcceptMulti(l, 0).Many, Once: ops.AcceptMulti(l, 0).Once,
					Ended: func() { close(ended) }})
				recv := driver.RecvMulti(d, in, b, 0, nil)
				all.Go(func() {
					for {
						fd, err := accept.Next(ctx)
						if err == nil {
							unix.Close(fd)
						} else if accept.Err() != nil {
							if err != driver.ErrClosed {
								e.Errorf("accept: %v", err)
							}
							break
						}
					}
					<-ended
				})
				all.Go(func() {
					for {
						c, err := recv.Next(ctx)
						if err != nil {
							if err != driver.ErrClosed {
								e.Errorf("receive: %v", err)
							}
							break
						}
						c.Release()
					}
				})
			}
			unread := driver.RecvMulti(d, in, b, 0, nil)
			stop := make(chan struct{})
			all.Go(func() { // goes on until the driver does not
				for {
					var z ops.ZeroCopy
					if r := result(e, driver.Submit(d, ops.SendZC(out, make([]byte, 100), 0, &z))); r.Err != nil {
						switch r.Err {
						case driver.ErrClosed, syscall.ECANCELED, syscall.EINVAL, syscall.ENOMEM, syscall.ENOBUFS: // see ops.SendZC
						default:
							e.Errorf("send: %v", r.Err)
						}
						return
					}
				}
			})
			all.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
					if err != nil {
						e.Error(err)
						return
					}
					_ = unix.Connect(fd, addr) // which would wait if the queue is full
					unix.Close(fd)
				}
			})
			time.Sleep(time.Duration(e.rng.IntN(3000)) * time.Microsecond)
			start, delays := time.Now(), testenv.Delays()
			for range 3 {
				all.Go(func() { e.shut(d) })
			}
			e.shut(d)
			took := time.Since(start)
			slowest = max(slowest, took-delays())
			close(stop)
			all.Wait()
			for {
				c, err := unread.Next(ctx)
				if err != nil {
					if err != driver.ErrClosed {
						e.Errorf("unread: %v", err)
					}
					break
				}
				c.Release() // also after the driver
			}
			if st := b.Stats(); st.Held != 0 || st.Free != 8 {
				e.Errorf("%+v", st)
			}
			unix.Close(l)
			again, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				e.Fatal(err)
			}
			_ = unix.SetsockoptInt(again, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) // for the connections that are being closed
			e.eventually("the port is free", func() bool { return unix.Bind(again, addr) == nil })
			unix.Close(again)
		}
		if slowest > 2*time.Second {
			e.Errorf("%v is long", slowest)
		}
	})
}

// A stream whose cancellation does not take effect lets its readers go after the grace. What the kernel brings later is nobody's, and
// given back.
func TestStreamAbandoned(t *testing.T) {
	on(t, []way{onUring}, func(e *rig) {
		d, err := e.behind(ring.Linux(), ring.FaultConfig{}, driver.Config{CancelGrace: 5 * time.Millisecond})
		d = e.opened(d, err)
		if !e.fault.CanInject() {
			e.Skip("needs IORING_NOP_INJECT_RESULT (Linux 6.10)")
		}
		ctx := inTime(e)
		b, err := driver.NewBufferRing(d, 16, 8) // so that one unread item does not make the stream pause
		if err != nil {
			e.Fatal(err)
		}
		in, out := e.seqpackets()
		ended := make(chan struct{})
		s := driver.RecvMulti(d, in, b, 0, func() { close(ended) })
		e.write(out, []byte("one"))
		c, err := s.Next(ctx)
		if err != nil {
			e.Fatal(err)
		}
		c.Release()
		e.eventually("it receives again", func() bool { return d.Stats().InFlight == 1 })
		e.swallowCancels()
		s.Cancel()
		if _, err := s.Next(ctx); err != driver.ErrAbandoned {
			e.Errorf("a reader is told %v", err)
		}
		e.write(out, []byte("two"))
		e.eventually("it comes and is given back", func() bool { return d.Stats().Items == 2 && b.Stats().Held == 0 })
		if err := b.Close(); !errors.Is(err, driver.ErrInUse) {
			e.Errorf("closing buffers that the kernel has: %v", err)
		}
		select {
		case <-ended:
			e.Error("told of an end that is still to come")
		default:
		}
		unix.Close(out)
		<-ended
		e.fault.Set(ring.FaultConfig{})
		if err := b.Close(); err != nil {
			e.Error(err)
		}
	})
}

// Streams under a storm of signals lose nothing.
func TestStreamSignals(t *testing.T) { // HAZARDS T11
	on(t, []way{onUring, onLocked, onPortable}, func(e *rig) {
		d := e.open(driver.Config{})
		b, err := driver.NewBufferRing(d, 16, 32)
		if err != nil {
			e.Fatal(err)
		}
		defer testenv.Signals(e)()
		const conns = 4
		messages := size(500, 50_000)
		var ins, outs [conns]int
		for i := range conns {
			ins[i], outs[i] = e.seqpackets()
		}
		e.together(conns, func(i int) {
			s, out := driver.RecvMulti(d, ins[i], b, 0, nil), outs[i]
			go func() {
				defer unix.Close(out)
				for n := range messages {
					e.write(out, fmt.Appendf(nil, "%d of %d", n, i))
				}
			}()
			e.readAll(b, s, i, messages, 2)
		})
		if st := b.Stats(); st.Held != 0 {
			e.Errorf("%+v", st)
		}
	})
}

// A stream belongs to one driver.
func TestStreamOfAnotherDriver(t *testing.T) {
	on(t, engines, func(e *rig) {
		d, other := e.open(driver.Config{}), e.open(driver.Config{})
		b, err := d.Buffers()
		if err != nil {
			e.Fatal(err)
		}
		if same, err := d.Buffers(); same != b || err != nil {
			e.Errorf("other buffers, %v", err)
		}
		in, out := e.seqpackets()
		defer unix.Close(out)
		if _, err := driver.RecvMulti(other, in, b, 0, nil).Next(inTime(e)); err == nil {
			e.Error("receiving with another's buffers")
		}
		s := driver.RecvMulti(d, in, b, 0, nil)
		if r := do(e, other, s.Ready()); r.Err == nil {
			e.Error("waiting on another driver")
		}
		short, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		if _, err := s.Next(short); !errors.Is(err, context.DeadlineExceeded) {
			e.Error(err)
		}
		unix.Shutdown(out, unix.SHUT_WR)
		if _, err := s.Next(inTime(e)); err != io.EOF {
			e.Error(err)
		}
	})
}

// Many streams on a small ring are cancelled at once, wherever they are: queued, submitted, with bytes on the way. No byte is lost, no
// buffer, and it is soon over.
func TestStreamCancelStorm(t *testing.T) { // HAZARDS T5
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{Entries: 4, InFlight: 32})
		ctx := inTime(e)
		b, err := driver.NewBufferRing(d, 8, 4)
		if err != nil {
			e.Fatal(err)
		}
		streams := size(60, 400)
		ins, outs := make([]int, streams), make([]int, streams)
		for i := range streams {
			ins[i], outs[i] = e.sockets()
		}
		for range size(5, 50) {
			start, delays := time.Now(), testenv.Delays()
			all := make([]*driver.Stream[driver.Chunk], streams)
			sent := make([]string, streams)
			for i := range streams {
				all[i] = driver.RecvMulti(d, ins[i], b, 0, nil)
				for range e.rng.IntN(4) {
					piece := fmt.Sprint(len(sent[i]), ".")
					e.write(outs[i], []byte(piece))
					sent[i] += piece
				}
			}
			e.together(4, func(j int) {
				for i := j; i < streams; i += 4 {
					all[i].Cancel()
					all[i].Cancel()
				}
			})
			for i, s := range all {
				got := ""
				for {
					c, err := s.Next(ctx)
					if err != nil {
						if err != syscall.ECANCELED {
							e.Errorf("stream %d: %v", i, err)
						}
						break
					}
					got += string(c.Bytes())
					c.Release()
				}
				rest := make([]byte, 64) // what the stream has not received is still there
				n, _, err := unix.Recvfrom(ins[i], rest, unix.MSG_DONTWAIT)
				for err == syscall.EINTR {
					n, _, err = unix.Recvfrom(ins[i], rest, unix.MSG_DONTWAIT)
				}
				if got += string(rest[:max(n, 0)]); got != sent[i] {
					e.Errorf("stream %d: %q of %q", i, got, sent[i])
				}
			}
			if st := b.Stats(); st.Held != 0 {
				e.Errorf("%+v", st)
			}
			if took, late := time.Since(start), delays(); took-late > 5*time.Second {
				e.Errorf("%v is long, on a machine that was %v late", took, late)
			}
		}
	})
}
