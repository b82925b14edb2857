package net_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	stdnet "net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/net"
)

// listenOn listens on a network of this machine alone.
func listenOn(t *testing.T, ctx context.Context, network string) *net.Listener {
	t.Helper()
	address := "127.0.0.1:0"
	switch network {
	case "tcp6":
		address = "[::1]:0"
	case "unix", "unixpacket":
		address = filepath.Join(t.TempDir(), "socket")
	case "abstract":
		network, address = "unix", fmt.Sprintf("@uringo-test-%d-%d", os.Getpid(), rand.Uint64())
	}
	l, err := net.Listen(ctx, network, address)
	if err != nil {
		t.Error(err)
		return nil
	}
	return l
}

// connect returns both ends of a connection of the network.
func connect(t *testing.T, ctx context.Context, network string) (client, server *net.Conn) {
	t.Helper()
	if network == "pair" {
		a, b, err := net.UnixPair(ctx)
		if err != nil {
			t.Error(err)
		}
		return a, b
	}
	l := listenOn(t, ctx, network)
	if l == nil {
		return nil, nil
	}
	defer l.Close(ctx)
	err := together(ctx, func(ctx context.Context) (err error) {
		server, err = l.Accept(ctx)
		return err
	}, func(ctx context.Context) (err error) {
		client, err = net.Dial(ctx, l.Addr().Network(), l.Addr().String())
		return err
	})
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	return client, server
}

// closeAll closes connections at the end of a test.
func closeAll(t *testing.T, ctx context.Context, cs ...*net.Conn) {
	t.Helper()
	for _, c := range cs {
		if c == nil {
			continue
		}
		if err := c.Close(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
}

var networks = []string{"tcp", "tcp4", "tcp6", "unix", "abstract", "unixpacket", "pair"}

func TestEcho(t *testing.T) { // M2, M10, T20
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range networks {
			c, s := connect(t, ctx, network)
			if c == nil || s == nil {
				return
			}
			if network != "pair" && c.RemoteAddr().String() != s.LocalAddr().String() {
				t.Errorf("%s: dialed %v, accepted on %v", network, c.RemoteAddr(), s.LocalAddr())
			}
			if c.LocalAddr().String() != s.RemoteAddr().String() {
				t.Errorf("%s: dialed from %v, accepted from %v", network, c.LocalAddr(), s.RemoteAddr())
			}
			sent := []byte("good morning")
			err := together(ctx, func(ctx context.Context) error {
				buf := make([]byte, 100)
				for {
					n, _, err := s.Read(ctx, buf)
					if err == io.EOF {
						return s.CloseWrite()
					}
					if err != nil {
						return err
					}
					if n, _, err := s.WriteAll(ctx, buf[:n]); err != nil {
						return fmt.Errorf("wrote %d: %w", n, err)
					}
				}
			}, func(ctx context.Context) error {
				for range 100 {
					n, back, err := c.WriteAll(ctx, sent)
					if err != nil || n != len(sent) || &back[0] != &sent[0] {
						return fmt.Errorf("WriteAll = %d, %q, %v", n, back, err)
					}
					buf := make([]byte, len(sent))
					n, back, err = c.ReadFull(ctx, buf)
					if err != nil || n != len(sent) || &back[0] != &buf[0] || !bytes.Equal(buf, sent) {
						return fmt.Errorf("ReadFull = %d, %q, %v", n, back, err)
					}
				}
				if err := c.CloseWrite(); err != nil {
					return err
				}
				if n, buf, err := c.Read(ctx, make([]byte, 10)); n != 0 || len(buf) != 10 || err != io.EOF {
					return fmt.Errorf("at the end: Read = %d, %q, %v", n, buf, err)
				}
				if n, _, err := c.ReadFull(ctx, make([]byte, 10)); n != 0 || err != io.EOF {
					return fmt.Errorf("at the end: ReadFull = %d, %v", n, err)
				}
				return nil
			})
			if err != nil {
				t.Errorf("%s: %v", network, err)
			}
			closeAll(t, ctx, c, s)
			if err := c.Close(ctx); !errors.Is(err, net.ErrClosed) {
				t.Errorf("second Close: %v", err)
			}
			if _, _, err := c.Read(ctx, make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Read after Close: %v", err)
			}
			if _, _, err := c.Write(ctx, make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Write after Close: %v", err)
			}
		}
	})
}

