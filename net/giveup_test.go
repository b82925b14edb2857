package net_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	"uringo/driver"
	"uringo/executor"
	"uringo/net"
)

const block = 4096

// blocks are filled with a tag each. Nobody but their owner may write to them.
type blocks struct {
	all  [32][]byte
	next int
}

// fill allocates a block, which may be where memory was that the kernel still writes to, if somebody gave that away. It looks at the one
// that it replaces.
func (b *blocks) fill(tag byte) error {
	old := &b.all[b.next%len(b.all)]
	b.next++
	defer func() { *old = bytes.Repeat([]byte{tag}, block) }()
	if len(*old) > 0 && bytes.Count(*old, (*old)[:1]) != len(*old) {
		return fmt.Errorf("a block of %d has been written to", (*old)[0])
	}
	return nil
}

// TestGiveUp has callers give up receives at any moment while the peer sends, and use memory at once. Nothing appears in it, every buffer
// comes back, unless the caller was let go before the kernel, and bytes are lost only with such a one.
func TestGiveUp(t *testing.T) { // HAZARDS T1
	for _, grace := range []time.Duration{0, time.Nanosecond} {
		t.Run(fmt.Sprint("grace ", grace), func(t *testing.T) {
			eachWith(t, driver.Config{CancelGrace: grace}, func(t *testing.T, ctx context.Context) {
				defer debug.SetGCPercent(debug.SetGCPercent(1))
				rng := random(t)
				rounds := share(t, 200, 50_000) // in two graces, by two callers
				var ended [3]atomic.Int32
				var fs []func(ctx context.Context) error
				for i, network := range []string{"tcp", "unix"} {
					c, s := connect(t, ctx, network)
					if c == nil {
						return
					}
					over, stop := context.WithCancel(ctx)
					fs = append(fs, func(context.Context) error {
						return sendNumbers(over, ctx, c, rng(2*i))
					}, func(ctx context.Context) error {
						defer stop()
						defer closeAll(t, context.WithoutCancel(ctx), c, s)
						return giveUp(ctx, s, rounds, grace == 0, rng(2*i+1), &ended)
					})
				}
				if err := together(ctx, fs...); err != nil {
					t.Error(err)
				}
				got, cancelled, abandoned := ended[0].Load(), ended[1].Load(), ended[2].Load()
				t.Logf("%d received, %d cancelled, %d abandoned", got, cancelled, abandoned)
				if d, err := driver.FromContext(ctx); err != nil || grace == 0 && d.Stats().Abandoned > 0 {
					t.Errorf("%+v, %v", d.Stats(), err)
				}
			})
		})
	}
}

// sendNumbers sends the numbers from 0 up until over ends.
func sendNumbers(over, ctx context.Context, c *net.Conn, rng *rand.Rand) error {
	b := make([]byte, block)
	for next := uint64(0); over.Err() == nil; {
		for i := 0; i < len(b); i += 8 {
			binary.LittleEndian.PutUint64(b[i:], next)
			next++
		}
		if _, back, err := c.WriteAll(over, b); err != nil {
			return nil // over, or closed by the reader
		} else if &back[0] != &b[0] {
			return errors.New("another buffer came back from WriteAll")
		}
		if err := executor.Sleep(ctx, time.Duration(rng.IntN(200))*time.Microsecond); err != nil {
			return err
		}
	}
	return nil
}

// giveUp receives with contexts that end at any moment. whole says that no byte may be missing.
func giveUp(ctx context.Context, s *net.Conn, rounds int, whole bool, rng *rand.Rand, ended *[3]atomic.Int32) error {
	var held blocks
	at := uint64(0) // the position in what the peer sends
	for i := range rounds {
		short, cancel := context.WithTimeout(ctx, time.Duration(rng.IntN(200))*time.Microsecond)
		b := make([]byte, block)
		n, back, err := s.Read(short, b)
		cancel()
		switch {
		case errors.Is(err, driver.ErrAbandoned):
			if back != nil || n != 0 || whole {
				return fmt.Errorf("abandoned, with %d bytes, %w", n, err)
			}
			ended[2].Add(1)
		case back == nil || &back[0] != &b[0]:
			return fmt.Errorf("another buffer, %w", err)
		case err == nil:
			if err := numbersAt(back[:n], at); whole && err != nil {
				return err
			}
			at += uint64(n)
			ended[0].Add(1)
		case errors.Is(err, os.ErrDeadlineExceeded) && n == 0:
			ended[1].Add(1)
		default:
			return err
		}
		if err := held.fill(byte(i)); err != nil {
			return err
		}
	}
	for range held.all {
		if err := held.fill(0); err != nil {
			return err
		}
	}
	return nil
}

// numbersAt sees that b is what sendNumbers sends from a position on.
func numbersAt(b []byte, at uint64) error {
	for i := range b {
		pos := at + uint64(i)
		if want := byte(pos / 8 >> (8 * (pos % 8))); b[i] != want {
			return fmt.Errorf("byte %d is %d instead of %d", pos, b[i], want)
		}
	}
	return nil
}
