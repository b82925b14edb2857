package ops

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// listener returns a listening socket and its address.
func (e *engine) listener(addr unix.Sockaddr, flags, backlog int) (int, unix.Sockaddr) {
	e.Helper()
	fd := e.opened(unix.Socket(family(addr), unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0))
	if err := unix.Bind(fd, addr); err != nil {
		e.Skipf("needs %T: %v", addr, err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		e.Fatal(err)
	}
	return fd, e.name(fd)
}

func (e *engine) name(fd int) unix.Sockaddr {
	e.Helper()
	addr, err := unix.Getsockname(fd)
	if err != nil {
		e.Fatal(err)
	}
	return addr
}

func family(addr unix.Sockaddr) int {
	switch addr.(type) {
	case *unix.SockaddrInet4:
		return unix.AF_INET
	case *unix.SockaddrInet6:
		return unix.AF_INET6
	}
	return unix.AF_UNIX
}

// socketpair returns two connected stream sockets.
func (e *engine) socketpair(typ int) (a, b int) {
	e.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		e.Fatal(err)
	}
	return e.opened(p[0], nil), e.opened(p[1], nil)
}

var loopback = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}

// A connection is made, used and ended with operations alone, over every kind of stream, on blocking sockets and others.
func TestStreamSockets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	for _, c := range []struct {
		name  string
		addr  unix.Sockaddr
		flags int
	}{
		{"tcp4", loopback, 0},
		{"tcp4 nonblocking", loopback, unix.SOCK_NONBLOCK},
		{"tcp6", &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()}, 0},
		{"unix", &unix.SockaddrUnix{Name: path}, 0},
		{"unix nonblocking", &unix.SockaddrUnix{Name: path}, unix.SOCK_NONBLOCK},
		{"abstract", &unix.SockaddrUnix{Name: "@uringo/" + path}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			onEngines(t, func(t *testing.T, e *engine) {
				e.need(kindSocket, "5.19")
				if strings.HasPrefix(c.name, "unix") {
					_ = unix.Unlink(path)
				}
				l, addr := e.listener(c.addr, c.flags, 8)
				var peer, asked Peer
				accept := AcceptFrom(l, c.flags, &peer)
				id := e.start(&accept.Spec)
				if !e.pending(id) {
					t.Fatalf("accepted nobody: %d", e.await(id))
				}
				client := e.opened(must(e, Socket(family(addr), unix.SOCK_STREAM|c.flags, 0)), nil)
				must(e, Connect(client, addr))
				server := e.opened(int(e.await(id)), nil)
				sameName(t, &peer, client)
				if err := asked.Of(server); err != nil {
					t.Error(err)
				}
				sameName(t, &asked, client)
				for _, fd := range []int{client, server} {
					if fl, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); fl != unix.FD_CLOEXEC {
						t.Error("not close-on-exec")
					}
					if fl, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); (fl&unix.O_NONBLOCK != 0) != (c.flags != 0) {
						t.Errorf("status flags %#x", fl)
					}
				}
				if fl, _ := unix.FcntlInt(uintptr(l), unix.F_GETFL, 0); (fl&unix.O_NONBLOCK != 0) != (c.flags != 0) {
					t.Errorf("status flags of the listener: %#x", fl)
				}

				buf := make([]byte, 8)
				recv := Recv(server, buf, 0)
				id = e.start(&recv.Spec)
				if !e.pending(id) {
					t.Fatalf("received nothing: %d", e.await(id))
				}
				if r := do(e, Send(client, []byte("hello"), 0)); r.N != 5 || string(r.Buf) != "hello" {
					t.Errorf("send: %+v", r)
				}
				if n := e.await(id); n != 5 || string(buf[:5]) != "hello" {
					t.Errorf("received %d %q", n, buf)
				}
				fails(e, Recv(server, buf, unix.MSG_DONTWAIT), syscall.EAGAIN)
				must(e, Shutdown(client, unix.SHUT_WR))
				if n := must(e, Recv(server, buf, 0)); n != 0 {
					t.Errorf("received %d bytes at the end", n)
				}
			})
		})
	}
}

