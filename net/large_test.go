package net_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/driver"
	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/net"
	"uringo/ops"
)

// largest is the most that a test of large sends has one call send.
const largest = 1<<20 + 1<<10

// A largeSender sends large buffers over one connection, in one of the ways there are.
type largeSender struct {
	name string
	mem  []byte // what it sends from
	// write sends the first n bytes of mem, not necessarily all. With driver.ErrAbandoned the kernel may send more than it says.
	write func(ctx context.Context, n int) (sent int, err error)
	close func(ctx context.Context) error
	peer  *net.Conn
}

// largeSenders connects them, with room for so many bytes on either side, or as many as usual if that is 0.
func largeSenders(t *testing.T, ctx context.Context, pool *buf.Pool, room int) (all []*largeSender) {
	t.Helper()
	connect := func(network string) (c, peer *net.Conn) {
		if c, peer = connect(t, ctx, network); c == nil || room == 0 {
			return c, peer
		}
		if err := errors.Join(c.SetWriteBuffer(room), peer.SetReadBuffer(room)); err != nil {
			t.Error(err)
		}
		return c, peer
	}
	for _, network := range []string{"tcp", "unix"} {
		for _, way := range []string{"Write", "WriteAll", "WriteFixedAll", "NetConn", "Writev", "SendMsg", "WriteZeroCopy", "SendMsgZeroCopy",
			"Write in the ring", "WriteAll in the ring", "WriteFixedAll in the ring"} {
			c, peer := connect(network)
			if c == nil {
				return nil
			}
			var w largeWriter = c
			method, inRing := strings.CutSuffix(way, " in the ring")
			if inRing {
				r, err := c.IntoRing(ctx)
				if err != nil {
					t.Error(err)
					return nil
				}
				w = r
			}
			s := &largeSender{name: network + ", " + way, mem: make([]byte, largest), peer: peer, close: w.Close}
			switch method {
			case "Write":
				s.write = sameBuffer(s, w.Write)
			case "WriteAll":
				s.write = sameBuffer(s, w.WriteAll)
			case "WriteFixedAll":
				s.write = sameView(t, ctx, s, pool, w.WriteFixedAll)
			case "Writev":
				s.write = sameBuffer(s, func(ctx context.Context, b []byte) (int, []byte, error) {
					n, bufs, err := c.Writev(ctx, [][]byte{b[:len(b)/3], nil, b[len(b)/3:]})
					return n, whole(b, bufs), err
				})
			case "SendMsg":
				s.write = sameBuffer(s, func(ctx context.Context, b []byte) (int, []byte, error) {
					m := net.Message{Bufs: [][]byte{b[:len(b)/3], b[len(b)/3:]}}
					n, err := c.SendMsg(ctx, &m)
					return n, whole(b, m.Bufs), err
				})
			case "WriteZeroCopy":
				s.write = sameBuffer(s, func(ctx context.Context, b []byte) (int, []byte, error) {
					n, b, _, err := c.WriteZeroCopy(ctx, b)
					return n, b, err
				})
			case "SendMsgZeroCopy":
				s.write = sameBuffer(s, func(ctx context.Context, b []byte) (int, []byte, error) {
					m := net.Message{Bufs: [][]byte{b[:len(b)/3], b[len(b)/3:]}}
					n, _, err := c.SendMsgZeroCopy(ctx, &m)
					return n, whole(b, m.Bufs), err
				})
			case "NetConn":
				std := c.NetConn()
				s.write = func(ctx context.Context, n int) (int, error) {
					end, _ := ctx.Deadline() // the zero time if there is none
					if err := std.SetWriteDeadline(end); err != nil {
						return 0, err
					}
					return std.Write(s.mem[:n])
				}
			}
			all = append(all, s)
		}
	}
	return all
}

// whole is b, whose parts came back, or nil if they did not.
func whole(b []byte, parts [][]byte) []byte {
	if parts == nil {
		return nil
	}
	return b
}

// largeWriter is a connection, in the ring's table or not.
type largeWriter interface {
	Write(ctx context.Context, b []byte) (int, []byte, error)
	WriteAll(ctx context.Context, b []byte) (int, []byte, error)
	WriteFixedAll(ctx context.Context, b *buf.Fixed) (int, *buf.Fixed, error)
	Close(ctx context.Context) error
}

