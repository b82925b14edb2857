// Proxy passes TCP connections on to another address, without copying what goes through it, until it is interrupted.
//
//	go run ./examples/proxy ADDRESS TARGET
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"uringo/driver"
	"uringo/executor"
	"uringo/net"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: proxy ADDRESS TARGET")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second one ends the program
	err := executor.Start(ctx, func(ctx context.Context) error { return serve(ctx, os.Args[1], os.Args[2], log.Printf) },
		executor.WithExecutor(executor.Workers(1)),
		executor.WithDriver(driver.Config{Logger: driver.Slog(slog.Default().Handler())})) // to hear of panics in tasks, which nobody joins
	if err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}

// serve says by logf where it listens, and returns when ctx ends. Start then ends the connections.
func serve(ctx context.Context, address, target string, logf func(format string, args ...any)) error {
	l, err := net.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer l.Close(context.WithoutCancel(ctx))
	logf("listening on %s", l.Addr())
	for c, e := range l.Accepts(ctx) {
		if err = e; err != nil {
			if ctx.Err() == nil {
				logf("%v", err) // too many open files: it goes on when some are closed
			}
			continue
		}
		executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
			if err := pass(ctx, c, target); err != nil && ctx.Err() == nil {
				logf("%s: %v", c.RemoteAddr(), err)
			}
			return struct{}{}, nil
		})
	}
	return err
}

// pass connects a client with the target until both have ended.
func pass(ctx context.Context, client *net.Conn, target string) error {
	defer client.Close(context.WithoutCancel(ctx))
	limit, cancel := context.WithTimeout(ctx, 10*time.Second)
	server, err := net.Dial(limit, "tcp", target)
	cancel()
	if err != nil {
		return err
	}
	defer server.Close(context.WithoutCancel(ctx))
	_, _, err = net.Proxy(ctx, client, server)
	return err
}