// sameName sees that p is the socket at the other end.
func sameName(t *testing.T, p *Peer, other int) {
	t.Helper()
	want, err := unix.Getsockname(other)
	if u, ok := want.(*unix.SockaddrUnix); ok && u.Name == "@" {
		u.Name = "" // the other package's word for none
	}
	switch got := p.Addr(); {
	case err != nil || got == nil:
		t.Errorf("the peer is %v, which is %v, %v", got, want, err)
	case fmt.Sprintf("%+v", exported(got)) != fmt.Sprintf("%+v", exported(want)):
		t.Errorf("the peer is %+v and not %+v", got, want)
	}
}

// exported is a copy of an address without what only package unix knows of it.
func exported(a unix.Sockaddr) unix.Sockaddr {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return &unix.SockaddrInet4{Port: a.Port, Addr: a.Addr}
	case *unix.SockaddrInet6:
		return &unix.SockaddrInet6{Port: a.Port, Addr: a.Addr, ZoneId: a.ZoneId}
	case *unix.SockaddrUnix:
		return &unix.SockaddrUnix{Name: a.Name}
	}
	return a
}

// A connection that waits is accepted in place, and only then.
func TestTryAccept(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		l, addr := e.listener(loopback, unix.SOCK_NONBLOCK, 8)
		var peer Peer
		if fd, err := TryAccept(l, 0, &peer); err != syscall.EAGAIN {
			t.Fatalf("accepted %d, %v of nobody", fd, err)
		}
		client := e.opened(unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0))
		if err := unix.Connect(client, addr); err != nil {
			t.Fatal(err)
		}
		server := e.opened(TryAccept(l, unix.SOCK_NONBLOCK, &peer))
		sameName(t, &peer, client)
		fd, _ := unix.FcntlInt(uintptr(server), unix.F_GETFD, 0)
		fl, _ := unix.FcntlInt(uintptr(server), unix.F_GETFL, 0)
		if fd != unix.FD_CLOEXEC || fl&unix.O_NONBLOCK == 0 {
			t.Errorf("flags %#x and %#x", fd, fl)
		}
		if n, err := TryAccept(client, 0, &peer); err != syscall.EINVAL {
			t.Errorf("accepted %d, %v on what does not listen", n, err)
		}
		if err := peer.Of(l); err != syscall.ENOTCONN || peer.Addr() != nil {
			t.Errorf("a listener's peer is %v, %v", peer.Addr(), err)
		}
	})
}

func TestSocketErrors(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		e.need(kindSocket, "5.19")
		buf := make([]byte, 4)
		fails(e, Socket(unix.AF_INET, 77, 0), syscall.EINVAL)
		fails(e, Socket(200, unix.SOCK_STREAM, 0), syscall.EAFNOSUPPORT)
		file := e.file("")
		for _, fd := range []int{-1, 1 << 20} {
			fails(e, Accept(fd, 0), syscall.EBADF)
			fails(e, Connect(fd, loopback), syscall.EBADF)
			fails(e, Recv(fd, buf, 0), syscall.EBADF)
			fails(e, SendMsg(fd, [][]byte{buf}, nil, nil, 0), syscall.EBADF)
			fails(e, Shutdown(fd, unix.SHUT_RD), syscall.EBADF)
		}
		fails(e, Accept(file, 0), syscall.ENOTSOCK)
		fails(e, Connect(file, loopback), syscall.ENOTSOCK)
		fails(e, Recv(file, buf, 0), syscall.ENOTSOCK)
		fails(e, RecvMsg(file, [][]byte{buf}, nil, 0), syscall.ENOTSOCK)
		fails(e, Shutdown(file, unix.SHUT_RD), syscall.ENOTSOCK)

		waits, _ := e.listener(loopback, 0, 1)
		fails(e, Accept(waits, 1<<20), syscall.EINVAL)

		a, b := e.socketpair(unix.SOCK_STREAM)
		fails(e, Accept(a, 0), syscall.EINVAL)
		fails(e, Shutdown(a, 77), syscall.EINVAL)
		for _, err := range []error{Run(ptr(Recv(a, buf, unix.MSG_WAITALL))).Err, Run(ptr(Send(a, buf, unix.MSG_WAITALL))).Err,
			Run(ptr(RecvMsg(a, nil, nil, unix.MSG_WAITALL))).Err} {
			if err != syscall.EINVAL {
				t.Errorf("to wait for all: %v", err)
			}
		}
		_ = unix.Close(b)
		fails(e, Send(a, buf, 0), syscall.EPIPE) // and no SIGPIPE
		fails(e, SendMsg(a, [][]byte{buf}, nil, nil, 0), syscall.EPIPE)

		// Nobody listens at a port that has just been given back.
		l, addr := e.listener(loopback, 0, 1)
		_ = unix.Close(l)
		s := e.opened(must(e, Socket(unix.AF_INET, unix.SOCK_STREAM, 0)), nil)
		fails(e, Connect(s, addr), syscall.ECONNREFUSED)
		fails(e, Connect(s, &unix.SockaddrUnix{Name: "long enough"}), syscall.EAFNOSUPPORT, syscall.EINVAL)
		u := e.opened(must(e, Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)), nil)
		fails(e, Connect(u, &unix.SockaddrUnix{Name: filepath.Join(t.TempDir(), "none")}), syscall.ENOENT)
	})
}

