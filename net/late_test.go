package net_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdnet "net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/net"
)

// TestLateAccepts cancels accepts at any moment while clients connect. Every connection is somebody's: it is returned, or waits for the
// next who accepts, or is closed, which its client learns at once. That no descriptor is left over, each sees to.
func TestLateAccepts(t *testing.T) { // HAZARDS T6, M8, M9
	for _, grace := range []time.Duration{0, time.Nanosecond} {
		t.Run(fmt.Sprint("grace ", grace), func(t *testing.T) {
			eachWith(t, driver.Config{CancelGrace: grace}, func(t *testing.T, ctx context.Context) {
				const batch = 10
				rng := random(t)
				served, refused, slowest := 0, 0, time.Duration(0)
				for round := range share(t, 8, 10_000/batch/2) {
					l := listenOn(t, ctx, "tcp")
					if l == nil {
						return
					}
					var clients [batch]stdnet.Conn
					var dialing sync.WaitGroup
					for i := range clients {
						dialing.Go(func() {
							c, err := stdnet.Dial("tcp", l.Addr().String())
							if err != nil {
								t.Error(err)
								return
							}
							clients[i] = c
						})
					}
					rng := rng(round)
					for range batch {
						short, cancel := context.WithTimeout(ctx, time.Duration(rng.IntN(60))*time.Microsecond)
						s, err := l.Accept(short)
						cancel()
						if err == nil {
							_, _, err = s.WriteAll(ctx, []byte{1})
							served++
						}
						if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, driver.ErrAbandoned) {
							t.Error(err)
						}
						closeAll(t, ctx, s)
					}
					if _, err := executor.Block(ctx, func() (int, error) { dialing.Wait(); return 0, nil }); err != nil {
						t.Error(err)
					}
					if err := l.Close(ctx); err != nil {
						t.Error(err)
					}
					closed, delays := time.Now(), testenv.Delays()
					var took time.Duration
					for _, c := range clients {
						if c == nil {
							continue
						}
						c.SetReadDeadline(closed.Add(10 * time.Second))
						n, err := c.Read(make([]byte, 1))
						if n == 0 {
							refused++
						}
						if errors.Is(err, os.ErrDeadlineExceeded) {
							t.Error("a client of nobody waits")
						}
						if n > 0 { // and then comes the end
							if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
								t.Errorf("%d, %v", n, err)
							}
						}
						took = time.Since(closed)
						c.Close()
					}
					slowest = max(slowest, took-delays())
				}
				t.Logf("%d served, %d not; all knew within %v", served, refused, slowest)
				if slowest > time.Second {
					t.Error("that is long")
				}
			})
		})
	}
}

