package net_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"uringo/buf"
	"uringo/driver"
	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/net"
)

// streams are the kinds of connection that halves are tried on.
var streams = []string{"tcp", "unix", "unixpacket"}

// TestHalves has one task write and another read, each with its half, against one who sends back what comes. Each closes its half when it has
// done its part, and the connection is closed then.
func TestHalves(t *testing.T) { // M13
	const rounds, size = 50, 3000
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range streams {
			c, s := connect(t, ctx, network)
			if c == nil {
				return
			}
			r, w := c.Split()
			if r.LocalAddr() != c.LocalAddr() || w.RemoteAddr() != c.RemoteAddr() {
				t.Errorf("%s: the halves have other addresses", network)
			}
			err := together(ctx, func(ctx context.Context) error {
				for b := make([]byte, size); ; {
					n, _, err := s.Read(ctx, b)
					if err == io.EOF {
						return s.Close(ctx)
					}
					if err == nil {
						_, _, err = s.WriteAll(ctx, b[:n])
					}
					if err != nil {
						return fmt.Errorf("echo: %w", err)
					}
				}
			}, func(ctx context.Context) error {
				for i := range rounds {
					if _, _, err := w.WriteAll(ctx, bytes.Repeat([]byte{byte(i)}, size)); err != nil {
						return fmt.Errorf("write: %w", err)
					}
				}
				return w.Close(ctx)
			}, func(ctx context.Context) error {
				for i := range rounds {
					n, b, err := r.ReadFull(ctx, make([]byte, size))
					if err != nil || !bytes.Equal(b, bytes.Repeat([]byte{byte(i)}, size)) {
						return fmt.Errorf("read %d: %d, %w", i, n, err)
					}
				}
				if n, _, err := r.Read(ctx, make([]byte, 1)); n != 0 || err != io.EOF {
					return fmt.Errorf("at the end: %d, %w", n, err)
				}
				return r.Close(ctx)
			})
			if err != nil {
				t.Errorf("%s: %v", network, err)
			}
			if c.Fd() != ^uintptr(0) {
				t.Errorf("%s: not closed with its halves", network)
			}
			for what, closing := range map[string]func(context.Context) error{"r": r.Close, "w": w.Close, "c": c.Close} {
				if err := closing(ctx); !errors.Is(err, net.ErrClosed) {
					t.Errorf("%s: %s closed again: %v", network, what, err)
				}
			}
		}
	})
}

// TestHalvesReunite puts halves together, of which those that do not belong together stay what they are.
func TestHalvesReunite(t *testing.T) { // M14
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "tcp")
		other, peer := connect(t, ctx, "unix")
		if c == nil || other == nil {
			return
		}
		defer closeAll(t, ctx, c, s, other, peer)
		r, w := c.Split()
		otherR, otherW := other.Split()
		var op *net.OpError
		if got, err := net.Reunite(r, otherW); got != nil || !errors.As(err, &op) || errors.Is(err, net.ErrClosed) {
			t.Errorf("halves of two: %v, %v", got, err)
		}
		againR, againW := c.Split()
		if got, err := net.Reunite(againR, w); got != nil || err == nil {
			t.Errorf("halves of two calls: %v, %v", got, err)
		}
		if got, err := net.Reunite(againR, againW); got != c || err != nil {
			t.Errorf("Reunite = %v, %v", got, err)
		}

		// A read that waits goes on over it, and what an iteration has left is not lost.
		if _, _, err := s.WriteAll(ctx, []byte("ab")); err != nil {
			t.Error(err)
		}
		for chunk, err := range r.Receives(ctx, nil) {
			if err != nil || len(chunk.Bytes()) == 0 {
				t.Errorf("Receives: %v", err)
			}
			chunk.Release()
			break
		}
		err := inFlight(ctx, 0) // of the iteration
		if err != nil {
			t.Error(err)
			return
		}
		err = together(ctx, func(ctx context.Context) error {
			n, _, err := r.ReadFull(ctx, make([]byte, 3))
			if n != 3 || err != nil {
				return fmt.Errorf("the read that waited: %d, %w", n, err)
			}
			return nil
		}, func(ctx context.Context) error {
			err := inFlight(ctx, 1)
			got, uniteErr := net.Reunite(r, w)
			if got != c || uniteErr != nil {
				return fmt.Errorf("Reunite = %v, %w", got, uniteErr)
			}
			_, _, sendErr := s.WriteAll(ctx, []byte("cde"))
			return errors.Join(err, sendErr)
		})
		if err != nil {
			t.Error(err)
		}
		if n, _, err := r.Read(ctx, make([]byte, 1)); n != 0 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("a half that was given up: Read = %d, %v", n, err)
		}
		if _, err := net.Reunite(r, w); !errors.Is(err, net.ErrClosed) {
			t.Errorf("reunited again: %v", err)
		}
		if err := errors.Join(w.Close(ctx), r.Close(ctx)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("halves that were given up: %v", err)
		}
		if _, _, err := c.WriteAll(ctx, []byte("f")); err != nil {
			t.Error(err)
		}
		if n, b, err := s.Read(ctx, make([]byte, 2)); n != 1 || b[0] != 'f' || err != nil {
			t.Errorf("Read = %d, %v", n, err)
		}

		// With one half closed, the other one is as it was.
		if err := otherW.Close(ctx); err != nil {
			t.Error(err)
		}
		if got, err := net.Reunite(otherR, otherW); got != nil || !errors.Is(err, net.ErrClosed) {
			t.Errorf("a closed half: %v, %v", got, err)
		}
		if _, _, err := peer.Write(ctx, []byte("x")); err != nil {
			t.Error(err)
		}
		if n, _, err := otherR.Read(ctx, make([]byte, 2)); n != 1 || err != nil {
			t.Errorf("the half that was refused: %d, %v", n, err)
		}
	})
}