func ptr[T any](v T) *T { return &v }

// Every address survives the way into the kernel's form and back.
func TestSockaddr(t *testing.T) {
	long := strings.Repeat("x", 107)
	for _, addr := range []unix.Sockaddr{
		&unix.SockaddrInet4{Port: 0x1234, Addr: [4]byte{1, 2, 3, 4}},
		&unix.SockaddrInet6{Port: 65535, ZoneId: 7, Addr: [16]byte{0xfe, 0x80, 15: 1}},
		&unix.SockaddrUnix{Name: "/a/path"}, &unix.SockaddrUnix{Name: long}, &unix.SockaddrUnix{Name: ""},
		&unix.SockaddrUnix{Name: "@abstract\x00name"}, &unix.SockaddrUnix{Name: "@" + long},
	} {
		a, err := newSockaddr(addr)
		if err != nil {
			t.Errorf("%+v: %v", addr, err)
			continue
		}
		if got := fmt.Sprintf("%+v", printable(a.sockaddr())); got != fmt.Sprintf("%+v", printable(addr)) {
			t.Errorf("%s; want %+v", got, addr)
		}
	}
	a, _ := newSockaddr(&unix.SockaddrInet6{Port: 80, ZoneId: 7, Addr: [16]byte{0xfe, 0x80, 15: 1}})
	if ap, zone := a.addrPort(); ap != netip.MustParseAddrPort("[fe80::1]:80") || zone != 7 {
		t.Error(ap, zone)
	}
	a, _ = newSockaddr(&unix.SockaddrUnix{Name: "x"})
	if ap, _ := a.addrPort(); ap.IsValid() {
		t.Error(ap)
	}
	if got := new(sockaddr).sockaddr(); got != nil {
		t.Errorf("no address: %v", got)
	}
	for addr, want := range map[unix.Sockaddr]error{
		&unix.SockaddrInet4{Port: -1}:            syscall.EINVAL,
		&unix.SockaddrInet6{Port: 65536}:         syscall.EINVAL,
		&unix.SockaddrUnix{Name: long + "x"}:     syscall.EINVAL,
		&unix.SockaddrUnix{Name: "@x" + long}:    syscall.EINVAL,
		&unix.SockaddrNetlink{}:                  syscall.EAFNOSUPPORT,
		unix.Sockaddr(nil):                       syscall.EAFNOSUPPORT,
		unix.Sockaddr(&unix.SockaddrLinklayer{}): syscall.EAFNOSUPPORT,
	} {
		if op := Connect(-1, addr); op.Invalid() != want {
			t.Errorf("%+v: %v; want %v", addr, op.Invalid(), want)
		}
	}
}

// printable strips an address of the package's own copy of it.
func printable(addr unix.Sockaddr) any {
	switch a := addr.(type) {
	case *unix.SockaddrInet4:
		return fmt.Sprint("4 ", a.Port, a.Addr)
	case *unix.SockaddrInet6:
		return fmt.Sprint("6 ", a.Port, a.ZoneId, a.Addr)
	case *unix.SockaddrUnix:
		return "unix " + a.Name
	}
	return addr
}