// sameBuffer has a sender see that the same buffer comes back.
func sameBuffer(s *largeSender, write func(context.Context, []byte) (int, []byte, error)) func(context.Context, int) (int, error) {
	return func(ctx context.Context, n int) (int, error) {
		sent, back, err := write(ctx, s.mem[:n])
		switch {
		case errors.Is(err, driver.ErrAbandoned):
			if back != nil {
				err = fmt.Errorf("the buffer came back, %v", err)
			}
		case len(back) != n || &back[0] != &s.mem[0]:
			err = fmt.Errorf("another buffer came back, %w", err)
		}
		return sent, err
	}
}

// sameView has a sender see that the same buffer comes back with its view.
func sameView(t *testing.T, ctx context.Context, s *largeSender, pool *buf.Pool,
	write func(context.Context, *buf.Fixed) (int, *buf.Fixed, error)) func(context.Context, int) (int, error) {
	t.Helper()
	b, err := pool.Get(ctx, largest)
	if err != nil {
		t.Error(err)
		return nil
	}
	t.Cleanup(func() { b.Release() })
	s.mem = b.Bytes()
	outside, lost := ctx, false
	return func(ctx context.Context, n int) (int, error) {
		if lost { // and will be in the pool again when the kernel is done
			if b, err = pool.Get(outside, largest); err != nil {
				return 0, err
			}
			s.mem = b.Bytes()
		}
		sent, back, err := write(ctx, b.View(0, n))
		lost = errors.Is(err, driver.ErrAbandoned)
		switch {
		case lost:
			if back != nil {
				err = fmt.Errorf("the buffer came back, %v", err)
			}
		case back != b:
			err = fmt.Errorf("another buffer came back, %w", err)
		default:
			if lo, hi := b.Bounds(); lo != 0 || hi != n {
				err = fmt.Errorf("the view came back from %d to %d of %d, %v", lo, hi, n, err)
			}
		}
		return sent, err
	}
}

// at is the byte that is sent at a position.
func at(pos int) byte { return byte(pos ^ pos>>8 ^ pos>>16) }

// rows has what is sent at 256 positions in a row, the first of which is a multiple of that: there are 256 of them. With a race detector that
// looks at every access, bytes should not be filled in and compared one at a time.
var rows = func() (all [256][256]byte) {
	for i := range all {
		for j := range all[i] {
			all[i][j] = byte(i ^ j)
		}
	}
	return all
}()

// row is what is sent at a position and the next ones, 256 at most.
func row(pos int) []byte { return rows[byte(pos>>8^pos>>16)][pos&255:] }

// fill makes b what is sent at a position and the next ones.
func fill(b []byte, pos int) {
	for len(b) > 0 {
		n := copy(b, row(pos))
		b, pos = b[n:], pos+n
	}
}

// sentAt says that b is not what is sent at a position and the next ones.
func sentAt(b []byte, pos int) error {
	for len(b) > 0 {
		want := row(pos)
		n := min(len(b), len(want))
		if !bytes.Equal(b[:n], want[:n]) {
			for i, x := range b[:n] {
				if x != at(pos+i) {
					return fmt.Errorf("byte %d is %d instead of %d", pos+i, x, at(pos+i))
				}
			}
		}
		b, pos = b[n:], pos+n
	}
	return nil
}

// next sends n bytes for the positions after those that were sent, not necessarily all.
func (s *largeSender) next(ctx context.Context, sent, n int) (int, error) {
	fill(s.mem[:n], sent)
	return s.write(ctx, n)
}

// largeSize is one around the sizes at which there are portions, or where these end.
func largeSize(rng *rand.Rand) int {
	around := [...]int{16 << 10, 256 << 10, 1 << 20}[rng.IntN(3)]
	return around + rng.IntN(1<<10) - rng.IntN(1<<10)
}