// inFlight waits until so many operations are in flight.
func inFlight(ctx context.Context, n int) error {
	d, err := driver.FromContext(ctx)
	for err == nil && d.Stats().InFlight != n {
		err = executor.Sleep(ctx, time.Millisecond)
	}
	return err
}

// TestHalvesCloseWhileReading closes the sending half, or drops it, while a read waits: the peer sees the end, and sends its own.
func TestHalvesCloseWhileReading(t *testing.T) { // M15
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range streams {
			for _, dropped := range []bool{false, true} {
				c, s := connect(t, ctx, network)
				if c == nil {
					return
				}
				r, w := c.Split()
				var seen atomic.Bool
				err := together(ctx, func(ctx context.Context) error {
					n, _, err := r.Read(ctx, make([]byte, 1))
					if n != 0 || err != io.EOF {
						return fmt.Errorf("our read: %d, %w", n, err)
					}
					return r.Close(ctx)
				}, func(ctx context.Context) error {
					if err := executor.Sleep(ctx, time.Millisecond); err != nil {
						return err
					}
					if !dropped {
						return w.Close(ctx)
					}
					w = nil
					return collected(ctx, seen.Load)
				}, func(ctx context.Context) error {
					n, _, err := s.Read(ctx, make([]byte, 1))
					seen.Store(true)
					if n != 0 || err != io.EOF {
						return fmt.Errorf("the peer's read: %d, %w", n, err)
					}
					return s.Close(ctx)
				})
				if err != nil {
					t.Errorf("%s, dropped %v: %v", network, dropped, err)
				}
				if c.Fd() != ^uintptr(0) {
					t.Errorf("%s, dropped %v: not closed", network, dropped)
				}
			}
		}
	})
}

// collected has the collector run until done is true.
func collected(ctx context.Context, done func() bool) error {
	for range 500 {
		runtime.GC()
		if done() {
			return nil
		}
		if err := executor.Sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("what was dropped is not closed")
}

// TestHalvesDropped drops halves in several ways, and not the Conn: it is closed when both are gone, and not before.
func TestHalvesDropped(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range streams {
			for _, closed := range []string{"none", "r", "w"} {
				c, s := connect(t, ctx, network)
				if c == nil {
					return
				}
				func() {
					r, w := c.Split()
					switch closed {
					case "r":
						if err := r.Close(ctx); err != nil {
							t.Error(err)
						}
						if err := executor.Sleep(ctx, time.Millisecond); err != nil {
							t.Error(err)
						}
						runtime.GC()
						if _, _, err := w.WriteAll(ctx, []byte("x")); err != nil {
							t.Errorf("%s: with the other half closed: %v", network, err)
						}
					case "w":
						if err := w.Close(ctx); err != nil {
							t.Error(err)
						}
					}
				}()
				if err := collected(ctx, func() bool { return c.Fd() == ^uintptr(0) }); err != nil {
					t.Errorf("%s, %s closed: %v", network, closed, err)
				}
				closeAll(t, ctx, c, s)
			}
		}
	})
}

