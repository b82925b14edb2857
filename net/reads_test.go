package net_test

import (
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
	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/net"
)

// anyReader reads from a connection in all the ways there are.
type anyReader struct {
	c          *net.Conn
	rng        *rand.Rand
	fixed      *buf.Fixed
	file       *os.File
	sink, seen *net.Conn // what is sent to sink is received from seen
	b          []byte
}

// anyReads each read once, and return what they have read.
var anyReads = []struct {
	name string
	read func(ctx context.Context, r *anyReader) ([]byte, error)
}{
	{"Read", func(ctx context.Context, r *anyReader) ([]byte, error) {
		n, b, err := r.c.Read(ctx, r.some(len(r.b)))
		return b[:n], err
	}},
	{"ReadFull", func(ctx context.Context, r *anyReader) ([]byte, error) {
		n, b, err := r.c.ReadFull(ctx, r.some(len(r.b)))
		return b[:n], err
	}},
	{"Readv", func(ctx context.Context, r *anyReader) ([]byte, error) {
		first := r.some(1000)
		n, _, err := r.c.Readv(ctx, [][]byte{first, nil, r.b[len(first):]})
		return r.b[:n], err
	}},
	{"RecvMsg", func(ctx context.Context, r *anyReader) ([]byte, error) {
		first := r.some(1000)
		m := net.Message{Bufs: [][]byte{first, r.b[len(first):]}}
		err := r.c.RecvMsg(ctx, &m)
		return r.b[:m.N], err
	}},
	{"ReadFixed", func(ctx context.Context, r *anyReader) ([]byte, error) {
		r.fixed.View(0, len(r.some(4096)))
		n, _, err := r.c.ReadFixed(ctx, r.fixed)
		return r.fixed.Bytes()[:n], err
	}},
	{"NetConn", func(ctx context.Context, r *anyReader) ([]byte, error) {
		end, _ := ctx.Deadline()
		if err := r.c.NetConn().SetReadDeadline(end); err != nil {
			return nil, err
		}
		n, err := r.c.NetConn().Read(r.some(len(r.b)))
		return r.b[:n], err
	}},
	{"Receives", func(ctx context.Context, r *anyReader) (got []byte, err error) {
		for chunk, err := range r.c.Receives(ctx, nil) {
			if err != nil {
				return got, err
			}
			got = append(got, chunk.Bytes()...)
			chunk.Release()
			if r.rng.IntN(3) == 0 {
				return got, nil // and leave over what there is
			}
		}
		return got, io.EOF
	}},
	{"ReceiveFile", func(ctx context.Context, r *anyReader) ([]byte, error) {
		n, err := r.c.ReceiveFile(ctx, r.file, 0, int64(len(r.some(len(r.b)))))
		if err == nil && n == 0 {
			err = io.EOF
		}
		_, readErr := r.file.ReadAt(r.b[:n], 0)
		return r.b[:n], errors.Join(err, readErr)
	}},
	{"Splice", func(ctx context.Context, r *anyReader) ([]byte, error) {
		n, err := r.sink.Splice(ctx, r.c, int64(len(r.some(20_000)))) // for which there is room
		if err == nil && n == 0 {
			err = io.EOF
		}
		_, _, readErr := r.seen.ReadFull(context.WithoutCancel(ctx), r.b[:n])
		return r.b[:n], errors.Join(err, readErr)
	}},
}

// some is a part of r's buffer, of at most so many bytes.
func (r *anyReader) some(most int) []byte { return r.b[:1+r.rng.IntN(most)] }

// TestReadsEnd reads in all ways by turns, each under a context or deadline that ends at any moment, while bytes arrive: what one way has received
// and not delivered comes next, whichever way that is.
func TestReadsEnd(t *testing.T) { // HAZARDS T5, N1
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			each(t, func(t *testing.T, ctx context.Context) {
				rng := random(t)
				if err := readsEnd(t, ctx, network, share(t, 1<<20, 1<<30), rng(0), rng(1)); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func readsEnd(t *testing.T, ctx context.Context, network string, much int, writes, reads *rand.Rand) error {
	pool := testenv.Pool(t, buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 1}}})
	fixed, err := pool.Get(ctx, 4096)
	if err != nil {
		return err
	}
	defer fixed.Release()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		return err
	}
	defer file.Close()
	c, s := connect(t, ctx, network)
	sink, seen := connect(t, ctx, "pair")
	defer closeAll(t, ctx, c, s, sink, seen)
	if c == nil || sink == nil {
		return nil
	}
	return together(ctx, func(ctx context.Context) error {
		defer s.CloseWrite() // the reader waits for it, whatever happens
		for sent := 0; sent < much; {
			b := make([]byte, min(much-sent, 1+writes.IntN(30_000)))
			fill(b, sent)
			n, _, err := s.WriteAll(ctx, b)
			sent += n
			if err != nil {
				return err
			}
			if writes.IntN(5) == 0 {
				if err := executor.Sleep(ctx, time.Duration(writes.IntN(500))*time.Microsecond); err != nil {
					return err
				}
			}
		}
		return nil
	}, func(ctx context.Context) error {
		defer c.Close(ctx) // and the writer for room
		r := &anyReader{c, reads, fixed, file, sink, seen, make([]byte, 40_000)}
		for got := 0; ; {
			way := anyReads[reads.IntN(len(anyReads))]
			short, cancel := context.WithTimeout(ctx, time.Duration(reads.IntN(600))*time.Microsecond)
			b, err := way.read(short, r)
			cancel()
			if err := sentAt(b, got); err != nil {
				return fmt.Errorf("%s: %w", way.name, err)
			}
			got += len(b)
			switch {
			case got == much, err == io.EOF, err == io.ErrUnexpectedEOF:
				if got != much {
					err = fmt.Errorf("%s: %d of %d bytes, %w", way.name, got, much, err)
				} else {
					err = nil
				}
				return err
			case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
				return fmt.Errorf("%s: after %d bytes: %w", way.name, got, err)
			}
		}
	})
}
