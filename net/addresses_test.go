package net_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	stdnet "net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/net"
)

// TestListenForms listens on addresses in every form that they come in, and accepts somebody there.
func TestListenForms(t *testing.T) { // M1
	each(t, func(t *testing.T, ctx context.Context) {
		for _, f := range []struct{ network, address, local string }{
			{"tcp", "127.0.0.1:0", "127.0.0.1"},
			{"tcp4", "127.0.0.2:0", "127.0.0.2"},
			{"tcp", "[::1]:0", "::1"},
			{"tcp6", "[::1]:0", "::1"},
			{"tcp", "localhost:0", "127.0.0.1"},
			{"tcp", ":0", "::"},
			{"tcp4", ":0", "0.0.0.0"},
			{"tcp4", ":", "0.0.0.0"},
			{"tcp", stdnet.JoinHostPort("127.0.0.1", "0"), "127.0.0.1"},
			{"tcp", netip.AddrPortFrom(netip.IPv6Loopback(), 0).String(), "::1"},
			{"tcp", netip.MustParseAddrPort("[::ffff:127.0.0.1]:0").String(), "127.0.0.1"},
			{"tcp", (&net.TCPAddr{IP: stdnet.IPv4(127, 0, 0, 1)}).String(), "127.0.0.1"},
			{"tcp", (&net.TCPAddr{IP: stdnet.IPv6loopback}).String(), "::1"},
		} {
			l, err := net.Listen(ctx, f.network, f.address)
			if err != nil {
				t.Errorf("%s %q: %v", f.network, f.address, err)
				continue
			}
			at, ok := l.Addr().(*net.TCPAddr)
			if !ok || at.IP.String() != f.local || at.Port == 0 || at.Network() != "tcp" {
				t.Errorf("%s %q listens on %v", f.network, f.address, l.Addr())
			}
			c, err := net.Dial(ctx, f.network, l.Addr().String()) // of no host it is this one
			if err != nil {
				t.Errorf("%s %q: %v", f.network, f.address, err)
			}
			s, err := l.Accept(ctx)
			if err != nil {
				t.Error(err)
			} else if c.LocalAddr().String() != s.RemoteAddr().String() || c.RemoteAddr().String() != s.LocalAddr().String() {
				t.Errorf("%q: %v and %v dialed, %v and %v accepted", f.address, c.LocalAddr(), c.RemoteAddr(), s.LocalAddr(), s.RemoteAddr())
			}
			closeAll(t, ctx, c, s)
			if err := l.Close(ctx); err != nil {
				t.Error(err)
			}
		}
		for _, f := range []struct{ network, address string }{
			{"tcp", "127.0.0.1"}, {"tcp", "127.0.0.1:none such"}, {"tcp", "127.0.0.1:65536"}, {"tcp", "127.0.0.1:-1"}, {"tcp4", "[::1]:0"},
			{"tcp6", "127.0.0.1:0"}, {"udp", "127.0.0.1:0"}, {"unixgram", "@x"}, {"", "127.0.0.1:0"}, {"tcp", "192.0.2.1:0"},
		} {
			l, err := net.Listen(ctx, f.network, f.address)
			var op *net.OpError
			if !errors.As(err, &op) || op.Op != "listen" {
				t.Errorf("%q %q: %v", f.network, f.address, err)
			}
			if l != nil {
				l.Close(ctx)
			}
		}
	})
}

// TestWrongNetwork listens on networks that the other function is for. The error has the address, as that of the standard library, and names the
// function.
func TestWrongNetwork(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		check := func(address, remedy string, err error) {
			var op *net.OpError
			var ae *stdnet.AddrError
			if !errors.As(err, &op) || op.Op != "listen" || !errors.As(err, &ae) || ae.Addr != address || !strings.Contains(ae.Err, remedy) {
				t.Errorf("%s: %v", address, err)
			}
		}
		for network, address := range map[string]string{"udp": "127.0.0.1:0", "unixgram": "@x"} {
			_, err := net.Listen(ctx, network, address)
			check(address, "ListenPacket", err)
		}
		for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": "@x", "unixpacket": "@x"} {
			_, err := net.ListenPacket(ctx, network, address)
			check(address, "for Listen", err)
		}
	})
}

