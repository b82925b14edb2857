package net_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"testing"
	"time"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
	"uringo/internal/testenv"
	"uringo/net"
)

// TestDispatch accepts connections in one runtime, on a listener that another one made, and has each served by one of several runtimes with
// threads and rings of their own.
func TestDispatch(t *testing.T) { // C39, C18, G7
	each(t, func(t *testing.T, ctx context.Context) {
		d, err := driver.FromContext(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		const runtimes, clients = 3, 30
		l := listenOn(t, ctx, "tcp")
		if l == nil {
			return
		}
		var handed [runtimes]chan *net.Conn
		var servers sync.WaitGroup
		for i := range runtimes {
			handed[i] = make(chan *net.Conn)
			servers.Go(func() {
				err := executor.Start(context.Background(), func(ctx context.Context) error {
					for {
						// A channel of plain goroutines hands over what a task of this runtime waits for.
						c, err := executor.Block(ctx, func() (*net.Conn, error) { return <-handed[i], nil })
						if c == nil || err != nil {
							return err
						}
						executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
							b := make([]byte, 100)
							for {
								n, _, err := c.Read(ctx, b)
								if err == nil {
									_, _, err = c.WriteAll(ctx, b[:n])
								}
								if err == io.EOF {
									err = c.Close(ctx)
									if err != nil {
										t.Error(err)
									}
									return struct{}{}, nil
								}
								if err != nil {
									t.Error(err)
									return struct{}{}, err
								}
							}
						})
					}
				}, executor.WithExecutor(executors()[i+2]), executor.WithDriver(driver.Config{Engine: d.Engine()}))
				if err != nil {
					t.Error(err)
				}
			})
		}
		var asking sync.WaitGroup
		for i := range clients {
			asking.Go(func() {
				if err := ask(l.Addr().String(), i); err != nil {
					t.Error(err)
				}
			})
		}
		for i := range clients {
			c, err := l.Accept(ctx)
			if err != nil {
				t.Error(err)
				break
			}
			if _, err := executor.Block(ctx, func() (int, error) { handed[i%runtimes] <- c; return 0, nil }); err != nil {
				t.Error(err)
			}
		}
		_, err = executor.Block(ctx, func() (int, error) {
			asking.Wait()
			for _, ch := range handed {
				close(ch)
			}
			servers.Wait()
			return 0, nil
		})
		if err := errors.Join(err, l.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
}

// TestCloseInAnotherRuntime closes what tasks of another runtime wait on.
func TestCloseInAnotherRuntime(t *testing.T) { // C39, N14
	each(t, func(t *testing.T, ctx context.Context) {
		d, err := driver.FromContext(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		c, s := connect(t, ctx, "tcp")
		l, p := listenOn(t, ctx, "tcp"), listenPacket(t, ctx, "udp")
		idle, other := connect(t, ctx, "pair")
		if c == nil || l == nil || p == nil || idle == nil {
			return
		}
		defer closeAll(t, ctx, c, other)
		var waiting sync.WaitGroup
		waits := []func(ctx context.Context) error{
			func(ctx context.Context) error { _, _, err := s.Read(ctx, make([]byte, 1)); return err },
			func(ctx context.Context) error { _, _, err := s.WriteAll(ctx, make([]byte, 16<<20)); return err },
			func(ctx context.Context) error { _, err := l.Accept(ctx); return err },
			func(ctx context.Context) error { _, _, _, err := p.RecvFrom(ctx, make([]byte, 1)); return err },
			s.Readable,
			func(ctx context.Context) (err error) {
				for _, err = range l.Accepts(ctx) {
				}
				return err
			},
			func(ctx context.Context) (err error) {
				for _, err = range idle.Receives(ctx, nil) {
				}
				return err
			},
		}
		for i := range waits {
			e := executors()[i%5]
			waiting.Go(func() {
				err := executor.Start(context.Background(), func(ctx context.Context) error {
					if err := waits[i](ctx); !errors.Is(err, net.ErrClosed) {
						return fmt.Errorf("%d: %w", i, err)
					}
					return nil
				}, executor.WithExecutor(e), executor.WithDriver(driver.Config{Engine: d.Engine()}))
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := executor.Sleep(ctx, 20*time.Millisecond); err != nil {
			t.Error(err)
		}
		began, delays := time.Now(), testenv.Delays()
		if err := errors.Join(idle.Close(ctx), s.Close(ctx), l.Close(ctx), p.Close(ctx)); err != nil {
			t.Error(err)
		}
		if took, late := time.Since(began), delays(); took-late > 5*time.Second {
			t.Errorf("closing took %v, on a machine that was %v late", took, late)
		}
		if _, err := executor.Block(ctx, func() (int, error) { waiting.Wait(); return 0, nil }); err != nil {
			t.Error(err)
		}
	})
}

// ask is a client of an echo.
func ask(addr string, i int) error {
	c, err := dialStd(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	for round := range 5 {
		sent := pattern(i+round, 90)
		if _, err := c.Write(sent); err != nil {
			return err
		}
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
			return fmt.Errorf("client %d got other bytes, %w", i, err)
		}
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	if n, err := c.Read(make([]byte, 1)); err != io.EOF {
		return fmt.Errorf("at the end: %d, %w", n, err)
	}
	return nil
}

// TestEchoVectored is an echo of two pieces at a time, whose other end is io.Copy: what goes round is what went in.
func TestEchoVectored(t *testing.T) { // M10
	each(t, func(t *testing.T, ctx context.Context) {
		const rounds = 1024
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		var copied int64
		err := together(ctx, func(context.Context) (err error) {
			std := s.NetConn()
			copied, err = io.Copy(std, std)
			return errors.Join(err, std.Close())
		}, func(ctx context.Context) error {
			for i := range rounds {
				head, tail := pattern(i, 7), pattern(i+1, 20)
				if n, _, err := c.WriteAll(ctx, head); n != 7 || err != nil {
					return fmt.Errorf("WriteAll = %d, %w", n, err)
				}
				if n, _, err := c.Writev(ctx, [][]byte{tail[:5], tail[5:]}); n != 20 || err != nil {
					return fmt.Errorf("Writev = %d, %w", n, err)
				}
				_, got, err := c.ReadFull(ctx, make([]byte, 27))
				if err != nil || !bytes.Equal(got, append(head, tail...)) {
					return fmt.Errorf("round %d: other bytes, %w", i, err)
				}
			}
			return c.CloseWrite()
		})
		if err != nil || copied != rounds*27 {
			t.Errorf("%d bytes copied, %v", copied, err)
		}
		closeAll(t, ctx, c)
	})
}

// TestShortestTimeout receives with a nanosecond to do it in, with and without something there.
func TestShortestTimeout(t *testing.T) { // C30
	each(t, func(t *testing.T, ctx context.Context) {
		r, w, err := fs.Pipe(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		moment, cancel := context.WithTimeout(ctx, time.Nanosecond)
		if n, _, err := r.Read(moment, make([]byte, 1)); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a pipe: Read = %d, %v", n, err)
		}
		cancel()
		if err := errors.Join(r.Close(ctx), w.Close(ctx)); err != nil {
			t.Error(err)
		}
		for _, network := range []string{"pair", "tcp"} {
			c, s := connect(t, ctx, network)
			if c == nil {
				return
			}
			short, cancel := context.WithTimeout(ctx, time.Nanosecond)
			if n, b, err := s.Read(short, make([]byte, 1)); n != 0 || len(b) != 1 || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: Read = %d, %v", network, n, err)
			}
			cancel()
			if _, _, err := c.WriteAll(ctx, []byte("x")); err != nil {
				t.Error(err)
			}
			if n, b, err := s.Read(ctx, make([]byte, 1)); string(b[:n]) != "x" || err != nil {
				t.Errorf("%s: Read = %q, %v", network, b[:n], err)
			}
			closeAll(t, ctx, c, s)
		}
	})
}

// TestZeroCopyPacket sends datagrams without a copy on the way, and bytes to a peer who is gone.
func TestZeroCopyPacket(t *testing.T) { // C25, N4
	each(t, func(t *testing.T, ctx context.Context) {
		p := listenPacket(t, ctx, "udp")
		if p == nil {
			return
		}
		u, err := net.Dial(ctx, "udp", p.LocalAddr().String())
		if err != nil {
			t.Error(err)
			return
		}
		for i := range 20 {
			sent := pattern(i, 100*(1+i))
			b := bytes.Clone(sent)
			n, b, _, err := u.WriteZeroCopy(ctx, b)
			if n != len(sent) || err != nil {
				t.Errorf("WriteZeroCopy = %d, %v", n, err)
			}
			clear(b)
			if n, got, from, err := p.RecvFrom(ctx, make([]byte, 5000)); !bytes.Equal(got[:n], sent) || err != nil ||
				from.String() != u.LocalAddr().String() {
				t.Errorf("received %d bytes of %d, from %v, %v", n, len(sent), from, err)
			}
		}
		closeAll(t, ctx, u)
		q := listenPacket(t, ctx, "udp")
		if q == nil {
			return
		}
		for i := range 20 { // in pieces, to an address, and several datagrams at once
			sent := pattern(i, 100*(1+i))
			m := net.Message{Bufs: [][]byte{bytes.Clone(sent[:50]), bytes.Clone(sent[50:])}, Addr: p.LocalAddr(),
				OOB: (&net.Control{SegmentSize: 700}).Append(nil)}
			if n, _, err := q.SendMsgZeroCopy(ctx, &m); n != len(sent) || err != nil {
				t.Errorf("SendMsgZeroCopy = %d, %v", n, err)
			}
			clear(m.Bufs[0])
			clear(m.Bufs[1])
			for rest := sent; len(rest) > 0; {
				want := rest[:min(700, len(rest))]
				n, got, from, err := p.RecvFrom(ctx, make([]byte, 5000))
				if !bytes.Equal(got[:n], want) || err != nil || from.String() != q.LocalAddr().String() {
					t.Errorf("received %d bytes of %d, from %v, %v", n, len(want), from, err)
				}
				rest = rest[len(want):]
			}
		}
		if _, _, err := q.SendMsgZeroCopy(ctx, &net.Message{Bufs: [][]byte{{1}}, Addr: &net.UnixAddr{}}); err == nil {
			t.Error("sent to an address of another kind")
		}
		if err := q.Close(ctx); err != nil {
			t.Error(err)
		}
		if _, _, err := q.SendMsgZeroCopy(ctx, &net.Message{Bufs: [][]byte{{1}}, Addr: p.LocalAddr()}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}

		for _, network := range []string{"tcp", "unix"} {
			c, s := connect(t, ctx, network)
			if c == nil {
				return
			}
			if err := s.SetLinger(0); network == "tcp" && err != nil {
				t.Error(err)
			}
			closeAll(t, ctx, s)
			b := make([]byte, 30_000)
			for range 1000 {
				if _, b, _, err = c.WriteZeroCopy(ctx, b); err != nil {
					break
				}
			}
			if _, _, err := c.SendMsgZeroCopy(ctx, &net.Message{Bufs: [][]byte{b, b}}); !gone(err) {
				t.Errorf("%s: SendMsgZeroCopy: %v", network, err)
			}
			if !gone(err) || len(b) != 30_000 {
				t.Errorf("%s: to a peer who is gone: %v, and a buffer of %d bytes", network, err, len(b))
			}
			closeAll(t, ctx, c)
		}
	})
}

// gone reports whether an error says that the peer is.
func gone(err error) bool { return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) }
