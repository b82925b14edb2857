package main

import (
	"bufio"
	"context"
	"fmt"
	stdnet "net"
	"os"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"

	"uringo/driver"
	"uringo/executor"
	"uringo/net"
)

// bufferSize is what a server that has a buffer for each connection reads into: as much as a bufio.Reader.
const bufferSize = 4096

// names are the servers, in the order of the table. Those of uringo are an executor and a way to receive.
var names = []string{
	"net",
	"local read", "workers read", "goroutines read", // a task and a buffer for each connection
	"local receives", "workers receives", "goroutines receives", // a task
	"local server", "workers server", "goroutines server", // neither
}

// held are those that the floor is for: what uringo has for connections that are idle most of the time.
var held = map[string]bool{"local server": true, "workers server": true, "goroutines server": true}

// runServer serves until standard input ends. For every line there, it tidies up and says how much memory is resident.
func runServer(ctx context.Context, name, profile string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			debug.FreeOSMemory()
			fmt.Println(resident())
		}
		if profile != "" {
			if f, err := os.Create(profile); err == nil {
				_ = pprof.WriteHeapProfile(f)
				_ = f.Close()
			}
		}
		stop()
	}()
	e, way, _ := strings.Cut(name, " ")
	switch e {
	case "net":
		return serveNet(ctx)
	case "local":
		return serve(ctx, executor.Local(), way)
	case "workers":
		return serve(ctx, executor.Workers(1), way)
	case "goroutines":
		return serve(ctx, executor.Goroutines(), way)
	}
	return fmt.Errorf("no server %q", name)
}

// resident is the memory of this process that is its own and no file's, in bytes.
func resident() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	kib, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, _ := strconv.ParseInt(kib, 10, 64)
	return n << 10
}

func serveNet(ctx context.Context) error {
	l, err := stdnet.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	fmt.Println(l.Addr().(*stdnet.TCPAddr).Port)
	for {
		c, err := l.Accept()
		if err != nil {
			return nil
		}
		go func() {
			defer c.Close()
			b := make([]byte, bufferSize)
			for {
				n, err := c.Read(b)
				if err != nil {
					return
				}
				if _, err := c.Write(b[:n]); err != nil {
					return
				}
			}
		}()
	}
}

// inFlight is for more connections than a driver takes by default.
const inFlight = 1 << 16

func serve(ctx context.Context, e executor.Executor, way string) error {
	ways := map[string]func(context.Context, *net.Listener) error{
		"read":     func(ctx context.Context, l *net.Listener) error { return serveEach(ctx, l, echoReads) },
		"receives": func(ctx context.Context, l *net.Listener) error { return serveEach(ctx, l, echoReceives) },
		"server":   (&net.Server{Handle: echoChunk}).Serve,
	}
	err := executor.Start(ctx, func(ctx context.Context) error {
		l, err := net.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close(context.WithoutCancel(ctx))
		fmt.Println(l.Addr().(*stdnet.TCPAddr).Port)
		return ways[way](ctx, l)
	}, executor.WithExecutor(e), executor.WithDriver(driver.Config{InFlight: inFlight}))
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// serveEach has a task for each connection.
func serveEach(ctx context.Context, l *net.Listener, echo func(context.Context, *net.Conn) error) error {
	for c, err := range l.Accepts(ctx) {
		if err != nil {
			return err
		}
		executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
			defer c.Close(context.WithoutCancel(ctx))
			return struct{}{}, echo(ctx, c)
		})
	}
	return nil
}

func echoReads(ctx context.Context, c *net.Conn) error {
	b := make([]byte, bufferSize)
	for {
		n, _, err := c.Read(ctx, b)
		if err != nil {
			return err
		}
		if _, _, err := c.WriteAll(ctx, b[:n]); err != nil {
			return err
		}
	}
}

func echoReceives(ctx context.Context, c *net.Conn) error {
	for chunk, err := range c.Receives(ctx, nil) {
		if err != nil {
			return err
		}
		if err := echoChunk(ctx, c, chunk); err != nil {
			return err
		}
	}
	return nil
}

func echoChunk(ctx context.Context, c *net.Conn, chunk driver.Chunk) error {
	_, _, err := c.WriteAll(ctx, chunk.Bytes())
	chunk.Release()
	return err
}
