package net_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	stdnet "net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/driver"
	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/net"
)

// listenPacket makes a socket for datagrams of this machine alone.
func listenPacket(t *testing.T, ctx context.Context, network string) *net.PacketConn {
	t.Helper()
	address := "127.0.0.1:0"
	switch network {
	case "udp6":
		address = "[::1]:0"
	case "unixgram":
		address = filepath.Join(t.TempDir(), "socket")
	}
	c, err := net.ListenPacket(ctx, network, address)
	if err != nil {
		t.Error(err)
	}
	return c
}

func TestPacket(t *testing.T) { // T42, M16, M18, C29
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"udp", "udp4", "udp6", "unixgram"} {
			a, b := listenPacket(t, ctx, network), listenPacket(t, ctx, network)
			if a == nil || b == nil {
				return
			}
			for _, text := range []string{"hello", "", "more"} {
				if n, _, err := a.SendTo(ctx, []byte(text), b.LocalAddr()); n != len(text) || err != nil {
					t.Errorf("%s: SendTo = %d, %v", network, n, err)
				}
				n, buf, from, err := b.RecvFrom(ctx, make([]byte, 100))
				if string(buf[:n]) != text || err != nil || from == nil || from.String() != a.LocalAddr().String() {
					t.Errorf("%s: RecvFrom = %q, %v, %v", network, buf[:n], from, err)
				}
			}
			if _, err := a.SendMsg(ctx, &net.Message{Bufs: [][]byte{[]byte("lo"), []byte("ng")}, Addr: b.LocalAddr()}); err != nil {
				t.Error(err)
			}
			m := net.Message{Bufs: [][]byte{make([]byte, 1), make([]byte, 2)}}
			if err := b.RecvMsg(ctx, &m); err != nil || m.N != 3 || !m.Truncated() || string(m.Bufs[1]) != "on" {
				t.Errorf("%s: RecvMsg: %+v, %v", network, m, err)
			}
			short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
			if _, _, _, err := b.RecvFrom(short, make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: RecvFrom: %v", network, err)
			}
			cancel()
			std := b.NetPacketConn()
			if err := std.SetReadDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
				t.Error(err)
			}
			var timeout net.Error
			if _, _, err := std.ReadFrom(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("%s: ReadFrom: %v", network, err)
			}
			if _, err := std.WriteTo([]byte("x"), a.LocalAddr()); err != nil {
				t.Error(err)
			}
			if n, _, _, err := a.RecvFrom(ctx, make([]byte, 1)); n != 1 || err != nil {
				t.Errorf("%s: RecvFrom = %d, %v", network, n, err)
			}
			if _, _, err := a.SendTo(ctx, []byte("x"), &stdnet.TCPAddr{}); err == nil {
				t.Errorf("%s: sent to an address of TCP", network)
			}
			if err := errors.Join(a.Close(ctx), std.Close()); err != nil {
				t.Error(err)
			}
			if _, _, _, err := a.RecvFrom(ctx, make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: RecvFrom after Close: %v", network, err)
			}
		}
	})
}

func TestPacketDialed(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		s := listenPacket(t, ctx, "udp")
		if s == nil {
			return
		}
		defer s.Close(ctx)
		c, err := net.Dial(ctx, "udp", s.LocalAddr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer closeAll(t, ctx, c)
		if _, _, err := c.Write(ctx, []byte("ask")); err != nil {
			t.Error(err)
		}
		n, buf, from, err := s.RecvFromAddrPort(ctx, make([]byte, 10))
		if string(buf[:n]) != "ask" || err != nil || from.String() != c.LocalAddr().String() {
			t.Errorf("RecvFromAddrPort = %q, %v, %v", buf[:n], from, err)
		}
		if _, _, err := s.SendToAddrPort(ctx, nil, from); err != nil {
			t.Error(err)
		}
		if n, _, err := c.Read(ctx, make([]byte, 10)); n != 0 || err != nil {
			t.Errorf("Read of an empty datagram = %d, %v", n, err)
		}
	})
}

