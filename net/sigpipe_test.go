package net_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
	"uringo/internal/testenv"
	"uringo/net"
)

func init() {
	roles["sigpipe"] = func() int { return sigpipes(false) }
	roles["sigpipe notify"] = func() int { return sigpipes(true) }
}

// TestSIGPIPE writes in every way, in a process of its own, to connections whose peer is gone, to a pipe without a reader, and to its
// standard output when that is one: the error is EPIPE, the process lives, and a program that asks for SIGPIPE hears of none from a
// socket.
func TestSIGPIPE(t *testing.T) { // HAZARDS T35
	for _, role := range []string{"sigpipe", "sigpipe notify"} {
		t.Run(role, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
			defer w.Close()
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = testenv.Environ(roleVar + "=" + role)
			var said strings.Builder
			cmd.Stdout, cmd.Stderr = w, &said
			if err := cmd.Run(); err != nil {
				t.Errorf("%v\n%s", err, said.String())
			}
			if !strings.Contains(said.String(), "alive") {
				t.Errorf("it said: %s", said.String())
			}
			t.Log(strings.TrimSpace(said.String()))
		})
	}
}

// sigpipes is the process. It tells on its standard error.
func sigpipes(notify bool) int {
	status := 0
	complain := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, format+"\n", args...)
		status = 1
	}
	heard := make(chan os.Signal, 1000)
	if notify {
		signal.Notify(heard, syscall.SIGPIPE)
	}
	engines := []driver.Engine{driver.Uring, driver.Portable}
	if name := os.Getenv(driver.EngineVar); name != "" {
		e, err := driver.ParseEngine(name)
		if err != nil {
			complain("%v", err)
			return status
		}
		engines = []driver.Engine{e}
	}
	tried, signals := 0, map[string]int{}
	for _, engine := range engines {
		for _, e := range executors() {
			err := executor.Start(context.Background(), func(ctx context.Context) error {
				for _, way := range brokenWrites {
					for _, route := range []net.Route{net.Inline, net.Ring} {
						old := net.Pin(net.OpWrite, route)
						err := way.try(ctx)
						net.Pin(net.OpWrite, old)
						tried++
						if !errors.Is(err, syscall.EPIPE) {
							complain("%v, %v, %s, %v: %v", engine, e, way.name, route, err)
						}
						if n := drainSignals(heard, notify, way.signals); n > 0 {
							signals[way.name] += n
							if !way.signals {
								complain("%v, %v, %s, %v: %d signals", engine, e, way.name, route, n)
							}
						}
					}
				}
				return nil
			}, executor.WithExecutor(e), executor.WithDriver(driver.Config{Engine: engine}))
			if err != nil {
				complain("%v", err)
			}
		}
	}
	fmt.Fprintf(os.Stderr, "alive after %d writes; signals: %v\n", tried, signals)
	return status
}

// drainSignals counts the signals that come. Those that are to come may take a while, and must not be taken for those of the next.
func drainSignals(heard chan os.Signal, notify, expected bool) (n int) {
	if !notify {
		return 0
	}
	patience := 3 * time.Millisecond
	if expected {
		patience *= 15
	}
	for {
		select {
		case <-heard:
			n++
		case <-time.After(patience):
			return n
		}
	}
}

