package net_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/net"
)

var packetNetworks = []string{"udp", "udp4", "udp6", "unixgram"}

// packetPair returns two sockets for packets, and the address of the second as the first has to name it.
func packetPair(t *testing.T, ctx context.Context, network string) (a, b *net.PacketConn) {
	t.Helper()
	a, b = listenPacket(t, ctx, network), listenPacket(t, ctx, network)
	if a == nil || b == nil {
		return nil, nil
	}
	return a, b
}

// TestPacketReceives receives datagrams of all sizes, with their senders and with what is known of their way.
func TestPacketReceives(t *testing.T) { // C23
	each(t, func(t *testing.T, ctx context.Context) {
		const bufs, size = 8, 2048
		ring := bufferRing(t, ctx, bufs, size)
		for _, network := range packetNetworks {
			room := size - 304
			if network == "unixgram" {
				room = size - 384 - net.RightsSpace(253)
			}
			a, b := packetPair(t, ctx, network)
			if a == nil {
				return
			}
			if network != "unixgram" {
				if err := b.SetReceiveInfo(true); err != nil {
					t.Error(err)
				}
			}
			sizes := []int{1, 0, room - 1, room, room + 1, 3, 4000, 0, 64}
			next, most := iter.Pull2(b.Receives(ctx, ring))
			var held []net.Received
			for i, n := range sizes {
				sent := bytes.Repeat([]byte{byte(i + 1)}, n)
				if m, _, err := a.SendTo(ctx, sent, b.LocalAddr()); m != n || err != nil {
					t.Errorf("%s: SendTo = %d, %v", network, m, err)
				}
				m, err, ok := next()
				if err != nil || !ok {
					t.Errorf("%s: %v", network, err)
					break
				}
				if cut := n > room; m.Truncated() != cut || !bytes.Equal(m.Bytes(), sent[:min(n, room)]) {
					t.Errorf("%s: %d bytes of %d, truncated: %v", network, len(m.Bytes()), n, m.Truncated())
				}
				if m.Addr() == nil || m.Addr().String() != a.LocalAddr().String() {
					t.Errorf("%s: from %v instead of %v", network, m.Addr(), a.LocalAddr())
				}
				c, err := m.Control()
				if err != nil || m.ControlTruncated() {
					t.Errorf("%s: control messages: %+v, %v", network, c, err)
				}
				if network == "unixgram" {
					if m.AddrPort().IsValid() {
						t.Errorf("%s: from %v", network, m.AddrPort())
					}
				} else if m.AddrPort().String() != a.LocalAddr().String() || c.Interface == 0 || c.HopLimit == 0 || !c.Local.IsLoopback() {
					t.Errorf("%s: from %v, %+v", network, m.AddrPort(), c)
				}
				if held = append(held, m); len(held) == 3 {
					for _, m := range held {
						m.Release()
					}
					held = nil
				}
			}
			for _, m := range held {
				m.Release()
			}
			most()
			if err := errors.Join(a.Close(ctx), b.Close(ctx)); err != nil {
				t.Error(err)
			}
			allFree(t, ring, bufs)
		}
	})
}

// TestConnReceivesMsg receives all that a peer sends on every kind of connection.
func TestConnReceivesMsg(t *testing.T) { // C23
	each(t, func(t *testing.T, ctx context.Context) {
		const bufs, size = 8, 1500
		ring := bufferRing(t, ctx, bufs, size)
		for _, network := range []string{"tcp", "unix", "unixpacket", "pair"} {
			c, s := connect(t, ctx, network)
			if c == nil {
				return
			}
			var sent, received []byte
			for i := range 5000 {
				sent = append(sent, byte(i>>3))
			}
			err := together(ctx, func(ctx context.Context) error {
				for off, n := 0, 1; off < len(sent); n = 1 + n*7%64 {
					k := min(n, len(sent)-off)
					if _, _, err := c.WriteAll(ctx, sent[off:off+k]); err != nil {
						return err
					}
					off += k
				}
				return c.CloseWrite()
			}, func(ctx context.Context) error {
				for m, err := range s.ReceivesMsg(ctx, ring) {
					if err != nil {
						return err
					}
					if m.Addr() != nil || m.Truncated() || len(m.OOB()) > 0 {
						return fmt.Errorf("from %v, flags %#x", m.Addr(), m.Flags())
					}
					received = append(received, m.Bytes()...)
					m.Release()
				}
				return nil
			})
			if err != nil || !bytes.Equal(received, sent) {
				t.Errorf("%s: %v, %d bytes of %d", network, err, len(received), len(sent))
			}
			if n, _, err := s.Read(ctx, make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("%s: after the end: %d, %v", network, n, err)
			}
			closeAll(t, ctx, c, s)
		}
		allFree(t, ring, bufs)
	})
}