// TestPacketBothDialed has two sockets for datagrams that are each connected to the other: they hear each other, and nobody else.
func TestPacketBothDialed(t *testing.T) { // M16, T42
	each(t, func(t *testing.T, ctx context.Context) {
		for _, host := range []string{"127.0.0.1", "::1"} {
			address := stdnet.JoinHostPort(host, "0")
			first, err := net.ListenPacket(ctx, "udp", address) // to have its port dialed before it dials itself
			if err != nil {
				t.Error(err)
				return
			}
			stranger, err := net.ListenPacket(ctx, "udp", address)
			if err != nil {
				t.Error(err)
				return
			}
			b, err := net.Dial(ctx, "udp", first.LocalAddr().String())
			if err := errors.Join(err, first.Close(ctx)); err != nil {
				t.Error(err)
				return
			}
			a, err := (&net.Dialer{LocalAddr: first.LocalAddr()}).Dial(ctx, "udp", b.LocalAddr().String())
			if err != nil {
				t.Error(err)
				return
			}
			if a.LocalAddr().String() != b.RemoteAddr().String() || b.LocalAddr().String() != a.RemoteAddr().String() {
				t.Errorf("%v to %v, and %v to %v", a.LocalAddr(), a.RemoteAddr(), b.LocalAddr(), b.RemoteAddr())
			}
			for i, ends := range [][2]*net.Conn{{a, b}, {b, a}} {
				from, to := ends[0], ends[1]
				if _, _, err := stranger.SendTo(ctx, []byte("from a stranger"), to.LocalAddr()); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
					t.Error(err) // nobody listens to it there, and it may be told
				}
				text := []byte{'n', byte(i)}
				if n, _, err := from.Write(ctx, text); n != len(text) || err != nil {
					t.Errorf("Write = %d, %v", n, err)
				}
				if n, got, err := to.Read(ctx, make([]byte, 100)); string(got[:n]) != string(text) || err != nil {
					t.Errorf("Read = %q, %v", got[:n], err)
				}
			}
			pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 2}}})
			for _, route := range []net.Route{net.Auto, net.Ring} {
				old, was := net.Pin(net.OpRead, route), net.Pin(net.OpWrite, route)
				if err := fixedPacket(ctx, pool, a, b); err != nil {
					t.Errorf("%v: %v", route, err)
				}
				net.Pin(net.OpRead, old)
				net.Pin(net.OpWrite, was)
			}
			if err := closeReadMeanwhile(ctx, a); err != nil {
				t.Error(err)
			}
			if err := a.CloseWrite(); err != nil {
				t.Error(err)
			}
			if _, _, err := a.Write(ctx, []byte("x")); !errors.Is(err, unix.EPIPE) {
				t.Errorf("Write after CloseWrite: %v", err)
			}
			closeAll(t, ctx, a, b)
			if err := stranger.Close(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

// closeReadMeanwhile shuts down receiving on a socket for datagrams while there is somebody who waits for one. It is the end, again and again.
func closeReadMeanwhile(ctx context.Context, c *net.Conn) error {
	reads := []func(ctx context.Context) (int, error){
		func(ctx context.Context) (int, error) { n, _, err := c.Read(ctx, make([]byte, 10)); return n, err },
		func(ctx context.Context) (int, error) {
			m := net.Message{Bufs: [][]byte{make([]byte, 10)}}
			err := c.RecvMsg(ctx, &m)
			return m.N, err
		},
	}
	var fs []func(ctx context.Context) error
	for i, read := range reads {
		fs = append(fs, func(ctx context.Context) error {
			for range 2 { // the second after it
				short, cancel := context.WithTimeout(ctx, 10*time.Second)
				n, err := read(short)
				cancel()
				if n != 0 || err != io.EOF {
					return fmt.Errorf("way %d, shut down meanwhile: %d, %w", i, n, err)
				}
			}
			return nil
		})
	}
	return together(ctx, append(fs, func(ctx context.Context) error {
		if err := executor.Sleep(ctx, 2*time.Millisecond); err != nil {
			return err
		}
		return c.CloseRead()
	})...)
}

// TestPacketReceivesShut shuts down receiving on sockets for datagrams that are iterated over, while that waits, while its body is busy, and before:
// the iteration brings what had arrived, also what is empty, and ends. It does not run in circles.
func TestPacketReceivesShut(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		d, err := driver.FromContext(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		for _, network := range []string{"udp", "unixgram"} {
			for _, when := range []string{"waiting", "busy", "before"} {
				for _, messages := range []bool{false, true} {
					before := d.Stats().Submitted
					err := shutIteration(t, ctx, network, when, messages)
					if n := d.Stats().Submitted - before; err != nil || n > 100 {
						t.Errorf("%s, %s, messages %v: %v, after %d submissions", network, when, messages, err, n)
					}
				}
			}
		}
	})
}

