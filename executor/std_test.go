package executor_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"

	"uringo/executor"
	"uringo/ops"
)

// Connections of the standard library work beside the ring: in Block everywhere, and in tasks that may block.
func TestStandardNetBeside(t *testing.T) { // T4
	everywhere(t, func(w *world) {
		rd, wr := pipe(w)
		w.ok(func(ctx context.Context) error {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			defer l.Close()
			served := make(chan error, 1)
			go func() {
				c, err := l.Accept()
				if err == nil {
					_, err = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) // not by pipes, which package net keeps
					c.Close()
				}
				served <- err
			}()
			ask := func() (struct{}, error) {
				c, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					return struct{}{}, err
				}
				defer c.Close()
				for i := range 100 {
					sent, got := []byte{byte(i), 1, 2}, make([]byte, 3)
					if _, err := c.Write(sent); err != nil {
						return struct{}{}, err
					}
					if _, err := io.ReadFull(c, got); err != nil || string(got) != string(sent) {
						return struct{}{}, fmt.Errorf("%v instead of %v, %w", got, sent, err)
					}
				}
				return struct{}{}, nil
			}
			asking := executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
				if executor.CallerOf(ctx).MayBlock() {
					return ask()
				}
				return executor.Block(ctx, ask)
			})
			for i := range 100 { // meanwhile the ring is at work
				if err := write(ctx, wr, string(rune('a'+i%26))); err != nil {
					return err
				}
				if r := executor.Do(ctx, ops.ReadAt(rd, make([]byte, 4), -1)); r.N != 1 || r.Err != nil {
					return fmt.Errorf("read %d, %w", r.N, r.Err)
				}
			}
			if _, err := asking.Join(ctx); err != nil {
				return err
			}
			return <-served
		})
	})
}