// TestCloseAll closes what there is to be closed from many tasks at once, while others use it. One of them succeeds, and the error that
// there is a second time is always the same.
func TestCloseAll(t *testing.T) { // N14
	each(t, func(t *testing.T, ctx context.Context) {
		for range share(t, 2, 2000) {
			c, s := connect(t, ctx, "tcp")
			std, other := ours(t, ctx, "unix")
			l, sl := listenOn(t, ctx, "tcp"), listenOn(t, ctx, "unix")
			p, sp := listenPacket(t, ctx, "udp"), listenPacket(t, ctx, "unixgram")
			r, q := ringPair(t, ctx, "tcp")
			if c == nil || std == nil || l == nil || p == nil || sl == nil || sp == nil || r == nil {
				return
			}
			stdListener, stdPacket := sl.NetListener(), sp.NetPacketConn()
			own := func(f func(context.Context) error) func() error { return func() error { return f(ctx) } }
			for what, closing := range map[string]struct {
				close func() error
				use   func(ctx context.Context) error
			}{
				"Conn":     {own(c.Close), func(ctx context.Context) error { _, _, err := c.Read(ctx, make([]byte, 1)); return err }},
				"net.Conn": {std.Close, func(context.Context) error { _, err := std.Read(make([]byte, 1)); return err }},
				"RingConn": {own(r.Close), func(ctx context.Context) error { _, _, err := r.Read(ctx, make([]byte, 1)); return err }},
				"Listener": {own(l.Close), func(ctx context.Context) error { _, err := l.Accept(ctx); return err }},
				"net.Listener": {stdListener.Close, func(context.Context) error {
					_, err := stdListener.Accept()
					return err
				}},
				"PacketConn": {own(p.Close), func(ctx context.Context) error {
					_, _, _, err := p.RecvFrom(ctx, make([]byte, 1))
					return err
				}},
				"net.PacketConn": {stdPacket.Close, func(context.Context) error {
					_, _, err := stdPacket.ReadFrom(make([]byte, 1))
					return err
				}},
			} {
				const closers = 3
				errs := make([]error, closers)
				var fs []func(ctx context.Context) error
				for range 2 {
					fs = append(fs, func(ctx context.Context) error {
						if err := closing.use(ctx); !errors.Is(err, net.ErrClosed) {
							return fmt.Errorf("used while it is closed: %w", err)
						}
						return nil
					})
				}
				for i := range closers {
					fs = append(fs, func(ctx context.Context) error {
						if err := executor.Yield(ctx); err != nil {
							return err
						}
						errs[i] = closing.close()
						return nil
					})
				}
				if err := together(ctx, fs...); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				succeeded := 0
				for _, err := range append(errs, closing.close()) {
					if err == nil {
						succeeded++
					} else if !errors.Is(err, net.ErrClosed) {
						t.Errorf("%s: %v", what, err)
					}
				}
				if succeeded != 1 {
					t.Errorf("%s: %d of several calls succeeded: %v", what, succeeded, errs)
				}
			}
			closeAll(t, ctx, s)
			closeRing(t, ctx, q)
			other.Close()
		}
	})
}

// TestShutdown ends runtimes and closes what they use, with everything under way that there is and more beginning all the time. It takes
// no time, everybody gets an answer, and the port is free at once.
func TestShutdown(t *testing.T) { // HAZARDS T7
	var mu sync.Mutex
	var slowest time.Duration
	rounds := 0
	each(t, func(t *testing.T, ctx context.Context) {
		rng := random(t)
		for round := range share(t, 5, 1000) {
			m := newMix(t, ctx, round)
			if m == nil {
				return
			}
			took, err := m.play(ctx, rng(round).IntN)
			if err != nil {
				t.Errorf("round %d: %v", round, err)
				return
			}
			mu.Lock()
			slowest = max(slowest, took)
			rounds++
			mu.Unlock()
			l, err := net.Listen(ctx, "tcp", m.l.Addr().String())
			if err != nil {
				t.Errorf("the port is not free: %v", err)
				return
			}
			if err := l.Close(ctx); err != nil {
				t.Error(err)
			}
		}
	})
	t.Logf("%d rounds, the slowest end took %v", rounds, slowest)
	if slowest > 2*time.Second {
		t.Error("that is long")
	}
}

// mix is the objects of one round of TestShutdown.
type mix struct {
	l    *net.Listener
	a, b *net.Conn
	p    *net.PacketConn
}

func newMix(t *testing.T, ctx context.Context, round int) *mix {
	m := &mix{l: listenOn(t, ctx, "tcp4"), p: listenPacket(t, ctx, "udp")}
	m.a, m.b = connect(t, ctx, []string{"tcp", "unix"}[round%2])
	if m.l == nil || m.p == nil || m.a == nil || m.b == nil {
		return nil
	}
	return m
}

