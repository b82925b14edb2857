package driver_test

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/ops"
)

// A listener that was shut down is ready for ever with nobody to accept. Whoever waits for somebody is told, also on a socket that does not wait, and
// none tries for ever.
func TestAcceptFromShutListener(t *testing.T) {
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{})
		for _, flags := range []int{0, unix.SOCK_NONBLOCK} {
			l := e.keep(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0))
			if err := unix.Bind(l, &unix.SockaddrUnix{}); err != nil {
				e.Fatal(err)
			}
			if err := unix.Listen(l, 4); err != nil {
				e.Fatal(err)
			}
			waits := driver.Submit(d, ops.Accept(l, 0))
			pending(e, waits)
			if err := unix.Shutdown(l, unix.SHUT_RD); err != nil {
				e.Fatal(err)
			}
			if r := result(e, waits); r.Err != syscall.EINVAL {
				e.Errorf("waited, flags %#x: %d, %v", flags, r.N, r.Err)
			}
			if r := do(e, d, ops.Accept(l, 0)); r.Err != syscall.EINVAL {
				e.Errorf("flags %#x: %d, %v", flags, r.N, r.Err)
			}
			if d.Engine() == driver.Uring {
				continue // its multishot accept waits for somebody to come all the same
			}
			if r, err := driver.SubmitMulti(d, ops.AcceptMulti(l, 0)).Next(inTime(e)); err != syscall.EINVAL {
				e.Errorf("stream, flags %#x: %v, %v", flags, r, err)
			}
		}
	})
}

// A message that never came tells of nothing: no ancillary data, no address.
func TestMessageAtTheEnd(t *testing.T) {
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{})
		for _, flags := range []int{0, unix.SOCK_NONBLOCK} {
			p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|flags, 0)
			fd := e.keep(p[0], err)
			e.keep(p[1], err)
			if err := unix.Shutdown(fd, unix.SHUT_RD); err != nil {
				e.Fatal(err)
			}
			r := do(e, d, ops.RecvMsg(fd, [][]byte{make([]byte, 8)}, make([]byte, 64), 0))
			if r.N != 0 || r.Err != nil || r.Buf.OOBLen() != 0 || r.Buf.From() != nil || r.Buf.Flags() != 0 {
				e.Errorf("flags %#x: %d, %v: %d bytes beside, from %v, %#x", flags, r.N, r.Err, r.Buf.OOBLen(), r.Buf.From(), r.Buf.Flags())
			}
		}
	})
}
