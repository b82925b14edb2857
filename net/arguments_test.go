package net_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdnet "net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"uringo/buf"
	"uringo/driver"
	"uringo/internal/testenv"
	"uringo/net"
)

// TestReadNothing reads into no room at all: that takes nothing, not even a datagram, and waits for nothing, as in the standard library; on a
// closed connection it fails.
func TestReadNothing(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		peer := listenPacket(t, ctx, "udp")
		if peer == nil {
			return
		}
		defer peer.Close(ctx)
		c, err := net.Dial(ctx, "udp", peer.LocalAddr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close(ctx)
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 1}}})
		fixed, err := pool.Get(ctx, 4096)
		if err != nil {
			t.Error(err)
			return
		}
		defer fixed.Release()
		fixed.View(0, 0)
		ways := map[string]func(ctx context.Context) (int, error){
			"Read":      func(ctx context.Context) (int, error) { n, _, err := c.Read(ctx, nil); return n, err },
			"Peek":      func(ctx context.Context) (int, error) { n, _, err := c.Peek(ctx, nil); return n, err },
			"Readv":     func(ctx context.Context) (int, error) { n, _, err := c.Readv(ctx, [][]byte{nil, {}}); return n, err },
			"ReadFixed": func(ctx context.Context) (int, error) { n, _, err := c.ReadFixed(ctx, fixed); return n, err },
			"NetConn":   func(ctx context.Context) (int, error) { return c.NetConn().Read(nil) },
		}
		check := func(when string, want error) {
			_ = c.NetConn().SetDeadline(time.Now().Add(10 * time.Second))
			for name, read := range ways {
				short, cancel := context.WithTimeout(ctx, 10*time.Second)
				if n, err := read(short); n != 0 || !errors.Is(err, want) {
					t.Errorf("%s %s: %d, %v, want %v", name, when, n, err, want)
				}
				cancel()
			}
		}
		check("before anything has come", nil)
		if _, _, err := peer.SendTo(ctx, []byte("here"), c.LocalAddr()); err != nil {
			t.Error(err)
		}
		if err := c.Readable(ctx); err != nil {
			t.Error(err)
		}
		check("of a datagram", nil)
		b := make([]byte, 10)
		if n, _, err := c.Read(ctx, b); err != nil || string(b[:n]) != "here" {
			t.Errorf("%q, %v", b[:n], err)
		}
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
		check("after Close", net.ErrClosed)
	})
}

// TestBadAddresses sends and connects to what is no address, though its type says so.
func TestBadAddresses(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"udp", "unixgram"} {
			c := listenPacket(t, ctx, network)
			if c == nil {
				return
			}
			for _, to := range []net.Addr{nil, (*net.UDPAddr)(nil), (*net.UnixAddr)(nil), &net.UDPAddr{IP: []byte{127, 0, 1}, Port: 7},
				&net.UDPAddr{IP: stdnet.IPv4(127, 0, 0, 1), Port: 70000}, &net.UDPAddr{IP: stdnet.IPv4(127, 0, 0, 1), Port: -1},
				&net.TCPAddr{IP: stdnet.IPv4(127, 0, 0, 1), Port: 7}, &net.UnixAddr{Name: "/tmp/a\x00b"}} {
				n, _, err := c.SendTo(ctx, []byte("x"), to)
				var op *net.OpError
				if n != 0 || !errors.As(err, &op) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
					t.Errorf("%s: SendTo(%#v) = %d, %v", network, to, n, err)
				}
				if n, err := c.SendMsg(ctx, &net.Message{Bufs: [][]byte{{1}}, Addr: to}); n != 0 || err == nil {
					t.Errorf("%s: SendMsg to %#v = %d, %v", network, to, n, err)
				}
				if n, err := c.NetPacketConn().WriteTo([]byte("x"), to); n != 0 || err == nil {
					t.Errorf("%s: WriteTo(%#v) = %d, %v", network, to, n, err)
				}
			}
			if err := c.Close(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestAddressOnStream sends to an address on a connection, which sends to its peer alone: it is refused, and nothing is sent.
func TestAddressOnStream(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"tcp", "unix", "unixpacket"} {
			c, s := connect(t, ctx, network)
			if c == nil {
				return
			}
			for _, to := range []net.Addr{c.RemoteAddr(), &net.TCPAddr{IP: stdnet.IPv4(127, 0, 0, 1), Port: 7},
				&net.UDPAddr{IP: stdnet.IPv4(127, 0, 0, 1), Port: 7}, &net.UnixAddr{Name: "@nobody"}} {
				m := &net.Message{Bufs: [][]byte{[]byte("lost")}, Addr: to}
				if n, err := c.SendMsg(ctx, m); n != 0 || err == nil {
					t.Errorf("%s: SendMsg to %T = %d, %v", network, to, n, err)
				}
				if n, _, err := c.SendMsgZeroCopy(ctx, m); n != 0 || err == nil {
					t.Errorf("%s: SendMsgZeroCopy to %T = %d, %v", network, to, n, err)
				}
			}
			if err := c.Close(ctx); err != nil {
				t.Error(err)
			}
			if n, _, err := s.Read(ctx, make([]byte, 9)); n != 0 || err != io.EOF {
				t.Errorf("%s: Read = %d, %v", network, n, err)
			}
			closeAll(t, ctx, s)
		}
	})
}