// TestEmptyPackets receives packets without data that bring descriptors. They are not the end, and nothing stays open.
func TestEmptyPackets(t *testing.T) { // HAZARDS T6
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "unixpacket")
		if c == nil {
			return
		}
		const n = 4
		for range n {
			if _, err := c.SendMsg(ctx, &net.Message{Bufs: [][]byte{nil}, OOB: net.Rights(int(c.Fd()))}); err != nil {
				t.Error(err)
			}
		}
		if err := c.CloseWrite(); err != nil {
			t.Error(err)
		}
		check := func(what string, n int, from net.Addr, control net.Control, err error) {
			if n != 0 || err != nil || from != nil || len(control.FDs) != 1 {
				t.Errorf("%s: %d bytes from %v with %d descriptors, %v", what, n, from, len(control.FDs), err)
			}
			for _, fd := range control.FDs {
				unix.Close(fd)
			}
		}
		m := net.Message{Bufs: [][]byte{make([]byte, 10)}, OOB: make([]byte, net.RightsSpace(1))}
		for what, receive := range map[string]func(context.Context, *net.Message) error{"PeekMsg": s.PeekMsg, "RecvMsg": s.RecvMsg} {
			err := receive(ctx, &m)
			control, _ := m.Control()
			check(what, m.N, m.Addr, control, err)
		}
		for m, err := range s.ReceivesMsg(ctx, nil) {
			control, _ := m.Control()
			check("ReceivesMsg", len(m.Bytes()), m.Addr(), control, err)
			m.Release()
			break
		}
		err := s.RecvMsg(ctx, &m) // maybe one that the iteration left over
		control, _ := m.Control()
		check("RecvMsg again", m.N, m.Addr, control, err)
		if n, _, err := s.Readv(ctx, [][]byte{make([]byte, 10)}); n != 0 || err != io.EOF {
			t.Errorf("Readv = %d, %v", n, err) // it takes nothing but data, and so cannot tell it from the end, left over or not
		}
		if err := s.RecvMsg(ctx, &m); err != io.EOF || m.OOBN != 0 {
			t.Errorf("the end: %d bytes of control messages, %v", m.OOBN, err)
		}
		for m, err := range s.ReceivesMsg(ctx, nil) {
			t.Errorf("behind the end: %d bytes, %v", len(m.Bytes()), err)
		}
		closeAll(t, ctx, c, s)
	})
}

