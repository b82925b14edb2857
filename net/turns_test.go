package net_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"uringo/buf"
	"uringo/driver"
	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/net"
)

// A turn is a call of one of several who send on a connection: so many bytes, all of one kind.
type turn struct {
	kind byte
	sent int
}

// turnWays are the ways to send that take turns, each of which sends n bytes of one kind.
var turnWays = []struct {
	name string
	send func(ctx context.Context, c *net.Conn, s *turnSender, n int) (int, error)
}{
	{"WriteAll", func(ctx context.Context, c *net.Conn, s *turnSender, n int) (int, error) {
		b := bytes.Repeat([]byte{s.kind}, n)
		n, back, err := c.WriteAll(ctx, b)
		if len(back) != len(b) {
			err = fmt.Errorf("%d bytes came back, %w", len(back), err)
		}
		return n, err
	}},
	{"WriteFixedAll", func(ctx context.Context, c *net.Conn, s *turnSender, n int) (int, error) {
		b, err := s.pool.Get(ctx, n)
		if err != nil {
			return 0, err
		}
		defer b.Release()
		b.View(0, n)
		copy(b.Bytes(), bytes.Repeat([]byte{s.kind}, n))
		n, _, err = c.WriteFixedAll(ctx, b)
		return n, err
	}},
	{"NetConn", func(ctx context.Context, c *net.Conn, s *turnSender, n int) (int, error) {
		// The deadline is that of all who write so: it is only ever moved to what is good for the most impatient.
		end, _ := ctx.Deadline()
		if err := c.NetConn().SetWriteDeadline(end); err != nil {
			return 0, err
		}
		return c.NetConn().Write(bytes.Repeat([]byte{s.kind}, n))
	}},
	{"SendFile", func(ctx context.Context, c *net.Conn, s *turnSender, n int) (int, error) {
		m, err := c.SendFile(ctx, s.file, 0, int64(n))
		return int(m), err
	}},
	{"Splice", func(ctx context.Context, c *net.Conn, s *turnSender, n int) (int, error) {
		// What a Splice that ends early leaves over, the next one finds.
		for s.ready < n {
			b := bytes.Repeat([]byte{s.kind}, min(n-s.ready, 16<<10))
			m, _, err := s.feed.WriteAll(ctx, b)
			s.ready += m
			if err != nil {
				return 0, err
			}
			if s.ready >= 32<<10 { // there is no room for more
				break
			}
		}
		m, err := c.Splice(ctx, s.source, int64(min(n, s.ready)))
		s.ready -= int(m)
		return int(m), err
	}},
}

// turnSender is one who sends, in one way.
type turnSender struct {
	way          int
	kind         byte // of what it sends
	pool         *buf.Pool
	file         *os.File
	source, feed *net.Conn
	ready        int // in source
	turns        []turn
}

// run sends until ctx ends or the connection is closed.
func (s *turnSender) run(ctx context.Context, c *net.Conn, rounds int, rng *rand.Rand) error {
	for range rounds {
		n := 1 + rng.IntN([...]int{100, 20 << 10, turnMost}[rng.IntN(3)])
		under, cancel := ctx, context.CancelFunc(func() {})
		switch rng.IntN(4) {
		case 0:
			under, cancel = context.WithTimeout(ctx, time.Duration(rng.IntN(3000))*time.Microsecond)
		case 1:
			under, cancel = context.WithCancel(ctx)
			timer := time.AfterFunc(time.Duration(rng.IntN(3000))*time.Microsecond, cancel)
			defer timer.Stop()
		}
		sent, err := turnWays[s.way].send(under, c, s, n)
		cancel()
		s.turns = append(s.turns, turn{s.kind, sent})
		switch {
		case sent < 0 || sent > n || err == nil && sent != n && turnWays[s.way].name != "Splice":
			return fmt.Errorf("%s: sent %d of %d, %w", turnWays[s.way].name, sent, n, err)
		case errors.Is(err, net.ErrClosed):
			return nil
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		case err != nil:
			return fmt.Errorf("%s: %w", turnWays[s.way].name, err)
		}
	}
	return nil
}

