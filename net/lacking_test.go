package net_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"uringo/buf"
	"uringo/driver"
	"uringo/executor"
	"uringo/internal/ring"
	"uringo/internal/testenv"
	"uringo/net"
)

// TestEveryOpcodeMissing takes one opcode away after the other: what needs it is done in another way, with the same results.
func TestEveryOpcodeMissing(t *testing.T) { // N7
	testenv.SkipShort(t)
	if testenv.Engines(t)[0] != driver.Uring {
		t.Skip("needs io_uring")
	}
	for _, op := range []net.Operation{net.OpRead, net.OpWrite} {
		defer net.Pin(op, net.Pin(op, net.Ring))
	}
	for i, op := range []ring.Op{ring.OpSocket, ring.OpConnect, ring.OpAccept, ring.OpRecv, ring.OpSend, ring.OpRecvmsg, ring.OpSendmsg, ring.OpRead,
		ring.OpWrite, ring.OpReadFixed, ring.OpWriteFixed, ring.OpSendZC, ring.OpSendmsgZC, ring.OpShutdown, ring.OpSplice, ring.OpPollAdd, ring.OpTimeout,
		ring.OpAsyncCancel, ring.OpClose, ring.OpFilesUpdate, ring.OpFixedFdInstall} {
		executors := []executor.Executor{executor.Goroutines(), executor.Workers(1), executor.Local()}
		if !testenv.Nightly() {
			executors = executors[i%3 : i%3+1] // what stands in for an opcode is the driver's business
		}
		for _, e := range executors {
			t.Run(op.String()+"/"+e.String(), func(t *testing.T) {
				cfg := driver.OnKernel(driver.Config{Engine: driver.Uring}, ring.Lacking{Kernel: ring.Linux(), Op: op})
				run(t, e, cfg, someOfAll)
			})
		}
	}
}

// TestTransientResults injects results that mean "again" into everything: nobody notices.
func TestTransientResults(t *testing.T) { // N8
	testenv.SkipShort(t)
	if testenv.Engines(t)[0] != driver.Uring {
		t.Skip("needs io_uring")
	}
	for _, op := range []net.Operation{net.OpRead, net.OpWrite} {
		defer net.Pin(op, net.Pin(op, net.Ring))
	}
	for i, e := range executors() {
		t.Run(e.String(), func(t *testing.T) {
			faults := ring.NewFaults(ring.Linux(), uint64(i+1),
				ring.FaultConfig{Inject: 0.1, Results: []int32{-int32(syscall.EINTR), -int32(syscall.EAGAIN), -512}})
			if !faults.CanInject() {
				t.Skip("needs IORING_NOP_INJECT_RESULT (6.10)")
			}
			run(t, e, driver.OnKernel(driver.Config{Engine: driver.Uring}, faults), func(t *testing.T, ctx context.Context) {
				for range 3 {
					someOfAll(t, ctx)
				}
				if faults.Stats().Injected == 0 {
					t.Error("no result was injected")
				}
			})
		})
	}
}

// someOfAll does a bit of everything.
func someOfAll(t *testing.T, ctx context.Context) {
	dir := t.TempDir()
	for _, network := range []string{"tcp", "unix"} {
		for what, try := range map[string]func() error{
			"talk":            func() error { return talk(t, ctx, network) },
			"talk by ring":    func() error { return ringTalk(t, ctx, network) },
			"give up waiting": func() error { return giveUpWaiting(t, ctx, network) },
			"Readable":        func() error { return readable(t, ctx, network) },
			"SendFile":        func() error { return sendOnce(t, ctx, network, dir, 65537) },
			"ReceiveFile":     func() error { return receiveOnce(t, ctx, network, filepath.Join(dir, "received"), 0, 65537) },
			"Splice":          func() error { return spliceOnce(t, ctx, [2]string{network, "tcp"}, 65537) },
		} {
			if err := try(); err != nil {
				t.Errorf("%s: %s: %v", network, what, err)
			}
		}
	}
	for _, network := range []string{"udp", "unixgram"} {
		if err := packets(t, ctx, network); err != nil {
			t.Errorf("%s: %v", network, err)
		}
	}
}

