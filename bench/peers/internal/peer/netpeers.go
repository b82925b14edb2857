package peer

import (
	"bufio"
	"context"
	"fmt"
	"io"
	stdnet "net"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/panjf2000/gnet/v2"
	"go.uber.org/zap"

	"uringo/bench/peers/internal/job"
	"uringo/bench/peers/internal/testdir"
)

// echoBuffer is how much a server receives at a time.
const echoBuffer = 8192

// goNet is the standard library's net with a goroutine for every connection.
func goNet() Contender {
	return Contender{Name: "net", Works: map[string]Measure{
		job.Echo:      underLoad(netEcho),
		job.Pipelined: underLoad(netEcho),
		job.Accept:    underLoad(netEcho),
		job.Hello:     underLoad(netHello),
		job.SendFile:  underLoad(netSendFile),
	}}
}

func netEcho(ctx context.Context, _ job.Job, up func(port, pid int)) error {
	return netServe(ctx, up, func(c *stdnet.TCPConn) error {
		b := make([]byte, echoBuffer)
		for {
			n, err := c.Read(b)
			if err != nil {
				return err
			}
			if _, err := c.Write(b[:n]); err != nil {
				return err
			}
		}
	})
}

// netServe has serve answer on every connection, until the client ends it.
func netServe(ctx context.Context, up func(port, pid int), serve func(c *stdnet.TCPConn) error) error {
	l, err := stdnet.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	up(l.Addr().(*stdnet.TCPAddr).Port, 0)
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			_ = serve(c.(*stdnet.TCPConn)) // the load says what it misses
		}()
	}
}

// sentSize is how much of a file answers a request.
const sentSize = 16 << 20

func netSendFile(ctx context.Context, j job.Job, up func(port, pid int)) error {
	return netServe(ctx, up, func(c *stdnet.TCPConn) error {
		f, err := os.Open(testdir.Cached(j.Dir))
		if err != nil {
			return err
		}
		defer f.Close()
		request := make([]byte, 64)
		for {
			if _, err := io.ReadFull(c, request); err != nil {
				return err
			}
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return err
			}
			if _, err := io.CopyN(c, f, sentSize); err != nil {
				return err
			}
		}
	})
}

func netHello(ctx context.Context, _ job.Job, up func(port, pid int)) error {
	l, err := stdnet.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	return serveHTTP(ctx, l, up)
}

// cEcho is the server in C, in one of its modes.
func cEcho(mode string) Contender {
	s := func(ctx context.Context, j job.Job, up func(port, pid int)) error {
		if err := compile(ctx, j.Dir, "echo"); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, program(j.Dir, "echo"), mode)
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err == nil {
			var port int
			if port, err = strconv.Atoi(strings.TrimSpace(line)); err == nil {
				up(port, cmd.Process.Pid)
			}
		}
		if end := cmd.Wait(); ctx.Err() == nil {
			return fmt.Errorf("echo.c: %w, %v", end, err)
		}
		return nil
	}
	return Contender{Name: "c-" + mode, Works: map[string]Measure{
		job.Echo:      underLoad(s),
		job.Pipelined: underLoad(s),
		job.Accept:    underLoad(s),
	}}
}

// gNet is gnet, an event loop over epoll.
func gNet() Contender {
	return Contender{Name: "gnet", Works: map[string]Measure{
		job.Echo:      underLoad(gnetEcho),
		job.Pipelined: underLoad(gnetEcho),
		job.Accept:    underLoad(gnetEcho),
	}}
}

type gnetHandler struct {
	gnet.BuiltinEventEngine
	booted chan gnet.Engine
}

func (h *gnetHandler) OnBoot(e gnet.Engine) gnet.Action {
	h.booted <- e
	return gnet.None
}

func (h *gnetHandler) OnTraffic(c gnet.Conn) gnet.Action {
	b, err := c.Next(-1)
	if err != nil {
		return gnet.Close
	}
	if _, err := c.Write(b); err != nil {
		return gnet.Close
	}
	return gnet.None
}

func gnetEcho(ctx context.Context, _ job.Job, up func(port, pid int)) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	h := &gnetHandler{booted: make(chan gnet.Engine, 1)}
	ended := make(chan error, 1)
	go func() {
		ended <- gnet.Run(h, fmt.Sprintf("tcp://127.0.0.1:%d", port), gnet.WithMulticore(true), gnet.WithTCPNoDelay(gnet.TCPNoDelay),
			gnet.WithLogger(zap.NewNop().Sugar()))
	}()
	var e gnet.Engine
	select {
	case err := <-ended:
		return err
	case e = <-h.booted:
	}
	up(port, 0)
	<-ctx.Done()
	if err := e.Stop(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	return <-ended
}

// freePort is for a server that cannot say which port it got.
func freePort() (int, error) {
	l, err := stdnet.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*stdnet.TCPAddr).Port, nil
}