// TestNoLocalAddr dials from nowhere in particular, said with a type, as the standard library lets callers do.
func TestNoLocalAddr(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for network, local := range map[string]net.Addr{"tcp": (*net.TCPAddr)(nil), "unix": (*net.UnixAddr)(nil)} {
			l := listenOn(t, ctx, network)
			if l == nil {
				return
			}
			c, err := (&net.Dialer{LocalAddr: local}).Dial(ctx, network, l.Addr().String())
			if err != nil {
				t.Errorf("%s: %v", network, err)
			} else {
				closeAll(t, ctx, c)
			}
			if err := l.Close(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestNULInPath uses names of Unix sockets with a NUL inside: the kernel would take what is before it for the name.
func TestNULInPath(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		dir, err := os.MkdirTemp("", "n")
		if err != nil {
			t.Error(err)
			return
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "s")
		if l, err := net.Listen(ctx, "unix", path+"\x00x"); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("Listen: %v", err)
			if err == nil {
				l.Close(ctx)
			}
		}
		l, err := net.Listen(ctx, "unix", path)
		if err != nil {
			t.Error(err)
			return
		}
		defer l.Close(ctx)
		if c, err := net.Dial(ctx, "unix", path+"\x00x"); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("Dial: %v", err)
			if err == nil {
				c.Close(ctx)
			}
		}
	})
}

// TestRawConnPanics has what uses the descriptor panic: closing does not wait for it.
func TestRawConnPanics(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		raw, err := c.SyscallConn()
		if err != nil {
			t.Error(err)
		}
		testenv.PanicInside(t, raw)
		short, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		closeAll(t, short, c, s)
	})
}

// TestAdoptFails fails to take over a listener, which goes on as it was: with its path.
func TestAdoptFails(t *testing.T) {
	dir, err := os.MkdirTemp("", "n")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	l, err := stdnet.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := net.FromNetListener(context.Background(), l); !errors.Is(err, driver.ErrNoDriver) {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the path of a listener that was not taken over is left: %v", err)
	}
}

// TestManyPieces sends datagrams in more pieces than a call takes. They are refused, as what is left of them would be another datagram; a
// stream takes what it can.
func TestManyPieces(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		pieces := make([][]byte, 1025)
		for i := range pieces {
			pieces[i] = []byte{byte(i)}
		}
		for _, network := range []string{"udp", "unixgram"} {
			a, b := listenPacket(t, ctx, network), listenPacket(t, ctx, network)
			if a == nil || b == nil {
				return
			}
			for what, send := range map[string]func() (int, error){
				"SendMsg": func() (int, error) { return a.SendMsg(ctx, &net.Message{Bufs: pieces, Addr: b.LocalAddr()}) },
				"SendMsgZeroCopy": func() (int, error) {
					n, _, err := a.SendMsgZeroCopy(ctx, &net.Message{Bufs: pieces, Addr: b.LocalAddr()})
					return n, err
				},
			} {
				if n, err := send(); n != 0 || !errors.Is(err, syscall.EMSGSIZE) {
					t.Errorf("%s: %s of %d pieces = %d, %v", network, what, len(pieces), n, err)
				}
			}
			if n, err := a.SendMsg(ctx, &net.Message{Bufs: pieces[1:], Addr: b.LocalAddr()}); n != 1024 || err != nil {
				t.Errorf("%s: SendMsg of 1024 pieces = %d, %v", network, n, err)
			}
			if err := errors.Join(a.Close(ctx), b.Close(ctx)); err != nil {
				t.Error(err)
			}
		}
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		if n, _, err := c.Writev(ctx, pieces); n != 1024 || err != nil {
			t.Errorf("Writev of %d pieces on a stream = %d, %v", len(pieces), n, err)
		}
		closeAll(t, ctx, c, s)
		p, q := connect(t, ctx, "unixpacket")
		if p == nil {
			return
		}
		if n, _, err := p.Writev(ctx, pieces); n != 0 || !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("Writev of %d pieces as a packet = %d, %v", len(pieces), n, err)
		}
		closeAll(t, ctx, p, q)
	})
}

