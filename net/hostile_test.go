package net_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	stdnet "net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/net"
)

// TestUnixgramQueue sends to a socket whose queue is full, which no event of the sender's tells: poll(2) says that it can send. Senders wait
// all the same, without running in circles, can be cancelled, and everything arrives once and in order.
func TestUnixgramQueue(t *testing.T) { // M18, HAZARDS T24
	each(t, func(t *testing.T, ctx context.Context) {
		a, b := listenPacket(t, ctx, "unixgram"), listenPacket(t, ctx, "unixgram")
		if a == nil || b == nil {
			return
		}
		defer func() {
			if err := errors.Join(a.Close(ctx), b.Close(ctx)); err != nil {
				t.Error(err)
			}
		}()
		d, err := driver.FromContext(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		sent := 0
		for ; ; sent++ { // until it is full, and one is cancelled there
			short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			before := d.Stats().Repeated
			_, _, err := a.SendTo(short, binary.LittleEndian.AppendUint32(nil, uint32(sent)), b.LocalAddr())
			cancel()
			if err == nil {
				continue
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
			if n := d.Stats().Repeated - before; n > 2000 {
				t.Errorf("tried %d times in a tenth of a second", n)
			}
			break
		}
		total := sent + 200
		sending, stop := context.WithCancel(ctx)
		err = together(ctx, func(context.Context) error {
			for i := sent; i < total; i++ {
				if _, _, err := a.SendTo(sending, binary.LittleEndian.AppendUint32(nil, uint32(i)), b.LocalAddr()); err != nil {
					return fmt.Errorf("datagram %d of %d, the queue has %d: %w", i, total, sent, err)
				}
			}
			return nil
		}, func(ctx context.Context) error {
			defer stop()
			for i := range total {
				n, buf, _, err := b.RecvFrom(ctx, make([]byte, 8))
				if err != nil {
					return err
				}
				if n != 4 || binary.LittleEndian.Uint32(buf) != uint32(i) {
					return fmt.Errorf("%v instead of %d", buf[:n], i)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestUnixBacklog dials a listener whose queue is full: dialing waits until there is room, and a dial that is cancelled leaves nothing.
func TestUnixBacklog(t *testing.T) { // HAZARDS T24
	each(t, func(t *testing.T, ctx context.Context) {
		path := filepath.Join(t.TempDir(), "socket")
		l, err := (&net.ListenConfig{Backlog: 1}).Listen(ctx, "unix", path)
		if err != nil {
			t.Error(err)
			return
		}
		defer l.Close(ctx)
		var queued []*net.Conn
		for {
			short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			c, err := net.Dial(short, "unix", path)
			cancel()
			if err != nil {
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error(err)
				}
				break
			}
			if queued = append(queued, c); len(queued) > 100 {
				t.Error("the queue has no end")
				break
			}
		}
		var dialed, accepted *net.Conn
		err = together(ctx, func(ctx context.Context) (err error) {
			dialed, err = net.Dial(ctx, "unix", path)
			return err
		}, func(ctx context.Context) error {
			for range queued {
				s, err := l.Accept(ctx)
				if err != nil {
					return err
				}
				closeAll(t, ctx, s)
			}
			var err error
			accepted, err = l.Accept(ctx)
			return err
		})
		if err != nil {
			t.Error(err)
		}
		closeAll(t, ctx, append(queued, dialed, accepted)...)
	})
}

// TestWritersTakeTurns has several tasks write frames on one connection: no frame runs into another, and those of one task keep their order.
func TestWritersTakeTurns(t *testing.T) { // HAZARDS T25
	each(t, func(t *testing.T, ctx context.Context) {
		const writers, length = 8, 5000
		frames := size(60, 10_000)
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		var fs []func(ctx context.Context) error
		for w := range writers {
			fs = append(fs, func(ctx context.Context) error {
				frame := bytes.Repeat([]byte{byte(w)}, length)
				for i := range frames {
					binary.LittleEndian.PutUint32(frame[1:], uint32(i))
					if _, _, err := c.WriteAll(ctx, frame); err != nil {
						return err
					}
				}
				return nil
			})
		}
		fs = append(fs, func(ctx context.Context) error {
			var next [writers]uint32
			frame := make([]byte, length)
			for range writers * frames {
				if _, _, err := s.ReadFull(ctx, frame); err != nil {
					return err
				}
				w := frame[0]
				n := binary.LittleEndian.Uint32(frame[1:])
				if w >= writers || n != next[w] || bytes.Count(frame[5:], frame[:1]) != length-5 {
					return fmt.Errorf("a frame of %d is mixed, or out of turn: %v…", w, frame[:6])
				}
				next[w]++
			}
			return nil
		})
		if err := together(ctx, fs...); err != nil {
			t.Error(err)
		}
	})
}

// TestSlowLoris reads a request from a peer that sends it byte by byte: the deadline is for all of it, and what came is told.
func TestSlowLoris(t *testing.T) { // HAZARDS T23
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		pause := time.Duration(size(10, 100)) * time.Millisecond
		patience := time.Duration(size(150, 1000)) * time.Millisecond
		done, stop := context.WithCancel(ctx)
		err := together(ctx, func(context.Context) error {
			for done.Err() == nil {
				if _, _, err := c.WriteAll(ctx, []byte("x")); err != nil {
					return err
				}
				if err := executor.Sleep(ctx, pause); err != nil {
					return err
				}
			}
			return nil
		}, func(ctx context.Context) error {
			defer stop()
			var began time.Time
			var n int
			var buf []byte
			var err error
			for range 20 { // a busy machine may leave no time to receive any of it
				began = time.Now()
				short, cancel := context.WithTimeout(ctx, patience)
				n, buf, err = s.ReadFull(short, make([]byte, 10_000))
				cancel()
				if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
					break
				}
			}
			if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || took < patience {
				return fmt.Errorf("%d bytes, %w, after %v", n, err, took)
			} else if t.Logf("%d bytes after %v", n, took); took > patience+100*time.Millisecond && testenv.Nightly() {
				return fmt.Errorf("after %v", took)
			}
			if !bytes.Equal(buf[:n], bytes.Repeat([]byte("x"), n)) {
				return fmt.Errorf("received %q", buf[:n])
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestTwoRuntimes reads one connection in two runtimes in turn, each with a driver of its own.
func TestTwoRuntimes(t *testing.T) { // C15
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "pair")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		for i := range 6 {
			if _, _, err := c.WriteAll(ctx, []byte{byte(i)}); err != nil {
				t.Error(err)
			}
			read := func(ctx context.Context) error {
				n, b, err := s.Read(ctx, make([]byte, 8))
				if err == nil && (n != 1 || b[0] != byte(i)) {
					err = fmt.Errorf("got %v instead of %d", b[:n], i)
				}
				return err
			}
			err := read
			if i%2 == 1 {
				err = func(ctx context.Context) error {
					_, err := executor.Block(ctx, func() (struct{}, error) {
						return struct{}{}, executor.Start(context.Background(), read)
					})
					return err
				}
			}
			if err := err(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestReceivesFlood ends an iteration under a flood: it ends, and what had come is still there.
func TestReceivesFlood(t *testing.T) { // C21
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		var sent, received int64
		err := together(ctx, func(ctx context.Context) error {
			b := make([]byte, 10_000)
			for range 300 {
				n, _, err := c.WriteAll(ctx, b)
				sent += int64(n)
				if err != nil {
					return err
				}
			}
			return c.CloseWrite()
		}, func(ctx context.Context) error {
			var slowest time.Duration
			most := 0 // that an iteration brought after its context had ended
			defer func() { t.Logf("iterations ended at most %v and %d chunks late", slowest, most) }()
			for range 5 {
				delays := testenv.Delays()
				end := time.Now().Add(2 * time.Millisecond)
				short, cancel := context.WithDeadline(ctx, end)
				after := 0
				for chunk, err := range s.Receives(short, nil) {
					if err != nil {
						break
					}
					if short.Err() != nil {
						after++
					}
					received += int64(len(chunk.Bytes()))
					chunk.Release()
				}
				cancel()
				late := time.Since(end)
				slowest, most = max(slowest, late-delays()), max(most, after)
			}
			// How late a busy machine ends the context, and runs this thread and not another one, says nothing of the iteration.
			if most > 64 || slowest > 10*time.Second {
				return fmt.Errorf("an iteration ended %v late, and one %d chunks", slowest, most)
			}
			b := make([]byte, 50_000)
			for {
				n, _, err := s.Read(ctx, b)
				received += int64(n)
				if err == io.EOF {
					return nil
				}
				if err != nil {
					return err
				}
			}
		})
		if err != nil || sent != received {
			t.Errorf("%v, %d sent and %d received", err, sent, received)
		}
		closeAll(t, ctx, c, s)
	})
}

// TestHalfClose shuts down one direction while the other waits.
func TestHalfClose(t *testing.T) { // M15, C26
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"tcp", "unix", "pair"} {
			c, s := connect(t, ctx, network)
			if c == nil {
				return
			}
			err := together(ctx, func(ctx context.Context) error {
				if n, _, err := c.Read(ctx, make([]byte, 1)); n != 1 || err != nil {
					return fmt.Errorf("the answer: %d, %w", n, err)
				}
				if n, _, err := c.Read(ctx, make([]byte, 1)); n != 0 || err != io.EOF {
					return fmt.Errorf("the end: %d, %w", n, err)
				}
				return nil
			}, func(ctx context.Context) error {
				if err := errors.Join(executor.Yield(ctx), c.CloseWrite()); err != nil {
					return err
				}
				if err := c.CloseWrite(); err != nil && !errors.Is(err, syscall.ENOTCONN) { // again is no error, unless the peer has closed meanwhile
					return err
				}
				if _, _, err := c.Write(ctx, []byte("x")); !errors.Is(err, syscall.EPIPE) {
					return fmt.Errorf("writing after CloseWrite: %w", err)
				}
				return nil
			}, func(ctx context.Context) error {
				if n, _, err := s.Read(ctx, make([]byte, 1)); n != 0 || err != io.EOF {
					return fmt.Errorf("the peer's end: %d, %w", n, err)
				}
				_, _, err := s.WriteAll(ctx, []byte("a"))
				return errors.Join(err, s.Close(ctx))
			})
			if err != nil {
				t.Errorf("%s: %v", network, err)
			}
			closeAll(t, ctx, c)
		}
	})
}

// TestSocketReuse closes connections while others read and write and descriptors are used again at once: no byte goes to somebody else.
func TestSocketReuse(t *testing.T) { // HAZARDS T4
	each(t, func(t *testing.T, ctx context.Context) {
		const workers = 3 // a pool of 8 has room for those who write and those who read
		rounds := share(t, 20, 500_000/workers)
		var fs []func(ctx context.Context) error
		for w := range workers {
			fs = append(fs, func(ctx context.Context) error {
				tag := bytes.Repeat([]byte{byte('a' + w)}, 64)
				for range rounds {
					a, b, err := net.UnixPair(ctx)
					if err != nil {
						return err
					}
					err = together(ctx, func(ctx context.Context) error {
						for {
							if _, _, err := a.WriteAll(ctx, tag); err != nil {
								return nil // closed
							}
						}
					}, func(ctx context.Context) error {
						for n := 0; ; n++ {
							k, buf, err := b.Read(ctx, make([]byte, 100))
							if err != nil {
								return nil
							}
							if bytes.Count(buf[:k], tag[:1]) != k {
								return fmt.Errorf("%q received by %q", buf[:k], tag[:1])
							}
							if n == 3 {
								return errors.Join(a.Close(ctx), b.Close(ctx))
							}
						}
					})
					if err != nil {
						return err
					}
					if err := a.Close(ctx); !errors.Is(err, net.ErrClosed) {
						return fmt.Errorf("closed twice: %w", err)
					}
				}
				return nil
			})
		}
		if err := together(ctx, fs...); err != nil {
			t.Error(err)
		}
	})
}

// TestHalfOpenFlood has many peers that say half of what they have to, and vanish or stay: those who say all of it are served at once.
func TestHalfOpenFlood(t *testing.T) { // HAZARDS T31
	each(t, func(t *testing.T, ctx context.Context) {
		l := listenOn(t, ctx, "tcp")
		if l == nil {
			return
		}
		const flood = 6 // a pool of 8 must have a place left for those who say all
		half := dialAll(t, l, flood)
		for i, c := range half {
			if _, err := c.Write([]byte("ha")); err != nil {
				t.Error(err)
			}
			if i%3 == 0 {
				c.(*stdnet.TCPConn).SetLinger(0)
				c.Close()
			}
		}
		serving, stop := context.WithCancel(ctx)
		wait := start(ctx, func(ctx context.Context) {
			var waits []func()
			for s, err := range l.Accepts(serving) {
				if err != nil {
					break
				}
				waits = append(waits, start(ctx, func(ctx context.Context) {
					defer s.Close(context.WithoutCancel(ctx))
					if _, b, err := s.ReadFull(serving, make([]byte, 4)); err == nil {
						_, _, _ = s.WriteAll(ctx, b)
					}
				}))
			}
			for _, w := range waits {
				w()
			}
		})
		for range 20 {
			c, err := net.Dial(ctx, "tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
				break
			}
			if _, _, err := c.WriteAll(ctx, []byte("full")); err != nil {
				t.Error(err)
			}
			if n, b, err := c.ReadFull(ctx, make([]byte, 4)); err != nil || string(b[:n]) != "full" {
				t.Errorf("%q, %v", b[:n], err)
			}
			closeAll(t, ctx, c)
		}
		stop()
		wait()
		for _, c := range half {
			c.Close()
		}
		if err := l.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}
