package driver_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/ops"
)

// room is for an address of any kind, and a few descriptors.
var room = ops.Room{Name: 112, OOB: 64}

// datagrams returns a socket of the domain for datagrams, bound to an address.
func (e *rig) datagrams(domain int) (fd int, addr unix.Sockaddr) {
	e.Helper()
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	e.keep(fd, err)
	switch domain {
	case unix.AF_INET:
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	case unix.AF_INET6:
		err = unix.Bind(fd, &unix.SockaddrInet6{Addr: [16]byte{15: 1}})
	default:
		err = unix.Bind(fd, &unix.SockaddrUnix{}) // to a name of the kernel's choice: those that a seed repeats may still be taken
	}
	if err == nil {
		addr, err = unix.Getsockname(fd)
	}
	if err != nil {
		e.Fatal(err)
	}
	return fd, addr
}

// Datagrams come with their senders, whatever their size: empty ones, and ones that are too long, which say so.
func TestRecvMsgMulti(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		ctx := inTime(e)
		const bufs, length = 4, 100
		b, err := driver.NewBufferRing(d, bufs, room.Head()+length)
		if err != nil {
			e.Fatal(err)
		}
		for _, domain := range []int{unix.AF_INET, unix.AF_INET6, unix.AF_UNIX} {
			in, addr := e.datagrams(domain)
			out, from := e.datagrams(domain)
			s := driver.RecvMsgMulti(d, in, b, room, 0, nil)
			for i := range size(40, 2000) {
				want := bytes.Repeat([]byte{byte(i + 1)}, e.rng.IntN(length+10))
				if err := unix.Sendto(out, want, 0, addr); err != nil {
					e.Fatal(err)
				}
				c, err := s.Next(ctx)
				if err != nil {
					e.Fatal(err)
				}
				m := room.Parse(c.Bytes())
				cut := len(want) > length
				if cut {
					want = want[:length]
				}
				if !bytes.Equal(m.Data(), want) || (m.Flags()&unix.MSG_TRUNC != 0) != cut || len(m.OOB()) != 0 {
					e.Errorf("%d bytes instead of %d, flags %#x", len(m.Data()), len(want), m.Flags())
				}
				if got := m.From(); fmt.Sprint(got) != fmt.Sprint(from) {
					e.Errorf("from %v instead of %v", got, from)
				}
				c.Release()
			}
			if err := s.Close(ctx); err != nil {
				e.Error(err)
			}
		}
		if st := b.Stats(); st.Held != 0 || st.Free != bufs {
			e.Errorf("%+v", st)
		}
	})
}

// Descriptors come with messages, to the end of a stream; those of messages that nobody takes are closed, which the rig sees to.
func TestRecvMsgMultiRights(t *testing.T) { // HAZARDS T6
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		ctx := inTime(e)
		b, err := driver.NewBufferRing(d, 8, room.Head()+10)
		if err != nil {
			e.Fatal(err)
		}
		for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET} {
			for taken := range 4 {
				pair, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					e.Fatal(err)
				}
				for i := range 3 {
					if err := unix.Sendmsg(pair[1], []byte{byte(i)}, unix.UnixRights(pair[0], pair[1]), nil, 0); err != nil {
						e.Fatal(err)
					}
				}
				unix.Close(pair[1])
				s := driver.RecvMsgMulti(d, pair[0], b, room, 0, nil)
				for i := range taken {
					c, err := s.Next(ctx)
					m := room.Parse(c.Bytes())
					msgs, _ := unix.ParseSocketControlMessage(m.OOB())
					if err != nil || !bytes.Equal(m.Data(), []byte{byte(i)}) || len(msgs) != 1 || m.From() != nil {
						e.Fatalf("message %d: %q from %v, %d control messages, %v", i, m.Data(), m.From(), len(msgs), err)
					}
					fds, err := unix.ParseUnixRights(&msgs[0])
					if err != nil || len(fds) != 2 {
						e.Fatalf("descriptors %v, %v", fds, err)
					}
					for _, fd := range fds {
						unix.Close(fd)
					}
					c.Release()
				}
				if taken == 3 {
					if _, err := s.Next(ctx); err != io.EOF {
						e.Errorf("at the end: %v", err)
					}
				}
				if err := s.Close(ctx); err != nil {
					e.Error(err)
				}
				unix.Close(pair[0])
			}
		}
		if st := b.Stats(); st.Held != 0 {
			e.Errorf("%+v", st)
		}
	})
}

