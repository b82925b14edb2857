package net_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	stdnet "net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"
	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/net"
)

// TestNetConn is the standard library's own test of connections. Its goroutines know nothing of tasks.
func TestNetConn(t *testing.T) {
	networks := []string{"tcp", "unix"}
	if testing.Short() {
		networks = networks[:1]
	}
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			each(t, func(t *testing.T, ctx context.Context) {
				_, err := executor.Block(ctx, func() (struct{}, error) {
					nettest.TestConn(t, func() (c1, c2 stdnet.Conn, stop func(), err error) {
						a, b := connect(t, ctx, network)
						if a == nil || b == nil {
							return nil, nil, nil, errors.New("no connection")
						}
						c1, c2 = a.NetConn(), b.NetConn()
						return c1, c2, func() { c1.Close(); c2.Close() }, nil
					})
					return struct{}{}, nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// makers make connected pairs: ours, and the standard library's to compare with.
type maker func(t *testing.T, ctx context.Context, network string) (c, s stdnet.Conn)

func ours(t *testing.T, ctx context.Context, network string) (c, s stdnet.Conn) {
	a, b := connect(t, ctx, network)
	if a == nil || b == nil {
		return nil, nil
	}
	return a.NetConn(), b.NetConn()
}

func theirs(t *testing.T, ctx context.Context, network string) (c, s stdnet.Conn) {
	address := "127.0.0.1:0"
	if network == "unix" {
		address = t.TempDir() + "/socket"
	}
	l, err := stdnet.Listen(network, address)
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	defer l.Close()
	if c, err = stdnet.Dial(network, l.Addr().String()); err == nil {
		s, err = l.Accept()
	}
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	return c, s
}

// outcome describes what a call returned, so that it can be compared with the standard library's.
func outcome(what string, n int, err error) string {
	text := fmt.Sprintf("%s: %d, ", what, n)
	if err == nil || err == io.EOF {
		return text + fmt.Sprint(err)
	}
	var op *net.OpError
	if !errors.As(err, &op) {
		return text + fmt.Sprintf("%T %v", err, err)
	}
	text += fmt.Sprintf("%s %s timeout=%v temporary=%v", op.Op, op.Net, op.Timeout(), op.Temporary())
	for _, known := range []error{net.ErrClosed, os.ErrDeadlineExceeded, syscall.EPIPE, syscall.ECONNRESET} {
		text += fmt.Sprintf(" %v", errors.Is(err, known))
	}
	return text
}

// behaviours are what one can do with connections that is not obvious. Each returns what it saw.
var behaviours = map[string]func(c, s stdnet.Conn) []string{
	"empty buffers": func(c, s stdnet.Conn) (seen []string) {
		n, err := c.Read(nil)
		seen = append(seen, outcome("read", n, err))
		n, err = c.Write(nil)
		seen = append(seen, outcome("write", n, err))
		s.Close()
		n, err = c.Read([]byte{})
		seen = append(seen, outcome("read at the end", n, err))
		c.Close()
		n, err = c.Read(nil)
		seen = append(seen, outcome("read after close", n, err))
		n, err = c.Write(nil)
		return append(seen, outcome("write after close", n, err))
	},
	"half close": func(c, s stdnet.Conn) (seen []string) {
		type half interface {
			CloseWrite() error
			CloseRead() error
		}
		c.Write([]byte("last"))
		seen = append(seen, outcome("close write", 0, c.(half).CloseWrite()))
		buf := make([]byte, 10)
		n, err := io.ReadFull(s, buf[:4])
		seen = append(seen, outcome("read", n, err))
		n, err = s.Read(buf)
		seen = append(seen, outcome("read at the end", n, err))
		n, err = c.Write(buf)
		seen = append(seen, outcome("write after close write", n, err))
		n, err = s.Write([]byte("answer"))
		seen = append(seen, outcome("write to the half-closed", n, err))
		n, err = io.ReadFull(c, buf[:6])
		seen = append(seen, outcome("read the answer", n, err))
		seen = append(seen, outcome("close read", 0, c.(half).CloseRead()))
		n, err = c.Read(buf)
		return append(seen, outcome("read after close read", n, err))
	},
	"closed": func(c, s stdnet.Conn) (seen []string) {
		seen = append(seen, outcome("close", 0, c.Close()))
		seen = append(seen, outcome("close", 0, c.Close()))
		n, err := c.Read(make([]byte, 1))
		seen = append(seen, outcome("read", n, err))
		n, err = c.Write(make([]byte, 1))
		seen = append(seen, outcome("write", n, err))
		seen = append(seen, outcome("deadline", 0, c.SetDeadline(time.Now())))
		_, err = c.(syscall.Conn).SyscallConn()
		seen = append(seen, outcome("syscall conn", 0, err))
		n, err = s.Read(make([]byte, 1))
		return append(seen, outcome("read of the peer", n, err))
	},
	"past deadline": func(c, s stdnet.Conn) (seen []string) {
		s.Write([]byte("there"))
		c.SetReadDeadline(time.Now().Add(-time.Second))
		n, err := c.Read(make([]byte, 10))
		seen = append(seen, outcome("read", n, err))
		n, err = c.Write([]byte("x"))
		seen = append(seen, outcome("write", n, err))
		c.SetReadDeadline(time.Time{})
		n, err = io.ReadFull(c, make([]byte, 5))
		seen = append(seen, outcome("read without", n, err))
		c.SetWriteDeadline(time.Unix(1, 0))
		n, err = c.Write([]byte("x"))
		seen = append(seen, outcome("write", n, err))
		n, err = c.Write(nil)
		return append(seen, outcome("write nothing", n, err))
	},
	"deadline set while waiting": func(c, s stdnet.Conn) (seen []string) {
		time.AfterFunc(10*time.Millisecond, func() { c.SetReadDeadline(time.Now()) })
		n, err := c.Read(make([]byte, 10))
		return append(seen, outcome("read", n, err))
	},
	"deadline moved while waiting": func(c, s stdnet.Conn) (seen []string) {
		c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		c.SetReadDeadline(time.Now().Add(time.Hour))
		time.AfterFunc(30*time.Millisecond, func() { s.Write([]byte("later")) })
		n, err := c.Read(make([]byte, 10))
		return append(seen, outcome("read", n, err))
	},
	"deadline of a write that waits": func(c, s stdnet.Conn) (seen []string) {
		type buffers interface {
			SetReadBuffer(int) error
			SetWriteBuffer(int) error
		}
		s.(buffers).SetReadBuffer(16 << 10)
		c.(buffers).SetWriteBuffer(16 << 10)
		much := make([]byte, 4<<20)
		var n int
		var err error
		for tries := 0; n == 0 && tries < 20; tries++ { // a busy machine may leave no time to write any of it
			c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			n, err = c.Write(much)
		}
		return append(seen, outcome("write", min(n, 1), err))
	},
	"close while waiting": func(c, s stdnet.Conn) (seen []string) {
		time.AfterFunc(10*time.Millisecond, func() { c.Close() })
		n, err := c.Read(make([]byte, 10))
		return append(seen, outcome("read", n, err))
	},
	"write to the gone": func(c, s stdnet.Conn) (seen []string) {
		s.Close()
		var err error
		for err == nil {
			_, err = c.Write(make([]byte, 1000))
		}
		err = errors.Join(err) // EPIPE or ECONNRESET, as it happens
		gone := errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
		return append(seen, fmt.Sprint("gone ", gone))
	},
	"raw access": func(c, s stdnet.Conn) (seen []string) {
		raw, err := c.(syscall.Conn).SyscallConn()
		if err != nil {
			return append(seen, err.Error())
		}
		// As drivers of databases look whether a connection of their pool is alive.
		err = raw.Read(func(fd uintptr) bool {
			n, err := syscall.Read(int(fd), make([]byte, 1))
			seen = append(seen, fmt.Sprint("nothing there: ", n, " ", err))
			return true
		})
		seen = append(seen, outcome("raw read", 0, err))
		tries := 0
		err = raw.Read(func(fd uintptr) bool {
			n, err := syscall.Read(int(fd), make([]byte, 1))
			if tries++; tries == 1 {
				time.AfterFunc(10*time.Millisecond, func() { s.Write([]byte("x")) })
			}
			return n == 1 && err == nil
		})
		seen = append(seen, outcome(fmt.Sprint("raw read that waits ", tries > 1), 0, err))
		c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		err = raw.Read(func(fd uintptr) bool { return false })
		seen = append(seen, outcome("raw read with a deadline", 0, err))
		err = raw.Write(func(fd uintptr) bool { return true })
		seen = append(seen, outcome("raw write", 0, err))
		c.Close()
		err = raw.Control(func(uintptr) {})
		return append(seen, outcome("control after close", 0, err))
	},
	"concurrent writes": func(c, s stdnet.Conn) (seen []string) {
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() { c.Write([]byte(strings.Repeat(string(rune('a'+i)), 100_000))) })
		}
		go func() { wg.Wait(); c.Close() }()
		all, err := io.ReadAll(s)
		switches := 0
		for i := 1; i < len(all); i++ {
			if all[i] != all[i-1] {
				switches++
			}
		}
		return append(seen, fmt.Sprint(len(all), " bytes in ", switches+1, " runs ", err))
	},
}

// TestLikeNet compares adapters with the standard library, behaviour by behaviour.
func TestLikeNet(t *testing.T) {
	for name, behave := range behaviours {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			for _, network := range []string{"tcp", "unix"} {
				see := func(t *testing.T, ctx context.Context, make maker) (seen []string) {
					c, s := make(t, ctx, network)
					if c == nil || s == nil {
						return nil
					}
					seen = behave(c, s)
					c.Close()
					s.Close()
					return seen
				}
				want := see(t, t.Context(), theirs)
				each(t, func(t *testing.T, ctx context.Context) {
					got, err := executor.Block(ctx, func() ([]string, error) { return see(t, ctx, ours), nil })
					if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
						t.Errorf("%s:\n%s\nwant\n%s\n%v", network, strings.Join(got, "\n"), strings.Join(want, "\n"), err)
					}
				})
			}
		})
	}
}

