package net_test

import (
	"bytes"
	"context"
	"errors"
	stdnet "net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/net"
)

func TestPeerCredentials(t *testing.T) {
	want := net.Credentials{PID: os.Getpid(), UID: os.Getuid(), GID: os.Getgid()}
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"unix", "unixpacket", "pair"} {
			c, s := connect(t, ctx, network)
			if c == nil || s == nil {
				return
			}
			for _, end := range []*net.Conn{c, s} {
				if got, err := end.PeerCredentials(); got != want || err != nil {
					t.Errorf("%s: PeerCredentials = %v, %v", network, got, err)
				}
			}
			if err := s.SetPassCredentials(true); err != nil {
				t.Error(err)
			}
			if _, _, err := c.Write(ctx, []byte("x")); err != nil {
				t.Error(err)
			}
			m := net.Message{Bufs: [][]byte{make([]byte, 10)}, OOB: make([]byte, net.ControlSpace)}
			err := s.RecvMsg(ctx, &m)
			got, err2 := m.Control()
			if err := errors.Join(err, err2); err != nil || got.Credentials == nil || *got.Credentials != want {
				t.Errorf("%s: control messages %+v, %v", network, got, err)
			}
			closeAll(t, ctx, c, s)
			if _, err := s.PeerCredentials(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: PeerCredentials after Close: %v", network, err)
			}
		}
		c, s := connect(t, ctx, "tcp")
		defer closeAll(t, ctx, c, s)
		if got, err := c.PeerCredentials(); err == nil {
			t.Errorf("tcp: PeerCredentials = %v", got)
		}
	})
}

