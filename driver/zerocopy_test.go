package driver_test

import (
	"bytes"
	"os"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/ops"
)

// tcp returns the two ends of a connection, of which the first is the driver's.
func (e *rig) tcp() (a, b int) {
	e.Helper()
	l, addr := e.listener()
	a = e.keep(e.dial(addr), nil)
	b, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
	for err == syscall.EINTR {
		b, _, err = unix.Accept4(l, unix.SOCK_CLOEXEC)
	}
	return a, e.keep(b, err)
}

// Zero-copy sends: whoever got his buffer back scribbles over it at once, and the receiver sees what was sent; also when the sends are
// cancelled. The model of the kernel looks whether the memory was left alone until it let go.
func TestSendZC(t *testing.T) { // HAZARDS T28
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		a, b := e.tcp()
		const length = 8 << 10
		var sent, received bytes.Buffer
		var reader sync.WaitGroup
		reader.Go(func() {
			buf := make([]byte, 1<<16)
			for {
				n, err := unix.Read(b, buf)
				if n > 0 {
					received.Write(buf[:n])
				} else if err != syscall.EINTR {
					return
				}
			}
		})
		copied, not := 0, 0
		buf := make([]byte, length)
		for i := range size(200, 20_000) {
			for j := range buf {
				buf[j] = byte(i + j>>5)
			}
			was := bytes.Clone(buf)
			performed := 0
			z := ops.ZeroCopy{Performed: func() { performed++ }}
			var r ops.Result[[]byte]
			cancel := e.rng.IntN(3) == 0
			if i%2 == 0 {
				r = sendZC(e, d, ops.SendZC(a, buf, 0, &z), cancel)
			} else { // the same in pieces
				k := 1 + e.rng.IntN(length-1)
				m := sendZC(e, d, new(ops.Msg).SendZC(a, [][]byte{buf[:k], buf[k:]}, nil, nil, 0, &z), cancel)
				r = ops.Result[[]byte]{N: m.N, Err: m.Err, Buf: m.Buf.Bufs[0][:length]}
			}
			switch {
			case r.Err == syscall.ECANCELED:
			case r.Err == syscall.EINVAL:
				e.Skip("needs IORING_SEND_ZC_REPORT_USAGE (Linux 6.2)")
			case (r.Err == syscall.ENOMEM || r.Err == syscall.ENOBUFS) && os.Getuid() != 0:
				e.Skipf("needs more memory to lock: %v", r.Err)
			case r.Err != nil:
				e.Fatal(r.Err)
			default:
				sent.Write(was[:r.N])
			}
			if performed > 1 || performed == 1 && r.Err != nil {
				e.Errorf("performed %d times: %+v", performed, r)
			}
			if z.Copied {
				copied++
			} else {
				not++
			}
			if &r.Buf[0] != &buf[0] {
				e.Fatal("another buffer")
			}
			clear(r.Buf)
		}
		unix.Shutdown(a, unix.SHUT_WR)
		reader.Wait()
		if !bytes.Equal(sent.Bytes(), received.Bytes()) {
			e.Errorf("sent %d bytes, received %d, or others", sent.Len(), received.Len())
		}
		e.Logf("%d copied, %d not", copied, not)
		if e.sim != nil && (copied == 0 || not == 0) {
			e.Errorf("%d copied, %d not", copied, not)
		}
	})
}

func sendZC[T any](e *rig, d *driver.Driver, op ops.Op[T], cancel bool) ops.Result[T] {
	p := driver.Submit(d, op)
	if cancel {
		p.Cancel()
	}
	return result(e, p)
}

// A Unix socket has no zero copy, and says so.
func TestSendZCUnsupported(t *testing.T) {
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{})
		a, b := e.sockets()
		var z ops.ZeroCopy
		r := do(e, d, ops.SendZC(a, []byte("hello"), 0, &z))
		switch r.Err {
		case nil:
		case syscall.EOPNOTSUPP, syscall.EINVAL, syscall.ENOMEM, syscall.ENOBUFS: // the last two with little memory to lock
			return
		default:
			e.Fatalf("%+v", r)
		}
		buf := make([]byte, 8)
		if n, err := unix.Read(b, buf); r.Err != nil || r.N != 5 || !z.Copied || string(buf[:n]) != "hello" {
			e.Errorf("%+v, copied %v; received %q, %v", r, z.Copied, buf[:n], err)
		}
		if r := do(e, d, ops.SendZC(a, nil, unix.MSG_WAITALL, &z)); r.Err != syscall.EINVAL {
			e.Error(r.Err)
		}
	})
}