// talk sends in every way, to somebody who receives in every way, and has to wait for it.
func talk(t *testing.T, ctx context.Context, network string) error {
	c, s := connect(t, ctx, network)
	if c == nil {
		return errors.New("not connected")
	}
	defer closeAll(t, ctx, c, s)
	pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 2}}})
	text := func(i int) []byte { return fmt.Appendf(nil, "message %d", i) }
	sends := []func(ctx context.Context, b []byte) (int, error){
		func(ctx context.Context, b []byte) (int, error) { n, _, err := c.Write(ctx, b); return n, err },
		func(ctx context.Context, b []byte) (int, error) { n, _, err := c.WriteAll(ctx, b); return n, err },
		func(ctx context.Context, b []byte) (int, error) {
			n, _, err := c.Writev(ctx, [][]byte{b[:3], b[3:]})
			return n, err
		},
		func(ctx context.Context, b []byte) (int, error) {
			return c.SendMsg(ctx, &net.Message{Bufs: [][]byte{b[:3], b[3:]}})
		},
		func(ctx context.Context, b []byte) (int, error) {
			n, _, _, err := c.WriteZeroCopy(ctx, b)
			return n, err
		},
		func(ctx context.Context, b []byte) (int, error) {
			n, _, err := c.SendMsgZeroCopy(ctx, &net.Message{Bufs: [][]byte{b[:3], b[3:]}})
			return n, err
		},
		func(ctx context.Context, b []byte) (int, error) {
			f, err := pool.Get(ctx, 4096)
			if err != nil {
				return 0, err
			}
			defer f.Release()
			n, _, err := c.WriteFixed(ctx, f.View(0, copy(f.Bytes(), b)))
			return n, err
		},
	}
	receives := []func(ctx context.Context) ([]byte, error){
		func(ctx context.Context) ([]byte, error) {
			n, b, err := s.Read(ctx, make([]byte, 100))
			return b[:n], err
		},
		func(ctx context.Context) ([]byte, error) {
			n, b, err := s.ReadFull(ctx, make([]byte, len(text(1))))
			return b[:n], err
		},
		func(ctx context.Context) ([]byte, error) {
			n, b, err := s.Readv(ctx, [][]byte{make([]byte, 4), make([]byte, 96)})
			return append(b[0], b[1]...)[:n], err
		},
		func(ctx context.Context) ([]byte, error) {
			m := net.Message{Bufs: [][]byte{make([]byte, 100)}}
			err := s.RecvMsg(ctx, &m)
			return m.Bufs[0][:m.N], err
		},
		func(ctx context.Context) ([]byte, error) {
			n, b, err := s.Peek(ctx, make([]byte, 100))
			if err != nil {
				return b[:n], err
			}
			n, b, err = s.Read(ctx, make([]byte, 100))
			return b[:n], err
		},
		func(ctx context.Context) ([]byte, error) {
			f, err := pool.Get(ctx, 4096)
			if err != nil {
				return nil, err
			}
			defer f.Release()
			n, _, err := s.ReadFixed(ctx, f)
			return bytes.Clone(f.Bytes()[:n]), err
		},
		func(ctx context.Context) (b []byte, err error) {
			for chunk, err := range s.Receives(ctx, nil) {
				if err != nil {
					return nil, err
				}
				b = bytes.Clone(chunk.Bytes())
				chunk.Release()
				break
			}
			return b, nil
		},
		func(ctx context.Context) (b []byte, err error) {
			for m, err := range s.ReceivesMsg(ctx, nil) {
				if err != nil {
					return nil, err
				}
				b = bytes.Clone(m.Bytes())
				m.Release()
				break
			}
			return b, nil
		},
	}
	for i := range 10 { // single digits
		for j, receive := range receives {
			send := sends[(i+j)%len(sends)]
			err := together(ctx, func(ctx context.Context) error {
				b, err := receive(ctx)
				if err != nil || !bytes.Equal(b, text(i)) {
					return fmt.Errorf("received %q in way %d, %w", b, j, err)
				}
				return nil
			}, func(ctx context.Context) error {
				if i%3 == 0 {
					if err := executor.Sleep(ctx, 200*time.Microsecond); err != nil {
						return err
					}
				}
				if n, err := send(ctx, text(i)); n != len(text(i)) || err != nil {
					return fmt.Errorf("sent %d in way %d, %w", n, (i+j)%len(sends), err)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	if n, _, err := s.Read(ctx, make([]byte, 1)); n != 0 || err != io.EOF {
		return fmt.Errorf("at the end: %d, %w", n, err)
	}
	return nil
}

// ringTalk talks on a connection in the ring's table, if there is one, and on what is made of it.
func ringTalk(t *testing.T, ctx context.Context, network string) error {
	c, s := ringPair(t, ctx, network)
	if c == nil {
		return errors.New("not connected")
	}
	defer closeRing(t, ctx, c, s)
	b := make([]byte, 5)
	for range 3 {
		err := together(ctx, func(ctx context.Context) error {
			if n, got, err := s.ReadFull(ctx, make([]byte, 5)); err != nil || string(got) != "hello" {
				return fmt.Errorf("ReadFull = %d, %q, %w", n, got, err)
			}
			return nil
		}, func(ctx context.Context) error {
			_, _, err := c.WriteAll(ctx, []byte("hello"))
			return err
		})
		if err != nil {
			return err
		}
	}
	out, err := s.Install(ctx)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return nil
	case err != nil:
		return err
	}
	defer closeAll(t, ctx, out)
	if _, _, err := c.WriteAll(ctx, []byte("again")); err != nil {
		return err
	}
	if n, got, err := out.ReadFull(ctx, b); err != nil || string(got) != "again" {
		return fmt.Errorf("after Install: ReadFull = %d, %q, %w", n, got, err)
	}
	if err := c.CloseWrite(ctx); err != nil {
		return err
	}
	if n, _, err := out.Read(ctx, b); n != 0 || err != io.EOF {
		return fmt.Errorf("at the end: %d, %w", n, err)
	}
	return nil
}

// giveUpWaiting ends what waits, by a deadline and by Close, and loses nothing.
func giveUpWaiting(t *testing.T, ctx context.Context, network string) error {
	c, s := connect(t, ctx, network)
	l := listenOn(t, ctx, network)
	if c == nil || l == nil {
		return errors.New("not connected")
	}
	defer closeAll(t, ctx, c, s)
	for what, wait := range map[string]func(ctx context.Context) error{
		"Read":   func(ctx context.Context) error { _, _, err := s.Read(ctx, make([]byte, 1)); return err },
		"Accept": func(ctx context.Context) error { _, err := l.Accept(ctx); return err },
		"Receives": func(ctx context.Context) (err error) {
			for _, err = range s.Receives(ctx, nil) {
			}
			return err
		},
	} {
		short, cancel := context.WithTimeout(ctx, 3*time.Millisecond)
		err := wait(short)
		cancel()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	if _, _, err := c.WriteAll(ctx, []byte("later")); err != nil {
		return err
	}
	if n, b, err := s.ReadFull(ctx, make([]byte, 5)); err != nil || string(b) != "later" {
		return fmt.Errorf("ReadFull = %d, %q, %w", n, b, err)
	}
	return together(ctx, func(ctx context.Context) error {
		if _, _, err := s.Read(ctx, make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("Read, closed meanwhile: %w", err)
		}
		return nil
	}, func(ctx context.Context) error {
		if _, err := l.Accept(ctx); !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("Accept, closed meanwhile: %w", err)
		}
		return nil
	}, func(ctx context.Context) error {
		if err := executor.Sleep(ctx, 3*time.Millisecond); err != nil {
			return err
		}
		return errors.Join(s.Close(ctx), l.Close(ctx))
	})
}

// packets sends datagrams in every way to somebody who receives them in every way.
func packets(t *testing.T, ctx context.Context, network string) error {
	a, b := packetPair(t, ctx, network)
	if a == nil {
		return errors.New("no sockets")
	}
	sends := []func(ctx context.Context, text []byte) (int, error){
		func(ctx context.Context, text []byte) (int, error) {
			n, _, err := a.SendTo(ctx, text, b.LocalAddr())
			return n, err
		},
		func(ctx context.Context, text []byte) (int, error) {
			return a.SendMsg(ctx, &net.Message{Bufs: [][]byte{text[:3], text[3:]}, Addr: b.LocalAddr()})
		},
		func(ctx context.Context, text []byte) (int, error) {
			n, _, err := a.SendMsgZeroCopy(ctx, &net.Message{Bufs: [][]byte{text[:3], text[3:]}, Addr: b.LocalAddr()})
			return n, err
		},
	}
	receives := []func(ctx context.Context) ([]byte, net.Addr, error){
		func(ctx context.Context) ([]byte, net.Addr, error) {
			n, got, from, err := b.RecvFrom(ctx, make([]byte, 100))
			return got[:n], from, err
		},
		func(ctx context.Context) ([]byte, net.Addr, error) {
			m := net.Message{Bufs: [][]byte{make([]byte, 100)}}
			err := b.RecvMsg(ctx, &m)
			return m.Bufs[0][:m.N], m.Addr, err
		},
		func(ctx context.Context) (got []byte, from net.Addr, err error) {
			for m, err := range b.Receives(ctx, nil) {
				if err != nil {
					return nil, nil, err
				}
				got, from = bytes.Clone(m.Bytes()), m.Addr()
				m.Release()
				break
			}
			return got, from, nil
		},
	}
	for i := range 9 {
		text := fmt.Appendf(nil, "datagram %d", i)
		err := together(ctx, func(ctx context.Context) error {
			got, from, err := receives[i%3](ctx)
			if err != nil || !bytes.Equal(got, text) || from == nil || from.String() != a.LocalAddr().String() {
				return fmt.Errorf("received %q from %v, %w", got, from, err)
			}
			return nil
		}, func(ctx context.Context) error {
			if n, err := sends[i/3](ctx, text); n != len(text) || err != nil {
				return fmt.Errorf("sent %d, %w", n, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return errors.Join(a.Close(ctx), b.Close(ctx))
}