// Where the kernel can, one submission brings everything; where it cannot, what arrives is the same.
func TestRecvMsgMultiSubmissions(t *testing.T) {
	for _, many := range []bool{true, false} {
		t.Run(fmt.Sprintf("multishot %v", many), func(t *testing.T) {
			on(t, []way{onUring}, func(e *rig) {
				e.needsRegistering() // else the ring of buffers may come to nothing
				d, err := e.behind(ring.Linux(), ring.FaultConfig{}, driver.Config{})
				d = e.opened(d, err)
				if !e.fault.CanInject() {
					e.Skip("needs IORING_NOP_INJECT_RESULT (Linux 6.10)")
				}
				if !many { // 5.19 has rings of buffers and no multishot receive
					e.fault.Set(ring.FaultConfig{Inject: 1, Results: []int32{-int32(syscall.EINVAL)},
						Match: func(q *ring.SQE) bool { return q.Op == ring.OpRecvmsg && q.IoPrio != 0 }})
				}
				ctx := inTime(e)
				b, err := driver.NewBufferRing(d, 8, room.Head()+32)
				if err != nil {
					e.Fatal(err)
				}
				in, addr := e.datagrams(unix.AF_INET)
				out, from := e.datagrams(unix.AF_INET)
				s := driver.RecvMsgMulti(d, in, b, room, 0, nil)
				const rounds = 50
				for i := range rounds {
					want := strings.Repeat("x", 1+i)
					if err := unix.Sendto(out, []byte(want), 0, addr); err != nil {
						e.Fatal(err)
					}
					c, err := s.Next(ctx)
					if err != nil {
						e.Fatal(err)
					}
					m := room.Parse(c.Bytes())
					if string(m.Data()) != want[:min(len(want), 32)] || (m.Flags()&unix.MSG_TRUNC != 0) != (len(want) > 32) ||
						fmt.Sprint(m.From()) != fmt.Sprint(from) {
						e.Fatalf("%q from %v, flags %#x", m.Data(), m.From(), m.Flags())
					}
					c.Release()
				}
				if st := d.Stats(); st.Items != rounds || many && st.Submitted != 1 || !many && st.Submitted < rounds {
					e.Errorf("%+v", st)
				}
				if st := b.Stats(); st.Held != 0 {
					e.Errorf("%+v", st)
				}
			})
		})
	}
}

