package net_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"uringo/driver"
	"uringo/executor"
	"uringo/net"
)

// bufferRing makes buffers on the driver of ctx. The end of the driver closes them.
func bufferRing(t *testing.T, ctx context.Context, n, size int) *driver.BufferRing {
	t.Helper()
	d, err := driver.FromContext(ctx)
	if err != nil {
		t.Error(err)
		return nil
	}
	b, err := driver.NewBufferRing(d, n, size)
	if err != nil {
		t.Error(err)
	}
	return b
}

// allFree sees that all n buffers are free again.
func allFree(t *testing.T, b *driver.BufferRing, n int) {
	t.Helper()
	if st := b.Stats(); st.Held != 0 || st.Free != n {
		t.Errorf("buffers: %+v", st)
	}
}

// TestReceives receives all that a peer sends, into few buffers, on every kind of connection.
func TestReceives(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		const bufs, size = 8, 64
		b := bufferRing(t, ctx, bufs, size)
		for _, network := range []string{"tcp", "unix", "unixpacket", "pair"} {
			c, s := connect(t, ctx, network)
			if c == nil {
				return
			}
			var sent, received []byte
			for i := range 3000 {
				sent = append(sent, byte(i>>3))
			}
			err := together(ctx, func(ctx context.Context) error {
				for off, n := 0, 1; off < len(sent); n = 1 + n*7%size {
					k := min(n, len(sent)-off)
					if _, _, err := c.WriteAll(ctx, sent[off:off+k]); err != nil {
						return err
					}
					off += k
				}
				return c.CloseWrite()
			}, func(ctx context.Context) error {
				var held []driver.Chunk
				for chunk, err := range s.Receives(ctx, b) {
					if err != nil {
						return err
					}
					received = append(received, chunk.Bytes()...)
					if held = append(held, chunk); len(held) == 3 {
						for _, chunk := range held {
							chunk.Release()
						}
						held = nil
					}
				}
				for _, chunk := range held {
					chunk.Release()
				}
				return nil
			})
			if err != nil || !bytes.Equal(received, sent) {
				t.Errorf("%s: %v, %d bytes of %d", network, err, len(received), len(sent))
			}
			if n, _, err := s.Read(ctx, make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("%s: after the end: %d, %v", network, n, err)
			}
			for chunk, err := range s.Receives(ctx, nil) {
				t.Errorf("%s: after the end: %q, %v", network, chunk.Bytes(), err)
			}
			closeAll(t, ctx, c, s)
		}
		allFree(t, b, bufs)
	})
}

// TestReceivesLosesNothing ends iterations in every way and reads on in every other, while bytes arrive.
func TestReceivesLosesNothing(t *testing.T) { // HAZARDS T5, N1
	each(t, func(t *testing.T, ctx context.Context) {
		rounds := share(t, 2000, 1_000_000)
		const bufs = 8
		b := bufferRing(t, ctx, bufs, 4)
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		err := together(ctx, func(ctx context.Context) error {
			for i := 0; i < rounds; {
				var some []byte
				for range 1 + i%5 {
					some = append(some, byte(i))
					i++
				}
				if _, _, err := c.WriteAll(ctx, some); err != nil {
					return err
				}
				if i%7 == 0 {
					if err := executor.Sleep(ctx, time.Duration(i%5)*50*time.Microsecond); err != nil {
						return err
					}
				}
			}
			return c.CloseWrite()
		}, func(ctx context.Context) error {
			next := 0
			take := func(got []byte) error {
				for _, b := range got {
					if b != byte(next) {
						return fmt.Errorf("got byte %d instead of %d", b, byte(next))
					}
					next++
				}
				return nil
			}
			for turn := 0; ; turn++ {
				var err error
				ended := true
				switch turn % 4 {
				case 0, 1: // until a number of chunks, or a moment
					short, cancel := context.WithTimeout(ctx, time.Duration(turn%9)*40*time.Microsecond)
					most := rand.IntN(6)
					for chunk, e := range s.Receives(short, b) {
						if err = e; err == nil {
							err = take(chunk.Bytes())
							chunk.Release()
						}
						if most--; most < 0 {
							ended = false
							break
						}
					}
					cancel()
					if errors.Is(err, context.DeadlineExceeded) {
						err, ended = nil, false
					}
				case 2:
					n, buf, e := s.Read(ctx, make([]byte, 3))
					if err, ended = take(buf[:n]), e == io.EOF; err == nil && !ended {
						err = e
					}
				default:
					n, buf, e := s.Peek(ctx, make([]byte, 2))
					ended = e == io.EOF
					for i, b := range buf[:n] {
						if b != byte(next+i) {
							err = fmt.Errorf("peeked byte %d instead of %d", b, byte(next+i))
						}
					}
				}
				switch {
				case err != nil:
					return fmt.Errorf("after %d bytes: %w", next, err)
				case ended && next >= rounds:
					return nil
				case ended:
					return fmt.Errorf("ended after %d bytes", next)
				}
			}
		})
		if err != nil {
			t.Error(err)
		}
		allFree(t, b, bufs)
	})
}