// TestDialRingDriver dials into the ring's table with a Dialer whose driver is not that of the context.
func TestDialRingDriver(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		l := listenOn(t, ctx, "tcp")
		if l == nil {
			return
		}
		defer l.Close(ctx)
		for _, engine := range []driver.Engine{driver.Uring, driver.Portable} {
			other, err := driver.Open(driver.Config{Engine: engine})
			if err != nil {
				t.Error(err)
				return
			}
			c, err := (&net.Dialer{Driver: other}).DialRing(ctx, "tcp", l.Addr().String())
			if err != nil {
				t.Errorf("%v: %v", engine, err)
			} else {
				if n, _, err := c.WriteAll(ctx, []byte("hello")); n != 5 || err != nil {
					t.Errorf("%v: wrote %d, %v", engine, n, err)
				}
				if err := c.Close(ctx); err != nil {
					t.Error(err)
				}
			}
			if err := other.Close(context.WithoutCancel(ctx)); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestNoAddress listens without an address, which means any, and dials none; both are as in the standard library.
func TestNoAddress(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"tcp", "tcp4", "unix"} {
			l, err := net.Listen(ctx, network, "")
			if err != nil {
				t.Errorf("Listen on %s: %v", network, err)
				continue
			}
			if a, ok := l.Addr().(*net.TCPAddr); ok && (a.Port == 0 || !a.IP.IsUnspecified()) {
				t.Errorf("%s listens on %v", network, a)
			}
			if err := l.Close(ctx); err != nil {
				t.Error(err)
			}
		}
		p, err := net.ListenPacket(ctx, "udp", "")
		if err != nil {
			t.Error(err)
		} else if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
		for _, network := range []string{"tcp", "udp", "unix", "unixgram"} {
			_, want := stdnet.Dial(network, "")
			if c, err := net.Dial(ctx, network, ""); err == nil || err.Error() != want.Error() {
				t.Errorf("Dial on %s: %v, %v, want %v", network, c, err, want)
			}
		}
	})
}

// TestLongestNames uses the longest names of Unix sockets, and longer ones: paths of 107 bytes, abstract ones of 108.
func TestLongestNames(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		dir, err := os.MkdirTemp("", "n")
		if err != nil {
			t.Error(err)
			return
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, strings.Repeat("x", 106-len(dir)))
		abstract := fmt.Sprintf("@%0107d", os.Getpid()) // nobody else's
		for _, name := range []string{path, path + "y", abstract, abstract + "0"} {
			l, err := net.Listen(ctx, "unix", name)
			if most := 107 + strings.Count(name[:1], "@"); len(name) > most {
				if !errors.Is(err, syscall.EINVAL) {
					t.Errorf("Listen on a name of %d bytes: %v", len(name), err)
				}
				continue
			}
			if err != nil {
				t.Errorf("Listen on a name of %d bytes: %v", len(name), err)
				continue
			}
			c, err := net.Dial(ctx, "unix", name)
			if err != nil {
				t.Errorf("Dial of a name of %d bytes: %v", len(name), err)
			} else {
				if c.RemoteAddr().String() != name || l.Addr().String() != name {
					t.Errorf("%v and %v, want %s", c.RemoteAddr(), l.Addr(), name)
				}
				closeAll(t, ctx, c)
			}
			if err := l.Close(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestControlPanics has the functions that are called with a new socket panic, which is passed on. No socket is left over, as each sees to.
func TestControlPanics(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		control := func(_, _ string, _ syscall.RawConn) error { panic("on purpose") }
		lc := net.ListenConfig{Control: control}
		for what, call := range map[string]func(){
			"Dial":         func() { _, _ = (&net.Dialer{Control: control}).Dial(ctx, "tcp", "127.0.0.1:9") },
			"Listen":       func() { _, _ = lc.Listen(ctx, "tcp", "127.0.0.1:0") },
			"ListenPacket": func() { _, _ = lc.ListenPacket(ctx, "udp", "127.0.0.1:0") },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s did not pass the panic on", what)
					}
				}()
				call()
			}()
		}
	})
}