// TestPacketReceivesLosesNothing ends iterations in every way and receives in every other, while datagrams arrive.
func TestPacketReceivesLosesNothing(t *testing.T) { // HAZARDS T5, N1
	rounds := 600
	if testing.Short() {
		rounds = 150
	}
	each(t, func(t *testing.T, ctx context.Context) {
		const bufs = 8
		ring := bufferRing(t, ctx, bufs, 2048)
		for _, network := range []string{"udp", "unixgram"} {
			a, b := packetPair(t, ctx, network)
			if a == nil {
				return
			}
			var taken atomic.Int64 // what the kernel has no room for it drops: so few are on their way
			err := together(ctx, func(ctx context.Context) error {
				for i := range rounds {
					for i-int(taken.Load()) > 20 {
						if err := executor.Sleep(ctx, 50*time.Microsecond); err != nil {
							return err
						}
					}
					if _, _, err := a.SendTo(ctx, fmt.Appendf(nil, "number %d", i), b.LocalAddr()); err != nil {
						return err
					}
				}
				return nil
			}, func(ctx context.Context) error {
				next := 0
				take := func(got []byte, from net.Addr) error {
					if want := fmt.Sprintf("number %d", next); string(got) != want || from.String() != a.LocalAddr().String() {
						return fmt.Errorf("%q from %v instead of %q", got, from, want)
					}
					next++
					taken.Add(1)
					return nil
				}
				for turn := 0; next < rounds; turn++ {
					var err error
					switch turn % 5 {
					case 0, 1: // until a number of datagrams, or a moment
						short, cancel := context.WithTimeout(ctx, time.Duration(turn%9)*40*time.Microsecond)
						most := turn % 7
						for m, e := range b.Receives(short, ring) {
							if err = e; err == nil {
								err = take(m.Bytes(), m.Addr())
								m.Release()
							}
							if most--; err != nil || most < 0 {
								break
							}
						}
						cancel()
						if errors.Is(err, context.DeadlineExceeded) {
							err = nil
						}
					case 2:
						n, buf, from, e := b.RecvFrom(ctx, make([]byte, 20))
						if err = e; err == nil {
							err = take(buf[:n], from)
						}
					case 3:
						m := net.Message{Bufs: [][]byte{make([]byte, 3), make([]byte, 20)}}
						if err = b.RecvMsg(ctx, &m); err == nil {
							err = take(append(m.Bufs[0], m.Bufs[1]...)[:m.N], m.Addr)
						}
					default:
						m := net.Message{Bufs: [][]byte{make([]byte, 4)}}
						if err = b.PeekMsg(ctx, &m); err == nil && (string(m.Bufs[0][:m.N]) != "numb" || !m.Truncated()) {
							err = fmt.Errorf("peeked %q, flags %#x", m.Bufs[0][:m.N], m.Flags)
						}
					}
					if err != nil {
						return fmt.Errorf("%s: after %d datagrams: %w", network, next, err)
					}
				}
				return nil
			})
			if err := errors.Join(err, a.Close(ctx), b.Close(ctx)); err != nil {
				t.Error(err)
			}
		}
		allFree(t, ring, bufs)
	})
}

// TestPacketReceivesErrors: a closed socket, a cancelled context, a second iteration, buffers that will not do.
func TestPacketReceivesErrors(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		a, b := packetPair(t, ctx, "udp")
		if a == nil {
			return
		}
		defer a.Close(ctx)
		short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		defer cancel()
		times := 0
		for range 2 { // a context that ends, and one that has ended
			for _, err := range b.Receives(short, nil) {
				if times++; !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			}
		}
		if times != 2 {
			t.Errorf("%d errors", times)
		}
		for _, err := range b.Receives(ctx, bufferRing(t, ctx, 2, 304)) {
			if !errors.Is(err, unix.EINVAL) {
				t.Errorf("buffers without room for data: %v", err)
			}
		}
		if _, _, err := a.SendTo(ctx, []byte("ab"), b.LocalAddr()); err != nil {
			t.Error(err)
		}
		for m, err := range b.Receives(ctx, nil) {
			if err != nil || string(m.Bytes()) != "ab" {
				t.Errorf("%q, %v", m.Bytes(), err)
			}
			for _, err := range b.Receives(ctx, nil) {
				if err == nil {
					t.Error("an iteration in an iteration")
				}
			}
			if _, _, _, err := b.RecvFrom(ctx, make([]byte, 1)); err == nil {
				t.Error("RecvFrom in an iteration")
			}
			m.Release()
			break
		}
		var during error
		err := together(ctx, func(ctx context.Context) error {
			for _, err := range b.Receives(ctx, nil) {
				during = err
			}
			return nil
		}, func(ctx context.Context) error {
			if err := executor.Sleep(ctx, 2*time.Millisecond); err != nil {
				return err
			}
			return b.Close(ctx)
		})
		if err != nil || !errors.Is(during, net.ErrClosed) {
			t.Errorf("closed by another: %v, %v", during, err)
		}
		for _, err := range b.Receives(ctx, nil) {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("closed: %v", err)
			}
		}
	})
}