// TestReceivesErrors: a closed connection, a cancelled context, a second iteration, a peer that resets.
func TestReceivesErrors(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c)
		short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		defer cancel()
		times := 0
		for _, err := range s.Receives(short, nil) {
			if times++; !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a context that ends: %v", err)
			}
		}
		for _, err := range s.Receives(short, nil) {
			if times++; !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a context that has ended: %v", err)
			}
		}
		if times != 2 {
			t.Errorf("%d errors", times)
		}

		if _, _, err := c.WriteAll(ctx, []byte("ab")); err != nil {
			t.Error(err)
		}
		for chunk, err := range s.Receives(ctx, nil) {
			if err != nil || string(chunk.Bytes()) != "ab" {
				t.Errorf("%q, %v", chunk.Bytes(), err)
			}
			for _, err := range s.Receives(ctx, nil) {
				if err == nil {
					t.Error("an iteration in an iteration")
				}
			}
			if _, _, err := s.Read(ctx, make([]byte, 1)); err == nil {
				t.Error("Read in an iteration")
			}
			chunk.Release()
			break
		}

		var during error
		err := together(ctx, func(ctx context.Context) error {
			for _, err := range s.Receives(ctx, nil) {
				during = err
			}
			return nil
		}, func(ctx context.Context) error {
			if err := executor.Sleep(ctx, 2*time.Millisecond); err != nil {
				return err
			}
			return s.Close(ctx)
		})
		if err != nil || !errors.Is(during, net.ErrClosed) {
			t.Errorf("closed by another: %v, %v", during, err)
		}
		for _, err := range s.Receives(ctx, nil) {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("closed: %v", err)
			}
		}
	})
}

// TestReceivesIdle has many connections that wait: they hold no buffer, and each gets what arrives.
func TestReceivesIdle(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		const conns, bufs = 6, 2 // a pool has room for eight tasks
		b := bufferRing(t, ctx, bufs, 16)
		var cs, ss []*net.Conn
		for range conns {
			c, s := connect(t, ctx, "pair")
			if c == nil {
				return
			}
			cs, ss = append(cs, c), append(ss, s)
		}
		defer closeAll(t, ctx, append(cs, ss...)...)
		var fs []func(ctx context.Context) error
		for i, s := range ss {
			fs = append(fs, func(ctx context.Context) error {
				n := 0
				for chunk, err := range s.Receives(ctx, b) {
					if err != nil {
						return err
					}
					if string(chunk.Bytes()) != fmt.Sprint("message to ", i) {
						return fmt.Errorf("%d got %q", i, chunk.Bytes())
					}
					n++
					chunk.Release()
				}
				if n != 1 {
					return fmt.Errorf("%d messages", n)
				}
				return nil
			})
		}
		fs = append(fs, func(ctx context.Context) error {
			if err := executor.Sleep(ctx, 2*time.Millisecond); err != nil {
				return err
			}
			// On the portable engine the driver has one while it looks whether there is something.
			for tries := 0; b.Stats().Held > 0; tries++ {
				if tries == 1000 {
					t.Errorf("idle, and %+v", b.Stats())
					break
				}
				if err := executor.Sleep(ctx, time.Millisecond); err != nil {
					return err
				}
			}
			for i, c := range cs {
				if _, _, err := c.WriteAll(ctx, fmt.Append(nil, "message to ", i)); err != nil {
					return err
				}
				if err := c.CloseWrite(); err != nil {
					return err
				}
			}
			return nil
		})
		if err := together(ctx, fs...); err != nil {
			t.Error(err)
		}
		allFree(t, b, bufs)
	})
}

