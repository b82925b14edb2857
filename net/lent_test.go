package net_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	stdnet "net"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/net"
)

// TestZeroCopyScribbled sends without a copy from one buffer, which it writes over as soon as it comes back, also from calls that were
// cancelled. The receiver sees what was sent.
func TestZeroCopyScribbled(t *testing.T) { // HAZARDS T28
	each(t, func(t *testing.T, ctx context.Context) {
		l, err := stdnet.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Error(err)
			return
		}
		defer l.Close()
		if err := scribble(t, ctx, l, share(t, 100, 100_000)); err != nil {
			t.Error(err)
		}
	})
}

// TestZeroCopyVeth is the same between two networks, through a pair of interfaces.
func TestZeroCopyVeth(t *testing.T) { // HAZARDS T28
	if !apart(t) {
		return
	}
	ip(t, "link set lo up")
	ip(t, "link add here type veth peer name there")
	ip(t, "addr add 198.51.100.1/24 dev here")
	ip(t, "link set here up")
	l, err := elsewhere(t)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	each(t, func(t *testing.T, ctx context.Context) {
		if err := scribble(t, ctx, l, share(t, 100, 100_000)); err != nil {
			t.Error(err)
		}
	})
}

// elsewhere moves the interface there into another network, and listens on it. A socket stays in the network that it was made in.
func elsewhere(t *testing.T) (l stdnet.Listener, err error) {
	thread, moved, done := make(chan int), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err = unix.Unshare(unix.CLONE_NEWNET)
		thread <- unix.Gettid()
		<-moved
		for _, args := range []string{"addr add 198.51.100.2/24 dev there", "link set there up"} {
			if err == nil {
				err = ipCommand(t, args) // which runs where this thread is
			}
		}
		if err == nil {
			l, err = stdnet.Listen("tcp", "198.51.100.2:0")
		}
	}()
	tid := <-thread
	moving := ipCommand(t, "link set there netns "+strconv.Itoa(tid))
	close(moved)
	<-done
	return l, errors.Join(moving, err)
}

// scribble sends some times to l, and compares what was sent with what is received there.
func scribble(t *testing.T, ctx context.Context, l stdnet.Listener, times int) error {
	table := crc64.MakeTable(crc64.ECMA)
	type seen struct {
		n   int64
		sum uint64
		err error
	}
	received := make(chan seen, 1)
	go func() {
		var s seen
		c, err := l.Accept()
		if err != nil {
			received <- seen{err: err}
			return
		}
		defer c.Close()
		for b := make([]byte, 1<<17); err == nil; {
			var n int
			n, err = c.Read(b)
			s.n += int64(n)
			s.sum = crc64.Update(s.sum, table, b[:n])
		}
		if err != io.EOF {
			s.err = err
		}
		received <- s
	}()
	c, err := net.Dial(ctx, "tcp", l.Addr().String())
	if err != nil {
		return err
	}
	defer closeAll(t, ctx, c)
	rng := random(t)(0)
	var sent seen
	copied, cancelled := 0, 0
	data := make([]byte, 1<<18)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	buf := make([]byte, 1<<16)
	for range times {
		b := buf[:1+rng.IntN(len(buf))]
		off := rng.IntN(len(data) - len(b))
		copy(b, data[off:])
		call, cancel := ctx, context.CancelFunc(func() {})
		if rng.IntN(8) == 0 {
			call, cancel = context.WithTimeout(ctx, time.Duration(rng.IntN(100))*time.Microsecond)
		}
		n, back, was, err := writeLent(call, c, b, rng.IntN(2*len(b)))
		cancel()
		switch {
		case &back[0] != &b[0]:
			return errors.New("another buffer")
		case err != nil && (call == ctx || !errors.Is(err, os.ErrDeadlineExceeded) || n > 0):
			return fmt.Errorf("%d sent, %w", n, err)
		case err != nil:
			cancelled++
		case was:
			copied++
		}
		clear(back) // it is ours again
		sent.n += int64(n)
		sent.sum = crc64.Update(sent.sum, table, data[off:off+n])
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	got, err := executor.Block(ctx, func() (seen, error) { return <-received, nil })
	if err == nil && (got.err != nil || got != sent) {
		err = fmt.Errorf("sent %d bytes with sum %x, received %d with %x, %v", sent.n, sent.sum, got.n, got.sum, got.err)
	}
	d, _ := driver.FromContext(ctx)
	if s := d.Stats(); s.InFlightBy["send_zc"] > 0 {
		err = errors.Join(err, fmt.Errorf("not over: %+v", s))
	}
	t.Logf("%d sends, %d MiB, %d of them copied, %d cancelled", times, sent.n>>20, copied, cancelled)
	return err
}

// writeLent sends b without a copy, in two pieces if there is a place to cut it.
func writeLent(ctx context.Context, c *net.Conn, b []byte, cut int) (n int, back []byte, copied bool, err error) {
	if cut >= len(b) {
		return c.WriteZeroCopy(ctx, b)
	}
	m := net.Message{Bufs: [][]byte{b[:cut], b[cut:]}}
	n, copied, err = c.SendMsgZeroCopy(ctx, &m)
	return n, m.Bufs[0][:len(b)], copied, err
}

// TestZeroCopyReset has peers reset while sends are under way: they end, and their memory is the caller's again.
func TestZeroCopyReset(t *testing.T) { // HAZARDS T28
	each(t, func(t *testing.T, ctx context.Context) {
		l := listenOn(t, ctx, "tcp")
		if l == nil {
			return
		}
		defer l.Close(ctx)
		buf := make([]byte, 1<<20)
		rng := random(t)(0)
		for range share(t, 3, 1000) {
			peer := dialAll(t, l, 1)
			c, err := l.Accept(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			wait := time.Duration(rng.IntN(2000)) * time.Microsecond
			err = together(ctx, func(ctx context.Context) error {
				for {
					_, back, _, err := c.WriteZeroCopy(ctx, buf)
					if &back[0] != &buf[0] {
						return errors.New("another buffer")
					}
					clear(back[:100])
					if err != nil {
						if !gone(err) {
							return err
						}
						return nil
					}
				}
			}, func(ctx context.Context) error {
				err := executor.Sleep(ctx, wait)
				for _, p := range peer {
					p.(*stdnet.TCPConn).SetLinger(0)
					p.Close()
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
			closeAll(t, ctx, c)
		}
	})
}