// TestHalvesKept has the collector run while operations wait under halves that nobody else has any more.
func TestHalvesKept(t *testing.T) {
	receives := map[string]func(ctx context.Context, r *net.ReadHalf) (int, error){
		"Read": func(ctx context.Context, r *net.ReadHalf) (int, error) {
			n, _, err := r.Read(ctx, make([]byte, 1))
			return n, err
		},
		"Receives": func(ctx context.Context, r *net.ReadHalf) (n int, err error) {
			for chunk, err := range r.Receives(ctx, nil) {
				n = len(chunk.Bytes())
				chunk.Release()
				return n, err
			}
			return 0, nil
		},
		"Splice": func(ctx context.Context, r *net.ReadHalf) (int, error) {
			a, b, err := net.UnixPair(ctx)
			if err != nil {
				return 0, err
			}
			defer a.Close(ctx)
			defer b.Close(ctx)
			_, w := a.Split()
			n, err := w.Splice(ctx, r, 1)
			return int(n), err
		},
	}
	each(t, func(t *testing.T, ctx context.Context) {
		for what, receive := range receives {
			c, s := connect(t, ctx, "tcp")
			if c == nil {
				return
			}
			halves := make(chan *net.ReadHalf, 1)
			r, w := c.Split()
			halves <- r
			r = nil
			err := together(ctx, func(ctx context.Context) error {
				if n, err := receive(ctx, <-halves); n != 1 || err != nil {
					return fmt.Errorf("%s = %d, %w", what, n, err)
				}
				return nil
			}, func(ctx context.Context) error {
				for range 3 {
					runtime.GC()
					if err := executor.Sleep(ctx, time.Millisecond); err != nil {
						return err
					}
				}
				_, _, err := s.WriteAll(ctx, []byte("x"))
				return err
			})
			if err != nil {
				t.Error(err)
			}
			runtime.KeepAlive(w)
			closeAll(t, ctx, c, s)
		}
	})
}