// TestNetConnInTask uses adapters from tasks: they wait in the way of the executor, so one worker serves both ends.
func TestNetConnInTask(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		c, s := ours(t, ctx, "tcp")
		if c == nil {
			return
		}
		err := together(ctx, func(context.Context) error {
			_, err := io.Copy(s, s)
			return errors.Join(err, s.Close())
		}, func(context.Context) error {
			for i := range 20 {
				if _, err := c.Write([]byte{byte(i)}); err != nil {
					return err
				}
				buf := make([]byte, 1)
				if _, err := io.ReadFull(c, buf); err != nil || buf[0] != byte(i) {
					return fmt.Errorf("got %d, %w", buf[0], err)
				}
			}
			if err := c.SetReadDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
				return err
			}
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				return fmt.Errorf("Read: %w", err)
			}
			return c.Close()
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestNetListener compares a listener with the standard library's.
func TestNetListener(t *testing.T) {
	behave := func(l stdnet.Listener) (seen []string) {
		type deadliner interface{ SetDeadline(time.Time) error }
		err := l.(deadliner).SetDeadline(time.Now().Add(5 * time.Millisecond))
		seen = append(seen, outcome("deadline", 0, err))
		_, err = l.Accept()
		seen = append(seen, outcome("accept", 0, err))
		err = l.(deadliner).SetDeadline(time.Time{})
		seen = append(seen, outcome("deadline", 0, err))
		c, err := stdnet.Dial(l.Addr().Network(), l.Addr().String())
		seen = append(seen, outcome("dial", 0, err))
		s, err := l.Accept()
		seen = append(seen, outcome("accept", 0, err))
		s.Close()
		c.Close()
		time.AfterFunc(5*time.Millisecond, func() { l.Close() })
		_, err = l.Accept()
		seen = append(seen, outcome("accept", 0, err))
		_, err = l.Accept()
		seen = append(seen, outcome("accept", 0, err))
		return append(seen, outcome("close", 0, l.Close()))
	}
	std, err := stdnet.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	want := behave(std)
	each(t, func(t *testing.T, ctx context.Context) {
		l := listenOn(t, ctx, "tcp")
		if l == nil {
			return
		}
		got, err := executor.Block(ctx, func() ([]string, error) { return behave(l.NetListener()), nil })
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("\n%s\nwant\n%s\n%v", strings.Join(got, "\n"), strings.Join(want, "\n"), err)
		}
	})
}