// A packet may be empty and bring descriptors, and a datagram its sender; the end of a sequence brings nothing.
func TestRecvMsgMultiEmpty(t *testing.T) { // HAZARDS T6
	oneByOne := way{"one by one", driver.Uring, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
		return e.behind(ring.Linux(), ring.FaultConfig{Inject: 1, Results: []int32{-int32(syscall.EINVAL)},
			Match: func(q *ring.SQE) bool { return q.Op == ring.OpRecvmsg && q.IoPrio != 0 }}, cfg)
	}}
	on(t, append([]way{oneByOne}, everywhere...), func(e *rig) {
		d := e.open(driver.Config{})
		if e.name == oneByOne.name && !e.fault.CanInject() {
			e.Skip("needs IORING_NOP_INJECT_RESULT (Linux 6.10)")
		}
		ctx := inTime(e)
		const bufs = 4
		b, err := driver.NewBufferRing(d, bufs, room.Head()+10)
		if err != nil {
			e.Fatal(err)
		}
		in, addr := e.datagrams(unix.AF_UNIX)
		out, from := e.datagrams(unix.AF_UNIX)
		for _, drop := range []bool{false, true} {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				e.Fatal(err)
			}
			send := func(fd int, to unix.Sockaddr) error {
				return (<-driver.Submit(d, ops.SendMsg(fd, [][]byte{nil}, unix.UnixRights(out, in), to, 0)).Done()).Err
			}
			packets := driver.RecvMsgMulti(d, pair[0], b, room, 0, nil)
			datagrams := driver.RecvMsgMulti(d, in, b, room, 0, nil)
			const n = 3
			for range n {
				if err := errors.Join(send(pair[1], nil), send(out, addr)); err != nil {
					e.Fatal(err)
				}
			}
			unix.Close(pair[1])
			for range n {
				if drop {
					break
				}
				for s, want := range map[*driver.Stream[driver.Chunk]]unix.Sockaddr{packets: nil, datagrams: from} {
					c, err := s.Next(ctx)
					m := room.Parse(c.Bytes())
					if err != nil || len(m.Data()) > 0 || len(m.OOB()) != unix.CmsgLen(8) && len(m.OOB()) != unix.CmsgSpace(8) {
						e.Fatalf("%d bytes, %d of control messages, %v", len(m.Data()), len(m.OOB()), err)
					}
					if got := m.From(); fmt.Sprint(got) != fmt.Sprint(want) {
						e.Errorf("from %v instead of %v", got, want)
					}
					m.Discard()
					c.Release()
				}
			}
			if !drop {
				if _, err := packets.Next(ctx); err != io.EOF {
					e.Errorf("at the end: %v", err)
				}
			}
			if err := errors.Join(packets.Close(ctx), datagrams.Close(ctx)); err != nil {
				e.Error(err)
			}
			unix.Close(pair[0])
		}
		if st := b.Stats(); st.Held != 0 || st.Free != bufs {
			e.Errorf("%+v", st)
		}
	})
}

func TestRecvMsgMultiRefused(t *testing.T) {
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{})
		ctx := inTime(e)
		in, _ := e.datagrams(unix.AF_INET)
		a, _ := e.sockets()
		for fd, options := range map[int][]driver.BufferOption{in: nil, a: {driver.Incremental()}} {
			length := room.Head() + len(options)*1000
			b, err := driver.NewBufferRing(d, 4, length, options...)
			if err != nil {
				e.Fatal(err)
			}
			if _, err := driver.RecvMsgMulti(d, fd, b, room, 0, nil).Next(ctx); !errors.Is(err, syscall.EINVAL) {
				e.Errorf("buffers of %d bytes: %v", length, err)
			}
			if err := b.Close(); err != nil {
				e.Error(err)
			}
		}
	})
}

// Messages that a kernel brings to a stream that was abandoned are given back, with the descriptors in them.
func TestRecvMsgMultiAbandoned(t *testing.T) { // HAZARDS T6
	on(t, abandoning[:1], func(e *rig) {
		d := e.open(driver.Config{CancelGrace: 5 * time.Millisecond})
		ctx := inTime(e)
		b, err := driver.NewBufferRing(d, 16, room.Head()+8)
		if err != nil {
			e.Fatal(err)
		}
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			e.Fatal(err)
		}
		ended := make(chan struct{})
		s := driver.RecvMsgMulti(d, pair[0], b, room, 0, func() { close(ended) })
		send := func(text string) {
			if err := unix.Sendmsg(pair[1], []byte(text), unix.UnixRights(pair[:]...), nil, 0); err != nil {
				e.Fatal(err)
			}
		}
		send("one")
		c, err := s.Next(ctx)
		if err != nil {
			e.Fatal(err)
		}
		room.Parse(c.Bytes()).Discard()
		c.Release()
		e.eventually("it waits for the next", func() bool { return d.Stats().InFlight == 1 })
		e.swallowCancels()
		s.Cancel()
		if _, err := s.Next(ctx); err != driver.ErrAbandoned {
			e.Errorf("a reader is told %v", err)
		}
		send("two")
		unix.Close(pair[1])
		<-ended
		e.fault.Set(ring.FaultConfig{})
		e.eventually("the buffers are back", func() bool { return b.Stats().Held == 0 })
		if err := b.Close(); err != nil {
			e.Error(err)
		}
		unix.Close(pair[0])
	})
}
