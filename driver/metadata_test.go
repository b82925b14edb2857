package driver_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/ops"
)

// TestMetadata moves the stack and collects garbage between submission and completion, for operations that point to more than a
// buffer: names, structures, vectors, times. The arguments are local variables.
func TestMetadata(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		defer collectOften()()
		d := e.open(driver.Config{Entries: 64})
		where := e.TempDir()
		dir := e.keep(unix.Open(where, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0))
		content := make([]byte, 1<<16)
		for i := range content {
			content[i] = byte(i * 7)
		}
		for i := range 8 {
			if err := os.WriteFile(filepath.Join(where, fmt.Sprint("file", i)), content[:1000*(i+1)], 0o600); err != nil {
				e.Fatal(err)
			}
		}
		file := e.keep(unix.Openat(dir, "file7", unix.O_RDWR|unix.O_CLOEXEC, 0))
		var listeners [2]int
		var addrs [2]unix.Sockaddr
		var boxes [2]struct {
			fd   int
			addr unix.Sockaddr
		}
		var alone sync.Mutex
		for i := range 2 {
			listeners[i], addrs[i] = e.listener()
			boxes[i].fd, boxes[i].addr = e.datagrams(unix.AF_UNIX)
		}
		tests := map[string]func(rng *rand.Rand, async uint8) error{
			"statx": func(rng *rand.Rand, async uint8) error {
				var st unix.Statx_t
				i := rng.IntN(8)
				op := ops.Statx(dir, fmt.Sprint("file", i), 0, unix.STATX_SIZE, &st)
				op.Flags |= async
				if err := across(d, op); err != nil {
					return err
				}
				if int(st.Size) != 1000*(i+1) {
					return fmt.Errorf("file%d has %d bytes", i, st.Size)
				}
				return nil
			},
			"openat": func(rng *rand.Rand, async uint8) error {
				i := rng.IntN(8)
				op := ops.Openat(dir, string([]byte{'f', 'i', 'l', 'e', '0' + byte(i)}), unix.O_RDONLY, 0)
				op.Flags |= async
				return e.opensFile(d, op, i)
			},
			"openat2": func(rng *rand.Rand, async uint8) error {
				i := rng.IntN(8)
				op := ops.Openat2(dir, fmt.Sprint("file", i), unix.OpenHow{Flags: unix.O_RDONLY, Resolve: unix.RESOLVE_BENEATH})
				op.Flags |= async
				return e.opensFile(d, op, i)
			},
			"readv": func(rng *rand.Rand, async uint8) error {
				var a, b, c [100]byte
				off := rng.IntN(7000)
				op := ops.ReadvAt(file, [][]byte{a[:], b[:50], c[:]}, int64(off))
				op.Flags |= async
				if err := across(d, op); err != nil {
					return err
				}
				if string(a[:])+string(b[:50])+string(c[:]) != string(content[off:off+250]) || b[50] != 0 {
					return errors.New("other bytes")
				}
				return nil
			},
			"writev": func(rng *rand.Rand, async uint8) error {
				off := rng.IntN(7000)
				var a, b [100]byte
				copy(a[:], content[off:])
				copy(b[:], content[off+100:])
				op := ops.WritevAt(file, [][]byte{a[:], b[:]}, int64(off))
				op.Flags |= async
				return across(d, op)
			},
			"read": func(rng *rand.Rand, async uint8) error {
				var a [300]byte
				off := rng.IntN(7000)
				op := ops.ReadAt(file, a[:], int64(off))
				op.Flags |= async
				if err := across(d, op); err != nil {
					return err
				}
				if !bytes.Equal(a[:], content[off:off+300]) {
					return errors.New("other bytes")
				}
				return nil
			},
			"timeout": func(rng *rand.Rand, _ uint8) error {
				start, long := time.Now(), time.Duration(rng.IntN(3000))*time.Microsecond
				if err := across(d, ops.Timeout(long)); err != nil {
					return err
				}
				if took := time.Since(start); took < long {
					return fmt.Errorf("%v took %v", long, took)
				}
				return nil
			},
			"connect": func(rng *rand.Rand, async uint8) error {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					return err
				}
				defer unix.Close(fd)
				i := rng.IntN(len(listeners))
				where := *addrs[i].(*unix.SockaddrInet4)
				op := ops.Connect(fd, &where)
				op.Flags |= async
				if err := across(d, op); err != nil {
					return err
				}
				if peer, err := unix.Getpeername(fd); err != nil || peer.(*unix.SockaddrInet4).Port != where.Port {
					return fmt.Errorf("connected to %+v instead of %+v, %w", peer, where, err)
				}
				taken, _, err := unix.Accept4(listeners[i], unix.SOCK_CLOEXEC)
				if err == nil {
					err = unix.Close(taken)
				}
				return err
			},
			"sendmsg and recvmsg": func(rng *rand.Rand, async uint8) error {
				var text [100]byte
				copy(text[:], content[rng.IntN(7000):])
				from, to := boxes[0], boxes[1]
				if rng.IntN(2) == 0 {
					from, to = to, from
				}
				alone.Lock() // or another would receive it
				defer alone.Unlock()
				send := ops.SendMsg(from.fd, [][]byte{text[:30], text[30:]}, nil, to.addr, 0)
				send.Flags |= async
				if err := across(d, send); err != nil {
					return err
				}
				var a [40]byte
				var b [200]byte
				receive := ops.RecvMsg(to.fd, [][]byte{a[:], b[:]}, make([]byte, 64), 0)
				receive.Flags |= async
				p := driver.Submit(d, receive)
				deep(1000, runtime.GC)
				r := <-p.Done()
				if r.Err != nil || r.N != 100 || string(a[:])+string(b[:60]) != string(text[:]) || fmt.Sprint(r.Buf.From()) != fmt.Sprint(from.addr) {
					return fmt.Errorf("received %d from %v, %w", r.N, r.Buf.From(), r.Err)
				}
				return nil
			},
			"names": func(rng *rand.Rand, async uint8) error {
				name := func() string { return fmt.Sprint("name", rng.Uint64()) }
				one, two := name(), name()
				for _, op := range []ops.Op[struct{}]{ops.Mkdirat(dir, one, 0o700), ops.Renameat2(dir, one, dir, two, 0),
					ops.Unlinkat(dir, two, unix.AT_REMOVEDIR)} {
					op.Flags |= async
					if err := across(d, op); err != nil {
						return fmt.Errorf("%s: %w", op.Kind.Name, err)
					}
				}
				return nil
			},
		}
		for name, test := range tests {
			e.together(2, func(i int) {
				rng := e.random(i)
				for round := range size(3, 300) {
					async := uint8(0)
					if rng.IntN(2) == 0 {
						async = ops.Async
					}
					errs := make(chan error)
					go func() { errs <- test(rng, async) }() // a small stack
					if err := <-errs; err != nil {
						e.Errorf("%s, round %d: %v", name, round, err)
						return
					}
				}
			})
		}
		if got := must(e, d, ops.ReadAt(file, content[8000:], 0)); got != 8000 || !bytes.Equal(content[8000:16000], content[:8000]) {
			e.Errorf("the file changed")
		}
	})
}

// across performs an operation, and moves the stack meanwhile. A full transfer is a success.
func across[T any](d *driver.Driver, op ops.Op[T]) error {
	p := driver.Submit(d, op)
	deep(1000, func() {
		for range size(1, 5) {
			runtime.GC()
		}
	})
	return (<-p.Done()).Err
}

func (e *rig) opensFile(d *driver.Driver, op ops.Op[struct{}], i int) error {
	p := driver.Submit(d, op)
	deep(1000, runtime.GC)
	r := <-p.Done()
	if r.Err != nil {
		return r.Err
	}
	defer unix.Close(r.N)
	var st unix.Stat_t
	if err := unix.Fstat(r.N, &st); err != nil {
		return err
	}
	if int(st.Size) != 1000*(i+1) {
		return fmt.Errorf("another file, of %d bytes", st.Size)
	}
	return nil
}