// TestSegments sends datagrams many at a time, and receives them one by one and together.
func TestSegments(t *testing.T) { // N1
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"udp4", "udp6"} {
			a, b := listenPacket(t, ctx, network), listenPacket(t, ctx, network)
			if a == nil || b == nil {
				return
			}
			data := make([]byte, 350)
			for i := range data {
				data[i] = byte(i)
			}
			oob := (&net.Control{SegmentSize: 100}).Append(nil)
			send := func() {
				n, err := a.SendMsg(ctx, &net.Message{Bufs: [][]byte{data[:10], data[10:]}, OOB: oob, Addr: b.LocalAddr()})
				if n != len(data) || err != nil {
					t.Errorf("%s: SendMsg = %d, %v", network, n, err)
				}
			}
			send()
			for rest := data; len(rest) > 0; {
				n, buf, _, err := b.RecvFrom(ctx, make([]byte, 1000))
				if want := min(100, len(rest)); n != want || !bytes.Equal(buf[:n], rest[:n]) || err != nil {
					t.Errorf("%s: received %d bytes instead of %d, %v", network, n, want, err)
					return
				}
				rest = rest[n:]
			}
			if err := b.SetGRO(true); err != nil {
				t.Error(err)
			}
			send()
			m := net.Message{Bufs: [][]byte{make([]byte, 1<<16)}, OOB: make([]byte, net.ControlSpace)}
			err := b.RecvMsg(ctx, &m)
			c, err2 := m.Control()
			if err := errors.Join(err, err2); err != nil || !bytes.Equal(m.Bufs[0][:m.N], data) || c.SegmentSize != 100 {
				t.Errorf("%s: received %d bytes, %+v, %v", network, m.N, c, err)
			}
			if err := errors.Join(a.Close(ctx), b.Close(ctx)); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestReceiveInfo sees what can be known of a datagram, and chooses the address to send from.
func TestReceiveInfo(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for _, local := range []string{"127.0.0.1", "127.0.0.2", "::1"} {
			network, any := "udp", "[::]:0" // both families
			if local == "127.0.0.2" {
				network, any = "udp4", "0.0.0.0:0"
			}
			s, err := net.ListenPacket(ctx, network, any)
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.SetReceiveInfo(true); err != nil {
				t.Error(err)
			}
			port := uint16(s.LocalAddr().(*net.UDPAddr).Port)
			c, err := net.Dial(ctx, "udp", netip.AddrPortFrom(netip.MustParseAddr(local), port).String())
			if err != nil {
				t.Error(err)
				return
			}
			if err := errors.Join(c.SetHopLimit(33), c.SetTrafficClass(8)); err != nil {
				t.Error(err)
			}
			if _, _, err := c.Write(ctx, []byte("ask")); err != nil {
				t.Error(err)
			}
			m := net.Message{Bufs: [][]byte{make([]byte, 10)}, OOB: make([]byte, net.ControlSpace)}
			err = s.RecvMsg(ctx, &m)
			got, err2 := m.Control()
			if err := errors.Join(err, err2); err != nil || m.ControlTruncated() || got.Local.String() != local ||
				got.Interface == 0 || got.HopLimit != 33 || got.TrafficClass != 8 {
				t.Errorf("%s: %+v, %v", local, got, err)
			}
			// The answer comes from the address that was asked, or else the client would not take it.
			answer := net.Control{Local: got.Local, HopLimit: 5, TrafficClass: 4}
			if _, err := s.SendMsg(ctx, &net.Message{Bufs: [][]byte{[]byte("tell")}, OOB: answer.Append(nil), Addr: m.Addr}); err != nil {
				t.Errorf("%s: %v", local, err)
			}
			if err := c.SetReceiveInfo(true); err != nil { // the next one tells
				t.Error(err)
			}
			if n, buf, err := c.Read(ctx, make([]byte, 10)); string(buf[:n]) != "tell" || err != nil {
				t.Errorf("%s: Read = %q, %v", local, buf[:n], err)
			}
			if _, err := s.SendMsg(ctx, &net.Message{Bufs: [][]byte{[]byte("x")}, OOB: answer.Append(nil), Addr: m.Addr}); err != nil {
				t.Errorf("%s: %v", local, err)
			}
			m = net.Message{Bufs: m.Bufs, OOB: m.OOB}
			err = c.RecvMsg(ctx, &m)
			got, err2 = m.Control()
			if err := errors.Join(err, err2); err != nil || got.HopLimit != 5 || got.TrafficClass != 4 {
				t.Errorf("%s: the answer: %+v, %v", local, got, err)
			}
			closeAll(t, ctx, c)
			if err := s.Close(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestPeek looks at datagrams before it takes them.
func TestPeekMsg(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		a, b := listenPacket(t, ctx, "udp"), listenPacket(t, ctx, "udp")
		if a == nil || b == nil {
			return
		}
		if _, _, err := a.SendTo(ctx, []byte("hello"), b.LocalAddr()); err != nil {
			t.Error(err)
		}
		m := net.Message{Bufs: [][]byte{make([]byte, 2)}}
		for range 2 {
			if err := b.PeekMsg(ctx, &m); err != nil || m.N != 2 || !m.Truncated() || string(m.Bufs[0]) != "he" {
				t.Errorf("PeekMsg: %+v, %v", m, err)
			}
		}
		if n, buf, _, err := b.RecvFrom(ctx, make([]byte, 10)); string(buf[:n]) != "hello" || err != nil {
			t.Errorf("RecvFrom = %q, %v", buf[:n], err)
		}
		if err := errors.Join(a.Close(ctx), b.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
}

func TestMulticast(t *testing.T) {
	lo, err := stdnet.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, ctx context.Context) {
		for _, g := range []struct{ network, any, group string }{
			{"udp4", "0.0.0.0:0", "239.255.77.1"},
			{"udp6", "[::]:0", "ff01::4d01"},
			{"udp", "[::]:0", "239.255.77.2"},
		} {
			group := netip.MustParseAddr(g.group)
			s, err := net.ListenPacket(ctx, g.network, g.any)
			if err != nil {
				t.Error(err)
				return
			}
			c := listenPacket(t, ctx, strings.TrimSuffix(g.network, "4"))
			if c == nil {
				return
			}
			err = errors.Join(s.JoinGroup(lo, group), c.SetMulticastInterface(lo), c.SetMulticastHopLimit(1), c.SetMulticastLoopback(true))
			if err != nil {
				t.Errorf("%s: %v", g.group, err)
			}
			to := &net.UDPAddr{IP: group.AsSlice(), Port: s.LocalAddr().(*net.UDPAddr).Port}
			if _, _, err := c.SendTo(ctx, []byte("to all"), to); g.network == "udp6" && errors.Is(err, syscall.ENETUNREACH) {
				t.Log("this machine has no IPv6 route to groups on the loopback interface")
				if err := errors.Join(s.Close(ctx), c.Close(ctx)); err != nil {
					t.Error(err)
				}
				continue
			} else if err != nil {
				t.Errorf("%s: SendTo: %v", g.group, err)
			}
			soon, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			if n, buf, _, err := s.RecvFrom(soon, make([]byte, 100)); string(buf[:n]) != "to all" || err != nil {
				t.Errorf("%s: RecvFrom = %q, %v", g.group, buf[:n], err)
			}
			// What is sent to a group that was left does not arrive: the next thing does.
			if err := s.LeaveGroup(lo, group); err != nil {
				t.Errorf("%s: LeaveGroup: %v", g.group, err)
			}
			if err := s.LeaveGroup(lo, group); !errors.Is(err, syscall.EADDRNOTAVAIL) {
				t.Errorf("%s: second LeaveGroup: %v", g.group, err)
			}
			if err := s.JoinGroup(lo, netip.MustParseAddr("127.0.0.1")); err == nil {
				t.Error("joined an address that is no group")
			}
			if err := errors.Join(s.Close(ctx), c.Close(ctx)); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestBroadcast(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		s, err := net.ListenPacket(ctx, "udp4", "0.0.0.0:0")
		if err != nil {
			t.Error(err)
			return
		}
		c := listenPacket(t, ctx, "udp4")
		if c == nil {
			return
		}
		to := &net.UDPAddr{IP: stdnet.IPv4(127, 255, 255, 255), Port: s.LocalAddr().(*net.UDPAddr).Port}
		if _, _, err := c.SendTo(ctx, []byte("to all"), to); err != nil {
			t.Error(err)
		}
		if n, buf, _, err := s.RecvFrom(ctx, make([]byte, 100)); string(buf[:n]) != "to all" || err != nil {
			t.Errorf("RecvFrom = %q, %v", buf[:n], err)
		}
		if err := c.SetBroadcast(false); err != nil {
			t.Error(err)
		}
		if _, _, err := c.SendTo(ctx, []byte("to all"), to); !errors.Is(err, syscall.EACCES) {
			t.Errorf("SendTo: %v", err)
		}
		if err := errors.Join(s.Close(ctx), c.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
}

// TestControl makes control messages and takes them apart again.
func TestControl(t *testing.T) {
	for _, c := range []net.Control{
		{},
		{FDs: []int{3, 4, 5}},
		{Credentials: &net.Credentials{PID: 1, UID: 2, GID: 3}},
		{HopLimit: 64, TrafficClass: 2},
		{Local: netip.MustParseAddr("fe80::1"), Interface: 7, HopLimit: 255},
		{Interface: 3},
	} {
		oob := c.Append([]byte(nil))
		if len(oob) > net.ControlSpace {
			t.Errorf("%+v takes %d bytes", c, len(oob))
		}
		got, err := (&net.Message{OOB: oob, OOBN: len(oob)}).Control()
		if err != nil || !slices.Equal(got.FDs, c.FDs) || got.Interface != c.Interface || got.HopLimit != c.HopLimit ||
			got.TrafficClass != c.TrafficClass || (got.Credentials == nil) != (c.Credentials == nil) {
			t.Errorf("%+v became %+v, %v", c, got, err)
		}
		if c.Credentials != nil && *got.Credentials != *c.Credentials {
			t.Errorf("%+v became %+v", c.Credentials, got.Credentials)
		}
		if c.Local.IsValid() && got.Local != c.Local {
			t.Errorf("%v became %v", c.Local, got.Local)
		}
	}
	for _, bad := range [][]byte{(&net.Control{HopLimit: 1}).Append(nil)[:unix.CmsgLen(4)-2]} {
		if c, err := (&net.Message{OOB: bad, OOBN: len(bad)}).Control(); err == nil {
			t.Errorf("%v became %+v", bad, c)
		}
	}
	short := (&net.Control{SegmentSize: 5}).Append(nil)
	if got, err := unix.ParseSocketControlMessage(short); err != nil || len(got) != 1 || got[0].Header.Type != unix.UDP_SEGMENT {
		t.Errorf("segment size became %v, %v", got, err)
	}
}

func FuzzControl(f *testing.F) {
	f.Add((&net.Control{FDs: []int{1}, HopLimit: 3, Local: netip.MustParseAddr("::1"), SegmentSize: 9}).Append(nil))
	f.Fuzz(func(t *testing.T, oob []byte) {
		_, _ = (&net.Message{OOB: oob, OOBN: len(oob)}).Control() // whatever the bytes, it must not panic
	})
}
