// Outside is a program in a module of its own. It may use only what is public, and names everything that such programs rely on.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
	"uringo/ops"
)

// The names and types of the contract.
var (
	_ func(context.Context, func(context.Context) error, ...executor.Option) error = executor.Start
	_ func(executor.Executor) executor.Option                                      = executor.WithExecutor
	_ func(driver.Config) executor.Option                                          = executor.WithDriver
	_ func() executor.Executor                                                     = executor.Goroutines
	_ func(int) executor.Executor                                                  = executor.Pool
	_ func(int) executor.Executor                                                  = executor.Workers
	_ func() executor.Executor                                                     = executor.Local
	_ func(context.Context, time.Duration) error                                   = executor.Sleep
	_ func(context.Context) error                                                  = executor.Yield

	_ func(context.Context, func(context.Context) (int, error)) *executor.JoinHandle[int] = executor.Go[int]
	_ func(context.Context, func() (int, error)) (int, error)                             = executor.Block[int]
	_ func(*executor.JoinHandle[int], context.Context) (int, error)                       = (*executor.JoinHandle[int]).Join
	_ func(*executor.JoinHandle[int])                                                     = (*executor.JoinHandle[int]).Abort

	_ func(driver.Config) (*driver.Driver, error)                       = driver.Open
	_ func(*driver.Driver, context.Context) error                       = (*driver.Driver).Close
	_ func(*driver.Driver) driver.Stats                                 = (*driver.Driver).Stats
	_ func(*driver.Driver) driver.Engine                                = (*driver.Driver).Engine
	_ func(context.Context, *driver.Driver) context.Context             = driver.NewContext
	_ func(*driver.Driver, ops.Op[[]byte]) *driver.Pending[[]byte]      = driver.Submit[[]byte]
	_ func(*driver.Pending[[]byte]) <-chan ops.Result[[]byte]           = (*driver.Pending[[]byte]).Done
	_ func(*driver.Pending[[]byte], context.Context) ops.Result[[]byte] = (*driver.Pending[[]byte]).Wait
	_ func(*driver.Pending[[]byte])                                     = (*driver.Pending[[]byte]).Cancel

	_ = []error{driver.ErrClosed, driver.ErrAbandoned, driver.ErrNoDriver}
	_ = []driver.Engine{driver.Auto, driver.Uring, driver.Portable}
	_ = driver.Config{Entries: 8, Engine: driver.Auto, Logger: nil, CancelGrace: 0}
)

// simple is an executor of the program's own.
type simple struct{}

func (simple) String() string { return "simple" }

func (simple) Open(cfg driver.Config) (executor.Runtime, error) {
	d, err := driver.Open(cfg)
	return simpleRuntime{d}, err
}

type simpleRuntime struct{ d *driver.Driver }

func (rt simpleRuntime) Driver() *driver.Driver          { return rt.d }
func (rt simpleRuntime) Spawn(run func()) error          { go run(); return nil }
func (rt simpleRuntime) Wait(ready <-chan struct{})      { <-ready }
func (rt simpleRuntime) Close(ctx context.Context) error { return rt.d.Close(ctx) }

func main() {
	for _, e := range []executor.Executor{simple{}, executor.Goroutines(), executor.Pool(2), executor.Workers(2), executor.Local()} {
		err := executor.Start(context.Background(), func(ctx context.Context) error {
			h := executor.Go(ctx, func(ctx context.Context) (string, error) {
				f, err := fs.Open(ctx, os.Args[1])
				if err != nil {
					return "", err
				}
				defer f.Close(ctx)
				buf := make([]byte, 64)
				n, buf, err := f.ReadAt(ctx, buf, 0)
				return string(buf[:n]), err
			})
			text, err := h.Join(ctx)
			fmt.Printf("%s: %s\n", e, text)
			return err
		}, executor.WithExecutor(e))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}

	// And without an executor.
	d, err := driver.Open(driver.Config{Entries: 8})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	f, err := os.Open(os.Args[1])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	r := <-driver.Submit(d, ops.ReadAt(int(f.Fd()), make([]byte, 64), 0)).Done()
	fmt.Printf("driver: %s\n", r.Buf[:r.N])
	if err := errors.Join(r.Err, d.Close(context.Background())); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