// TestAdapterFiles has adapters hand out descriptors, as libraries ask those of the standard library to do that pass sockets on to another process,
// and size the buffers of a socket for datagrams.
func TestAdapterFiles(t *testing.T) {
	type filer interface{ File() (*os.File, error) }
	each(t, func(t *testing.T, ctx context.Context) {
		l, p := listenOn(t, ctx, "tcp"), listenPacket(t, ctx, "udp")
		c, s := connect(t, ctx, "tcp")
		if l == nil || p == nil || c == nil {
			return
		}
		defer closeAll(t, ctx, s)
		packets := p.NetPacketConn()
		sized, ok := packets.(bufferSizer)
		if !ok {
			t.Error("the buffers of datagrams have no size")
			return
		}
		if err := errors.Join(sized.SetReadBuffer(64<<10), sized.SetWriteBuffer(64<<10)); err != nil {
			t.Error(err)
		}
		for opt, name := range map[int]string{unix.SO_RCVBUF: "read", unix.SO_SNDBUF: "write"} {
			if n, err := unix.GetsockoptInt(int(p.Fd()), unix.SOL_SOCKET, opt); n != 2*64<<10 || err != nil {
				t.Errorf("%s buffer: %d, %v", name, n, err)
			}
		}
		for _, a := range []io.Closer{l.NetListener(), packets, c.NetConn()} {
			has, ok := a.(filer)
			if !ok {
				t.Errorf("%T has no File", a)
				return
			}
			f, err := has.File()
			if err != nil {
				t.Error(err)
				return
			}
			if err := a.Close(); err != nil {
				t.Error(err)
			}
			if _, err := has.File(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%T after Close: %v", a, err)
			}
			// The socket is there as long as its file.
			again, err := fromFile(f)
			if err == nil {
				err = again.Close()
			}
			if err := errors.Join(err, f.Close()); err != nil {
				t.Errorf("%T: %v", a, err)
			}
		}
	})
}