// Connecting to somebody who never answers waits, and can be cancelled; the socket is the caller's still.
func TestConnectWaits(t *testing.T) {
	onEnginesWith(t, 1, func(t *testing.T, e *engine) {
		e.need(kindSocket, "5.19")
		_, addr := e.listener(loopback, 0, 0)
		var clients, ids []uint64
		for range 8 { // a queue of one or two takes the first of them
			s := e.opened(must(e, Socket(unix.AF_INET, unix.SOCK_STREAM, 0)), nil)
			connect := Connect(s, addr)
			clients, ids = append(clients, uint64(s)), append(ids, e.start(&connect.Spec))
		}
		e.begun()
		last := ids[len(ids)-1]
		if !e.pending(last) {
			t.Fatalf("the last one: %d", e.await(last))
		}
		for i, id := range ids {
			if e.pending(id) {
				must(e, CancelData(id))
				if res := e.await(id); res != -int32(syscall.ECANCELED) {
					t.Errorf("cancelled: %d", res)
				}
				if !isOpen(int(clients[i])) {
					t.Error("the socket is gone")
				}
			} else if res := e.await(id); res != 0 {
				t.Errorf("connect: %d", res)
			}
		}
	})
}

// A cancelled accept leaves the connection to the next one.
func TestAcceptCancel(t *testing.T) {
	onEnginesWith(t, 1, func(t *testing.T, e *engine) {
		e.need(kindSocket, "5.19")
		l, addr := e.listener(loopback, 0, 8)
		accept := Accept(l, unix.SOCK_NONBLOCK)
		id := e.start(&accept.Spec)
		e.begun()
		must(e, CancelData(id))
		if res := e.await(id); res != -int32(syscall.ECANCELED) {
			t.Errorf("cancelled: %d", res)
		}
		c := e.opened(must(e, Socket(unix.AF_INET, unix.SOCK_STREAM, 0)), nil)
		must(e, Connect(c, addr))
		s := must(e, Accept(l, 0))
		if !isOpen(s) {
			t.Fatal("nothing accepted")
		}
		op := Accept(l, 0)
		op.Discard(int32(s))
		if isOpen(s) {
			t.Error("the discarded connection is open")
		}
	})
}

// Accepting from what does not listen fails, and how it fails says whether it ever could.
func TestAcceptFromOther(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		for _, s := range []struct {
			family, typ int
			want        syscall.Errno
		}{
			{unix.AF_INET, unix.SOCK_STREAM, syscall.EINVAL},
			{unix.AF_INET, unix.SOCK_DGRAM, syscall.EOPNOTSUPP},
			{unix.AF_UNIX, unix.SOCK_SEQPACKET, syscall.EINVAL},
			{unix.AF_UNIX, unix.SOCK_DGRAM, syscall.EOPNOTSUPP},
			{unix.AF_NETLINK, unix.SOCK_RAW, syscall.EOPNOTSUPP},
		} {
			fd, err := unix.Socket(s.family, s.typ|unix.SOCK_CLOEXEC, 0)
			e.opened(fd, err)
			fails(e, Accept(fd, 0), s.want)
		}
	})
}

// Bytes that have arrived at a socket are not lost to a cancellation.
func TestRecvCancelRace(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		a, b := e.socketpair(unix.SOCK_STREAM)
		cancelRace(e, func(to []byte) Op[[]byte] { return Recv(a, to, 0) }, func(from []byte) Op[[]byte] { return Send(b, from, 0) })
	})
}

// A send to a full socket waits for room.
func TestSendWaits(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		a, b := e.socketpair(unix.SOCK_STREAM)
		chunk := make([]byte, 64<<10)
		full := 0
		for {
			n, err := TrySend(a, chunk, 0)
			if err == syscall.EAGAIN {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			full += n
		}
		fails(e, Send(a, chunk, unix.MSG_DONTWAIT), syscall.EAGAIN)
		send := Send(a, []byte("late"), 0)
		id := e.start(&send.Spec)
		if !e.pending(id) {
			t.Fatalf("sent to a full socket: %d", e.await(id))
		}
		var got []byte
		for len(got) < full+4 {
			r := do(e, Recv(b, chunk, 0))
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			got = append(got, r.Buf[:r.N]...)
		}
		if n := e.await(id); n != 4 || string(got[full:]) != "late" {
			t.Errorf("sent %d, %q", n, got[full:])
		}
	})
}
