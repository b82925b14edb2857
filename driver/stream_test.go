package driver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/ops"
)

// listener returns a listening socket and where it listens.
func (e *rig) listener() (int, unix.Sockaddr) {
	e.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		e.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		e.Fatal(err)
	}
	if err := unix.Listen(fd, 512); err != nil {
		e.Fatal(err)
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		e.Fatal(err)
	}
	return fd, addr
}

// dial connects to a listener by a plain call.
func (e *rig) dial(addr unix.Sockaddr) int {
	e.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		e.Fatal(err)
	}
	for err = unix.Connect(fd, addr); err == unix.EINTR || err == unix.EALREADY; {
		err = unix.Connect(fd, addr)
	}
	if err != nil && err != unix.EISCONN {
		e.Fatal(err)
	}
	return fd
}

func inTime(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestAcceptMulti(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		l, addr := e.listener()
		ctx := inTime(e)
		s := driver.SubmitMulti(d, ops.AcceptMulti(l, 0))
		// More than the stream holds, so that it has to pause and to go on.
		const n = 3 * driver.StreamLimit
		var clients []int
		for range n {
			clients = append(clients, e.dial(addr))
		}
		for range n {
			fd, err := s.Next(ctx)
			if err != nil {
				e.Fatal(err)
			}
			unix.Close(fd)
		}
		if _, _, ok := s.Take(); ok {
			e.Error("one more than connected")
		}
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		if _, err := s.Next(short); !errors.Is(err, context.DeadlineExceeded) || s.Err() != nil {
			e.Errorf("a wait that ends: %v", err)
		}
		s.Cancel()
		if _, err := s.Next(ctx); err != syscall.ECANCELED {
			e.Errorf("cancelled: %v", err)
		}
		for _, fd := range clients {
			unix.Close(fd)
		}
	})
}

// Connections that nobody takes are closed, whenever the stream is discarded: no descriptor is left, which the rig sees to, and every
// client is told.
func TestAcceptMultiDiscard(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		ctx := inTime(e)
		for range size(20, 500) {
			l, addr := e.listener()
			s := driver.SubmitMulti(d, ops.AcceptMulti(l, 0))
			var clients []int
			for i := range 10 {
				clients = append(clients, e.dial(addr))
				if i == e.rng.IntN(10) {
					s.Discard()
				}
			}
			if err := s.Close(ctx); err != nil {
				e.Fatal(err)
			}
			unix.Shutdown(l, unix.SHUT_RDWR) // resets those still in its queue
			for _, fd := range clients {
				unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
				if n, err := unix.Read(fd, make([]byte, 1)); n > 0 || err == unix.EAGAIN {
					e.Errorf("a client that nobody owns: %d, %v", n, err)
				}
				unix.Close(fd)
			}
		}
	})
}

func TestStreamErrors(t *testing.T) {
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{})
		ctx := inTime(e)
		r, _ := e.pipe()
		s := driver.SubmitMulti(d, ops.AcceptMulti(r, 0))
		for range 2 {
			if _, err := s.Next(ctx); err != syscall.ENOTSOCK || s.Err() == nil {
				e.Errorf("a pipe: %v", err)
			}
		}
		for _, c := range [][2]int{{0, 1}, {3, 1}, {1 << 16, 1}, {1, 0}, {-1, 1}} {
			if _, err := driver.NewBufferRing(d, c[0], c[1]); err == nil {
				e.Errorf("%d buffers of %d bytes", c[0], c[1])
			}
		}
		b, err := driver.NewBufferRing(d, 2, 16)
		if err != nil {
			e.Fatal(err)
		}
		if _, err := driver.RecvMulti(d, r, b, 0, nil).Next(ctx); err != syscall.ENOTSOCK {
			e.Errorf("a pipe: %v", err)
		}
		if _, err := driver.RecvMulti(d, r, b, unix.MSG_PEEK, nil).Next(ctx); !errors.Is(err, syscall.EINVAL) {
			e.Errorf("peeking: %v", err)
		}
		l, _ := e.listener()
		accept := driver.SubmitMulti(d, ops.AcceptMulti(l, 0))
		if err := b.Close(); err != nil {
			e.Error(err)
		}
		if _, err := driver.RecvMulti(d, r, b, 0, nil).Next(ctx); err == nil {
			e.Error("receiving into closed buffers")
		}
		if err := d.Close(ctx); err != nil {
			e.Error(err)
		}
		if _, err := accept.Next(ctx); err != driver.ErrClosed {
			e.Errorf("after the driver: %v", err)
		}
		if err := b.Close(); err != nil {
			e.Error(err)
		}
	})
}

