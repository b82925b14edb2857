// Command sigpipe is a library for a program in C: it writes to connections whose peer is gone.
package main

import "C"

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"uringo/driver"
	"uringo/executor"
	"uringo/net"
)

// writeBroken returns how many writes ended as they should, or a negative number.
//
//export writeBroken
func writeBroken() C.int {
	written := 0
	for _, engine := range []driver.Engine{driver.Auto, driver.Portable} {
		for _, e := range []executor.Executor{executor.Goroutines(), executor.Workers(1), executor.Local()} {
			err := executor.Start(context.Background(), func(ctx context.Context) error {
				for _, route := range []net.Route{net.Inline, net.Ring} {
					net.Pin(net.OpWrite, route)
					for range 20 {
						if err := writeOnce(ctx); !errors.Is(err, syscall.EPIPE) {
							return fmt.Errorf("%v: %w", route, err)
						}
						written++
					}
				}
				return nil
			}, executor.WithExecutor(e), executor.WithDriver(driver.Config{Engine: engine}))
			if err != nil {
				fmt.Fprintln(os.Stderr, engine, e, err)
				return -1
			}
		}
	}
	return C.int(written)
}

func writeOnce(ctx context.Context) error {
	c, s, err := net.UnixPair(ctx)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	if err := s.Close(ctx); err != nil {
		return err
	}
	_, _, err = c.WriteAll(ctx, []byte("to nobody"))
	return err
}

func main() {}