// send sends for some rounds under contexts that may end at any moment, and closes the connection in the middle of the last. It returns how
// much was sent, and whether the kernel may have sent more from a buffer that it kept.
func (s *largeSender) send(ctx context.Context, rounds int, rng *rand.Rand) (sent int, more bool, err error) {
	d, err := driver.FromContext(ctx)
	if err != nil {
		return 0, false, err
	}
	var closed executor.Event
	var closeErr error
	for round := range rounds {
		n := largeSize(rng)
		under, cancel := ctx, context.CancelFunc(func() {})
		if rng.IntN(2) > 0 {
			under, cancel = context.WithTimeout(ctx, time.Duration(rng.IntN(5000))*time.Microsecond)
		}
		if round == rounds-1 {
			time.AfterFunc(time.Duration(rng.IntN(5000))*time.Microsecond, func() {
				closeErr = s.close(driver.NewContext(context.Background(), d))
				closed.Set()
			})
		}
		m, err := s.next(under, sent, n)
		cancel()
		sent += m
		switch {
		case errors.Is(err, driver.ErrAbandoned):
			more = true
		case m < 0 || m > n || m == 0 && err == nil:
			return sent, more, errors.Join(fmt.Errorf("%d of %d bytes, %w", m, n, err), s.close(ctx))
		case err == nil, errors.Is(err, os.ErrDeadlineExceeded):
		case !errors.Is(err, net.ErrClosed) || round < rounds-1:
			return sent, more, errors.Join(err, s.close(ctx))
		}
		if more && round < rounds-1 {
			closeErr = s.close(ctx)
			closed.Set()
			break
		}
	}
	return sent, more, errors.Join(closed.Wait(ctx), closeErr)
}

// receive receives what was sent, slowly or not.
func (s *largeSender) receive(ctx context.Context, rng *rand.Rand) (got int, err error) {
	defer s.peer.Close(ctx) // and if anything is wrong, the sender is told so
	b := make([]byte, 256<<10)
	slow := rng.IntN(2) > 0
	if rng.IntN(4) == 0 {
		if err := s.peer.CloseWrite(); err != nil {
			return 0, err
		}
	}
	for {
		if slow && rng.IntN(4) == 0 {
			if err := executor.Sleep(ctx, time.Duration(rng.IntN(2000))*time.Microsecond); err != nil {
				return got, err
			}
		}
		n, back, err := s.peer.Read(ctx, b[:1+rng.IntN(len(b))])
		if err := sentAt(back[:n], got); err != nil {
			return got, err
		}
		got += n
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return got, fmt.Errorf("after %d bytes: %w", got, err)
		}
	}
}

// TestLargeSends sends large buffers in every way to peers who are slow or not, under contexts and deadlines that end at any moment, and closes in
// the middle of it: what arrives is what was reported as sent, and neither more nor less.
func TestLargeSends(t *testing.T) { // HAZARDS T1, T23, T25
	for _, grace := range []time.Duration{0, time.Nanosecond} {
		t.Run(fmt.Sprint("grace ", grace), func(t *testing.T) {
			eachWith(t, driver.Config{CancelGrace: grace}, func(t *testing.T, ctx context.Context) {
				rng := random(t)
				rounds := share(t, 4, 2000)
				if testing.Short() {
					rounds = 2
				}
				pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: largest, Count: 4}}})
				all := largeSenders(t, ctx, pool, 0)
				const atOnce = 3 // a pool of 8 has room for both ends of them
				for i := 0; i < len(all); i += atOnce {
					var fs []func(ctx context.Context) error
					for k, s := range all[i:min(i+atOnce, len(all))] {
						var sent, got int
						var more bool
						fs = append(fs, func(ctx context.Context) (err error) {
							sent, more, err = s.send(ctx, rounds, rng(2*(i+k)))
							return err
						}, func(ctx context.Context) (err error) {
							got, err = s.receive(ctx, rng(2*(i+k)+1))
							return err
						})
						defer func() {
							if got != sent && !(more && grace > 0 && got > sent && got < sent+largest) {
								t.Errorf("%s: %d bytes arrived of %d that were sent", s.name, got, sent)
							}
							closeAll(t, ctx, s.peer)
						}()
					}
					if err := together(ctx, fs...); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// TestLargeSendsToHalfClosed sends to peers who send no more, and take nothing for a while: who waits for room does not try over and over, and goes
// on when there is some.
func TestLargeSendsToHalfClosed(t *testing.T) {
	testenv.SkipShort(t)
	const much = 256 << 10
	each(t, func(t *testing.T, ctx context.Context) {
		rng := random(t)
		d, err := driver.FromContext(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: largest, Count: 4}}})
		for i, s := range largeSenders(t, ctx, pool, 64<<10) {
			if strings.Contains(s.name, "ZeroCopy") { // which returns when the peer has taken it all
				closeAll(t, ctx, s.peer)
				if err := s.close(ctx); err != nil {
					t.Error(err)
				}
				continue
			}
			if err := s.peer.CloseWrite(); err != nil {
				t.Error(err)
			}
			sent, got := 0, 0
			for full := false; !full && sent < 64<<20; {
				before := d.Stats().Submitted
				short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
				n, err := s.next(short, sent, much)
				cancel()
				sent += n
				full = n == 0 && err != nil
				if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s: %v", s.name, err)
				}
				if tries := d.Stats().Submitted - before; tries > 100+uint64(n>>10) {
					t.Errorf("%s: %d operations sent %d bytes", s.name, tries, n)
				}
			}
			err := together(ctx, func(ctx context.Context) error {
				n, err := s.next(ctx, sent, much)
				sent += n
				return errors.Join(err, s.close(ctx))
			}, func(ctx context.Context) (err error) {
				got, err = s.receive(ctx, rng(i))
				return err
			})
			if err != nil || got != sent {
				t.Errorf("%s: %d bytes arrived of %d that were sent: %v", s.name, got, sent, err)
			}
		}
	})
}

