package net_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"uringo/driver"
	"uringo/executor"
	"uringo/net"
)

// A server for many connections that are idle most of the time: each has a task, and a buffer, only while there is something to handle.
func ExampleServer() {
	err := executor.Start(context.Background(), func(ctx context.Context) error {
		l, err := net.Listen(ctx, "tcp", "localhost:0")
		if err != nil {
			return err
		}
		defer l.Close(context.WithoutCancel(ctx))
		server := net.Server{Handle: func(ctx context.Context, c *net.Conn, chunk driver.Chunk) error {
			defer chunk.Release()
			_, _, err := c.WriteAll(ctx, chunk.Bytes())
			return err
		}}
		serving := executor.Go(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, server.Serve(ctx, l) })

		c, err := net.Dial(ctx, "tcp", l.Addr().String())
		if err != nil {
			return err
		}
		defer c.Close(context.WithoutCancel(ctx))
		if _, _, err := c.WriteAll(ctx, []byte("hello")); err != nil {
			return err
		}
		n, buf, err := c.ReadFull(ctx, make([]byte, len("hello")))
		fmt.Printf("%s %v\n", buf[:n], err)

		serving.Abort() // closes the connections
		_, err = serving.Join(ctx)
		fmt.Println(errors.Is(err, context.Canceled))
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// hello <nil>
	// true
}

// A file goes to a connection without passing through the process.
func ExampleConn_SendFile() {
	err := executor.Start(context.Background(), func(ctx context.Context) error {
		f, err := os.CreateTemp("", "sendfile")
		if err != nil {
			return err
		}
		defer os.Remove(f.Name())
		defer f.Close()
		if _, err := f.WriteString("header and content"); err != nil {
			return err
		}

		a, b, err := net.UnixPair(ctx)
		if err != nil {
			return err
		}
		defer a.Close(ctx)
		defer b.Close(ctx)
		offset := int64(strings.Index("header and content", "content"))
		sent, err := a.SendFile(ctx, f, offset, -1) // to its end
		if err != nil {
			return err
		}
		n, buf, err := b.ReadFull(ctx, make([]byte, sent))
		fmt.Printf("%s\n", buf[:n])
		return err
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output: content
}

// A process gives an open file to another one, or as here to itself, over a Unix socket.
func ExampleRights() {
	err := executor.Start(context.Background(), func(ctx context.Context) error {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		defer r.Close()
		defer w.Close()

		a, b, err := net.UnixPair(ctx)
		if err != nil {
			return err
		}
		defer a.Close(ctx)
		defer b.Close(ctx)
		m := net.Message{Bufs: [][]byte{[]byte("for you")}, OOB: net.Rights(int(w.Fd()))}
		if _, err := a.SendMsg(ctx, &m); err != nil {
			return err
		}

		m = net.Message{Bufs: [][]byte{make([]byte, 64)}, OOB: make([]byte, net.RightsSpace(1))}
		if err := b.RecvMsg(ctx, &m); err != nil {
			return err
		}
		fds, err := m.FDs()
		if err != nil {
			return err
		}
		given := os.NewFile(uintptr(fds[0]), "given") // it is the receiver's to close
		defer given.Close()
		if _, err := given.WriteString("hello"); err != nil {
			return err
		}
		buf := make([]byte, 64)
		n, err := r.Read(buf) // which does not have to wait
		fmt.Printf("%s: %s\n", m.Bufs[0][:m.N], buf[:n])
		return err
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output: for you: hello
}
