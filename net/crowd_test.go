package net_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/driver"
	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/net"
)

// TestCrowdSharesBuffers has many connections receive into few buffers, with readers that pause, that keep chunks, and that end their
// iterations for a while: every message comes once and in order, and every buffer comes back. There are far fewer than what arrives.
func TestCrowdSharesBuffers(t *testing.T) { // HAZARDS T27, N11
	var starved, items atomic.Uint64
	each(t, func(t *testing.T, ctx context.Context) {
		const conns, bufs, length = 32, 64, 64
		messages := share(t, 60, 100_000)
		rng := random(t)
		b := bufferRing(t, ctx, bufs, length)
		var feeding sync.WaitGroup
		var fs []func(ctx context.Context) error
		for i := range conns {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
				return
			}
			s, err := net.NewConn(ctx, fds[0])
			if err != nil {
				t.Error(err)
				return
			}
			defer closeAll(t, ctx, s)
			feeding.Go(func() { feed(fds[1], i, messages, rng(i).IntN) })
			fs = append(fs, func(ctx context.Context) error {
				return eat(ctx, s, b, i, messages, rng(conns+i).IntN)
			})
		}
		if err := together(ctx, fs...); err != nil {
			t.Error(err)
		}
		if _, err := executor.Block(ctx, func() (int, error) { feeding.Wait(); return 0, nil }); err != nil {
			t.Error(err)
		}
		allFree(t, b, bufs)
		if d, err := driver.FromContext(ctx); err == nil {
			starved.Add(d.Stats().Starved)
			items.Add(d.Stats().Items)
		}
	})
	t.Logf("%d items, and %d times there was no buffer", items.Load(), starved.Load())
	if testenv.Engines(t)[0] == driver.Uring && testenv.MayRegister(t) && starved.Load() == 0 {
		t.Error("there were enough buffers all the time")
	}
}

// feed sends the messages of a connection, of different lengths.
func feed(fd, i, messages int, random func(int) int) {
	defer unix.Close(fd)
	b := make([]byte, 64)
	for n := 0; n < messages; {
		binary.LittleEndian.PutUint32(b, uint32(i))
		binary.LittleEndian.PutUint32(b[4:], uint32(n))
		switch _, err := unix.Write(fd, b[:8+random(57)]); err {
		case nil:
			n++
		case unix.EINTR:
		default:
			return // the reader sees too little
		}
	}
}

// eat receives the messages of a connection to the end.
func eat(ctx context.Context, s *net.Conn, b *driver.BufferRing, i, messages int, random func(int) int) error {
	next := 0
	var held []driver.Chunk
	release := func() {
		for _, c := range held {
			c.Release()
		}
		held = held[:0]
	}
	defer func() { release() }()
	for {
		var last error
		turns := 1 + random(200)
		ended := true
		for chunk, err := range s.Receives(ctx, b) {
			if last = err; err != nil {
				break
			}
			m := chunk.Bytes()
			if len(m) < 8 || binary.LittleEndian.Uint32(m) != uint32(i) || binary.LittleEndian.Uint32(m[4:]) != uint32(next) {
				chunk.Release()
				return fmt.Errorf("connection %d: %v instead of message %d", i, m, next)
			}
			next++
			if held = append(held, chunk); len(held) > random(3) {
				release()
			}
			if random(300) == 0 {
				release()
				if err := executor.Sleep(ctx, time.Duration(random(500))*time.Microsecond); err != nil {
					return err
				}
			}
			if turns--; turns == 0 {
				ended = false
				break
			}
		}
		switch {
		case last != nil:
			return last
		case ended && next == messages:
			return nil
		case ended:
			return fmt.Errorf("connection %d ended after %d messages of %d", i, next, messages)
		}
		if random(3) == 0 { // one that an iteration has left, or the next
			switch n, m, err := s.Read(ctx, make([]byte, 64)); {
			case err == io.EOF && next == messages:
			case err != nil:
				return err
			case n < 8 || binary.LittleEndian.Uint32(m[4:]) != uint32(next):
				return fmt.Errorf("connection %d: read %v instead of message %d", i, m[:n], next)
			default:
				next++
			}
		}
	}
}

// TestFlooder has one client ask a hundred thousand times a second, and a task beside it that goes on as fast as it can, while a hundred
// others ask now and then. Nobody of these waits long.
func TestFlooder(t *testing.T) { // HAZARDS T31
	each(t, func(t *testing.T, ctx context.Context) {
		for range 3 { // the machine may have other things to do
			solo, flooded := besideFlooder(t, ctx)
			const enough = 50 * time.Millisecond
			if worst := quantile(flooded, 0.99); worst <= enough || worst <= 10*quantile(solo, 0.99) || size(1, 0) == 1 {
				return
			}
		}
		t.Error("slow, three times")
	})
}

