package net_test

import (
	"context"
	"errors"
	"fmt"
	stdnet "net"
	"os"
	"sync"
	"testing"
	"time"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/net"
)

// inTurn is how many have to be run one after the other until a call that waits ends with its deadline: whoever has the timer, the driver, and
// the caller. On a busy machine each of them may be run late.
const inTurn = 3

// punctual calls a test that measures how late things are, and again if they are later than the machine is: it may have other things to do.
func punctual(t *testing.T, limit time.Duration, measure func() (late time.Duration, err error)) {
	t.Helper()
	var late, machine time.Duration
	for range 3 {
		delays := testenv.Delays()
		var err error
		late, err = measure()
		machine = delays()
		if err != nil {
			t.Error(err)
			return
		}
		if late <= limit+inTurn*machine {
			return
		}
	}
	t.Errorf("%v late, three times, and the machine %v", late, machine)
}

// TestDeadlines receives with deadlines around the moment in which something arrives: bytes are returned, by this call or the next, and a
// call that times out does not do so early, and not late.
func TestDeadlines(t *testing.T) { // HAZARDS T23
	var mu sync.Mutex
	var all []time.Duration
	each(t, func(t *testing.T, ctx context.Context) {
		rng := random(t)
		punctual(t, 20*time.Millisecond, func() (time.Duration, error) {
			const conns = 3 // a pool of 8 has room for both ends of them
			var late [conns][]time.Duration
			var fs []func(ctx context.Context) error
			for i := range conns {
				c, s := connect(t, ctx, []string{"tcp", "unix"}[i%2])
				if c == nil {
					return 0, nil
				}
				receive := s.Read
				if i == 1 { // by the deadlines of the standard library's shape
					std := s.NetConn()
					receive = func(ctx context.Context, b []byte) (int, []byte, error) {
						end, _ := ctx.Deadline()
						if err := std.SetReadDeadline(end); err != nil {
							return 0, b, err
						}
						n, err := std.Read(b)
						return n, b, err
					}
				}
				pick := rng(i).IntN
				fs = append(fs, func(ctx context.Context) (err error) {
					late[i], err = meetDeadlines(ctx, c, receive, share(t, 20, 10_000)/conns, pick)
					closeAll(t, ctx, c, s)
					return err
				})
			}
			if err := together(ctx, fs...); err != nil {
				return 0, err
			}
			var these []time.Duration
			for _, l := range late {
				these = append(these, l...)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, these...)
			return quantile(these, 0.99), nil
		})
	})
	t.Logf("%d of the calls timed out: at the median %v late, p99 %v, at most %v", len(all), quantile(all, 0.5), quantile(all, 0.99), quantile(all, 1))
}

// meetDeadlines has c send a byte a little before or after the deadline of each receive, and returns how late those were that timed out.
func meetDeadlines(ctx context.Context, c *net.Conn, receive func(context.Context, []byte) (int, []byte, error), rounds int,
	random func(int) int) (late []time.Duration, err error) {
	sent, received := 0, 0
	take := func(b []byte) error {
		for _, x := range b {
			if x != byte(received) {
				return fmt.Errorf("received %d instead of %d", x, byte(received))
			}
			received++
		}
		return nil
	}
	for range rounds {
		patience := time.Duration(random(20_000)) * time.Microsecond
		arrival := patience + time.Duration(random(2000)-1000)*time.Microsecond
		waitSend := start(ctx, func(ctx context.Context) {
			_ = executor.Sleep(ctx, arrival) // which may end it early
			if _, _, e := c.WriteAll(ctx, []byte{byte(sent)}); e != nil {
				err = e
			}
		})
		end := time.Now().Add(patience)
		short, cancel := context.WithDeadline(ctx, end)
		n, b, e := receive(short, make([]byte, 10))
		took := time.Since(end)
		cancel()
		waitSend()
		sent++
		if err != nil {
			return nil, err
		}
		if err := take(b[:n]); err != nil {
			return nil, err
		}
		switch {
		case e == nil:
		case !errors.Is(e, os.ErrDeadlineExceeded) || n > 0:
			return nil, fmt.Errorf("%d bytes, %w", n, e)
		case took < 0:
			return nil, fmt.Errorf("timed out %v early", -took)
		default:
			late = append(late, took)
		}
		if timeout, ok := e.(interface{ Timeout() bool }); e != nil && (!ok || !timeout.Timeout()) {
			return nil, fmt.Errorf("%w is no timeout", e)
		}
		for received < sent { // what arrived too late is still there
			n, b, err := receive(ctx, make([]byte, 10))
			if err == nil {
				err = take(b[:n])
			}
			if err != nil {
				return nil, fmt.Errorf("%d of %d received: %w", received, sent, err)
			}
		}
	}
	return late, nil
}

