package net_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdnet "net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/net"
)

// An echoServer is to be measured under hostile peers: ours on an executor, or the same of the standard library.
type echoServer struct {
	name  string
	serve func(t *testing.T, clients func(addr string) error) error
}

func echoServers() []echoServer {
	std := echoServer{"standard library", func(t *testing.T, clients func(addr string) error) error {
		l, err := stdnet.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		var serving sync.WaitGroup
		serving.Go(func() { serveStd(l, &serving) })
		err = clients(l.Addr().String())
		l.Close()
		serving.Wait()
		return err
	}}
	all := []echoServer{std}
	for _, e := range []executor.Executor{executor.Goroutines(), executor.Workers(1), executor.Local()} {
		all = append(all, echoServer{fmt.Sprint(e), func(t *testing.T, clients func(addr string) error) error {
			return executor.Start(t.Context(), func(ctx context.Context) error {
				err := serveWhile(t, ctx, &net.Server{Handle: echoOrSend}, clients)
				if errors.Is(err, net.ErrClosed) {
					return nil
				}
				return err
			}, executor.WithExecutor(e), executor.WithDriver(driver.Config{}))
		}})
	}
	return all
}

// much is what a client gets that says 'm': more than anybody's buffers hold.
var much = make([]byte, 8<<20)

func echoOrSend(ctx context.Context, c *net.Conn, chunk driver.Chunk) error {
	if b := chunk.Bytes(); b[0] == 'm' {
		chunk.Release()
		_, _, err := c.WriteAll(ctx, much)
		return err
	}
	return echoChunk(ctx, c, chunk)
}

// serveStd is the same with the standard library: a goroutine for each connection.
func serveStd(l stdnet.Listener, serving *sync.WaitGroup) {
	var mu sync.Mutex
	open := map[stdnet.Conn]bool{}
	for {
		c, err := l.Accept()
		if errors.Is(err, unix.EMFILE) {
			time.Sleep(5 * time.Millisecond) // as net/http does, which waits longer each time
			continue
		}
		if err != nil {
			break
		}
		mu.Lock()
		open[c] = true
		mu.Unlock()
		serving.Go(func() {
			b := make([]byte, 4096)
			for {
				n, err := c.Read(b)
				if err == nil && b[0] == 'm' {
					_, err = c.Write(much)
				} else if err == nil {
					_, err = c.Write(b[:n])
				}
				if err != nil {
					break
				}
			}
			mu.Lock()
			delete(open, c)
			mu.Unlock()
			c.Close()
		})
	}
	mu.Lock()
	defer mu.Unlock()
	for c := range open {
		c.Close()
	}
}

// TestHostilePeers measures how long those wait who ask politely while others are hostile: some read nothing of what they asked for, some
// reset in the middle of it, some connect and never say anything, some want more connections than there are files. The same for the
// standard library.
func TestHostilePeers(t *testing.T) { // HAZARDS T27, T31
	for _, s := range echoServers() {
		t.Run(s.name, func(t *testing.T) {
			err := s.serve(t, func(addr string) error {
				for _, h := range []struct {
					name string
					act  func(addr string, polite func() error) error
				}{
					{"nobody", func(_ string, polite func() error) error { return polite() }},
					{"slow readers", slowReaders},
					{"resets", resets},
					{"silent connections", silent},
				} {
					var took []time.Duration
					err := h.act(addr, func() (err error) {
						took, _, err = askNowAndThen(addr, size(8, 50), size(4, 60), false)
						return err
					})
					if err != nil {
						return fmt.Errorf("%s: %w", h.name, err)
					}
					t.Logf("beside %s: p50 %v, p99 %v, at most %v", h.name, quantile(took, 0.5), quantile(took, 0.99), quantile(took, 1))
				}
				resumed, err := outOfFiles(t, addr)
				t.Logf("after files had run out, the next was accepted within %v", resumed)
				if resumed > time.Second {
					err = errors.Join(err, fmt.Errorf("served %v after there were files again", resumed))
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// many connects some times, says something on each, and closes them in the end. The polite are there before and after: what it takes to serve
// so many at once is theirs to wait for, too.
func many(addr string, n int, say string, polite func() error) error {
	var asking sync.WaitGroup
	var failed error
	asking.Go(func() { failed = polite() })
	time.Sleep(50 * time.Millisecond) // until they are connected
	var all []*stdnet.TCPConn
	var err error
	for len(all) < n && err == nil {
		var c *stdnet.TCPConn
		if c, err = dialStd(addr); err == nil {
			all = append(all, c)
			_, err = io.WriteString(c, say)
		}
	}
	asking.Wait()
	for _, c := range all {
		c.SetLinger(0)
		c.Close()
	}
	return errors.Join(err, failed)
}

func slowReaders(addr string, polite func() error) error {
	return many(addr, size(10, 200), "m", polite)
}

func silent(addr string, polite func() error) error { return many(addr, size(50, 1000), "", polite) }

// resets has peers that go in the middle of what they asked for, all the time.
func resets(addr string, polite func() error) error {
	stop := make(chan struct{})
	var hostile sync.WaitGroup
	var failed error
	hostile.Go(func() {
		for n := 1; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			c, err := dialStd(addr)
			if err != nil {
				failed = err
				return
			}
			_, _ = io.WriteString(c, "m") // it may be served or not
			_, _ = io.ReadFull(c, make([]byte, n*7%100_000))
			c.SetLinger(0)
			c.Close()
		}
	})
	err := polite()
	close(stop)
	hostile.Wait()
	return errors.Join(err, failed)
}

// outOfFiles has a connection wait that cannot be accepted, because the process may open no more files, and returns how long it took to be
// served once it might, on a machine that is never late.
func outOfFiles(t *testing.T, addr string) (time.Duration, error) {
	waiting, err := dialStd(addr) // has a descriptor already, but so needs its server
	if err != nil {
		return 0, err
	}
	defer waiting.Close()
	if _, err := waiting.Write([]byte("x")); err != nil {
		return 0, err
	}
	if _, err := waiting.Read(make([]byte, 1)); err != nil {
		return 0, err
	}
	late, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(late)
	at, err := stdnet.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return 0, err
	}
	restore := fewFiles(t)
	err = unix.Connect(late, &unix.SockaddrInet4{Port: at.Port, Addr: at.AddrPort().Addr().As4()})
	if err == nil {
		_, err = unix.Write(late, []byte("x"))
	}
	time.Sleep(time.Duration(size(100, 1500)) * time.Millisecond)
	restore()
	if err != nil {
		return 0, err
	}
	began, delays := time.Now(), testenv.Delays()
	_, err = unix.Read(late, make([]byte, 1))
	took := time.Since(began)
	return took - delays(), err
}