// seqpackets returns a pair whose messages are received one by one.
func (e *rig) seqpackets() (a, b int) {
	e.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	return e.keep(p[0], err), p[1]
}

// Many connections share few buffers: every message comes once and in order, whether they are read one after the other, so that those unread
// would hold all buffers, or together, by readers that hold some themselves; and no buffer gets lost.
func TestRecvMulti(t *testing.T) {
	for _, together := range []bool{false, true} {
		t.Run(fmt.Sprintf("together %v", together), func(t *testing.T) {
			on(t, everywhere, func(e *rig) {
				d := e.open(driver.Config{})
				const bufs, conns, length = 8, 6, 32
				messages := size(100, 5000)
				b, err := driver.NewBufferRing(d, bufs, length)
				if err != nil {
					e.Fatal(err)
				}
				streams := make([]*driver.Stream[driver.Chunk], conns)
				for i := range conns {
					in, out := e.seqpackets()
					streams[i] = driver.RecvMulti(d, in, b, 0, nil)
					go func() {
						defer unix.Close(out)
						for n := range messages {
							msg := fmt.Appendf(nil, "%d of %d", n, i)
							for _, err := unix.Write(out, msg); err == unix.EINTR; {
								_, err = unix.Write(out, msg)
							}
						}
					}()
				}
				if together {
					e.together(conns, func(i int) { e.readAll(b, streams[i], i, messages, 1) })
				} else {
					for i, s := range streams {
						e.readAll(b, s, i, messages, bufs/2)
					}
				}
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

// readAll reads a stream of numbered messages to its end, and holds up to most of them at a time.
func (e *rig) readAll(b *driver.BufferRing, s *driver.Stream[driver.Chunk], i, messages, most int) {
	rng := e.random(i)
	ctx := inTime(e)
	var held []driver.Chunk
	release := func() {
		for _, c := range held {
			c.Release()
		}
		held = held[:0]
	}
	defer release()
	for n := 0; ; n++ {
		c, err := s.Next(ctx)
		if err == io.EOF {
			if n != messages {
				e.Errorf("%d messages of %d", n, messages)
			}
			return
		}
		if err != nil {
			e.Errorf("message %d of %d: %v, %+v", n, i, err, b.Stats())
			return
		}
		held = append(held, c)
		if want := fmt.Sprintf("%d of %d", n, i); string(c.Bytes()) != want {
			e.Errorf("%q; want %q", c.Bytes(), want)
			return
		}
		if rng.IntN(4) == 0 || len(held) == most {
			release()
		}
	}
}

// A stream that is not read holds what it may hold, and no more, and leaves the rest in the socket; then it goes on where it stopped.
func TestRecvMultiUnread(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		const bufs, messages = 16, 200
		b, err := driver.NewBufferRing(d, bufs, 32)
		if err != nil {
			e.Fatal(err)
		}
		in, out := e.seqpackets()
		s := driver.RecvMulti(d, in, b, 0, nil)
		go func() {
			defer unix.Close(out)
			for n := range messages {
				msg := fmt.Appendf(nil, "%d of 0", n)
				for _, err := unix.Write(out, msg); err == unix.EINTR; {
					_, err = unix.Write(out, msg)
				}
			}
		}()
		e.eventually("the stream holds what it may", func() bool { return b.Stats().Held == bufs/4 })
		items := d.Stats().Items
		for range 50 {
			if st := b.Stats(); st.Held > bufs/4+1 { // one may be on its way to being copied
				e.Errorf("held: %+v", st)
			}
			time.Sleep(100 * time.Microsecond)
		}
		if now := d.Stats().Items; now > items+100 {
			e.Errorf("%d items, and then %d, though nobody reads", items, now)
		}
		e.readAll(b, s, 0, messages, 2)
		if st := b.Stats(); st.Held != 0 {
			e.Errorf("%+v", st)
		}
	})
}

// With all buffers in a reader's hands a stream waits, and loses nothing.
func TestRecvMultiStarved(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		ctx := inTime(e)
		b, err := driver.NewBufferRing(d, 2, 8)
		if err != nil {
			e.Fatal(err)
		}
		in, out := e.seqpackets()
		defer unix.Close(out)
		s := driver.RecvMulti(d, in, b, 0, nil)
		var held []driver.Chunk
		for _, m := range []string{"a", "b"} { // one at a time, so that none is copied out of its buffer
			e.write(out, []byte(m))
			c, err := s.Next(ctx)
			if err != nil {
				e.Fatal(err)
			}
			held = append(held, c)
		}
		for _, m := range []string{"c", "d", "e"} {
			e.write(out, []byte(m))
		}
		waits := func() {
			short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			if c, err := s.Next(short); !errors.Is(err, context.DeadlineExceeded) {
				e.Fatalf("%q, %v with all buffers held", c.Bytes(), err)
			}
		}
		waits()
		got, want := "", "abcde"
		soonest := time.Hour
		const enough = 10 * time.Millisecond
		for i, begun := 0, time.Now(); i < 3 || soonest > enough && time.Since(begun) < patience; i++ { // the machine may have other things to do
			if i >= 3 {
				e.write(out, []byte("x"))
				want += "x"
				waits()
			}
			got += string(held[0].Bytes())
			released := time.Now()
			held[0].Release()
			c, err := s.Next(ctx)
			if err != nil {
				e.Fatal(err)
			}
			soonest = min(soonest, time.Since(released))
			held = append(held[1:], c)
		}
		if soonest > enough {
			e.Errorf("what waited for a buffer came %v after there was one", soonest)
		}
		for _, c := range held {
			got += string(c.Bytes())
			c.Release()
		}
		if got != want {
			e.Errorf("received %q", got)
		}
		e.write(out, []byte("f"))
		c, err := s.Next(ctx)
		if err != nil {
			e.Fatal(err)
		}
		c.Release()
		func() {
			defer func() {
				if recover() == nil {
					e.Error("a second Release")
				}
			}()
			c.Release()
		}()
		if err := s.Close(ctx); err != nil {
			e.Error(err)
		}
	})
}

// A stream that is cancelled gives up what it has received by then, and a discarded one gives it back.
func TestRecvMultiCancel(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		ctx := inTime(e)
		b, err := driver.NewBufferRing(d, 4, 8)
		if err != nil {
			e.Fatal(err)
		}
		for i := range size(20, 1000) {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				e.Fatal(err)
			}
			s := driver.RecvMulti(d, pair[0], b, 0, nil)
			sent := 0
			for range e.rng.IntN(4) {
				n, _ := unix.Write(pair[1], []byte("ab"))
				sent += max(n, 0)
			}
			if i%2 == 0 {
				s.Cancel()
				got := 0
				for {
					p, err := s.Next(ctx)
					if err == syscall.ECANCELED {
						break
					}
					if err != nil {
						e.Fatal(err)
					}
					got += len(p.Bytes())
					p.Release()
				}
				unix.Shutdown(pair[1], unix.SHUT_WR)
				rest, _ := unix.Read(pair[0], make([]byte, 100))
				if got+max(rest, 0) != sent {
					e.Fatalf("received %d, left %d, sent %d", got, rest, sent)
				}
			} else if err := s.Close(ctx); err != nil {
				e.Fatal(err)
			}
			if st := b.Stats(); st.Held != 0 || st.Free != 4 {
				e.Fatalf("%+v", st)
			}
			unix.Close(pair[0])
			unix.Close(pair[1])
		}
		if err := b.Close(); err != nil {
			e.Error(err)
		}
	})
}