// TestLargeSendsInPortions sends much at once to one who has room for it: a call sends no more than a portion, so that others have their turn.
func TestLargeSendsInPortions(t *testing.T) {
	const portion = 256 << 10
	each(t, func(t *testing.T, ctx context.Context) {
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: largest, Count: 1}}})
		b, err := pool.Get(ctx, largest)
		if err != nil {
			t.Error(err)
			return
		}
		defer b.Release()
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		if n, _, err := c.Write(ctx, b.Bytes()); n == 0 || n > portion || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
		if n, _, err := c.Writev(ctx, [][]byte{b.Bytes()[:100], b.Bytes()[100:]}); n == 0 || n > portion || err != nil {
			t.Errorf("Writev = %d, %v", n, err)
		}
		if n, err := c.SendMsg(ctx, &net.Message{Bufs: [][]byte{b.Bytes()}}); n == 0 || n > portion || err != nil {
			t.Errorf("SendMsg = %d, %v", n, err)
		}
		if n, _, err := c.WriteFixed(ctx, b); n == 0 || n > portion || b.Len() != largest || err != nil {
			t.Errorf("WriteFixed = %d, %v", n, err)
		}
		r, err := c.IntoRing(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Close(ctx)
		if n, _, err := r.WriteFixed(ctx, b); n == 0 || n > portion || b.Len() != largest || err != nil {
			t.Errorf("WriteFixed in the ring = %d, %v", n, err)
		}
	})
}

// TestLargeSendsWaitOutside has many send much at a time to peers who take nothing: they wait until there is room, and none of them in an operation
// that would send as soon as there is.
func TestLargeSendsWaitOutside(t *testing.T) {
	const senders, length = 96, 64 << 10
	ways := map[string]func(ctx context.Context, c *net.Conn, b *buf.Fixed) error{
		"WriteAll": func(ctx context.Context, c *net.Conn, b *buf.Fixed) error {
			_, _, err := c.WriteAll(ctx, b.Bytes())
			return err
		},
		"WriteFixedAll": func(ctx context.Context, c *net.Conn, b *buf.Fixed) error {
			_, _, err := c.WriteFixedAll(ctx, b)
			return err
		},
	}
	test := func(t *testing.T, ctx context.Context) {
		d, err := driver.FromContext(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: length, Count: senders}}})
		for name, write := range ways {
			under, cancel := context.WithCancel(ctx)
			var wait []func()
			for range senders {
				c, s, err := net.UnixPair(ctx)
				if err != nil {
					t.Error(err)
					break
				}
				defer closeAll(t, ctx, c, s)
				if err := c.SetWriteBuffer(1); err != nil { // as little as there can be
					t.Error(err)
				}
				wait = append(wait, start(under, func(ctx context.Context) {
					b, err := pool.Get(ctx, length)
					if err == nil {
						defer b.Release()
						err = write(ctx, c, b)
					}
					if !errors.Is(err, context.Canceled) {
						t.Errorf("%s: %v", name, err)
					}
				}))
			}
			polls, sends := 0, 0
			for polls+sends < len(wait) {
				by := d.Stats().InFlightBy
				polls, sends = by["poll_add"], by["send"]+by["write"]+by["write_fixed"]
				if err := executor.Sleep(ctx, time.Millisecond); err != nil {
					t.Error(err)
					break
				}
			}
			if sends > 0 {
				t.Errorf("%s: %d wait for room in an operation that sends, and %d outside", name, sends, polls)
			}
			cancel()
			for _, w := range wait {
				w()
			}
		}
	}
	for _, engine := range testenv.Engines(t) {
		for _, e := range []executor.Executor{executor.Goroutines(), executor.Workers(1), executor.Local()} {
			t.Run(fmt.Sprintf("%v/%v", engine, e), func(t *testing.T) { run(t, e, driver.Config{Engine: engine}, test) })
		}
	}
}