// kinds are operations that mostly do not end by themselves.
func (m *mix) kinds() []func(ctx context.Context) error {
	return []func(ctx context.Context) error{
		func(ctx context.Context) error { _, _, err := m.a.Read(ctx, make([]byte, 10)); return err },
		func(ctx context.Context) error { _, _, err := m.b.ReadFull(ctx, make([]byte, 1<<20)); return err },
		func(ctx context.Context) error { _, _, err := m.a.WriteAll(ctx, much); return err },
		func(ctx context.Context) error {
			_, _, _, err := m.a.WriteZeroCopy(ctx, much[:1<<16])
			return err
		},
		func(ctx context.Context) error { _, err := m.l.Accept(ctx); return err },
		func(ctx context.Context) error {
			for c, err := range m.l.Accepts(ctx) {
				if err != nil {
					return err
				}
				_ = c.Close(context.WithoutCancel(ctx)) // whoever it was
			}
			return nil
		},
		func(ctx context.Context) error {
			for chunk, err := range m.b.Receives(ctx, nil) {
				if err != nil {
					return err
				}
				chunk.Release()
			}
			return nil
		},
		func(ctx context.Context) error { return m.a.Readable(ctx) },
		func(ctx context.Context) error { return m.l.Readable(ctx) },
		func(ctx context.Context) error { _, _, _, err := m.p.RecvFrom(ctx, make([]byte, 10)); return err },
		func(ctx context.Context) error {
			_, _, err := m.p.SendTo(ctx, make([]byte, 100), m.p.LocalAddr())
			return err
		},
		func(ctx context.Context) error { return executor.Sleep(ctx, time.Millisecond) },
		func(ctx context.Context) error {
			c, err := net.Dial(ctx, "tcp", m.l.Addr().String())
			if err == nil {
				err = c.Close(context.WithoutCancel(ctx))
			}
			return err
		},
	}
}

// ofAnEnd reports whether an error is one that operations may have whose socket, peer or context ends.
func ofAnEnd(err error) bool {
	for _, known := range []error{nil, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, context.Canceled, syscall.EPIPE, syscall.ECONNRESET,
		syscall.ECONNREFUSED, net.ErrReceiving} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// play has tasks do random things until they are told that it is over: by their context and then by all that they use being closed, or by that alone.
func (m *mix) play(ctx context.Context, random func(int) int) (took time.Duration, err error) {
	over, cancel := context.WithCancel(ctx)
	defer cancel()
	kinds := m.kinds()
	const tasks = 5 // a pool of 8 must have places for those who end it
	var plans [tasks][]int
	for i := range plans {
		for range 50 {
			plans[i] = append(plans[i], random(len(kinds)))
		}
	}
	byContext := random(2) == 0
	pause := time.Duration(random(2000)) * time.Microsecond
	var ended time.Time
	delays := func() time.Duration { return 0 }
	var fs []func(ctx context.Context) error
	for i := range tasks {
		fs = append(fs, func(ctx context.Context) error {
			for k := 0; over.Err() == nil; k++ {
				kind := plans[i][k%len(plans[i])]
				if err := kinds[kind](over); !ofAnEnd(err) {
					return fmt.Errorf("kind %d: %w", kind, err)
				}
				// What fails at once waits for nobody, and a worker's other tasks would never run again if no kind of the plan did.
				if err := executor.Yield(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	closeEverything := func(ctx context.Context) error {
		for _, err := range []error{m.l.Close(ctx), m.a.Close(ctx), m.p.Close(ctx), m.b.Close(ctx)} {
			if err != nil && !errors.Is(err, net.ErrClosed) {
				return err
			}
		}
		return nil
	}
	fs = append(fs, func(ctx context.Context) error {
		if err := executor.Sleep(ctx, pause); err != nil {
			return err
		}
		ended, delays = time.Now(), testenv.Delays()
		if byContext { // what was sent without a copy ends with its connection alone
			cancel()
		}
		err := closeEverything(ctx)
		cancel()
		return err
	}, func(ctx context.Context) error {
		if err := executor.Sleep(ctx, pause); err != nil {
			return err
		}
		return closeEverything(ctx)
	})
	err = together(ctx, fs...)
	took = time.Since(ended) - delays() // on a machine that is never late
	return took, errors.Join(err, closeEverything(ctx), closeEverything(ctx))
}
