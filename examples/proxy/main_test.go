package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"uringo/executor"
	"uringo/internal/testenv"
)

func TestProxy(t *testing.T) {
	// The target sends back what it received when it has all of it: both directions end one after the other.
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	go func() {
		for {
			c, err := target.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if all, err := io.ReadAll(c); err == nil {
					_, _ = c.Write(all)
				}
			}()
		}
	}()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	where := make(chan string, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- executor.Start(ctx, func(ctx context.Context) error {
			return serve(ctx, "127.0.0.1:0", target.Addr().String(), func(format string, args ...any) {
				if address, ok := strings.CutPrefix(fmt.Sprintf(format, args...), "listening on "); ok {
					where <- address
				}
			})
		}, executor.WithExecutor(executor.Workers(1)))
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
			_, err = io.WriteString(c, want)
			if err := errors.Join(err, c.(*net.TCPConn).CloseWrite()); err != nil {
				t.Error(err)
			}
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
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	go func() {
		c, err := target.Accept()
		for errors.Is(err, syscall.EMFILE) { // it begins to wait only while there are no files
			time.Sleep(time.Millisecond)
			c, err = target.Accept()
		}
		if err == nil {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	testenv.OutOfFiles(t, func(ctx context.Context, logf func(format string, args ...any)) error {
		return executor.Start(ctx, func(ctx context.Context) error { return serve(ctx, "127.0.0.1:0", target.Addr().String(), logf) })
	})
}