// TestMuchData moves more than the kernel's buffers hold, both ways at a time.
func TestMuchData(t *testing.T) { // M13, M17
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"tcp", "unix"} {
			c, s := connect(t, ctx, network)
			if c == nil {
				return
			}
			const size = 2 << 20
			data := make([]byte, size)
			for i := range data {
				data[i] = byte(i * 7 >> 3)
			}
			var fs []func(context.Context) error
			for _, end := range []*net.Conn{c, s} {
				fs = append(fs, func(ctx context.Context) error {
					n, _, err := end.WriteAll(ctx, data)
					if err != nil || n != size {
						return fmt.Errorf("WriteAll = %d, %w", n, err)
					}
					return end.CloseWrite()
				}, func(ctx context.Context) error {
					got := make([]byte, size+1)
					n, got, err := end.ReadFull(ctx, got)
					if err != io.ErrUnexpectedEOF || n != size || !bytes.Equal(got[:n], data) {
						return fmt.Errorf("ReadFull = %d, %w", n, err)
					}
					return nil
				})
			}
			if err := together(ctx, fs...); err != nil {
				t.Errorf("%s: %v", network, err)
			}
			closeAll(t, ctx, c, s)
		}
	})
}

func TestRefused(t *testing.T) { // M5
	each(t, func(t *testing.T, ctx context.Context) {
		l := listenOn(t, ctx, "tcp")
		if l == nil {
			return
		}
		address := l.Addr().String()
		if err := l.Close(ctx); err != nil {
			t.Error(err)
		}
		if _, err := net.Dial(ctx, "tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("Dial: %v", err)
		}
		if _, err := net.Dial(ctx, "unix", filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Dial: %v", err)
		}
		if _, err := l.Accept(ctx); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after Close: %v", err)
		}
		if err := l.Close(ctx); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second Close: %v", err)
		}
	})
}

// TestSeveralAddresses dials a name whose first address nobody listens on.
func TestSeveralAddresses(t *testing.T) { // M3
	each(t, func(t *testing.T, ctx context.Context) {
		l := listenOn(t, ctx, "tcp4")
		if l == nil {
			return
		}
		defer l.Close(ctx)
		_, port, err := stdnet.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Error(err)
		}
		for _, host := range []string{"localhost", "127.0.0.1", "", "0.0.0.0"} {
			for _, delay := range []time.Duration{0, -1} {
				d := net.Dialer{FallbackDelay: delay}
				c, err := d.Dial(ctx, "tcp", stdnet.JoinHostPort(host, port))
				if err != nil {
					t.Errorf("%q: %v", host, err)
					continue
				}
				closeAll(t, ctx, c)
				s, err := l.Accept(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				closeAll(t, ctx, s)
			}
		}
		if _, err := net.Dial(ctx, "tcp6", "127.0.0.1:"+port); err == nil {
			t.Error("dialed an IPv4 address on tcp6")
		}
		if _, err := net.Dial(ctx, "carrier pigeon", "here"); !errors.As(err, new(stdnet.UnknownNetworkError)) {
			t.Errorf("Dial on an unknown network: %v", err)
		}
	})
}

func TestVectored(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"tcp", "unix", "unixpacket"} {
			c, s := connect(t, ctx, network)
			if c == nil {
				return
			}
			out := [][]byte{[]byte("ab"), nil, []byte("cde"), []byte("f")}
			n, back, err := c.Writev(ctx, out)
			if n != 6 || err != nil || &back[0] != &out[0] {
				t.Errorf("Writev = %d, %q, %v", n, back, err)
			}
			in := [][]byte{make([]byte, 1), {}, make([]byte, 9)}
			n, in, err = s.Readv(ctx, in)
			if n != 6 || err != nil || string(in[0]) != "a" || string(in[2][:5]) != "bcdef" {
				t.Errorf("Readv = %d, %q, %v", n, in, err)
			}
			if n, _, err := s.Readv(ctx, nil); n != 0 || err != nil {
				t.Errorf("Readv of nothing = %d, %v", n, err)
			}
			if n, _, err := c.Writev(ctx, nil); network != "unixpacket" && (n != 0 || err != nil) {
				t.Errorf("Writev of nothing = %d, %v", n, err)
			}
			closeAll(t, ctx, c)
			if network != "unixpacket" {
				if n, _, err := s.Readv(ctx, in); n != 0 || err != io.EOF {
					t.Errorf("at the end: Readv = %d, %v", n, err)
				}
			}
			closeAll(t, ctx, s)
		}
	})
}

