package driver_test

import (
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/ops"
)

// A packet for a peer whose queue is full waits for room, with all that is in it, whether there is an event that tells of the room or not; and
// where there is none, waiting is no busy one.
func TestFullQueue(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		for _, typ := range []int{unix.SOCK_DGRAM, unix.SOCK_SEQPACKET} {
			for _, how := range []string{"pair", "connected", "addressed"} {
				for _, mode := range []int{0, unix.SOCK_NONBLOCK} {
					if typ == unix.SOCK_DGRAM || how == "pair" {
						e.fullQueue(d, typ, mode, how)
					}
				}
			}
		}
	})
}

func (e *rig) fullQueue(d *driver.Driver, typ, mode int, how string) {
	e.Helper()
	var from, at int
	var to unix.Sockaddr
	if how == "pair" {
		p, err := unix.Socketpair(unix.AF_UNIX, typ|mode|unix.SOCK_CLOEXEC, 0)
		from, at = e.keep(p[0], err), e.keep(p[1], err)
	} else {
		at = e.keep(unix.Socket(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0))
		from = e.keep(unix.Socket(unix.AF_UNIX, typ|mode|unix.SOCK_CLOEXEC, 0))
		to = &unix.SockaddrUnix{Name: filepath.Join(e.TempDir(), "s")}
		if err := unix.Bind(at, to); err != nil {
			e.Fatal(err)
		}
		if how == "connected" {
			if err := unix.Connect(from, to); err != nil {
				e.Fatal(err)
			}
			to = nil
		}
	}
	const text = "hello world"
	full := 0
	for ; ; full++ {
		if err := unix.Sendmsg(from, []byte("x"), nil, to, unix.MSG_DONTWAIT); err == unix.EAGAIN {
			break
		} else if err != nil {
			e.Fatal(err)
		}
	}
	sends := []ops.Spec{ops.SendMsg(from, [][]byte{[]byte(text)}, nil, to, 0).Spec}
	if to == nil {
		sends = append(sends, ops.Send(from, []byte(text), 0).Spec)
	}
	for _, s := range sends {
		p := driver.Submit(d, ops.Op[struct{}]{Spec: s})
		pending(e, p)
		if before, begin := d.Stats().Repeated, time.Now(); to != nil {
			time.Sleep(100 * time.Millisecond)
			if n, most := d.Stats().Repeated-before, 200+4*uint64(time.Since(begin)/time.Millisecond); n > most {
				e.Errorf("type %d: tried %d times", typ, n)
			}
		}
		b := make([]byte, 100)
		for range full { // what filled it; afterwards what was to wait
			if _, err := unix.Read(at, b); err != nil {
				e.Fatal(err)
			}
		}
		if r := result(e, p); r.N != len(text) || r.Err != nil {
			e.Errorf("type %d, mode %#x, %s: sent %d, %v", typ, mode, how, r.N, r.Err)
		}
		if n, err := unix.Read(at, b); err != nil || string(b[:n]) != text {
			e.Errorf("type %d, mode %#x, %s: received %q, %v", typ, mode, how, b[:max(n, 0)], err)
		}
		for range full {
			if err := unix.Sendmsg(from, []byte("x"), nil, to, unix.MSG_DONTWAIT); err != nil {
				e.Fatal(err)
			}
		}
	}
}
