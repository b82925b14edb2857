package ops

import (
	"testing"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

// nothings are the ways to write nothing.
var nothings = map[string]func(fd int) Spec{
	"write":               func(fd int) Spec { return WriteAt(fd, nil, -1).Spec },
	"write at an offset":  func(fd int) Spec { return WriteAt(fd, []byte{}, 0).Spec },
	"write, vec":          func(fd int) Spec { return WritevAt(fd, nil, -1).Spec },
	"write empty vec":     func(fd int) Spec { return WritevAt(fd, [][]byte{{}, {}}, 0).Spec },
	"write, fixed buffer": func(fd int) Spec { return transfer(kindSendFixed, fd, nil, -1, 0) },
}

// arrived reports whether there is a packet to receive, which may be empty.
func arrived(t *testing.T, fd int) bool {
	t.Helper()
	r := pollNow(int32(fd), unix.POLLIN)
	if r < 0 {
		t.Errorf("poll: %d", r)
	}
	return r > 0
}

// To write nothing to a socket for packets is to send an empty one, also by the calls that wait, and to anything else it is nothing.
func TestWriteNothing(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		for what, nothing := range nothings {
			for _, flags := range []int{0, unix.SOCK_NONBLOCK} {
				for typ, sends := range map[int]bool{unix.SOCK_DGRAM: true, unix.SOCK_SEQPACKET: true, unix.SOCK_STREAM: false} {
					a, b := e.socketpair(typ | flags)
					if n := must(e, Op[struct{}]{Spec: nothing(a)}); n != 0 || arrived(t, b) != sends {
						t.Errorf("%s, type %d, flags %x: %d, arrived: %v", what, typ, flags, n, !sends)
					}
					a, b = e.socketpair(typ | flags)
					if n := perform(Op[struct{}]{Spec: nothing(a)}); n != 0 || arrived(t, b) != sends {
						t.Errorf("%s, type %d, flags %x: the call: %d, arrived: %v", what, typ, flags, n, !sends)
					}
				}
			}
			fd := e.file("content")
			if n := must(e, Op[struct{}]{Spec: nothing(fd)}); n != 0 || e.content(fd) != "content" {
				t.Errorf("%s to a file: %d", what, n)
			}
			_, w := e.pipe()
			if n := must(e, Op[struct{}]{Spec: nothing(w)}); n != 0 {
				t.Errorf("%s to a pipe: %d", what, n)
			}
			if errno := perform(Op[struct{}]{Spec: nothing(-1)}); errno != ebadf {
				t.Errorf("%s to nothing: %d", what, errno)
			}
			a, b := e.socketpair(unix.SOCK_STREAM)
			_ = unix.Close(b)
			if errno := do(e, Op[struct{}]{Spec: nothing(a)}).Err; errno != unix.EPIPE {
				t.Errorf("%s to a peer who is gone: %v", what, errno)
			}
		}
		// There is no room: the packet is not sent, and a call that does not wait says so.
		a, b := e.socketpair(unix.SOCK_DGRAM | unix.SOCK_NONBLOCK)
		for {
			if _, err := unix.Write(a, nil); err == unix.EAGAIN {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		for what, nothing := range nothings {
			s, entry := nothing(a), new(ring.SQE)
			s.Prepare(entry)
			if res := calls[entry.Op].Try(entry); res != eagain {
				t.Errorf("%s without room: %d", what, res)
			}
		}
		if _, err := unix.Read(b, make([]byte, 1)); err != nil {
			t.Error(err)
		}
	})
}
