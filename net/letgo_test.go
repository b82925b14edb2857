package net_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	stdnet "net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"uringo/driver"
	"uringo/net"
)

// Drivers that let callers go before the kernel must not make the shapes of the standard library lose anything: nobody there has heard of that,
// and who waits for the kernel anyway learns what it did.

// lettingGo is each with such drivers.
func lettingGo(t *testing.T, test func(t *testing.T, ctx context.Context)) {
	t.Helper()
	eachWith(t, driver.Config{CancelGrace: time.Nanosecond}, test)
}

// soon is a moment in which a call that waits is about to be done.
func soon(rng *rand.Rand) time.Time {
	return time.Now().Add(time.Duration(rng.IntN(200)) * time.Microsecond)
}

// TestLetGoReads receives with deadlines that end at any moment while the peer sends: every byte arrives, once.
func TestLetGoReads(t *testing.T) { // N1
	lettingGo(t, func(t *testing.T, ctx context.Context) {
		rng := random(t)
		for i, network := range []string{"tcp", "unix"} {
			c, s := connect(t, ctx, network)
			if c == nil {
				return
			}
			over, stop := context.WithCancel(ctx)
			err := together(ctx, func(context.Context) error {
				return sendNumbers(over, ctx, c, rng(2*i))
			}, func(ctx context.Context) error {
				defer stop()
				defer closeAll(t, context.WithoutCancel(ctx), c, s)
				return readNumbers(s.NetConn(), share(t, 300, 50_000), rng(2*i+1))
			})
			if err != nil {
				t.Errorf("%s: %v", network, err)
			}
		}
	})
}

func readNumbers(s stdnet.Conn, rounds int, rng *rand.Rand) error {
	b := make([]byte, block)
	at := uint64(0)
	for range rounds {
		if err := s.SetReadDeadline(soon(rng)); err != nil {
			return err
		}
		n, err := s.Read(b)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if err := numbersAt(b[:n], at); err != nil {
			return err
		}
		at += uint64(n)
	}
	return nil
}

// TestLetGoPackets receives datagrams in the same way.
func TestLetGoPackets(t *testing.T) { // N1
	lettingGo(t, func(t *testing.T, ctx context.Context) {
		p, q := listenPacket(t, ctx, "unixgram"), listenPacket(t, ctx, "unixgram")
		if p == nil || q == nil {
			return
		}
		defer q.Close(ctx)
		rng := random(t)
		rounds := share(t, 300, 50_000)
		from, to := p.NetPacketConn(), q.NetPacketConn()
		err := together(ctx, func(context.Context) error {
			for i := 0; ; i++ { // until the reader has enough
				if _, err := from.WriteTo(binary.NativeEndian.AppendUint32(nil, uint32(i)), q.LocalAddr()); errors.Is(err, net.ErrClosed) {
					return nil
				} else if err != nil {
					return err
				}
			}
		}, func(context.Context) error {
			defer from.Close()
			rng := rng(0)
			b := make([]byte, 8)
			for i := 0; i < rounds; {
				if err := to.SetReadDeadline(soon(rng)); err != nil {
					return err
				}
				n, _, err := to.ReadFrom(b)
				if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
					continue
				}
				if got := binary.NativeEndian.Uint32(b); err != nil || n != 4 || got != uint32(i) {
					return fmt.Errorf("datagram %d instead of %d, %d bytes, %w", got, i, n, err)
				}
				i++
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestLetGoAccepts accepts with deadlines that end at any moment: everybody who dials is accepted.
func TestLetGoAccepts(t *testing.T) { // M8, M9
	lettingGo(t, func(t *testing.T, ctx context.Context) {
		l := listenOn(t, ctx, "tcp")
		if l == nil {
			return
		}
		std := l.NetListener()
		defer std.Close()
		rng := random(t)
		for i := range share(t, 100, 10_000) {
			rng := rng(i)
			var alone atomic.Bool
			err := together(ctx, func(ctx context.Context) error {
				defer alone.Store(true)
				c, err := net.Dial(ctx, "tcp", l.Addr().String())
				if err != nil {
					return err
				}
				defer c.Close(ctx)
				if _, _, err := c.ReadFull(ctx, make([]byte, 1)); err != nil { // of who accepts
					return fmt.Errorf("nobody has accepted: %w", err)
				}
				return nil
			}, func(context.Context) error {
				for !alone.Load() {
					if err := std.(interface{ SetDeadline(time.Time) error }).SetDeadline(soon(rng)); err != nil {
						return err
					}
					s, err := std.Accept()
					if errors.Is(err, os.ErrDeadlineExceeded) {
						continue
					}
					if err == nil {
						_, err = s.Write([]byte{1})
						s.Close()
					}
					return err
				}
				return nil // and the other says why
			})
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
}

// TestLetGoSplices passes on what the kernel does not by itself, under contexts that end at any moment, to a connection that takes little: every byte
// arrives, once.
func TestLetGoSplices(t *testing.T) { // N1, C6
	lettingGo(t, func(t *testing.T, ctx context.Context) {
		from, src := connect(t, ctx, "unixpacket")
		dst, to := connect(t, ctx, "unix")
		if from == nil || dst == nil {
			return
		}
		defer closeAll(t, ctx, from, src, dst, to)
		if err := dst.SetWriteBuffer(1); err != nil {
			t.Error(err)
		}
		rng := random(t)
		over, stop := context.WithCancel(ctx)
		err := together(ctx, func(context.Context) error {
			return sendNumbers(over, ctx, from, rng(0))
		}, func(ctx context.Context) error {
			rng := rng(1)
			for over.Err() == nil {
				short, cancel := context.WithDeadline(ctx, soon(rng))
				_, err := dst.Splice(short, src, -1)
				cancel()
				if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
					return errors.Join(err, dst.Close(ctx))
				}
			}
			return nil
		}, func(ctx context.Context) error {
			defer stop()
			b := make([]byte, block/3)
			for at, end := uint64(0), uint64(share(t, 100, 10_000)*block); at < end; {
				n, _, err := to.Read(ctx, b)
				if err == nil {
					err = numbersAt(b[:n], at)
				}
				if err != nil {
					return err
				}
				at += uint64(n)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}
