package ops_test

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/ops"
)

// FuzzArrival takes apart what a kernel with faults might leave in a buffer: every part lies within it, and in its room.
func FuzzArrival(f *testing.F) {
	f.Add([]byte{}, uint32(0), uint32(0))
	f.Add(bytes.Repeat([]byte{0xff}, 100), uint32(16), uint32(32))
	f.Add(append([]byte{16, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0x20, 0, 0, 0, 2, 0, 0, 80, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, "abc"...),
		uint32(16), uint32(0))
	f.Fuzz(func(t *testing.T, mem []byte, name, oob uint32) {
		room := ops.Room{Name: name % 256, OOB: oob % 256}
		m := room.Parse(mem)
		if n := max(0, len(mem)-room.Head()); len(m.Data()) != n {
			t.Errorf("%d bytes of data instead of %d", len(m.Data()), n)
		}
		if len(m.OOB()) > int(room.OOB) {
			t.Errorf("%d bytes of ancillary data in room for %d", len(m.OOB()), room.OOB)
		}
		ap, _ := m.FromAddrPort()
		switch sa := m.From().(type) {
		case *unix.SockaddrInet4:
			if ap.Addr().As4() != sa.Addr || int(ap.Port()) != sa.Port {
				t.Errorf("%v and %v", ap, sa)
			}
		case *unix.SockaddrInet6:
			if ap.Addr().As16() != sa.Addr || int(ap.Port()) != sa.Port {
				t.Errorf("%v and %v", ap, sa)
			}
		default:
			if ap.IsValid() {
				t.Errorf("%v and %v", ap, sa)
			}
		}
	})
}

// TestArrange receives by plain calls what the driver lays out as the kernel does, cut where a buffer ends.
func TestArrange(t *testing.T) {
	const length = 8
	room := ops.Room{Name: 112, OOB: 64}
	for text, flags := range map[string]int{"": 0, "short": 0, "too long for it": unix.MSG_TRUNC} {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		a := ops.NewArrivals(pair[0], room, 0)
		if err := unix.Sendmsg(pair[1], []byte(text), unix.UnixRights(pair[1]), nil, 0); err != nil {
			t.Fatal(err)
		}
		b := bytes.Repeat([]byte{0xee}, room.Head()+length)
		o := ops.Op[struct{}]{Spec: a.Into(b)}
		r := ops.Run(&o)
		if r.Err != nil || r.N != min(len(text), length) {
			t.Fatalf("%+v", r)
		}
		m := room.Parse(a.Arrange(b, r.N))
		msgs, err := unix.ParseSocketControlMessage(m.OOB())
		if string(m.Data()) != text[:r.N] || m.Flags() != flags || m.From() != nil || err != nil || len(msgs) != 1 {
			t.Errorf("%q from %v, flags %#x, %d control messages, %v", m.Data(), m.From(), m.Flags(), len(msgs), err)
		}
		if fds, err := unix.ParseUnixRights(&msgs[0]); err != nil || len(fds) != 1 {
			t.Errorf("descriptors %v, %v", fds, err)
		} else {
			m.Discard()
			if _, err := unix.FcntlInt(uintptr(fds[0]), unix.F_GETFD, 0); err != unix.EBADF {
				t.Errorf("a descriptor that nobody wants: %v", err)
			}
		}
		unix.Close(pair[0])
		unix.Close(pair[1])
	}
}