// TestPacketReceivesFlood ends iterations under a flood of datagrams: at once, and with every buffer back.
func TestPacketReceivesFlood(t *testing.T) { // C21, HAZARDS T27
	each(t, func(t *testing.T, ctx context.Context) {
		const bufs, enough = 64, 200 * time.Millisecond
		ring := bufferRing(t, ctx, bufs, 512)
		for _, way := range []string{"cancel", "break", "close"} {
			took := enough
			for tries := 0; tries < 5 && took >= enough; tries++ { // the machine may have other things to do
				b := listenPacket(t, ctx, "udp4")
				if b == nil {
					return
				}
				stop := flood(t, b.LocalAddr())
				took = endUnderFlood(t, ctx, b, ring, way)
				stop()
				if err := b.Close(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
				allFree(t, ring, bufs)
			}
			if took >= enough {
				t.Errorf("%s: the iteration ended after %v", way, took)
			}
		}
	})
}

// endUnderFlood ends an iteration in one way, and returns how long that took, on a machine that is never late.
func endUnderFlood(t *testing.T, ctx context.Context, b *net.PacketConn, ring *driver.BufferRing, way string) time.Duration {
	sub, cancel := context.WithCancel(ctx)
	defer cancel()
	var since time.Time
	delays := func() time.Duration { return 0 }
	var closing func()
	got := 0
	for m, err := range b.Receives(sub, ring) {
		if err != nil {
			if way == "cancel" && !errors.Is(err, context.Canceled) || way == "close" && !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: %v", way, err)
			}
			break
		}
		m.Release()
		if got++; got == 500 {
			since, delays = time.Now(), testenv.Delays()
			switch way {
			case "cancel":
				cancel()
			case "close":
				closing = start(ctx, func(ctx context.Context) {
					if err := b.Close(ctx); err != nil {
						t.Error(err)
					}
				})
			}
		}
		if got >= 500 && way == "break" {
			break
		}
	}
	if closing != nil {
		closing()
	}
	if got < 500 {
		t.Errorf("%s: ended after %d datagrams", way, got)
	}
	took := time.Since(since)
	return took - delays()
}

// flood sends datagrams as fast as a thread can, until the returned function is called.
func flood(t *testing.T, to net.Addr) (stop func()) {
	t.Helper()
	ip := to.(*net.UDPAddr)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte(ip.IP.To4()), Port: ip.Port})
	}
	if err != nil {
		t.Error(err)
	}
	var over atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !over.Load() {
			_, _ = unix.Write(fd, make([]byte, 100)) // refused when nobody is there any more
		}
		unix.Close(fd)
	}()
	return func() {
		over.Store(true)
		<-done
	}
}

// TestPacketReceivesDoesNotAllocate receives by multishot, and allocates nothing once that flows.
func TestPacketReceivesDoesNotAllocate(t *testing.T) {
	testenv.CountsAllocs(t, raceEnabled)
	each(t, func(t *testing.T, ctx context.Context) {
		if d, err := driver.FromContext(ctx); err != nil || d.Engine() != driver.Uring {
			return // waiting for a descriptor costs the portable engine an allocation
		}
		defer debug.SetGCPercent(debug.SetGCPercent(-1)) // what empties pools
		b := listenPacket(t, ctx, "udp")
		if b == nil {
			return
		}
		defer b.Close(ctx)
		c, err := net.Dial(ctx, "udp", b.LocalAddr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer closeAll(t, ctx, c)
		const warm, n = 500, 2000
		msg := make([]byte, 64)
		send := func() error {
			_, _, err := c.Write(ctx, msg)
			return err
		}
		if err := send(); err != nil {
			t.Error(err)
		}
		var before uint64
		got := 0
		for m, err := range b.Receives(ctx, nil) {
			if err != nil || len(m.Bytes()) != 64 || !m.AddrPort().IsValid() || m.Truncated() {
				t.Errorf("%d bytes from %v, %v", len(m.Bytes()), m.AddrPort(), err)
				break
			}
			m.Release()
			if got++; got == warm {
				before = mallocs()
			}
			if got == warm+n {
				break
			}
			if err := send(); err != nil {
				t.Error(err)
				break
			}
		}
		if each := float64(mallocs()-before) / n; got == warm+n && each > 0.02 {
			t.Errorf("%.2f allocations for each datagram", each)
		}
	})
}
