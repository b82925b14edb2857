package net_test

import (
	"context"
	"fmt"
	"io"

	"uringo/executor"
	"uringo/net"
)

// A server that answers every connection, with one request of the ring for all that it accepts, and one for all that each sends.
func ExampleListener_Accepts() {
	serve := func(ctx context.Context, c *net.Conn) error {
		defer c.Close(context.WithoutCancel(ctx))
		for chunk, err := range c.Receives(ctx, nil) {
			if err != nil {
				return err
			}
			_, _, err = c.WriteAll(ctx, chunk.Bytes())
			chunk.Release()
			if err != nil {
				return err
			}
		}
		return nil // the client has said all
	}
	err := executor.Start(context.Background(), func(ctx context.Context) error {
		l, err := net.Listen(ctx, "tcp", "localhost:0")
		if err != nil {
			return err
		}
		defer l.Close(context.WithoutCancel(ctx))
		executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
			for c, err := range l.Accepts(ctx) {
				if err != nil {
					continue // too many open files, say; the last one is that of ctx
				}
				executor.Go(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, serve(ctx, c) })
			}
			return struct{}{}, nil
		})

		c, err := net.Dial(ctx, "tcp", l.Addr().String())
		if err != nil {
			return err
		}
		defer c.Close(context.WithoutCancel(ctx))
		if _, _, err := c.WriteAll(ctx, []byte("hello")); err != nil {
			return err
		}
		if err := c.CloseWrite(); err != nil {
			return err
		}
		n, buf, err := c.ReadFull(ctx, make([]byte, 64))
		if err != io.ErrUnexpectedEOF {
			return err
		}
		fmt.Printf("%s\n", buf[:n])
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output: hello
}

// A server whose connections are in the table of the ring, and take no descriptor of the process while there is room in that.
func ExampleRingConn() {
	err := executor.Start(context.Background(), func(ctx context.Context) error {
		l, err := net.Listen(ctx, "tcp", "localhost:0")
		if err != nil {
			return err
		}
		defer l.Close(context.WithoutCancel(ctx))
		executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
			for c, err := range l.RingAccepts(ctx) {
				if err != nil {
					continue // the last one is that of ctx
				}
				executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
					defer c.Close(context.WithoutCancel(ctx))
					n, buf, err := c.Read(ctx, make([]byte, 64))
					if err == nil {
						_, _, err = c.WriteAll(ctx, buf[:n])
					}
					return struct{}{}, err
				})
			}
			return struct{}{}, nil
		})

		c, err := new(net.Dialer).DialRing(ctx, "tcp", l.Addr().String())
		if err != nil {
			return err
		}
		defer c.Close(context.WithoutCancel(ctx))
		if _, _, err := c.WriteAll(ctx, []byte("hello")); err != nil {
			return err
		}
		n, buf, err := c.Read(ctx, make([]byte, 64))
		fmt.Printf("%s\n", buf[:n])
		return err
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output: hello
}

// A server that answers every datagram, with one request of the ring for all that it receives.
func ExamplePacketConn_Receives() {
	err := executor.Start(context.Background(), func(ctx context.Context) error {
		server, err := net.ListenPacket(ctx, "udp", "localhost:0")
		if err != nil {
			return err
		}
		defer server.Close(context.WithoutCancel(ctx))
		executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
			for m, err := range server.Receives(ctx, nil) {
				if err != nil {
					break // that of ctx
				}
				if !m.Truncated() {
					_, _, err = server.SendToAddrPort(ctx, m.Bytes(), m.AddrPort())
				}
				m.Release()
				if err != nil {
					return struct{}{}, err
				}
			}
			return struct{}{}, nil
		})

		c, err := net.Dial(ctx, "udp", server.LocalAddr().String())
		if err != nil {
			return err
		}
		defer c.Close(context.WithoutCancel(ctx))
		if _, _, err := c.Write(ctx, []byte("hello")); err != nil {
			return err
		}
		n, buf, err := c.Read(ctx, make([]byte, 64))
		fmt.Printf("%s\n", buf[:n])
		return err
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output: hello
}

// A large buffer is sent without a copy, and is the caller's again when the call returns.
func ExampleConn_WriteZeroCopy() {
	err := executor.Start(context.Background(), func(ctx context.Context) error {
		a, b, err := net.UnixPair(ctx)
		if err != nil {
			return err
		}
		defer a.Close(ctx)
		defer b.Close(ctx)
		n, _, copied, err := a.WriteZeroCopy(ctx, make([]byte, 64<<10))
		fmt.Println(n, copied) // a Unix socket always copies
		return err
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output: 65536 true
}

// One task sends and another receives, and neither knows when the other has done its part: the connection is closed after both.
func ExampleConn_Split() {
	err := executor.Start(context.Background(), func(ctx context.Context) error {
		c, echo, err := net.UnixPair(ctx)
		if err != nil {
			return err
		}
		executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
			defer echo.Close(context.WithoutCancel(ctx))
			_, err := echo.Splice(ctx, echo, -1) // sends back what it receives
			return struct{}{}, err
		})

		r, w := c.Split()
		executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
			defer w.Close(context.WithoutCancel(ctx)) // the peer sees the end
			_, _, err := w.WriteAll(ctx, []byte("hello"))
			return struct{}{}, err
		})
		defer r.Close(context.WithoutCancel(ctx))
		n, buf, err := r.ReadFull(ctx, make([]byte, 64))
		if err != io.ErrUnexpectedEOF {
			return err
		}
		fmt.Printf("%s\n", buf[:n])
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output: hello
}

// A socket has one peer after the other, and hears from nobody else meanwhile.
func ExamplePacketConn_Connect() {
	err := executor.Start(context.Background(), func(ctx context.Context) error {
		c, err := net.ListenPacket(ctx, "udp", "localhost:0")
		if err != nil {
			return err
		}
		defer c.Close(ctx)
		for _, answer := range []string{"one", "two"} {
			peer, err := net.ListenPacket(ctx, "udp", "localhost:0")
			if err != nil {
				return err
			}
			defer peer.Close(ctx)
			if err := c.Connect(peer.LocalAddr()); err != nil {
				return err
			}
			if _, _, err := peer.SendTo(ctx, []byte(answer), c.LocalAddr()); err != nil {
				return err
			}
			n, buf, from, err := c.RecvFrom(ctx, make([]byte, 64))
			if err != nil {
				return err
			}
			fmt.Printf("%s %v\n", buf[:n], from.String() == c.RemoteAddr().String())
		}
		return c.Disconnect()
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// one true
	// two true
}
