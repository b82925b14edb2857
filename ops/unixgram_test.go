package ops_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"uringo/ops"
)

// The socket is asked whether the kernel would lose what waits, unless its owner knows, or nothing waits.
func TestLoses(t *testing.T) {
	for _, c := range []struct {
		typ, flags int
		loses      bool
	}{
		{unix.SOCK_DGRAM, 0, true},
		{unix.SOCK_DGRAM, unix.MSG_DONTWAIT, false},
		{unix.SOCK_STREAM, 0, false},
		{unix.SOCK_SEQPACKET, 0, false}, // who is not connected both ways cannot be there
	} {
		p, err := unix.Socketpair(unix.AF_UNIX, c.typ|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		send := ops.Send(p[0], []byte("x"), c.flags).Spec
		msg := ops.SendMsg(p[0], [][]byte{[]byte("x")}, nil, nil, c.flags).Spec
		recv := ops.Recv(p[0], make([]byte, 1), c.flags).Spec
		for name, s := range map[string]*ops.Spec{"send": &send, "sendmsg": &msg} {
			if got := s.Loses(); got != c.loses {
				t.Errorf("%s, type %d, flags %#x: %v", name, c.typ, c.flags, got)
			}
			if s.NotUnixgram(); s.Loses() {
				t.Errorf("%s, type %d: asked where it is known", name, c.typ)
			}
		}
		if recv.NotUnixgram(); recv.Loses() || recv.Kind.Name != "recv" {
			t.Errorf("a receive became %s", recv.Kind.Name)
		}
		unix.Close(p[0])
		unix.Close(p[1])
	}
}
