package net_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"uringo/internal/testenv"
	"uringo/net"
)

// TestSignalStorm is an echo while signals interrupt every thread thousands of times a second, a profiler does so too, and all threads are
// made to perform system calls. Nothing is lost, and nobody hears of it.
func TestSignalStorm(t *testing.T) { // HAZARDS T11
	var mu sync.Mutex
	var calm, stormy time.Duration
	var echoes, signals, passes, calls int
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := connect(t, ctx, "tcp")
		if c == nil {
			return
		}
		defer closeAll(t, ctx, c, s)
		const slices = 10 // of storm and of calm, so that both see the same machine
		rounds := max(share(t, 400, 1_000_000)/slices, 1)
		for range slices {
			began := time.Now()
			end := testenv.Storm(t)
			err := echoSome(ctx, c, s, rounds)
			took := time.Since(began)
			n, m, k := end()
			began = time.Now()
			if err == nil {
				err = echoSome(ctx, c, s, rounds)
			}
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			calm += time.Since(began)
			stormy += took
			echoes += rounds
			signals += n
			passes += m
			calls += k
			mu.Unlock()
		}
	})
	if echoes == 0 {
		return
	}
	slower := stormy.Seconds() / calm.Seconds()
	t.Logf("%d echoes under %d signals, %.0f a second to each thread, and %d calls of all threads, in %v; in calm %v, %.2f times less", echoes,
		signals, float64(passes)/stormy.Seconds(), calls, stormy, calm, slower)
	if slower > 2 && testenv.Nightly() && !raceEnabled {
		t.Error("that is slow")
	}
}

// echoSome sends 64 bytes to and fro.
func echoSome(ctx context.Context, c, s *net.Conn, rounds int) error {
	return together(ctx, func(ctx context.Context) error {
		b := make([]byte, 64)
		for range rounds {
			if _, _, err := s.ReadFull(ctx, b); err != nil {
				return err
			}
			if _, _, err := s.WriteAll(ctx, b); err != nil {
				return err
			}
		}
		return nil
	}, func(ctx context.Context) error {
		sent, got := make([]byte, 64), make([]byte, 64)
		for i := range rounds {
			sent[i%64]++
			if n, _, err := c.WriteAll(ctx, sent); n != 64 || err != nil {
				return fmt.Errorf("WriteAll = %d, %w", n, err)
			}
			if n, _, err := c.ReadFull(ctx, got); n != 64 || err != nil || string(got) != string(sent) {
				return fmt.Errorf("ReadFull = %d, or other bytes, %w", n, err)
			}
		}
		return nil
	})
}