// TestReceivesPulled receives by iter.Pull, which runs the iteration on a coroutine of its own.
func TestReceivesPulled(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		next, stop := iter.Pull2(s.Receives(ctx, nil))
		defer stop()
		for _, m := range []string{"one", "two", "three"} {
			if _, _, err := c.WriteAll(ctx, []byte(m)); err != nil {
				t.Error(err)
				return
			}
			chunk, err, ok := next()
			if !ok || err != nil || string(chunk.Bytes()) != m {
				t.Errorf("%q, %v, %v", chunk.Bytes(), err, ok)
			}
			chunk.Release()
		}
		if _, _, err := c.WriteAll(ctx, []byte("four")); err != nil {
			t.Error(err)
		}
		stop()
		if n, buf, err := s.ReadFull(ctx, make([]byte, 4)); err != nil || string(buf[:n]) != "four" {
			t.Errorf("%q, %v", buf[:n], err)
		}
	})
}

// leaveOver sends something from c to s, and ends an iteration that has received it and not handed it out.
func leaveOver(t *testing.T, ctx context.Context, c, s *net.Conn, what string) {
	t.Helper()
	if _, _, err := c.Write(ctx, []byte("first")); err != nil {
		t.Error(err)
	}
	for chunk, err := range s.Receives(ctx, nil) {
		if err != nil || string(chunk.Bytes()) != "first" {
			t.Errorf("%q, %v", chunk.Bytes(), err)
			return
		}
		chunk.Release()
		if _, _, err := c.Write(ctx, []byte(what)); err != nil {
			t.Error(err)
		}
		_ = executor.Sleep(ctx, 10*time.Millisecond) // meanwhile it arrives
		break
	}
}

// TestLeftoversTooLate asks for what iterations have left over with contexts and deadlines that are over: nothing is handed out and nothing
// lost.
func TestLeftoversTooLate(t *testing.T) { // N1
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "tcp")
		l := listenOn(t, ctx, "tcp")
		if c == nil || l == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		defer l.Close(ctx)
		leaveOver(t, ctx, c, s, "again")
		late, cancel := context.WithCancel(ctx)
		cancel()
		std := s.NetConn()
		if err := std.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
			t.Error(err)
		}
		for what, receive := range map[string]func(b []byte) (int, error){
			"Read":     func(b []byte) (int, error) { n, _, err := s.Read(late, b); return n, err },
			"Readv":    func(b []byte) (int, error) { n, _, err := s.Readv(late, [][]byte{b}); return n, err },
			"RecvMsg":  func(b []byte) (int, error) { m := net.Message{Bufs: [][]byte{b}}; return m.N, s.RecvMsg(late, &m) },
			"Readable": func(b []byte) (int, error) { return 0, s.Readable(late) },
			"NetConn":  std.Read,
			"Receives": func(b []byte) (n int, err error) {
				for chunk, e := range s.Receives(late, nil) {
					n, err = n+len(chunk.Bytes()), e
				}
				return n, err
			},
		} {
			n, err := receive(make([]byte, 10))
			if n != 0 || !errors.Is(err, context.Canceled) && !(what == "NetConn" && errors.Is(err, os.ErrDeadlineExceeded)) {
				t.Errorf("%s = %d, %v", what, n, err)
			}
		}
		if n, b, err := s.ReadFull(ctx, make([]byte, 5)); string(b[:n]) != "again" || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}

		var others []*net.Conn
		for range 2 {
			o, err := net.Dial(ctx, "tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			others = append(others, o)
		}
		for o, err := range l.Accepts(ctx) {
			if err != nil {
				t.Error(err)
				return
			}
			others = append(others, o)
			_ = executor.Sleep(ctx, 10*time.Millisecond)
			break
		}
		defer closeAll(t, ctx, others...)
		stdl := l.NetListener()
		if err := stdl.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now().Add(-time.Second)); err != nil {
			t.Error(err)
		}
		if o, err := stdl.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("NetListener: %v, %v", o, err)
		}
		if err := l.Readable(late); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if o, err := l.AcceptRing(late); !errors.Is(err, context.Canceled) {
			t.Errorf("AcceptRing: %v, %v", o, err)
		}
		if o, err := l.Accept(late); !errors.Is(err, context.Canceled) {
			t.Errorf("Accept: %v, %v", o, err)
		}
		o, err := l.Accept(ctx)
		if err != nil {
			t.Error(err)
		}
		closeAll(t, ctx, o)
	})
}