// TestLargeSendsLetGo has callers be let go at once while they wait for room: the kernel has nothing of theirs then, and they keep it.
func TestLargeSendsLetGo(t *testing.T) {
	testenv.SkipShort(t)
	eachWith(t, driver.Config{CancelGrace: time.Nanosecond}, func(t *testing.T, ctx context.Context) {
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: largest, Count: 4}}})
		for _, s := range largeSenders(t, ctx, pool, 64<<10) {
			lost, waits := 0, 0
			for tries := 0; (waits < 4 || lost == waits) && tries < 1000; tries++ {
				short, cancel := context.WithTimeout(ctx, 8*time.Millisecond)
				n, err := s.write(short, largest)
				cancel()
				abandoned := errors.Is(err, driver.ErrAbandoned)
				if err != nil && !abandoned && !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s: %v", s.name, err)
				}
				if n == 0 {
					waits++
				}
				if n == 0 && abandoned {
					lost++
				}
			}
			if waits < 4 || lost == waits { // on a busy machine the time may be over while it sends, too
				t.Errorf("%s: %d of %d did not get their buffer back", s.name, lost, waits)
			}
			if err := s.close(ctx); err != nil {
				t.Error(err)
			}
			closeAll(t, ctx, s.peer)
		}
	})
}

// TestLargeSendsStamped asks the kernel when packets were sent, and leaves the answers where they are: that is an error for poll(2), as long as they
// are there. Who waits for room does not try over and over.
func TestLargeSendsStamped(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		d, err := driver.FromContext(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		const when = unix.SOF_TIMESTAMPING_TX_SCHED | unix.SOF_TIMESTAMPING_TX_SOFTWARE | unix.SOF_TIMESTAMPING_SOFTWARE
		if err := unix.SetsockoptInt(int(c.Fd()), unix.SOL_SOCKET, unix.SO_TIMESTAMPING_NEW, when); err != nil {
			t.Error(err)
		}
		if err := errors.Join(c.SetWriteBuffer(64<<10), s.SetReadBuffer(64<<10)); err != nil {
			t.Error(err)
		}
		if _, _, err := c.Write(ctx, []byte("stamped")); err != nil {
			t.Error(err)
		}
		if r := executor.Do(ctx, ops.PollAdd(int(c.Fd()), 0)); r.N != unix.POLLERR || r.Err != nil { // for the stamp
			t.Errorf("poll: %x, %v", r.N, r.Err)
		}
		for full, sent := false, 0; !full && sent < 64<<20; {
			before := d.Stats().Submitted
			short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			n, _, err := c.Write(short, make([]byte, largest))
			cancel()
			sent += n
			full = n == 0 && err != nil
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Write: %v", err)
			}
			if tries := d.Stats().Submitted - before; tries > 100 {
				t.Errorf("%d operations sent %d bytes", tries, n)
			}
		}
		err = together(ctx, func(ctx context.Context) error {
			_, _, err := c.WriteAll(ctx, make([]byte, largest))
			return errors.Join(err, c.CloseWrite())
		}, func(ctx context.Context) (err error) {
			for err == nil {
				_, _, err = s.Read(ctx, make([]byte, 64<<10))
			}
			if err == io.EOF {
				return nil
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}
