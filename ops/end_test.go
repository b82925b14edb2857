package ops

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// shut returns a socket for datagrams, and one that listens, that were shut down for receiving.
func (e *engine) shut() (datagrams, listener int) {
	e.Helper()
	datagrams, _ = e.socketpair(unix.SOCK_DGRAM)
	listener, _ = e.listener(&unix.SockaddrUnix{}, 0, 4)
	for _, fd := range []int{datagrams, listener} {
		if err := unix.Shutdown(fd, unix.SHUT_RD); err != nil {
			e.Fatal(err)
		}
	}
	return datagrams, listener
}

// What was shut down for receiving has come to its end, and nobody waits for it, nor is told of what never came. So say the calls that wait, too.
func TestShutForReceiving(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		datagrams, listener := e.shut()
		for way, perform := range map[string]func(o *Op[*Msg]) Result[*Msg]{
			"submitted": func(o *Op[*Msg]) Result[*Msg] { return do(e, *o) },
			"called":    Run[*Msg],
		} {
			m := RecvMsg(datagrams, [][]byte{make([]byte, 8)}, make([]byte, 64), 0)
			if r := perform(&m); r.N != 0 || r.Err != nil {
				t.Errorf("%s: %d, %v", way, r.N, r.Err)
			}
			if m.Buf.OOBLen() != 0 || m.Buf.From() != nil || m.Buf.Flags() != 0 {
				t.Errorf("%s: %d bytes beside, from %v, flags %#x", way, m.Buf.OOBLen(), m.Buf.From(), m.Buf.Flags())
			}
		}
		for _, o := range []Op[[]byte]{
			Recv(datagrams, make([]byte, 8), 0), Recv(datagrams, make([]byte, 8), unix.MSG_PEEK), ReadAt(datagrams, make([]byte, 8), -1),
		} {
			if n := must(e, o); n != 0 {
				t.Errorf("%s: %d bytes", o.Kind.Name, n)
			}
			if r := Run(&o); r.N != 0 || r.Err != nil {
				t.Errorf("%s, called: %d, %v", o.Kind.Name, r.N, r.Err)
			}
		}
		accept := Accept(listener, 0)
		fails(e, accept, syscall.EINVAL)
		if r := Run(&accept); r.Err != syscall.EINVAL {
			t.Errorf("accept, called: %d, %v", r.N, r.Err)
		}
	})
}

// Who had connected before the end is accepted before it.
func TestShutListenerWithQueue(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		l, addr := e.listener(&unix.SockaddrUnix{}, 0, 4)
		c := e.opened(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0))
		if err := unix.Connect(c, addr); err != nil {
			t.Fatal(err)
		}
		if err := unix.Shutdown(l, unix.SHUT_RD); err != nil {
			t.Fatal(err)
		}
		e.opened(must(e, Accept(l, 0)), nil)
		fails(e, Accept(l, 0), syscall.EINVAL)
	})
}
