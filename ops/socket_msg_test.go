package ops

import (
	"net/netip"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDatagrams(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		var fds [2]int
		for i := range fds {
			fds[i] = e.opened(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0))
			if err := unix.Bind(fds[i], loopback); err != nil {
				t.Fatal(err)
			}
		}
		from, to := e.name(fds[0]).(*unix.SockaddrInet4), e.name(fds[1])
		a, b := make([]byte, 2), make([]byte, 8)
		recv := RecvMsg(fds[1], [][]byte{a, nil, b}, nil, 0)
		id := e.start(&recv.Spec)
		if !e.pending(id) {
			t.Fatalf("received nothing: %d", e.await(id))
		}
		if n := must(e, SendMsg(fds[0], [][]byte{[]byte("he"), []byte("llo")}, nil, to, 0)); n != 5 {
			t.Errorf("sent %d", n)
		}
		if n := e.await(id); n != 5 || string(a) != "he" || string(b[:3]) != "llo" {
			t.Errorf("received %d %q %q", n, a, b)
		}
		if sa, ok := recv.Buf.From().(*unix.SockaddrInet4); !ok || sa.Port != from.Port || sa.Addr != from.Addr {
			t.Errorf("from %+v; want %+v", recv.Buf.From(), from)
		}
		if ap, _ := recv.Buf.FromAddrPort(); ap != netip.AddrPortFrom(netip.AddrFrom4(from.Addr), uint16(from.Port)) {
			t.Errorf("from %v; want %+v", ap, from)
		}
		if recv.Buf.Flags() != 0 || recv.Buf.OOBLen() != 0 {
			t.Errorf("flags %#x, %d bytes beside", recv.Buf.Flags(), recv.Buf.OOBLen())
		}

		// One longer than the buffers is cut; the size of it is told on request.
		m := recv.Buf
		for _, c := range []struct{ flags, n int }{{0, 2}, {unix.MSG_TRUNC, 5}} {
			must(e, m.Send(fds[0], [][]byte{[]byte("hello")}, nil, to, 0))
			r := do(e, m.Recv(fds[1], [][]byte{a}, nil, c.flags))
			if r.N != c.n || r.Err != nil || r.Buf.Flags()&unix.MSG_TRUNC == 0 {
				t.Errorf("flags %#x: %d, %v, %#x", c.flags, r.N, r.Err, r.Buf.Flags())
			}
			must(e, m.Send(fds[0], [][]byte{[]byte("hello")}, nil, to, 0))
			if r := do(e, Recv(fds[1], a, c.flags)); r.N != c.n || r.Err != nil {
				t.Errorf("flags %#x: %d, %v", c.flags, r.N, r.Err)
			}
		}
		must(e, SendMsg(fds[0], nil, nil, to, 0))
		if n := must(e, RecvMsg(fds[1], [][]byte{a}, nil, 0)); n != 0 {
			t.Errorf("an empty datagram: %d", n)
		}
		fails(e, SendMsg(fds[0], [][]byte{a}, nil, nil, 0), syscall.EDESTADDRREQ)
		fails(e, SendMsg(fds[0], [][]byte{a}, nil, &unix.SockaddrNetlink{}, 0), syscall.EAFNOSUPPORT)
		fails(e, RecvMsg(fds[1], [][]byte{a}, nil, unix.MSG_DONTWAIT), syscall.EAGAIN)
		fails(e, SendMsg(fds[0], [][]byte{make([]byte, 1<<17)}, nil, to, 0), syscall.EMSGSIZE)
	})
}