func TestPeek(t *testing.T) { // C22
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		if _, _, err := c.WriteAll(ctx, []byte("peek")); err != nil {
			t.Error(err)
		}
		for range 2 {
			if n, buf, err := s.Peek(ctx, make([]byte, 10)); string(buf[:n]) != "peek" || err != nil {
				t.Errorf("Peek = %d, %q, %v", n, buf, err)
			}
		}
		if n, buf, err := s.Read(ctx, make([]byte, 10)); string(buf[:n]) != "peek" || err != nil {
			t.Errorf("Read = %d, %q, %v", n, buf, err)
		}
	})
}

func TestWriteToClosedPeer(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"tcp", "unix"} {
			c, s := connect(t, ctx, network)
			if c == nil {
				return
			}
			if err := s.SetLinger(0); network == "tcp" && err != nil {
				t.Error(err)
			}
			closeAll(t, ctx, s)
			var err error
			for range 1000 {
				if _, _, err = c.WriteAll(ctx, make([]byte, 1000)); err != nil {
					break
				}
			}
			if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s: %v", network, err)
			}
			closeAll(t, ctx, c)
		}
	})
}

func TestUnixPath(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		path := filepath.Join(t.TempDir(), "socket")
		l, err := net.Listen(ctx, "unix", path)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := net.Listen(ctx, "unix", path); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("Listen twice: %v", err)
		}
		if err := l.Close(ctx); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// TestDropped drops connections without closing them.
func TestDropped(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for range 10 {
			if c, _ := connect(t, ctx, "pair"); c != nil {
				c.NetConn().SetDeadline(time.Now().Add(time.Hour))
			}
		}
	})
}

func TestNoDriver(t *testing.T) {
	ctx := t.Context()
	if _, err := net.Listen(ctx, "tcp", "127.0.0.1:0"); !errors.Is(err, driver.ErrNoDriver) {
		t.Errorf("Listen: %v", err)
	}
	if _, err := net.Dial(ctx, "tcp", "127.0.0.1:1"); !errors.Is(err, driver.ErrNoDriver) {
		t.Errorf("Dial: %v", err)
	}
	if _, _, err := net.UnixPair(ctx); !errors.Is(err, driver.ErrNoDriver) {
		t.Errorf("UnixPair: %v", err)
	}
	if _, err := net.ListenPacket(ctx, "udp", "127.0.0.1:0"); !errors.Is(err, driver.ErrNoDriver) {
		t.Errorf("ListenPacket: %v", err)
	}
}

func TestOptions(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		option := func(c *net.Conn, level, name int) (n int) {
			raw, err := c.SyscallConn()
			if err == nil {
				err = errors.Join(raw.Control(func(fd uintptr) { n, err = unix.GetsockoptInt(int(fd), level, name) }), err)
			}
			if err != nil {
				t.Error(err)
			}
			return n
		}
		for _, c := range []*net.Conn{c, s} {
			for _, o := range []struct{ level, name, want int }{
				{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
				{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
				{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
				{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
				{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
			} {
				if got := option(c, o.level, o.name); got != o.want {
					t.Errorf("option %d, %d is %d, want %d", o.level, o.name, got, o.want)
				}
			}
		}
		err := errors.Join(c.SetNoDelay(false), c.SetKeepAlive(false), c.SetKeepAlivePeriod(7*time.Second), c.SetLinger(3),
			c.SetLinger(-1), c.SetReadBuffer(10000), c.SetWriteBuffer(10000))
		if err != nil {
			t.Error(err)
		}
		if option(c, unix.IPPROTO_TCP, unix.TCP_NODELAY) != 0 || option(c, unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 0 ||
			option(c, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE) != 7 || option(c, unix.SOL_SOCKET, unix.SO_RCVBUF) != 20000 {
			t.Error("options were not set")
		}
	})
}

// TestHopeOfOthers reads by the ring and then in place: what was not tried in place has not failed there.
func TestHopeOfOthers(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		d, err := driver.FromContext(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		read := func(by net.Route) (inPlace uint64) {
			if _, _, err := c.WriteAll(ctx, []byte{1}); err != nil {
				t.Error(err)
			}
			if err := s.Readable(ctx); err != nil {
				t.Error(err)
			}
			defer net.Pin(net.OpRead, net.Pin(net.OpRead, by))
			before := d.Stats().Routes["inline"]
			if n, _, err := s.Read(ctx, make([]byte, 1)); n != 1 || err != nil {
				t.Errorf("Read = %d, %v", n, err)
			}
			return d.Stats().Routes["inline"] - before
		}
		for range 20 {
			if n := read(net.Ring); n != 0 {
				t.Errorf("%d reads in place instead of by the ring", n)
			}
		}
		if n := read(net.Inline); n != 1 {
			t.Errorf("%d reads in place", n)
		}
	})
}
