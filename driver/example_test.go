package driver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/driver"
	"uringo/fs"
	"uringo/ops"
)

// Two reads are under way at once, and nobody waits in a system call.
func ExampleSubmit() {
	ctx := context.Background()
	d, err := driver.Open(driver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close(ctx)
	f, err := os.CreateTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.WriteString("hello, world"); err != nil {
		log.Fatal(err)
	}

	first := driver.Submit(d, ops.ReadAt(int(f.Fd()), make([]byte, 5), 0))
	second := driver.Submit(d, ops.ReadAt(int(f.Fd()), make([]byte, 5), 7))
	r := <-first.Done() // the buffer comes back with the result
	fmt.Printf("%s %v\n", r.Buf[:r.N], r.Err)
	r = second.Wait(ctx) // cancels the operation if ctx ends
	fmt.Printf("%s %v\n", r.Buf[:r.N], r.Err)
	// Output:
	// hello <nil>
	// world <nil>
}

// An operation that is cancelled says what became of it.
func ExamplePending_Cancel() {
	ctx := context.Background()
	d, err := driver.Open(driver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close(ctx)
	r, w, err := os.Pipe()
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	defer w.Close()

	p := driver.Submit(d, ops.ReadAt(int(r.Fd()), make([]byte, 100), -1))
	p.Cancel()
	fmt.Println(driver.IsCanceled(p.Wait(ctx).Err))

	soon, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	err = driver.Submit(d, ops.ReadAt(int(r.Fd()), make([]byte, 100), -1)).Wait(soon).Err
	fmt.Println(errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded))
	// Output:
	// true
	// true true
}

// Goroutines of a service use the packages above by way of a context that carries the driver.
func ExampleNewContext() {
	d, err := driver.Open(driver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close(context.Background())
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	ctx := driver.NewContext(context.Background(), d)
	name := filepath.Join(dir, "greeting")
	if err := fs.WriteFile(ctx, name, []byte("hello"), 0o600); err != nil {
		log.Fatal(err)
	}
	text, err := fs.ReadFile(ctx, name)
	fmt.Printf("%s, %v\n", text, err)
	// Output: hello, <nil>
}

// What the driver has done, for expvar, Prometheus, or a look.
func ExampleDriver_Stats() {
	ctx := context.Background()
	d, err := driver.Open(driver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close(ctx)
	for range 3 {
		if r := driver.Submit(d, ops.Nop()).Wait(ctx); r.Err != nil {
			log.Fatal(r.Err)
		}
	}
	s := d.Stats()
	fmt.Println(s.Completed, "completed,", s.InFlight, "in flight")
	// Output: 3 completed, 0 in flight
}

// A program that logs by log/slog.
func ExampleSlog() {
	h := slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})
	d, err := driver.Open(driver.Config{Logger: driver.Slog(h)}) // "io_uring is not available, …", say
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.Close(context.Background()))
	// Output: <nil>
}

// Memory is registered before anybody waits for it. Where it cannot be, operations on it work all the same.
func ExampleDriver_RegisterBuffers() {
	ctx := context.Background()
	d, err := driver.Open(driver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close(ctx)
	arena, err := buf.NewArena(1 << 20)
	if err != nil {
		log.Fatal(err)
	}
	defer arena.Close()
	if err := d.RegisterBuffers(arena); err != nil {
		log.Print(err)
	}
	b, err := arena.Alloc(4096, 4096)
	if err != nil {
		log.Fatal(err)
	}
	defer b.Release()
	zero, err := os.Open("/dev/zero")
	if err != nil {
		log.Fatal(err)
	}
	defer zero.Close()
	r := driver.Submit(d, ops.ReadFixedAt(int(zero.Fd()), b, 0)).Wait(ctx)
	fmt.Println(r.N, r.Err)
	// Output: 4096 <nil>
}

// One submission receives whatever comes, into buffers that connections take from a common stock when they need one.
func ExampleRecvMulti() {
	ctx := context.Background()
	d, err := driver.Open(driver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close(ctx)
	stock, err := driver.NewBufferRing(d, 16, 4096)
	if err != nil {
		log.Fatal(err)
	}
	defer stock.Close()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		log.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])

	in := driver.RecvMulti(d, fds[0], stock, 0, nil)
	for _, text := range []string{"one", "two"} {
		if err := unix.Send(fds[1], []byte(text), 0); err != nil {
			log.Fatal(err)
		}
	}
	for range 2 {
		c, err := in.Next(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", c.Bytes())
		c.Release()
	}
	fmt.Println(in.Close(ctx))
	// Output:
	// one
	// two
	// <nil>
}

// One submission receives every message with what comes beside it, here a descriptor.
func ExampleRecvMsgMulti() {
	ctx := context.Background()
	d, err := driver.Open(driver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close(ctx)
	stock, err := driver.NewBufferRing(d, 16, 4096)
	if err != nil {
		log.Fatal(err)
	}
	defer stock.Close()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		log.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])

	room := ops.Room{OOB: 64} // for a few descriptors; the ends of a pair have no address
	in := driver.RecvMsgMulti(d, fds[0], stock, room, 0, nil)
	if err := unix.Sendmsg(fds[1], []byte("standard input"), unix.UnixRights(0), nil, 0); err != nil {
		log.Fatal(err)
	}
	c, err := in.Next(ctx)
	if err != nil {
		log.Fatal(err)
	}
	m := room.Parse(c.Bytes())
	messages, err := unix.ParseSocketControlMessage(m.OOB())
	fmt.Printf("%s, with %d control message, %v\n", m.Data(), len(messages), err)
	m.Discard() // the descriptor, for which there is no use here
	c.Release()
	fmt.Println(in.Close(ctx))
	// Output:
	// standard input, with 1 control message, <nil>
	// <nil>
}

// One submission accepts every connection.
func ExampleSubmitMulti() {
	ctx := context.Background()
	d, err := driver.Open(driver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close(ctx)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()

	connections := driver.SubmitMulti(d, ops.AcceptMulti(int(f.Fd()), 0))
	for range 2 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		defer c.Close()
		fd, err := connections.Next(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("accepted")
		if err := unix.Close(fd); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(connections.Close(ctx)) // closes those that nobody took
	// Output:
	// accepted
	// accepted
	// <nil>
}

// The ring of a service behind a seccomp filter only moves data: what names a file is a system call, and the filter sees that.
func ExampleDataOnly() {
	ctx := context.Background()
	d, err := driver.Open(driver.Config{Restrict: driver.DataOnly()})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close(ctx)
	ctx = driver.NewContext(ctx, d)
	name := filepath.Join(os.TempDir(), "uringo-restricted")
	if err := fs.WriteFile(ctx, name, []byte("hello"), 0o600); err != nil {
		log.Fatal(err)
	}
	defer os.Remove(name)
	b, err := fs.ReadFile(ctx, name)
	fmt.Printf("%s %v\n", b, err)
	// Output: hello <nil>
}

// What a child process says is read as it comes, and while it is silent no buffer waits for it.
func ExampleReadMulti() {
	ctx := context.Background()
	d, err := driver.Open(driver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close(ctx)
	buffers, err := driver.NewBufferRing(d, 16, 4096)
	if err != nil {
		log.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	child := exec.Command("echo", "hello")
	child.Stdout = w
	if err := child.Start(); err != nil {
		log.Fatal(err)
	}
	w.Close()
	for said := driver.ReadMulti(d, int(r.Fd()), buffers, nil); ; {
		c, err := said.Next(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s", c.Bytes())
		c.Release()
	}
	fmt.Println(child.Wait())
	// Output:
	// hello
	// <nil>
}
