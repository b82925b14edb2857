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
	testenv.LimitFiles(t, 256)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	said := make(chan string, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- executor.Start(ctx, func(ctx context.Context) error {
			return serve(ctx, "127.0.0.1:0", func(format string, args ...any) { said <- fmt.Sprintf(format, args...) })
		})
	}()
	wait := func(part string) string {
		t.Helper()
		for {
			select {
			case line := <-said:
				if strings.Contains(line, part) {
					return line
				}
			case err := <-ended:
				t.Fatal(err)
			}
		}
	}
	address := strings.TrimPrefix(wait("listening on "), "listening on ")

	var giveBack func()
	dialer := net.Dialer{Control: func(_, _ string, _ syscall.RawConn) error { // the client has its file, and connects next
		giveBack = testenv.TakeFiles(t)
		return nil
	}}
	c, err := dialer.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	wait("too many open files")
	giveBack()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Errorf("%q came back, %v", got, err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}