// besideFlooder returns how long answers take alone, and beside those who ask all the time.
func besideFlooder(t *testing.T, ctx context.Context) (solo, flooded []time.Duration) {
	clients, each := size(20, 100), size(3, 100)
	over, stop := context.WithCancel(ctx)
	defer stop()
	var busy atomic.Int64
	floods := start(over, func(context.Context) {
		c, s := connect(t, ctx, "pair")
		if c == nil {
			return
		}
		for b := make([]byte, 1); over.Err() == nil; busy.Add(1) {
			_, _, err := c.WriteAll(ctx, b)
			if err == nil {
				_, _, err = s.Read(ctx, b)
			}
			if err != nil {
				t.Error(err)
				break
			}
		}
		closeAll(t, ctx, c, s)
	})
	var asked int64
	err := serveWhile(t, ctx, &net.Server{Handle: echoChunk}, func(addr string) (err error) {
		if flooded, asked, err = askNowAndThen(addr, clients, each, true); err != nil {
			return err
		}
		stop()
		solo, _, err = askNowAndThen(addr, clients, each, false)
		return err
	})
	if !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	floods()
	t.Logf("alone p50 %v p99 %v; beside %d questions and %d other round trips p50 %v p99 %v max %v", quantile(solo, 0.5), quantile(solo, 0.99),
		asked/question, busy.Load(), quantile(flooded, 0.5), quantile(flooded, 0.99), quantile(flooded, 1))
	return solo, flooded
}

// TestSlowReaders has peers take their time: who has much to send waits for room, and not in an operation that sends, or the kernel would send
// for all of them at a stroke when they are read from.
func TestSlowReaders(t *testing.T) { // HAZARDS T31
	const size = 2 << 20 // more than fits into small buffers
	each(t, func(t *testing.T, ctx context.Context) {
		d, err := driver.FromContext(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: size, Count: 1}}})
		fixed, err := pool.Get(ctx, size)
		if err != nil {
			t.Error(err)
			return
		}
		defer fixed.Release()
		inRing, ringPeer := connect(t, ctx, "tcp")
		plain, plainPeer := connect(t, ctx, "tcp")
		held, heldPeer := connect(t, ctx, "unix")
		if inRing == nil || plain == nil || held == nil {
			return
		}
		for _, c := range []*net.Conn{inRing, plain, held} {
			if err := c.SetWriteBuffer(64 << 10); err != nil {
				t.Error(err)
			}
		}
		for _, c := range []*net.Conn{ringPeer, plainPeer, heldPeer} {
			if err := c.SetReadBuffer(64 << 10); err != nil {
				t.Error(err)
			}
		}
		r, err := inRing.IntoRing(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		defer closeAll(t, ctx, plain, held, ringPeer, plainPeer, heldPeer)
		defer r.Close(ctx)
		var wait []func()
		for name, write := range map[string]func(ctx context.Context) (int, error){
			"in the ring": func(ctx context.Context) (int, error) {
				n, _, err := r.WriteAll(ctx, make([]byte, size))
				return n, err
			},
			"plain": func(ctx context.Context) (int, error) {
				n, _, err := plain.WriteAll(ctx, make([]byte, size))
				return n, err
			},
			"fixed": func(ctx context.Context) (int, error) { n, _, err := held.WriteFixedAll(ctx, fixed); return n, err },
		} {
			wait = append(wait, start(ctx, func(ctx context.Context) {
				if n, err := write(ctx); n != size || err != nil {
					t.Errorf("%s: %d, %v", name, n, err)
				}
			}))
		}
		for began := time.Now(); ; {
			by := d.Stats().InFlightBy
			if by["poll_add"] == 3 && len(by) == 1 {
				break
			}
			if time.Since(began) > 20*time.Second {
				t.Errorf("they wait in %v", by)
				break
			}
			if err := executor.Sleep(ctx, time.Millisecond); err != nil {
				t.Error(err)
				break
			}
		}
		for _, c := range []*net.Conn{ringPeer, plainPeer, heldPeer} {
			wait = append(wait, start(ctx, func(ctx context.Context) {
				if n, _, err := c.ReadFull(ctx, make([]byte, size)); n != size || err != nil {
					t.Errorf("ReadFull = %d, %v", n, err)
				}
			}))
		}
		for _, w := range wait {
			w()
		}
	})
}

const question = 16 // bytes

// askNowAndThen has clients ask an echo with pauses, with one more that asks all the time if it is to, and returns how long answers took.
// None may take ten seconds.
func askNowAndThen(addr string, clients, times int, flood bool) (took []time.Duration, asked int64, err error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	var errs []error
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
	}
	stop := make(chan struct{})
	var flooding sync.WaitGroup
	if flood {
		c, err := dialStd(addr)
		if err != nil {
			return nil, 0, err
		}
		flooding.Go(func() {
			b := make([]byte, 4096)
			for {
				n, err := c.Read(b)
				if err != nil {
					return
				}
				atomic.AddInt64(&asked, int64(n))
			}
		})
		flooding.Go(func() {
			defer c.Close()
			for b := make([]byte, 100*question); ; {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				if _, err := c.Write(b); err != nil {
					fail(err)
					return
				}
			}
		})
	}
	for i := range clients {
		all.Go(func() {
			c, err := dialStd(addr)
			if err != nil {
				fail(err)
				return
			}
			defer c.Close()
			b := make([]byte, 8)
			for n := range times {
				time.Sleep(time.Duration(20+(i+n)%20) * time.Millisecond)
				began := time.Now()
				c.SetDeadline(began.Add(10 * time.Second))
				if _, err = c.Write(b); err == nil {
					_, err = io.ReadFull(c, b)
				}
				if err != nil {
					if errors.Is(err, os.ErrDeadlineExceeded) {
						err = fmt.Errorf("starved: %w", err)
					}
					fail(err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
			}
		})
	}
	all.Wait()
	close(stop)
	flooding.Wait()
	return took, asked, errors.Join(errs...)
}