// TestDialForms dials one listener by addresses in every form.
func TestDialForms(t *testing.T) { // M3
	const static = "localhost"
	each(t, func(t *testing.T, ctx context.Context) {
		l := listenOn(t, ctx, "tcp4")
		if l == nil {
			return
		}
		defer l.Close(ctx)
		at := l.Addr().(*net.TCPAddr)
		pointer := &netip.AddrPort{}
		*pointer = at.AddrPort()
		for _, address := range []string{
			l.Addr().String(),
			at.String(),
			at.AddrPort().String(),
			pointer.String(),
			fmt.Sprintf("127.0.0.1:%d", at.Port),
			fmt.Sprintf("%s:%d", static, at.Port),
			fmt.Sprintf(":%d", at.Port),
			fmt.Sprintf("0.0.0.0:%d", at.Port),
			fmt.Sprintf("[::ffff:127.0.0.1]:%d", at.Port),
			stdnet.JoinHostPort("127.0.0.1", fmt.Sprint(at.Port)),
		} {
			c, err := net.Dial(ctx, "tcp", address)
			if err != nil {
				t.Errorf("%q: %v", address, err)
				continue
			}
			s, err := l.Accept(ctx)
			if err != nil {
				t.Error(err)
			}
			if c.RemoteAddr().String() != l.Addr().String() {
				t.Errorf("%q is %v", address, c.RemoteAddr())
			}
			closeAll(t, ctx, c, s)
		}
		if _, err := net.Dial(ctx, "tcp", "127.0.0.1:http"); !errors.Is(err, syscall.ECONNREFUSED) && err != nil {
			t.Errorf("a service by its name: %v", err)
		}
		for _, address := range []string{"", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "[127.0.0.1:80", "a:b:c"} {
			c, err := net.Dial(ctx, "tcp", address)
			var op *net.OpError
			if !errors.As(err, &op) || op.Op != "dial" {
				t.Errorf("dialed %q: %v", address, err)
			}
			closeAll(t, ctx, c)
		}
	})
}