func shutIteration(t *testing.T, ctx context.Context, network, when string, messages bool) error {
	t.Helper()
	p := listenPacket(t, ctx, network)
	if p == nil {
		return nil
	}
	defer p.Close(ctx)
	var dl net.Dialer
	if network == "unixgram" {
		dl.LocalAddr = &net.UnixAddr{Net: network, Name: filepath.Join(t.TempDir(), "from")}
	}
	c, err := dl.Dial(ctx, network, p.LocalAddr().String())
	if err != nil {
		return err
	}
	defer closeAll(t, ctx, c)
	texts := []string{"first", "", "last"}
	want := texts
	send := func(texts ...string) error {
		for _, s := range texts {
			if _, _, err := p.SendTo(ctx, []byte(s), c.LocalAddr()); err != nil {
				return err
			}
		}
		return nil
	}
	switch when {
	case "before":
		err = errors.Join(send(texts...), c.CloseRead())
	case "busy":
		want = append([]string{"zeroth"}, texts...)
		err = send(want[0])
	}
	if err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var got []string
	body := func(b []byte, err error) error {
		if err != nil {
			return err
		}
		if got = append(got, string(b)); when == "busy" && len(got) == 1 {
			return errors.Join(send(texts...), c.CloseRead())
		}
		return nil
	}
	iterate := func(ctx context.Context) error {
		if messages {
			for m, err := range c.ReceivesMsg(short, nil) {
				if err := body(m.Bytes(), err); err != nil {
					return err
				}
				m.Release()
			}
			return nil
		}
		for chunk, err := range c.Receives(short, nil) {
			if err := body(chunk.Bytes(), err); err != nil {
				return err
			}
			chunk.Release()
		}
		return nil
	}
	shut := func(ctx context.Context) error {
		if when != "waiting" {
			return nil
		}
		return errors.Join(executor.Sleep(ctx, 2*time.Millisecond), send(texts...), c.CloseRead())
	}
	if err := together(ctx, iterate, shut); err != nil {
		return err
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("received %q", got)
	}
	if n, _, err := c.Read(short, make([]byte, 10)); n != 0 || err != io.EOF {
		return fmt.Errorf("after that, Read = %d, %w", n, err)
	}
	return nil
}

// fixedPacket sends a datagram from registered memory into other registered memory.
func fixedPacket(ctx context.Context, pool *buf.Pool, from, to *net.Conn) error {
	out, err := pool.Get(ctx, 1000)
	if err != nil {
		return err
	}
	defer out.Release()
	in, err := pool.Get(ctx, 4096)
	if err != nil {
		return err
	}
	defer in.Release()
	copy(out.Bytes(), noise(1000))
	return together(ctx, func(ctx context.Context) error {
		if n, _, err := to.ReadFixed(ctx, in); n != 1000 || err != nil || !bytes.Equal(in.Bytes()[:n], noise(1000)) {
			return fmt.Errorf("ReadFixed = %d, %w", n, err)
		}
		return nil
	}, func(ctx context.Context) error {
		if n, _, err := from.WriteFixed(ctx, out); n != 1000 || err != nil {
			return fmt.Errorf("WriteFixed = %d, %w", n, err)
		}
		return nil
	})
}