// fromFile makes what the standard library has for the socket of a file.
func fromFile(f *os.File) (io.Closer, error) {
	if l, err := stdnet.FileListener(f); err == nil {
		return l, nil
	}
	if c, err := stdnet.FileConn(f); err == nil {
		return c, nil
	}
	return stdnet.FilePacketConn(f)
}

type bufferSizer interface {
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
}

// TestHTTP serves and asks over our connections, plain and with TLS, which speaks HTTP/2.
func TestHTTP(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		_, err := executor.Block(ctx, func() (struct{}, error) {
			return struct{}{}, errors.Join(serveAndAsk(ctx, false), serveAndAsk(ctx, true))
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func serveAndAsk(ctx context.Context, secure bool) error {
	d, err := driver.FromContext(ctx)
	if err != nil {
		return err
	}
	l, err := net.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body) // the client will find what is missing
	}))
	srv.Listener.Close()
	srv.Listener = l.NetListener()
	srv.EnableHTTP2 = true
	scheme := "http"
	if secure {
		scheme = "https"
		srv.StartTLS()
	} else {
		srv.Start()
	}
	defer srv.Close()
	transport := &http.Transport{
		DialContext:       (&net.Dialer{Driver: d}).DialContext,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: true,
	}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport}
	longer := 1000
	if testing.Short() {
		longer = 100
	}
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			for j := range 5 {
				body := strings.Repeat("good morning", 1+longer*i*j)
				resp, err := client.Post(scheme+"://"+l.Addr().String(), "text/plain", strings.NewReader(body))
				if err != nil {
					errs[i] = err
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(got) != body || secure && resp.ProtoMajor != 2 {
					errs[i] = fmt.Errorf("%d bytes over HTTP/%d, %w", len(got), resp.ProtoMajor, err)
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// TestDialerDriver dials with a context that knows no driver, and with one that knows another.
func TestDialerDriver(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		l := listenOn(t, ctx, "tcp")
		if l == nil {
			return
		}
		defer l.Close(ctx)
		other, err := driver.Open(driver.Config{Engine: driver.Portable})
		if err != nil {
			t.Error(err)
			return
		}
		defer other.Close(context.WithoutCancel(ctx))
		d := net.Dialer{Driver: other}
		for _, ctx := range []context.Context{context.Background(), ctx} {
			c, err := d.DialContext(ctx, "tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
				continue
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestCloseReadBehindArrival has something arrive, and receiving shut down, just after somebody has found nothing: what had arrived is received
// before the end.
func TestCloseReadBehindArrival(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		for _, network := range []string{"tcp", "unix"} {
			c, s := connect(t, ctx, network)
			if c == nil {
				return
			}
			raw, err := s.NetConn().(syscall.Conn).SyscallConn()
			if err != nil {
				t.Error(err)
				return
			}
			var b [2]byte
			n, calls := 0, 0
			err = raw.Read(func(fd uintptr) bool {
				if calls++; calls > 1 {
					n, err = unix.Read(int(fd), b[:])
					return err != unix.EAGAIN
				}
				if _, err := unix.Write(int(c.Fd()), []byte{7}); err != nil {
					t.Errorf("%s: %v", network, err)
				}
				arrived := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
				for k := 0; k <= 0; k, _ = unix.Poll(arrived, 1000) {
				}
				if err := s.CloseRead(); err != nil {
					t.Errorf("%s: %v", network, err)
				}
				return false // it had looked before
			})
			if err != nil || n != 1 || b[0] != 7 {
				t.Errorf("%s: %d bytes after %d calls, %v", network, n, calls, err)
			}
			closeAll(t, ctx, c, s)
		}
	})
}