// Descriptors travel with a message, close-on-exec, and do not leak if nobody sees it.
func TestRights(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		a, b := e.socketpair(unix.SOCK_STREAM)
		fd := e.file("content")
		receive := func() (Op[*Msg], int32, int) {
			t.Helper()
			must(e, SendMsg(a, [][]byte{[]byte("x")}, unix.UnixRights(fd), nil, 0))
			op := RecvMsg(b, [][]byte{make([]byte, 8)}, make([]byte, unix.CmsgSpace(4*4)), 0)
			res := e.await(e.start(&op.Spec))
			if res != 1 || op.Buf.OOBLen() != unix.CmsgSpace(4) && op.Buf.OOBLen() != unix.CmsgLen(4) {
				t.Fatalf("%d, %d bytes beside", res, op.Buf.OOBLen())
			}
			msgs, err := unix.ParseSocketControlMessage(op.Buf.OOB[:op.Buf.OOBLen()])
			if err != nil {
				t.Fatal(err)
			}
			got, err := unix.ParseUnixRights(&msgs[0])
			if err != nil {
				t.Fatal(err)
			}
			return op, res, got[0]
		}
		_, _, got := receive()
		defer unix.Close(got)
		if s := e.content(got); s != "content" {
			t.Errorf("another file: %q", s)
		}
		if fl, _ := unix.FcntlInt(uintptr(got), unix.F_GETFD, 0); fl != unix.FD_CLOEXEC {
			t.Error("not close-on-exec")
		}
		op, res, got := receive()
		op.Discard(res)
		if isOpen(got) {
			t.Error("the discarded descriptor is open")
		}
		op, res, got = receive()
		entry := prepared(&op)
		calls[entry.Op].Drop(entry, res)
		if isOpen(got) {
			t.Error("the dropped descriptor is open")
		}

		// One buffer for ancillary data too small: told, not lost in silence.
		must(e, SendMsg(a, [][]byte{[]byte("x")}, unix.UnixRights(fd), nil, 0))
		r := do(e, RecvMsg(b, [][]byte{make([]byte, 8)}, make([]byte, 4), 0))
		if r.Err != nil || r.Buf.Flags()&unix.MSG_CTRUNC == 0 {
			t.Errorf("%v, flags %#x", r.Err, r.Buf.Flags())
		}
	})
}

func TestTrySockets(t *testing.T) {
	e := &engine{TB: t}
	a, b := e.socketpair(unix.SOCK_STREAM)
	buf := make([]byte, 8)
	if n, err := TryRecv(a, buf, 0); err != syscall.EAGAIN {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := TrySend(b, []byte("hello"), 0); n != 5 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := TryRecv(a, buf, 0); n != 5 || err != nil || string(buf[:5]) != "hello" {
		t.Errorf("%d %q, %v", n, buf, err)
	}
	recv := RecvMsg(a, [][]byte{buf[:2], buf[2:]}, make([]byte, 64), 0)
	if n, err := TryRecvMsg(&recv); err != syscall.EAGAIN {
		t.Errorf("%d, %v", n, err)
	}
	send := SendMsg(b, [][]byte{[]byte("wor"), []byte("ld")}, unix.UnixCredentials(&unix.Ucred{Pid: int32(os.Getpid()),
		Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid())}), nil, 0)
	if n, err := TrySendMsg(&send); n != 5 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := TryRecvMsg(&recv); n != 5 || err != nil || string(buf[:5]) != "world" {
		t.Errorf("%d %q, %v", n, buf, err)
	}
	bad := SendMsg(b, nil, nil, &unix.SockaddrNetlink{}, 0)
	if _, err := TrySendMsg(&bad); err != syscall.EAFNOSUPPORT {
		t.Error(err)
	}
	big := make([]byte, 100_000)
	if n, err := TrySend(b, big, 0); n < 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	} else if m, err := TryRecv(a, big, 0); m < 1 || err != nil {
		t.Errorf("%d, %v", m, err)
	}
	_ = unix.Close(a)
	if _, err := TrySend(b, buf, 0); err != syscall.EPIPE {
		t.Error(err)
	}
	if allocs := testing.AllocsPerRun(100, func() { _, _ = TryRecv(b, buf, 0) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