// TestHalvesCloseEnds closes halves under operations that wait: those end as if the connection was closed, and the other half goes on.
func TestHalvesCloseEnds(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range streams {
			c, s := connect(t, ctx, network)
			if c == nil {
				return
			}
			r, w := c.Split()
			err := together(ctx, func(ctx context.Context) error {
				n, b, err := r.Read(ctx, make([]byte, 9))
				if n != 0 || len(b) != 9 || !errors.Is(err, net.ErrClosed) {
					return fmt.Errorf("the read that waited: %d of %d, %v", n, len(b), err)
				}
				return nil
			}, func(ctx context.Context) error {
				err := executor.Sleep(ctx, time.Millisecond)
				return errors.Join(err, r.Close(ctx))
			})
			if err != nil {
				t.Errorf("%s: %v", network, err)
			}
			if _, _, err := w.Write(ctx, []byte("x")); err != nil {
				t.Errorf("%s: the other half: %v", network, err)
			}
			if n, _, err := s.Read(ctx, make([]byte, 9)); n != 1 || err != nil {
				t.Errorf("%s: the other half: %d, %v", network, n, err)
			}
			closeAll(t, ctx, s)
			if err := w.Close(ctx); err != nil {
				t.Error(err)
			}
		}
		for _, network := range []string{"tcp", "unix"} {
			c, s := connect(t, ctx, network)
			if c == nil {
				return
			}
			r, w := c.Split()
			b := make([]byte, 64<<10)
			err := together(ctx, func(ctx context.Context) error {
				for {
					if _, back, err := w.WriteAll(ctx, b); !errors.Is(err, net.ErrClosed) || len(back) != len(b) {
						if err != nil {
							return fmt.Errorf("the write that waited: %d, %v", len(back), err)
						}
						continue
					}
					return nil
				}
			}, func(ctx context.Context) error {
				err := executor.Sleep(ctx, 10*time.Millisecond)
				return errors.Join(err, w.Close(ctx))
			}, func(ctx context.Context) error {
				err := executor.Sleep(ctx, 20*time.Millisecond)
				for err == nil {
					_, _, err = s.Read(ctx, make([]byte, 256<<10))
				}
				if err != io.EOF {
					return err
				}
				return s.Close(ctx)
			})
			if err != nil {
				t.Errorf("%s: %v", network, err)
			}
			if err := r.Close(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestHalvesCloseStuck closes the sending half while somebody sends to a peer who takes nothing, and never will.
func TestHalvesCloseStuck(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Minute) // instead of for ever
		defer cancel()
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 1}}})
		fixed, err := pool.Get(ctx, 4096)
		if err != nil {
			t.Error(err)
			return
		}
		defer fixed.Release()
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			t.Error(err)
		}
		little, much := make([]byte, 1000), make([]byte, 1<<20)
		for what, send := range map[string]func(w *net.WriteHalf) error{
			"Write":         func(w *net.WriteHalf) error { _, _, err := w.Write(ctx, little); return err },
			"WriteAll":      func(w *net.WriteHalf) error { _, _, err := w.WriteAll(ctx, much); return err },
			"Writev":        func(w *net.WriteHalf) error { _, _, err := w.Writev(ctx, [][]byte{little, little}); return err },
			"WriteZeroCopy": func(w *net.WriteHalf) error { _, _, _, err := w.WriteZeroCopy(ctx, much); return err },
			"WriteFixedAll": func(w *net.WriteHalf) error { _, _, err := w.WriteFixedAll(ctx, fixed); return err },
			"SendMsg": func(w *net.WriteHalf) error {
				_, err := w.SendMsg(ctx, &net.Message{Bufs: [][]byte{little}})
				return err
			},
			"SendFile": func(w *net.WriteHalf) error { _, err := w.SendFile(ctx, f, 0, -1); return err },
			"Writable": func(w *net.WriteHalf) error {
				if err := w.Writable(ctx); err != nil {
					return err
				}
				_, _, err := w.Write(ctx, little)
				return err
			},
		} {
			for _, network := range streams {
				switch {
				case network == "unixpacket" && (what == "WriteAll" || what == "WriteZeroCopy"):
					continue // too long for a packet
				case network == "tcp" && what == "WriteZeroCopy":
					continue // whose end is the peer's acknowledgement
				}
				c, s := connect(t, ctx, network)
				if c == nil {
					return
				}
				r, w := c.Split()
				until := func(context.Context) error {
					for {
						if err := send(w); err != nil {
							if !errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled) {
								return fmt.Errorf("%s, %s: %w", network, what, err)
							}
							return nil
						}
					}
				}
				senders := []func(context.Context) error{until, until}
				if what == "WriteFixedAll" {
					senders = senders[:1] // there is one buffer
				}
				err := together(ctx, append(senders, func(ctx context.Context) error {
					return errors.Join(executor.Sleep(ctx, 5*time.Millisecond), w.Close(ctx))
				})...)
				if err != nil {
					t.Error(err)
				}
				if _, _, err := s.Write(ctx, []byte("x")); err != nil {
					t.Errorf("%s, %s: the other half: %v", network, what, err)
				}
				if n, _, err := r.Read(ctx, make([]byte, 9)); n != 1 || err != nil {
					t.Errorf("%s, %s: the other half: %d, %v", network, what, n, err)
				}
				closeAll(t, ctx, c, s)
			}
		}
	})
}