// TestUnixNames has names of every kind at both ends: a path, an abstract one, none.
func TestUnixNames(t *testing.T) { // M18
	each(t, func(t *testing.T, ctx context.Context) {
		dir := t.TempDir()
		for i, name := range []string{filepath.Join(dir, "in"), "@uringo-test-" + filepath.Base(filepath.Dir(dir)) + t.Name()} {
			b, err := net.ListenPacket(ctx, "unixgram", name)
			if err != nil {
				t.Error(err)
				return
			}
			for _, from := range []string{"", filepath.Join(dir, "out"+fmt.Sprint(i)), fmt.Sprint("@uringo-from-", os.Getpid(), t.Name())} {
				var dl net.Dialer
				if from != "" {
					dl.LocalAddr = &net.UnixAddr{Name: from, Net: "unixgram"}
				}
				c, err := dl.Dial(ctx, "unixgram", name)
				if err != nil {
					t.Error(err)
					return
				}
				local := from
				if from == "" {
					local = "@" // as the standard library says, too
				}
				if c.LocalAddr().String() != local || c.RemoteAddr().String() != name {
					t.Errorf("from %q to %q: %v to %v", from, name, c.LocalAddr(), c.RemoteAddr())
				}
				if _, _, err := c.Write(ctx, []byte("hello")); err != nil {
					t.Error(err)
				}
				n, buf, sender, err := b.RecvFrom(ctx, make([]byte, 10))
				if string(buf[:n]) != "hello" || err != nil {
					t.Errorf("RecvFrom = %q, %v", buf[:n], err)
				}
				if (sender == nil) != (from == "") || sender != nil && sender.String() != from {
					t.Errorf("from %q, received from %v", from, sender)
				}
				closeAll(t, ctx, c)
			}
			if err := b.Close(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestAdoptPacket makes PacketConns of sockets of the standard library.
func TestAdoptPacket(t *testing.T) { // T42
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"udp", "unixgram"} {
			address := "127.0.0.1:0"
			if network == "unixgram" {
				address = filepath.Join(t.TempDir(), "socket")
			}
			std, err := stdnet.ListenPacket(network, address)
			if err != nil {
				t.Error(err)
				return
			}
			a, err := net.FromNetPacketConn(ctx, std)
			if err != nil {
				t.Error(err)
				return
			}
			if _, _, err := std.ReadFrom(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: that of the standard library: %v", network, err)
			}
			b := listenPacket(t, ctx, network)
			err = together(ctx, func(ctx context.Context) error {
				n, buf, from, err := a.RecvFrom(ctx, make([]byte, 10))
				if string(buf[:n]) != "hello" || err != nil || from.String() != b.LocalAddr().String() {
					return fmt.Errorf("RecvFrom = %q, %v, %w", buf[:n], from, err)
				}
				_, _, err = a.SendTo(ctx, []byte("answer"), from)
				return err
			}, func(ctx context.Context) error {
				if err := executor.Yield(ctx); err != nil {
					return err
				}
				if _, _, err := b.SendTo(ctx, []byte("hello"), a.LocalAddr()); err != nil {
					return err
				}
				n, buf, from, err := b.RecvFrom(ctx, make([]byte, 10))
				if string(buf[:n]) != "answer" || err != nil || from.String() != a.LocalAddr().String() {
					return fmt.Errorf("RecvFrom = %q, %v, %w", buf[:n], from, err)
				}
				return nil
			})
			if err != nil {
				t.Errorf("%s: %v", network, err)
			}
			fd, err := a.Detach(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			again, err := net.NewPacketConn(ctx, fd)
			if err != nil {
				t.Error(err)
				return
			}
			if err := errors.Join(again.Close(ctx), b.Close(ctx)); err != nil {
				t.Error(err)
			}
		}

		// What has a peer, or is no socket for packets, is no PacketConn, and stays its owner's.
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		p := listenPacket(t, ctx, "udp")
		u, err := net.Dial(ctx, "udp", p.LocalAddr().String())
		if err != nil {
			t.Error(err)
			return
		}
		for _, fd := range []uintptr{c.Fd(), u.Fd()} {
			if _, err := net.NewPacketConn(ctx, int(fd)); err == nil {
				t.Error("a connection was taken for a socket for packets")
			}
		}
		if _, err := net.NewPacketConn(context.Background(), int(p.Fd())); !errors.Is(err, driver.ErrNoDriver) {
			t.Errorf("without a driver: %v", err)
		}
		closeAll(t, ctx, s, u)
		if n, _, err := c.Read(ctx, make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("Read = %d, %v", n, err)
		}
		closeAll(t, ctx, c)
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestAdoptBlocking makes Conns of sockets whose calls block. What waits on them holds up nobody, the second time either.
func TestAdoptBlocking(t *testing.T) { // C27
	each(t, func(t *testing.T, ctx context.Context) {
		for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET} {
			fds, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
				return
			}
			var ends [2]*net.Conn
			for i, fd := range fds {
				if ends[i], err = net.NewConn(ctx, fd); err != nil {
					t.Error(err)
					return
				}
			}
			const rounds = 5
			err = together(ctx, func(ctx context.Context) error {
				for i := range rounds {
					if n, b, err := ends[0].Read(ctx, make([]byte, 1)); n != 1 || b[0] != byte(i) || err != nil {
						return fmt.Errorf("Read = %d, %v, %w", n, b, err)
					}
				}
				return nil
			}, func(ctx context.Context) error { // which has its turns while the other waits
				for i := range rounds {
					for range 3 {
						if err := executor.Sleep(ctx, time.Millisecond); err != nil {
							return err
						}
					}
					if _, _, err := ends[1].Write(ctx, []byte{byte(i)}); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			closeAll(t, ctx, ends[:]...)
		}
	})
}

// TestDialFromAny dials from what says any address, in the words of either family, and from a port of the kernel's choice.
func TestDialFromAny(t *testing.T) { // M3
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"tcp", "tcp6"} {
			l := listenOn(t, ctx, network)
			if l == nil {
				return
			}
			for _, ip := range []stdnet.IP{nil, stdnet.IPv4zero, stdnet.IPv4zero.To4(), stdnet.IPv6zero} {
				c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}}).Dial(ctx, "tcp", l.Addr().String())
				if err != nil {
					t.Errorf("from %v to %v: %v", ip, l.Addr(), err)
					continue
				}
				s, err := l.Accept(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				if c.LocalAddr().String() != s.RemoteAddr().String() {
					t.Errorf("%v dialed, %v arrived", c.LocalAddr(), s.RemoteAddr())
				}
				closeAll(t, ctx, c, s)
			}
			if err := l.Close(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestDialItself has the kernel choose the port that is dialed, so that the socket connects to itself: then others are tried, also from an
// address that leaves the port to the kernel.
func TestDialItself(t *testing.T) { // M3
	each(t, func(t *testing.T, ctx context.Context) {
		for _, local := range []net.Addr{nil, &net.TCPAddr{IP: stdnet.IPv4(127, 0, 0, 1)}} {
			l := listenOn(t, ctx, "tcp4") // who has a free port
			if l == nil {
				return
			}
			at := l.Addr().(*net.TCPAddr)
			if err := l.Close(ctx); err != nil {
				t.Error(err)
			}
			sockets := 0
			choose := func(_, _ string, raw syscall.RawConn) (err error) {
				sockets++
				return errors.Join(raw.Control(func(fd uintptr) {
					err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, at.Port<<16|at.Port)
				}), err)
			}
			c, err := (&net.Dialer{LocalAddr: local, Control: choose}).Dial(ctx, "tcp", at.String())
			if errors.Is(err, unix.ENOPROTOOPT) {
				t.Log("the kernel cannot be told which port to choose: before 6.3")
				return
			}
			if sockets < 2 { // how the others fare depends on what the kernel still knows of the first
				t.Errorf("from %v: %d sockets, %v", local, sockets, err)
			}
			closeAll(t, ctx, c)
		}
	})
}

// TestDialAsks has a network of one family ask name servers for the addresses of that alone.
func TestDialAsks(t *testing.T) { // M3
	const a, aaaa = 1, 28 // types of records, RFC 1035 and 3596
	each(t, func(t *testing.T, ctx context.Context) {
		for network, want := range map[string][]int{"tcp": {a, aaaa}, "tcp4": {a}, "tcp6": {aaaa}, "udp4": {a}} {
			var mu sync.Mutex
			var asked []int
			var servers sync.WaitGroup
			r := &stdnet.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (stdnet.Conn, error) {
				client, server := stdnet.Pipe()
				servers.Go(func() {
					defer server.Close()
					typ, err := knowNothing(server)
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					asked = append(asked, typ)
					mu.Unlock()
				})
				return client, nil
			}}
			var unknown *stdnet.DNSError
			c, err := (&net.Dialer{Resolver: r}).Dial(ctx, network, "nobody.test.:80")
			if !errors.As(err, &unknown) || !unknown.IsNotFound {
				t.Errorf("%s: %v", network, err)
			}
			closeAll(t, ctx, c)
			servers.Wait()
			slices.Sort(asked)
			if asked = slices.Compact(asked); !slices.Equal(asked, want) { // a busy machine asks again
				t.Errorf("%s: asked for records of types %d, not %d", network, asked, want)
			}
		}
	})
}

// knowNothing is a name server that is asked one question over a stream, and answers that there is no such name. It returns what type of
// record the question is about.
func knowNothing(c io.ReadWriter) (typ int, err error) {
	const header = 12
	size := make([]byte, 2)
	if _, err := io.ReadFull(c, size); err != nil {
		return 0, err
	}
	m := make([]byte, binary.BigEndian.Uint16(size))
	if _, err := io.ReadFull(c, m); err != nil {
		return 0, err
	}
	end := header + bytes.IndexByte(m[header:], 0) + 1 // of the name
	m[2] |= 1 << 7                                     // an answer
	m[3] = 3                                           // no such name
	clear(m[6:header])                                 // no records
	m = m[:end+4]
	_, err = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...))
	return int(binary.BigEndian.Uint16(m[end:])), err
}
