package net_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/executor"
	"uringo/net"
	"uringo/ops"
)

// hears sends from one socket, and sees that what the other receives next came from there.
func hears(ctx context.Context, to, from *net.PacketConn, address net.Addr) error {
	if _, _, err := from.SendTo(ctx, []byte("x"), address); err != nil {
		return err
	}
	n, _, sender, err := to.RecvFrom(ctx, make([]byte, 9))
	if err == nil && (n != 1 || !sameEnd(sender, from.LocalAddr())) {
		err = fmt.Errorf("received %d bytes from %v", n, sender)
	}
	return err
}

// sameEnd reports whether two addresses are those of one socket, where only one may say which address of the machine it is.
func sameEnd(a, b net.Addr) bool {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return a != nil && a.String() == b.String()
	}
	return u.Port == b.(*net.UDPAddr).Port
}

// TestAssociation connects a socket for datagrams to one after the other, and disconnects it: while it has a peer it hears nobody else.
func TestAssociation(t *testing.T) { // C28
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"udp", "udp6", "any", "unixgram"} {
			listen := func() *net.PacketConn {
				if network == "any" {
					p, err := net.ListenPacket(ctx, "udp", ":0") // all addresses of both families
					if err != nil {
						t.Error(err)
					}
					return p
				}
				return listenPacket(t, ctx, network)
			}
			a, b, c := listen(), listen(), listen()
			if a == nil || b == nil || c == nil {
				return
			}
			at := func(p *net.PacketConn) net.Addr {
				if u, ok := p.LocalAddr().(*net.UDPAddr); ok && u.IP.IsUnspecified() {
					return &net.UDPAddr{IP: []byte{127, 0, 0, 1}, Port: u.Port}
				}
				return p.LocalAddr()
			}
			before, home := a.LocalAddr().String(), at(a)
			if a.RemoteAddr() != nil {
				t.Errorf("%s: a peer: %v", network, a.RemoteAddr())
			}
			for round := range 3 {
				for _, peer := range []*net.PacketConn{b, c, b} { // the last in the place of another
					if err := a.Connect(at(peer)); err != nil {
						t.Errorf("%s: Connect: %v", network, err)
						return
					}
					if got := a.RemoteAddr(); got.String() != at(peer).String() {
						t.Errorf("%s: peer %v", network, got)
					}
					if u, ok := a.LocalAddr().(*net.UDPAddr); ok && (u.IP.IsUnspecified() || u.Port != home.(*net.UDPAddr).Port) {
						t.Errorf("%s: with a peer at %v", network, u)
					}
					if n, _, err := a.SendTo(ctx, []byte("xy"), nil); n != 2 || err != nil {
						t.Errorf("%s: SendTo the peer = %d, %v", network, n, err)
					}
					for _, none := range []net.Addr{nil, (*net.UDPAddr)(nil)} {
						if n, err := a.SendMsg(ctx, &net.Message{Bufs: [][]byte{[]byte("z")}, Addr: none}); n != 1 || err != nil {
							t.Errorf("%s: SendMsg to the peer, %T = %d, %v", network, none, n, err)
							return
						}
					}
					for _, want := range []int{2, 1, 1} {
						n, _, from, err := peer.RecvFrom(ctx, make([]byte, 9))
						if n != want || err != nil || !sameEnd(from, a.LocalAddr()) {
							t.Errorf("%s: the peer received %d from %v, %v", network, n, from, err)
						}
					}
				}
				_, _, err := c.SendTo(ctx, []byte("stranger"), home)
				if network == "unixgram" && !errors.Is(err, syscall.EPERM) || network != "unixgram" && err != nil {
					t.Errorf("%s: a stranger sends: %v", network, err)
				}
				if err := hears(ctx, a, b, home); err != nil {
					t.Errorf("%s: after a stranger, the peer: %v", network, err)
				}
				for range 1 + round { // once more does no harm
					if err := a.Disconnect(); err != nil {
						t.Errorf("%s: Disconnect: %v", network, err)
					}
				}
				if a.LocalAddr().String() != before || a.RemoteAddr() != nil {
					t.Errorf("%s: disconnected: at %v with %v", network, a.LocalAddr(), a.RemoteAddr())
				}
				for _, p := range []*net.PacketConn{b, c} {
					if err := hears(ctx, a, p, home); err != nil {
						t.Errorf("%s: disconnected: %v", network, err)
					}
				}
				if _, _, err := a.SendTo(ctx, nil, nil); err == nil {
					t.Errorf("%s: sent to nobody", network)
				}
			}
			for _, to := range []net.Addr{nil, (*net.UDPAddr)(nil), &net.TCPAddr{}} {
				if err := a.Connect(to); err == nil || a.RemoteAddr() != nil {
					t.Errorf("%s: connected to %v: %v", network, a.RemoteAddr(), err)
				}
			}
			if err := errors.Join(a.Close(ctx), b.Close(ctx), c.Close(ctx)); err != nil {
				t.Error(err)
			}
			var op *net.OpError
			for what, err := range map[string]error{"Connect": a.Connect(at(b)), "Disconnect": a.Disconnect()} {
				if !errors.Is(err, net.ErrClosed) || !errors.As(err, &op) {
					t.Errorf("%s: closed: %s: %v", network, what, err)
				}
			}
		}
	})
}

