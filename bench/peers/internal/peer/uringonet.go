package peer

import (
	"context"
	"errors"
	stdnet "net"

	"uringo/bench/peers/internal/job"
	"uringo/bench/peers/internal/testdir"
	"uringo/executor"
	"uringo/fs"
	"uringo/net"
)

func (rt uringoRuntime) echo(ctx context.Context, j job.Job, up func(port, pid int)) error {
	return rt.serve(ctx, j, up, func(ctx context.Context, c *net.Conn) error {
		b := make([]byte, echoBuffer)
		for {
			n, _, err := c.Read(ctx, b)
			if err != nil {
				return err
			}
			if _, _, err := c.WriteAll(ctx, b[:n]); err != nil {
				return err
			}
		}
	})
}

func (rt uringoRuntime) sendFile(ctx context.Context, j job.Job, up func(port, pid int)) error {
	return rt.serve(ctx, j, up, func(ctx context.Context, c *net.Conn) error {
		f, err := fs.Open(ctx, testdir.Cached(j.Dir))
		if err != nil {
			return err
		}
		defer f.Close(context.WithoutCancel(ctx))
		request := make([]byte, 64)
		for {
			if _, _, err := c.ReadFull(ctx, request); err != nil {
				return err
			}
			if _, err := c.SendFile(ctx, f, 0, sentSize); err != nil {
				return err
			}
		}
	})
}

// serve has answer answer on every connection, until the client ends it.
func (rt uringoRuntime) serve(ctx context.Context, j job.Job, up func(port, pid int), answer func(context.Context, *net.Conn) error) error {
	return rt.run(ctx, j.Tasks+1, func(ctx context.Context) error {
		l, err := net.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close(context.WithoutCancel(ctx))
		up(l.Addr().(*stdnet.TCPAddr).Port, 0)
		for {
			c, err := l.Accept(ctx)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
				defer c.Close(context.WithoutCancel(ctx))
				_ = answer(ctx, c) // the load says what it misses
				return struct{}{}, nil
			})
		}
	})
}

// uringosMulti are rows of the product whose servers iterate over what arrives, which is one multishot operation for each connection, with buffers
// that the kernel picks.
func uringosMulti() []Contender {
	var all []Contender
	for _, e := range executors() {
		rt := uringoRuntime{e.exec}
		all = append(all, Contender{Name: e.name + "-multi", Works: map[string]Measure{
			job.Echo:      underLoad(rt.echoOfChunks),
			job.Pipelined: underLoad(rt.echoOfChunks),
			job.Accept:    underLoad(rt.echoOfChunks),
		}})
	}
	return all
}

// echoOfChunks is echo in this form.
func (rt uringoRuntime) echoOfChunks(ctx context.Context, j job.Job, up func(port, pid int)) error {
	return rt.serve(ctx, j, up, func(ctx context.Context, c *net.Conn) error {
		for chunk, err := range c.Receives(ctx, nil) {
			if err == nil {
				_, _, err = c.WriteAll(ctx, chunk.Bytes())
				chunk.Release()
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// uringosInRing are rows of the product whose connections are in the ring's table, without descriptors.
func uringosInRing() []Contender {
	var all []Contender
	for _, e := range executors() {
		rt := uringoRuntime{e.exec}
		all = append(all, Contender{Name: e.name + "-ring", Works: map[string]Measure{
			job.Echo:   underLoad(rt.echoInRing),
			job.Accept: underLoad(rt.echoInRing),
		}})
	}
	return all
}

// echoInRing is echo in this form.
func (rt uringoRuntime) echoInRing(ctx context.Context, j job.Job, up func(port, pid int)) error {
	return rt.run(ctx, j.Tasks+1, func(ctx context.Context) error {
		l, err := net.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close(context.WithoutCancel(ctx))
		up(l.Addr().(*stdnet.TCPAddr).Port, 0)
		for {
			c, err := l.AcceptRing(ctx)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			if !c.InRing() {
				return errors.New("a connection is not in the ring's table")
			}
			executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
				defer c.Close(context.WithoutCancel(ctx))
				b := make([]byte, echoBuffer)
				for {
					n, _, err := c.Read(ctx, b)
					if err == nil {
						_, _, err = c.WriteAll(ctx, b[:n])
					}
					if err != nil {
						return struct{}{}, nil // the load says what it misses
					}
				}
			})
		}
	})
}

// hello is net/http on the product's listener: its goroutines are none of the executor's.
func (rt uringoRuntime) hello(ctx context.Context, j job.Job, up func(port, pid int)) error {
	return rt.run(ctx, j.Tasks+1, func(ctx context.Context) error {
		l, err := net.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		_, err = executor.Block(ctx, func() (struct{}, error) { return struct{}{}, serveHTTP(ctx, l.NetListener(), up) })
		return err
	})
}
