package net_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	stdnet "net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/testenv"
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

// TestPeerOutside asks for the credentials of a process that has no number in the namespace of who asks, as in a container.
func TestPeerOutside(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	end := os.NewFile(uintptr(fds[1]), "peer")
	defer end.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = testenv.Environ(roleVar + "=peer outside")
	cmd.ExtraFiles = []*os.File{end}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EACCES) {
		t.Skipf("needs a namespace for processes: %v", err)
	}
	if want := fmt.Sprintf("0 %d <nil>", os.Getuid()); string(out) != want || err != nil {
		t.Errorf("PeerCredentials said %q, not %q: %v", out, want, err)
	}
}

func init() {
	roles["peer outside"] = func() int {
		d, err := driver.Open(driver.Config{})
		if err != nil {
			panic(err)
		}
		ctx := driver.NewContext(context.Background(), d)
		c, err := net.NewConn(ctx, 3)
		if err != nil {
			panic(err)
		}
		peer, err := c.PeerCredentials()
		fmt.Print(peer.PID, peer.UID, err)
		if err := errors.Join(c.Close(ctx), d.Close(ctx)); err != nil {
			panic(err)
		}
		return 0
	}
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

// TestSendBy names the interface that a datagram is to leave by, with the loopback interface as the only one that is everywhere.
func TestSendBy(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		lo, err := stdnet.InterfaceByName("lo")
		if err != nil {
			t.Error(err)
			return
		}
		for _, c := range []struct {
			network, to string
			control     net.Control
			refused     bool
		}{
			{"udp4", "127.0.0.1:0", net.Control{}, false},
			{"udp6", "[::1]:0", net.Control{}, false},
			{"udp", "[::1]:0", net.Control{}, false},
			{"udp", "127.0.0.1:0", net.Control{Local: netip.IPv4Unspecified()}, false},
			{"udp", "127.0.0.1:0", net.Control{}, true}, // by the kernel: the documentation says so
		} {
			in, err := net.ListenPacket(ctx, "udp", c.to)
			if err != nil {
				t.Error(err)
				return
			}
			out, err := net.ListenPacket(ctx, c.network, ":0")
			if err != nil {
				t.Error(err)
				return
			}
			c.control.Interface = lo.Index
			m := net.Message{Bufs: [][]byte{[]byte("hello")}, OOB: c.control.Append(nil), Addr: in.LocalAddr()}
			if _, err = out.SendMsg(ctx, &m); c.refused != errors.Is(err, syscall.EINVAL) || !c.refused && err != nil {
				t.Errorf("%+v: %v", c, err)
			}
			if err == nil {
				if n, b, _, err := in.RecvFrom(ctx, make([]byte, 10)); string(b[:n]) != "hello" || err != nil {
					t.Errorf("%+v: received %q, %v", c, b[:n], err)
				}
			}
			if err := errors.Join(in.Close(ctx), out.Close(ctx)); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestPeekMsg looks at datagrams before it takes them.
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

// A castWay is a way to send to a group: where from, to which group, and where those listen who join it.
type castWay struct{ network, from, any, group string }

// TestMulticast sends to groups on the loopback interface.
func TestMulticast(t *testing.T) { // G8
	lo, err := stdnet.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, ctx context.Context) {
		for _, w := range []castWay{
			{"udp4", "127.0.0.1:0", "0.0.0.0:0", "239.255.77.1"},
			{"udp", "127.0.0.1:0", "[::]:0", "239.255.77.2"},
		} {
			multicast(t, ctx, lo, w)
		}
	})
}

// TestMulticastVeth sends to groups on another interface: a loopback interface has no routes to those of IPv6, and brings back whatever is
// sent on it.
func TestMulticastVeth(t *testing.T) { // G8
	if !apart(t) {
		return
	}
	ip(t, "link set lo up")
	ip(t, "link add here type veth peer name there")
	ip(t, "addr add 198.51.100.1/24 dev here")
	ip(t, "addr add fe80::1/64 dev here nodad")
	ip(t, "link set here up")
	ip(t, "link set there up")
	here, err := stdnet.InterfaceByName("here")
	if err != nil {
		t.Fatal(err)
	}
	for tries := 0; ; tries++ { // the kernel may take a moment to have the routes
		c, err := stdnet.Dial("udp6", "[ff02::4d01%here]:1")
		if err == nil {
			c.Close()
			break
		}
		if tries == 1000 {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	each(t, func(t *testing.T, ctx context.Context) {
		for _, w := range []castWay{
			{"udp4", "198.51.100.1:0", "0.0.0.0:0", "239.255.77.1"},
			{"udp6", "[fe80::1%here]:0", "[::]:0", "ff02::4d01"},
		} {
			multicast(t, ctx, here, w)
		}
	})
}

// multicast sends to a group whose only member joins, leaves, and is also written to directly: that comes next if the group's does not.
func multicast(t *testing.T, ctx context.Context, ifi *stdnet.Interface, w castWay) {
	s, err := net.ListenPacket(ctx, w.network, w.any)
	if err != nil {
		t.Error(err)
		return
	}
	c, err := net.ListenPacket(ctx, w.network, w.from)
	if err != nil {
		t.Error(err)
		return
	}
	group := netip.MustParseAddr(w.group)
	const hops = 3
	if err := errors.Join(s.JoinGroup(ifi, group), c.SetMulticastInterface(ifi), c.SetMulticastHopLimit(hops), s.SetReceiveInfo(true)); err != nil {
		t.Errorf("%s: %v", w.group, err)
	}
	port := s.LocalAddr().(*net.UDPAddr).Port
	toGroup := &net.UDPAddr{IP: group.AsSlice(), Port: port}
	direct := *c.LocalAddr().(*net.UDPAddr) // of this machine, too
	direct.Port = port
	send := func(text string, to net.Addr) {
		if _, _, err := c.SendTo(ctx, []byte(text), to); err != nil {
			t.Errorf("%s: SendTo %v: %v", w.group, to, err)
		}
	}
	receive := func(want string) (m net.Message) {
		soon, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		m = net.Message{Bufs: [][]byte{make([]byte, 100)}, OOB: make([]byte, net.ControlSpace)}
		if err := s.RecvMsg(soon, &m); err != nil || string(m.Bufs[0][:m.N]) != want {
			t.Errorf("%s: received %q instead of %q, %v", w.group, m.Bufs[0][:m.N], want, err)
		}
		return m
	}
	send("to all", toGroup)
	m := receive("to all")
	if info, err := m.Control(); err != nil || info.HopLimit != hops || info.Interface != ifi.Index {
		t.Errorf("%s: %+v, %v", w.group, info, err)
	}
	if ifi.Flags&stdnet.FlagLoopback == 0 {
		if err := c.SetMulticastLoopback(false); err != nil {
			t.Error(err)
		}
		send("to all elsewhere", toGroup)
		send("to one", &direct)
		receive("to one")
	}
	if err := errors.Join(c.SetMulticastLoopback(true), s.LeaveGroup(ifi, group)); err != nil {
		t.Errorf("%s: %v", w.group, err)
	}
	send("to those who are left", toGroup)
	send("to one again", &direct)
	receive("to one again")
	if err := s.LeaveGroup(ifi, group); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("%s: second LeaveGroup: %v", w.group, err)
	}
	if err := s.JoinGroup(ifi, netip.MustParseAddr("127.0.0.1")); err == nil {
		t.Error("joined an address that is no group")
	}
	if err := errors.Join(s.Close(ctx), c.Close(ctx)); err != nil {
		t.Error(err)
	}
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
	whole := (&net.Control{HopLimit: 1}).Append(nil)
	lying := func(length byte) []byte { // in the first byte of its header, which is not 0 for any length
		b := slices.Clone(whole)
		b[0] = length
		return b
	}
	for _, bad := range [][]byte{whole[:unix.CmsgLen(4)-2], lying(0), lying(1), lying(byte(unix.CmsgLen(0) - 1)),
		lying(byte(len(whole) + 1)), lying(255)} {
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
