package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"uringo/executor"
	"uringo/internal/testenv"
)

func TestEcho(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	where := make(chan string, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- executor.Start(ctx, func(ctx context.Context) error {
			return serve(ctx, "127.0.0.1:0", func(format string, args ...any) {
				if address, ok := strings.CutPrefix(fmt.Sprintf(format, args...), "listening on "); ok {
					where <- address
				}
			})
		})
	}()
	var address string
	select {
	case address = <-where:
	case err := <-ended:
		t.Fatal(err)
	}

	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			want := strings.Repeat(fmt.Sprintf("connection %d. ", i), 20_000)
			all.Go(func() {
				_, err := io.WriteString(c, want)
				if err := errors.Join(err, c.(*net.TCPConn).CloseWrite()); err != nil {
					t.Error(err)
				}
			})
			if got, err := io.ReadAll(c); string(got) != want || err != nil {
				t.Errorf("%d bytes of %d came back, %v", len(got), len(want), err)
			}
		})
	}
	all.Wait()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

// TestOutOfFiles connects while the program may open no more files. It must go on when it may again.
func TestOutOfFiles(t *testing.T) {
	testenv.OutOfFiles(t, func(ctx context.Context, logf func(format string, args ...any)) error {
		return executor.Start(ctx, func(ctx context.Context) error { return serve(ctx, "127.0.0.1:0", logf) })
	})
}