// TestAssociationWaits has a receiver and an iteration wait while the socket gets a peer and loses it.
func TestAssociationWaits(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"udp", "unixgram"} {
			for _, iterate := range []bool{false, true} {
				a, b := listenPacket(t, ctx, network), listenPacket(t, ctx, network)
				if a == nil || b == nil {
					return
				}
				err := together(ctx, func(ctx context.Context) error {
					if !iterate {
						n, _, _, err := a.RecvFrom(ctx, make([]byte, 9))
						if n != 1 {
							err = errors.Join(err, fmt.Errorf("received %d bytes", n))
						}
						return err
					}
					for m, err := range a.Receives(ctx, nil) {
						m.Release()
						return err
					}
					return nil
				}, func(ctx context.Context) error {
					for range 3 {
						if err := errors.Join(executor.Sleep(ctx, time.Millisecond), a.Connect(b.LocalAddr()),
							executor.Sleep(ctx, time.Millisecond), a.Disconnect()); err != nil {
							return err
						}
					}
					_, _, err := b.SendTo(ctx, []byte("x"), a.LocalAddr())
					return err
				})
				if err := errors.Join(err, a.Close(ctx), b.Close(ctx)); err != nil {
					t.Errorf("%s, iterate %v: %v", network, iterate, err)
				}
			}
		}
	})
}

// TestAssociationRefused has a peer that is not there: the error of it ends with the association.
func TestAssociationRefused(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		a, b, gone := listenPacket(t, ctx, "udp"), listenPacket(t, ctx, "udp"), listenPacket(t, ctx, "udp")
		if a == nil || b == nil || gone == nil {
			return
		}
		defer a.Close(ctx)
		defer b.Close(ctx)
		if err := gone.Close(ctx); err != nil {
			t.Error(err)
		}
		for _, told := range []bool{true, false} {
			if err := a.Connect(gone.LocalAddr()); err != nil {
				t.Error(err)
			}
			if _, _, err := a.SendTo(ctx, []byte("x"), nil); err != nil {
				t.Error(err)
			}
			if told {
				if _, _, _, err := a.RecvFrom(ctx, make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("RecvFrom: %v", err)
				}
			}
			if err := a.Disconnect(); err != nil {
				t.Error(err)
			}
			if err := hears(ctx, a, b, a.LocalAddr()); err != nil {
				t.Errorf("told %v: disconnected: %v", told, err)
			}
		}
		u := listenPacket(t, ctx, "unixgram")
		if u == nil {
			return
		}
		defer u.Close(ctx)
		if err := u.Connect(&net.UnixAddr{Name: filepath.Join(t.TempDir(), "none"), Net: "unixgram"}); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("Connect to no path: %v", err)
		}
	})
}

// TestAssociationUnix disconnects one of two Unix sockets that have each other for a peer: what it had received is lost, and the other learns of it.
func TestAssociationUnix(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		a, b := listenPacket(t, ctx, "unixgram"), listenPacket(t, ctx, "unixgram")
		if a == nil || b == nil {
			return
		}
		defer a.Close(ctx)
		defer b.Close(ctx)
		if err := errors.Join(a.Connect(b.LocalAddr()), b.Connect(a.LocalAddr())); err != nil {
			t.Error(err)
		}
		if _, _, err := b.SendTo(ctx, []byte("lost"), nil); err != nil {
			t.Error(err)
		}
		if err := a.Disconnect(); err != nil {
			t.Error(err)
		}
		if _, _, _, err := b.RecvFrom(ctx, make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the other: %v", err)
		}
		if err := hears(ctx, a, b, nil); err != nil { // which is not what was sent first
			t.Errorf("afterwards: %v", err)
		}
	})
}

// TestReconnectTCP takes the connection from a TCP socket and gives it another.
func TestReconnectTCP(t *testing.T) { // C28
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "tcp")
		l := listenOn(t, ctx, "tcp")
		if c == nil || l == nil {
			return
		}
		defer l.Close(ctx)
		for range 3 {
			fd, err := c.Detach(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			if err := ops.Disconnect(fd); err != nil {
				t.Error(err)
			}
			if _, _, err := s.Read(ctx, make([]byte, 1)); err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the peer that was left: %v", err)
			}
			closeAll(t, ctx, s)
			to := netip.MustParseAddrPort(l.Addr().String())
			err = executor.Do(ctx, ops.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})).Err
			if err != nil {
				t.Error(err)
			}
			if c, err = net.NewConn(ctx, fd); err != nil {
				t.Error(err)
				_ = unix.Close(fd)
				return
			}
			if s, err = l.Accept(ctx); err != nil {
				t.Error(err)
				return
			}
			if c.RemoteAddr().String() != l.Addr().String() || s.RemoteAddr().String() != c.LocalAddr().String() {
				t.Errorf("connected from %v to %v", c.LocalAddr(), c.RemoteAddr())
			}
			if _, _, err := s.Write(ctx, []byte("x")); err != nil {
				t.Error(err)
			}
			if n, _, err := c.Read(ctx, make([]byte, 9)); n != 1 || err != nil {
				t.Errorf("Read = %d, %v", n, err)
			}
		}
		closeAll(t, ctx, c, s)
	})
}
