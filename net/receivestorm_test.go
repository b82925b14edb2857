package net_test

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/net"
)

// TestReceiveStorm receives messages with descriptors in every way, in any order and for any time, until the connection is closed in the
// middle: no descriptor stays open, which the end of the test sees, and no buffer is lost.
func TestReceiveStorm(t *testing.T) { // HAZARDS T6
	each(t, func(t *testing.T, ctx context.Context) {
		const bufs = 4
		ring := bufferRing(t, ctx, bufs, 1500)
		rng := random(t)
		for n, network := range []string{"unixpacket", "unix"} {
			for round := range 5 {
				c, s := connect(t, ctx, network)
				if c == nil {
					return
				}
				life := time.Duration(3+2*round) * time.Millisecond
				sends, receives := rng(10*n+round), rng(100+10*n+round)
				var over atomic.Bool
				err := together(ctx, func(ctx context.Context) error {
					for !over.Load() {
						short, cancel := context.WithTimeout(ctx, time.Millisecond)
						m := net.Message{Bufs: [][]byte{make([]byte, sends.IntN(60))}, OOB: net.Rights(int(c.Fd()))}
						_, _ = c.SendMsg(short, &m) // the other end may be closed
						cancel()
						if err := executor.Sleep(ctx, time.Duration(sends.IntN(50))*time.Microsecond); err != nil {
							return err
						}
					}
					return nil
				}, func(ctx context.Context) error {
					for !over.Load() {
						short, cancel := context.WithTimeout(ctx, time.Duration(receives.IntN(2000))*time.Microsecond)
						receiveSomehow(short, receives, s, ring)
						cancel()
						if err := executor.Sleep(ctx, 20*time.Microsecond); err != nil {
							return err
						}
					}
					return nil
				}, func(ctx context.Context) error {
					defer over.Store(true)
					if err := executor.Sleep(ctx, life); err != nil {
						return err
					}
					return s.Close(ctx)
				})
				if err != nil {
					t.Errorf("%s: %v", network, err)
				}
				closeAll(t, ctx, c)
				allFree(t, ring, bufs)
			}
		}
	})
}

// receiveSomehow receives once, or a few times. Whether it gets something does not matter.
func receiveSomehow(ctx context.Context, rng *rand.Rand, s *net.Conn, ring *driver.BufferRing) {
	shut := func(c net.Control, _ error) {
		for _, fd := range c.FDs {
			unix.Close(fd)
		}
	}
	m := net.Message{Bufs: [][]byte{make([]byte, 1+rng.IntN(50))}, OOB: make([]byte, rng.IntN(60))}
	most := rng.IntN(5)
	switch rng.IntN(5) {
	case 0:
		_, _, _ = s.Read(ctx, m.Bufs[0])
	case 1:
		if s.RecvMsg(ctx, &m) == nil {
			shut(m.Control())
		}
	case 2:
		if s.PeekMsg(ctx, &m) == nil {
			shut(m.Control())
		}
	case 3:
		for m, err := range s.ReceivesMsg(ctx, ring) {
			if err == nil {
				shut(m.Control())
				m.Release()
			}
			if most--; most < 0 {
				break
			}
		}
	case 4:
		for chunk := range s.Receives(ctx, ring) {
			chunk.Release()
			if most--; most < 0 {
				break
			}
		}
	}
}