// TestEmptyPacketsSent sends packets without data in several ways: they arrive, and look like the end.
func TestEmptyPacketsSent(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 1}}})
		fixed, err := pool.Get(ctx, 4096)
		if err != nil {
			t.Error(err)
			return
		}
		defer fixed.Release()
		c, s := connect(t, ctx, "unixpacket")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		for what, send := range map[string]func() error{
			"Write":         func() error { _, _, err := c.Write(ctx, nil); return err },
			"WriteAll":      func() error { _, _, err := c.WriteAll(ctx, nil); return err },
			"Writev":        func() error { _, _, err := c.Writev(ctx, nil); return err },
			"WriteZeroCopy": func() error { _, _, _, err := c.WriteZeroCopy(ctx, nil); return err },
			"WriteFixed":    func() error { _, _, err := c.WriteFixed(ctx, fixed.View(0, 0)); return err },
			"WriteFixedAll": func() error { _, _, err := c.WriteFixedAll(ctx, fixed.View(0, 0)); return err },
			"SendMsg":       func() error { _, err := c.SendMsg(ctx, &net.Message{}); return err },
		} {
			if err := send(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if _, _, err := c.Write(ctx, []byte("x")); err != nil {
				t.Error(err)
			}
			if n, _, err := s.Read(ctx, make([]byte, 9)); n != 0 || err != io.EOF {
				t.Errorf("%s: Read = %d, %v", what, n, err)
				continue
			}
			if n, _, err := s.Read(ctx, make([]byte, 9)); n != 1 || err != nil {
				t.Errorf("after %s: Read = %d, %v", what, n, err)
			}
		}
	})
}

func TestPassDescriptor(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		a, b := connect(t, ctx, "pair")
		c, d := connect(t, ctx, "pair")
		if a == nil || c == nil {
			return
		}
		defer closeAll(t, ctx, a, b, c, d)
		for _, nothing := range [][][]byte{nil, {{}, nil}} { // a stream has nowhere to put it
			if n, err := a.SendMsg(ctx, &net.Message{Bufs: nothing, OOB: net.Rights(int(c.Fd()))}); n != 0 || !errors.Is(err, unix.EINVAL) {
				t.Errorf("SendMsg of a descriptor and nothing else = %d, %v", n, err)
			}
		}
		if _, err := a.SendMsg(ctx, &net.Message{Bufs: [][]byte{{1}}, OOB: net.Rights(int(c.Fd()))}); err != nil {
			t.Error(err)
		}
		m := net.Message{Bufs: [][]byte{make([]byte, 1)}, OOB: make([]byte, net.RightsSpace(1))}
		if err := b.RecvMsg(ctx, &m); err != nil || m.N != 1 || m.ControlTruncated() {
			t.Errorf("RecvMsg: %+v, %v", m, err)
			return
		}
		fds, err := m.FDs()
		if err != nil || len(fds) != 1 {
			t.Errorf("FDs = %v, %v", fds, err)
			return
		}
		if _, err := unix.Write(fds[0], []byte("x")); err != nil {
			t.Error(err)
		}
		unix.Close(fds[0])
		if n, _, err := d.Read(ctx, make([]byte, 10)); n != 1 || err != nil {
			t.Errorf("Read = %d, %v", n, err)
		}
	})
}

// TestRingPacketShut shuts down receiving on a socket for datagrams that a RingConn has: reading ends, there and by way of another descriptor.
func TestRingPacketShut(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		p := listenPacket(t, ctx, "udp")
		if p == nil {
			return
		}
		r, err := new(net.Dialer).DialRing(ctx, "udp", p.LocalAddr().String())
		if err != nil {
			t.Error(err)
			return
		}
		if err := r.CloseRead(ctx); err != nil {
			t.Error(err)
		}
		c, err := r.Install(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		for _, read := range []func(context.Context, []byte) (int, []byte, error){r.Read, c.Read} {
			if n, _, err := read(ctx, make([]byte, 10)); n != 0 || err != io.EOF {
				t.Errorf("shut down, Read = %d, %v", n, err)
			}
		}
		if err := errors.Join(r.Close(ctx), c.Close(ctx), p.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
}