const turnMost = 400 << 10

// TestTurnsEnd has several send on one connection in all the ways that take turns, under contexts and deadlines that end at any moment, to a peer that
// is slow or not, and closes the connection in the middle of it: what arrives is, sender by sender, what each call said that it sent, and no call is
// in the middle of another.
func TestTurnsEnd(t *testing.T) { // HAZARDS T23, T25
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			each(t, func(t *testing.T, ctx context.Context) {
				rng := random(t)
				for i := range size(2, 40) {
					if err := turnsEnd(t, ctx, network, func(k int) *rand.Rand { return rng(100*i + k) }); err != nil {
						t.Error(err)
						return
					}
				}
			})
		})
	}
}

func turnsEnd(t *testing.T, ctx context.Context, network string, rng func(int) *rand.Rand) error {
	d, err := driver.FromContext(ctx)
	if err != nil {
		return err
	}
	c, s := connect(t, ctx, network)
	if c == nil {
		return nil
	}
	defer closeAll(t, ctx, c, s)
	pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: turnMost, Count: 2}}})
	var senders []*turnSender
	var fs []func(ctx context.Context) error
	for i := range turnWays {
		kind := byte('a' + i)
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, bytes.Repeat([]byte{kind}, turnMost), 0o600); err != nil {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		x := &turnSender{way: i, kind: kind, pool: pool, file: f}
		if x.feed, x.source = connect(t, ctx, "pair"); x.feed == nil {
			return nil
		}
		defer closeAll(t, ctx, x.feed, x.source)
		senders = append(senders, x)
		fs = append(fs, func(ctx context.Context) error { return x.run(ctx, c, 30, rng(i)) })
	}
	var closed executor.Event
	var closeErr error
	time.AfterFunc(time.Duration(20+rng(50).IntN(100))*time.Millisecond, func() {
		closeErr = c.Close(driver.NewContext(context.Background(), d))
		closed.Set()
	})
	var got []byte
	fs = append(fs, func(ctx context.Context) error {
		defer s.Close(ctx) // and if anything is wrong, the senders are told so
		r := rng(51)
		b := make([]byte, 64<<10)
		slow := r.IntN(2) > 0
		for {
			n, _, err := s.Read(ctx, b)
			got = append(got, b[:n]...)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if slow && r.IntN(4) == 0 {
				if err := executor.Sleep(ctx, time.Duration(r.IntN(2000))*time.Microsecond); err != nil {
					return err
				}
			}
		}
	})
	err = together(ctx, fs...)
	if err := errors.Join(err, closed.Wait(ctx), closeErr); err != nil {
		return err
	}
	return checkTurns(got, senders)
}

// checkTurns sees that got is made of whole turns, those of one sender in their order. Neighbours of one sender are one run.
func checkTurns(got []byte, senders []*turnSender) error {
	for pos := 0; pos < len(got); {
		kind := got[pos]
		run := 1
		for pos+run < len(got) && got[pos+run] == kind {
			run++
		}
		i := int(kind) - 'a'
		if i < 0 || i >= len(senders) {
			return fmt.Errorf("byte %d is %q", pos, kind)
		}
		s, rest := senders[i], run
		for rest > 0 && len(s.turns) > 0 && s.turns[0].sent <= rest {
			rest -= s.turns[0].sent
			s.turns = s.turns[1:]
		}
		if rest > 0 {
			return fmt.Errorf("%s: %d bytes at %d, %d more than whole turns; next %v", turnWays[s.way].name, run, pos, rest, s.turns)
		}
		pos += run
	}
	for _, s := range senders {
		for _, left := range s.turns {
			if left.sent > 0 {
				return fmt.Errorf("%s: %d bytes did not arrive", turnWays[s.way].name, left.sent)
			}
		}
	}
	return nil
}