// TestHalvesForward uses every method of halves that are open, and of halves that are closed.
func TestHalvesForward(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 2}}})
		fixed, err := pool.Get(ctx, 4096)
		if err != nil {
			t.Error(err)
			return
		}
		defer fixed.Release()
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		if _, err := f.WriteString("x"); err != nil {
			t.Error(err)
		}
		c, s := connect(t, ctx, "unix")
		if c == nil {
			return
		}
		r, w := c.Split()
		sr, sw := s.Split()
		x := []byte("x")
		read := map[string]func() (int, error){
			"Read":     func() (int, error) { n, _, err := r.Read(ctx, make([]byte, 1)); return n, err },
			"ReadFull": func() (int, error) { n, _, err := r.ReadFull(ctx, make([]byte, 1)); return n, err },
			"Peek": func() (int, error) {
				if n, _, err := r.Peek(ctx, make([]byte, 1)); err != nil {
					return n, err
				}
				n, _, err := r.Read(ctx, make([]byte, 1))
				return n, err
			},
			"Readv":     func() (int, error) { n, _, err := r.Readv(ctx, [][]byte{make([]byte, 1)}); return n, err },
			"ReadFixed": func() (int, error) { n, _, err := r.ReadFixed(ctx, fixed.View(0, 1)); return n, err },
			"RecvMsg": func() (int, error) {
				m := net.Message{Bufs: [][]byte{make([]byte, 1)}}
				err := r.RecvMsg(ctx, &m)
				return m.N, err
			},
			"PeekMsg": func() (int, error) {
				m := net.Message{Bufs: [][]byte{make([]byte, 1)}}
				if err := r.PeekMsg(ctx, &m); err != nil {
					return m.N, err
				}
				n, _, err := r.Read(ctx, make([]byte, 1))
				return n, err
			},
			"Receives": func() (int, error) {
				for chunk, err := range r.Receives(ctx, nil) {
					chunk.Release()
					return len(x), err
				}
				return 0, nil
			},
			"ReceivesMsg": func() (int, error) {
				for m, err := range r.ReceivesMsg(ctx, nil) {
					m.Release()
					return len(x), err
				}
				return 0, nil
			},
			"ReceiveFile": func() (int, error) { n, err := r.ReceiveFile(ctx, f, 0, 1); return int(n), err },
			"Readable": func() (int, error) {
				if err := r.Readable(ctx); err != nil {
					return 0, err
				}
				n, _, err := r.Read(ctx, make([]byte, 1))
				return n, err
			},
		}
		write := map[string]func() (int, error){
			"Write":         func() (int, error) { n, _, err := w.Write(ctx, x); return n, err },
			"WriteAll":      func() (int, error) { n, _, err := w.WriteAll(ctx, x); return n, err },
			"Writev":        func() (int, error) { n, _, err := w.Writev(ctx, [][]byte{x}); return n, err },
			"WriteZeroCopy": func() (int, error) { n, _, _, err := w.WriteZeroCopy(ctx, x); return n, err },
			"WriteFixed":    func() (int, error) { n, _, err := w.WriteFixed(ctx, fixed.View(0, 1)); return n, err },
			"WriteFixedAll": func() (int, error) { n, _, err := w.WriteFixedAll(ctx, fixed.View(0, 1)); return n, err },
			"SendMsg":       func() (int, error) { return w.SendMsg(ctx, &net.Message{Bufs: [][]byte{x}}) },
			"SendMsgZeroCopy": func() (int, error) {
				n, _, err := w.SendMsgZeroCopy(ctx, &net.Message{Bufs: [][]byte{x}})
				return n, err
			},
			"SendFile": func() (int, error) { n, err := w.SendFile(ctx, f, 0, 1); return int(n), err },
			"Splice": func() (int, error) {
				if _, _, err := sw.Write(ctx, x); err != nil {
					return 0, err
				}
				n, err := w.Splice(ctx, r, 1)
				return int(n), err
			},
			"Writable": func() (int, error) {
				if err := w.Writable(ctx); err != nil {
					return 0, err
				}
				n, _, err := w.Write(ctx, x)
				return n, err
			},
		}
		for what, f := range write {
			n, err := f()
			if n != 1 || err != nil {
				t.Errorf("%s = %d, %v", what, n, err)
			}
			if n, _, err := sr.Read(ctx, make([]byte, 9)); n != 1 || err != nil {
				t.Errorf("after %s: %d, %v", what, n, err)
			}
		}
		for what, f := range read {
			if _, _, err := sw.Write(ctx, x); err != nil {
				t.Error(err)
			}
			if n, err := f(); n != 1 || err != nil {
				t.Errorf("%s = %d, %v", what, n, err)
			}
		}
		if _, _, err := sw.Write(ctx, x); err != nil { // which is not received any more
			t.Error(err)
		}
		if err := errors.Join(r.Close(ctx), sr.Close(ctx)); err != nil {
			t.Error(err)
		}
		for what, f := range read {
			if _, err := f(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("closed: %s: %v", what, err)
			}
		}
		if err := errors.Join(w.Close(ctx), sw.Close(ctx)); err != nil {
			t.Error(err)
		}
		for what, f := range write {
			if n, err := f(); n != 0 || !errors.Is(err, net.ErrClosed) {
				t.Errorf("closed: %s = %d, %v", what, n, err)
			}
		}
	})
}