// brokenWrites are ways to write to what nobody reads from. Where the kernel offers no way to ask for no signal, one is raised, as the
// standard library raises it, and Go ignores it unless the program asks.
var brokenWrites = []struct {
	name    string
	signals bool
	try     func(ctx context.Context) error
}{
	{"Write", false, onBroken(func(ctx context.Context, c *net.Conn) error { _, _, err := c.Write(ctx, []byte("x")); return err })},
	{"WriteAll", false, onBroken(func(ctx context.Context, c *net.Conn) error { _, _, err := c.WriteAll(ctx, []byte("x")); return err })},
	{"Writev", false, onBroken(func(ctx context.Context, c *net.Conn) error {
		_, _, err := c.Writev(ctx, [][]byte{[]byte("x"), []byte("y")})
		return err
	})},
	{"SendMsg", false, onBroken(func(ctx context.Context, c *net.Conn) error {
		_, err := c.SendMsg(ctx, &net.Message{Bufs: [][]byte{[]byte("x")}})
		return err
	})},
	{"WriteZeroCopy", false, onBroken(func(ctx context.Context, c *net.Conn) error {
		_, _, _, err := c.WriteZeroCopy(ctx, make([]byte, 1<<14))
		return err
	})},
	{"NetConn.Write", false, onBroken(func(_ context.Context, c *net.Conn) error { _, err := c.NetConn().Write([]byte("x")); return err })},
	{"WriteFixed", false, onBroken(func(ctx context.Context, c *net.Conn) error {
		p, err := buf.NewPool(buf.PoolConfig{Classes: []buf.Class{{Size: 4096, Count: 1}}})
		if err != nil {
			return err
		}
		b, err := p.Get(ctx, 4096)
		if err != nil {
			return err
		}
		_, b, err = c.WriteFixed(ctx, b)
		b.Release()
		return errors.Join(err, p.Close())
	})},
	{"SendFile", true, onBroken(func(ctx context.Context, c *net.Conn) error {
		f, err := fs.Open(ctx, os.Args[0])
		if err != nil {
			return err
		}
		_, err = c.SendFile(ctx, f, 0, 1<<16)
		return errors.Join(err, f.Close(ctx))
	})},
	{"pipe", false, func(ctx context.Context) error {
		r, w, err := fs.Pipe(ctx)
		if err != nil {
			return err
		}
		if err := r.Close(ctx); err != nil {
			return err
		}
		_, _, err = w.Write(ctx, []byte("x"))
		return errors.Join(err, w.Close(ctx))
	}},
	{"standard output", false, func(ctx context.Context) error {
		fd, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		f, err := fs.NewFile(ctx, fd, "standard output")
		if err != nil {
			return err
		}
		_, _, err = f.Write(ctx, []byte("x"))
		return errors.Join(err, f.Close(ctx))
	}},
}

// onBroken calls write with a connection whose peer is gone and where that is known.
func onBroken(write func(ctx context.Context, c *net.Conn) error) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		c, s, err := net.UnixPair(ctx)
		if err != nil {
			return err
		}
		if err := s.Close(ctx); err != nil {
			return err
		}
		first := write(ctx, c)
		if err := c.Close(ctx); err != nil {
			return err
		}
		if !errors.Is(first, syscall.EPIPE) {
			return first
		}
		return errors.Join(first, onBrokenTCP(ctx, write))
	}
}

func onBrokenTCP(ctx context.Context, write func(ctx context.Context, c *net.Conn) error) error {
	l, err := net.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	c, err := net.Dial(ctx, "tcp", l.Addr().String())
	if err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	err = write(ctx, c)
	if !errors.Is(err, syscall.EPIPE) {
		return fmt.Errorf("TCP: %w, not a broken pipe", err)
	}
	return errors.Join(c.Close(ctx), l.Close(ctx))
}

// TestSIGPIPEShared has a program in C load our code as a library. It has no handler for SIGPIPE, which would end it.
func TestSIGPIPEShared(t *testing.T) { // HAZARDS T35
	if !testenv.Nightly() {
		t.Skip("compiles everything: URINGO_NIGHTLY=1")
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("needs gcc")
	}
	dir := t.TempDir()
	library, program := filepath.Join(dir, "libsigpipe.so"), filepath.Join(dir, "program")
	for _, args := range [][]string{
		{"go", "build", "-buildmode=c-shared", "-o", library, "./testdata/sigpipe"},
		{"gcc", "-Wall", "-o", program, "-x", "c", "testdata/sigpipe/program.c.txt", "-x", "none", library, "-Wl,-rpath," + dir},
	} {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	for _, handler := range []string{"default", "own"} {
		out, err := exec.CommandContext(t.Context(), program, handler).CombinedOutput()
		t.Logf("%s handler: %s", handler, strings.TrimSpace(string(out)))
		if err != nil || !strings.Contains(string(out), "alive, 0 signals") {
			t.Errorf("%s handler: %v: %s", handler, err, out)
		}
	}
}
