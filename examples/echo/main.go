// Echo sends back what it receives, one task a connection, until it is interrupted.
//
//	go run ./examples/echo [ADDRESS]
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"uringo/driver"
	"uringo/executor"
	"uringo/net"
)

func main() {
	address := "localhost:7777"
	switch len(os.Args) {
	case 1:
	case 2:
		address = os.Args[1]
	default:
		fmt.Fprintln(os.Stderr, "usage: echo [ADDRESS]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second one ends the program
	err := executor.Start(ctx, func(ctx context.Context) error { return serve(ctx, address, log.Printf) },
		executor.WithDriver(driver.Config{Logger: driver.Slog(slog.Default().Handler())})) // to hear of panics in tasks, which nobody joins
	if err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}

// serve says by logf where it listens, and returns when ctx ends. Start then ends the connections.
func serve(ctx context.Context, address string, logf func(format string, args ...any)) error {
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
			if err := echo(ctx, c); err != nil && ctx.Err() == nil {
				logf("%s: %v", c.RemoteAddr(), err)
			}
			return struct{}{}, nil
		})
	}
	return err
}

func echo(ctx context.Context, c *net.Conn) error {
	defer c.Close(context.WithoutCancel(ctx))
	buf := make([]byte, 4096)
	for {
		n, _, err := c.Read(ctx, buf)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if _, _, err := c.WriteAll(ctx, buf[:n]); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
}