// Where the kernel can, one submission brings everything.
func TestMultishotIsOneSubmission(t *testing.T) {
	on(t, []way{onUring, onLocked}, func(e *rig) {
		e.needsRegistering() // else the ring of buffers may come to nothing
		if release(e) < 600 {
			e.Skipf("needs Linux 6.0, this is %d", release(e))
		}
		d := e.open(driver.Config{})
		ctx := inTime(e)
		l, addr := e.listener()
		accept := driver.SubmitMulti(d, ops.AcceptMulti(l, 0))
		b, err := driver.NewBufferRing(d, 16, 16)
		if err != nil {
			e.Fatal(err)
		}
		in, out := e.sockets()
		recv := driver.RecvMulti(d, in, b, 0, nil)
		const rounds = 50
		for range rounds {
			client := e.dial(addr)
			fd, err := accept.Next(ctx)
			if err != nil {
				e.Fatal(err)
			}
			unix.Close(client)
			unix.Close(fd)
			e.write(out, []byte("x"))
			c, err := recv.Next(ctx)
			if err != nil || string(c.Bytes()) != "x" {
				e.Fatalf("%q, %v", c.Bytes(), err)
			}
			c.Release()
		}
		if s := d.Stats(); s.Submitted != 2 || s.Items != 2*rounds || s.InFlight != 2 {
			e.Errorf("%+v", s)
		}
	})
}