// TestDeadlinesLetGo has deadlines pass on a driver that lets callers go before the kernel: in the shapes of the standard library they are deadlines
// all the same.
func TestDeadlinesLetGo(t *testing.T) {
	eachWith(t, driver.Config{CancelGrace: time.Nanosecond}, func(t *testing.T, ctx context.Context) {
		c, s := ours(t, ctx, "unix")
		p, l := listenPacket(t, ctx, "udp"), listenOn(t, ctx, "tcp")
		if c == nil || p == nil || l == nil {
			return
		}
		packets, listener := p.NetPacketConn(), l.NetListener()
		defer c.Close()
		defer s.Close()
		defer packets.Close()
		defer listener.Close()
		for what, use := range map[string]struct {
			set func(time.Time) error
			do  func() error
		}{
			"Read": {c.SetReadDeadline, func() error { _, err := c.Read(make([]byte, 1)); return err }},
			"Write": {c.SetWriteDeadline, func() error { // until there is no room any more
				for {
					if _, err := c.Write(make([]byte, 1000)); err != nil {
						return err
					}
				}
			}},
			"ReadFrom": {packets.SetReadDeadline, func() error {
				_, _, err := packets.ReadFrom(make([]byte, 1))
				return err
			}},
			"Accept": {listener.(interface{ SetDeadline(time.Time) error }).SetDeadline, func() error { _, err := listener.Accept(); return err }},
		} {
			for range 30 {
				if err := use.set(time.Now().Add(time.Millisecond)); err != nil {
					t.Error(err)
				}
				var op *net.OpError
				if err := use.do(); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &op) || !op.Timeout() {
					t.Errorf("%s: %v", what, err)
					break
				}
			}
		}
	})
}

// TestDeadlinesMoved moves deadlines while calls wait: forth, back, into the past, away.
func TestDeadlinesMoved(t *testing.T) { // HAZARDS T23
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := ours(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer c.Close()
		defer s.Close()
		for range share(t, 10, 5000) {
			if err := moveDeadlines(ctx, s); err != nil {
				t.Error(err)
				return
			}
		}
	})
}

func moveDeadlines(ctx context.Context, s stdnet.Conn) error {
	const step = 2 * time.Millisecond
	began := time.Now()
	if err := s.SetReadDeadline(began.Add(time.Hour)); err != nil {
		return err
	}
	var ended, moved time.Duration
	err := together(ctx, func(context.Context) error {
		if n, err := s.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("%d, %w", n, err)
		}
		ended = time.Since(began)
		return nil
	}, func(ctx context.Context) error {
		for i, end := range []time.Time{began.Add(step), began.Add(time.Hour), {}, began.Add(2 * step)} {
			if err := s.SetReadDeadline(end); err != nil {
				return err
			}
			if i == 1 {
				moved = time.Since(began)
			}
		}
		return nil
	})
	if early := ended < step || moved < step && ended < 2*step; err == nil && early {
		err = fmt.Errorf("ended after %v, the first deadline was moved after %v", ended, moved)
	}
	return err
}