// release returns the running kernel's version, 6.18 as 618.
func release(e *rig) int {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		e.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil {
		e.Fatal(err)
	}
	return 100*major + minor
}

// Answers that only mean "again", in place of some submissions, lose nothing and end nothing.
func TestStreamsGoOn(t *testing.T) {
	on(t, []way{onUring}, func(e *rig) {
		d, err := e.behind(ring.Linux(), ring.FaultConfig{}, driver.Config{})
		d = e.opened(d, err)
		if !e.fault.CanInject() {
			e.Skip("needs IORING_NOP_INJECT_RESULT (Linux 6.10)")
		}
		var results []int32
		for _, errno := range []syscall.Errno{syscall.EINTR, syscall.EAGAIN, syscall.ENOBUFS, syscall.ECANCELED, 512} {
			results = append(results, -int32(errno))
		}
		e.fault.Set(ring.FaultConfig{Inject: 0.3, Results: results,
			Match: func(q *ring.SQE) bool { return q.Op == ring.OpRecv || q.Op == ring.OpAccept }})
		b, err := driver.NewBufferRing(d, 8, 32)
		if err != nil {
			e.Fatal(err)
		}
		ctx := inTime(e)
		l, addr := e.listener()
		accept := driver.SubmitMulti(d, ops.AcceptMulti(l, 0))
		for range size(10, 200) {
			client := e.dial(addr)
			fd, err := accept.Next(ctx)
			for err == syscall.ENOBUFS { // at accept, something to tell, and no end
				fd, err = accept.Next(ctx)
			}
			if err != nil {
				e.Fatal(err)
			}
			unix.Close(fd)
			in, out := e.seqpackets()
			s := driver.RecvMulti(d, in, b, 0, nil)
			const messages = 20
			go func() {
				defer unix.Close(out)
				for n := range messages {
					e.write(out, fmt.Appendf(nil, "%d of 0", n))
				}
			}()
			e.readAll(b, s, 0, messages, 4)
			unix.Close(client)
		}
		if st := b.Stats(); st.Held != 0 {
			e.Errorf("%+v", st)
		}
	})
}

// A kernel without multishot (5.19 has rings of buffers and no multishot receive) gets one request after the other.
func TestStreamsWithoutMultishot(t *testing.T) {
	on(t, []way{onUring}, func(e *rig) {
		e.needsRegistering() // else the ring of buffers may come to nothing
		d, err := e.behind(ring.Linux(), ring.FaultConfig{}, driver.Config{})
		d = e.opened(d, err)
		if !e.fault.CanInject() {
			e.Skip("needs IORING_NOP_INJECT_RESULT (Linux 6.10)")
		}
		e.fault.Set(ring.FaultConfig{Inject: 1, Results: []int32{-int32(syscall.EINVAL)},
			Match: func(q *ring.SQE) bool { return (q.Op == ring.OpRecv || q.Op == ring.OpAccept) && q.IoPrio != 0 }})
		ctx := inTime(e)
		l, addr := e.listener()
		accept := driver.SubmitMulti(d, ops.AcceptMulti(l, 0))
		const messages = 20
		for range 3 {
			client := e.dial(addr)
			fd, err := accept.Next(ctx)
			if err != nil {
				e.Fatal(err)
			}
			unix.Close(client)
			unix.Close(fd)
		}
		b, err := driver.NewBufferRing(d, 8, 32)
		if err != nil {
			e.Fatal(err)
		}
		in, out := e.seqpackets()
		s := driver.RecvMulti(d, in, b, 0, nil)
		go func() {
			defer unix.Close(out)
			for n := range messages {
				e.write(out, fmt.Appendf(nil, "%d of 0", n))
			}
		}()
		e.readAll(b, s, 0, messages, 2)
		if st := b.Stats(); st.Held != 0 {
			e.Errorf("%+v", st)
		}
		if e.fault.Stats().Injected != 2 {
			e.Errorf("%d requests for multishot", e.fault.Stats().Injected)
		}
	})
}
