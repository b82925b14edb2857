package net_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	stdnet "net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/rpc"
	"net/url"
	"sync"
	"testing"

	"uringo/driver"
	"uringo/executor"
	"uringo/net"
)

// TestHijack has the standard library's reverse proxy in the middle of a connection that stops to speak HTTP, as those of WebSockets do: each end
// closes its half when it has sent all, and the other learns of it through all of them. Plain, and with TLS.
func TestHijack(t *testing.T) { // HAZARDS T31
	each(t, func(t *testing.T, ctx context.Context) {
		_, err := executor.Block(ctx, func() (struct{}, error) {
			var errs []error
			for _, secure := range []bool{false, true} {
				for _, first := range []string{"client", "server"} {
					if err := hijack(ctx, secure, first); err != nil {
						errs = append(errs, fmt.Errorf("TLS %v, the %s ends first: %w", secure, first, err))
					}
				}
			}
			return struct{}{}, errors.Join(errs...)
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// closeWriter is what connections with halves have.
type closeWriter interface{ CloseWrite() error }

func hijack(ctx context.Context, secure bool, first string) error {
	d, err := driver.FromContext(ctx)
	if err != nil {
		return err
	}
	up, down := noise(300_000), noise(500_000)
	var served sync.WaitGroup
	var serveErr error
	served.Add(1)
	back, err := serveHTTP(ctx, secure, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer served.Done()
		serveErr = func() error {
			c, rw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n"); err != nil {
				return err
			}
			return speak(c, rw.Reader, down, up, first == "server")
		}()
	}))
	if err != nil {
		return err
	}
	defer back.Close()
	transport := &http.Transport{DialContext: (&net.Dialer{Driver: d}).DialContext, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	to, err := url.Parse(back.URL)
	if err != nil {
		return err
	}
	front, err := serveHTTP(ctx, secure, &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport: transport,
	})
	if err != nil {
		return err
	}
	defer front.Close()
	c, err := (&net.Dialer{Driver: d}).DialContext(context.Background(), "tcp", front.Listener.Addr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	if secure {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n"); err != nil {
		return err
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("status %s", resp.Status)
	}
	err = speak(c, r, up, down, first == "client")
	served.Wait()
	return errors.Join(err, serveErr)
}

// speak sends out and expects in. Who is first ends its half as soon as all is sent, the other when it has received all.
func speak(c stdnet.Conn, r io.Reader, out, in []byte, first bool) error {
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(c, bytes.NewReader(out))
		if first && err == nil {
			err = c.(closeWriter).CloseWrite()
		}
		sent <- err
	}()
	got := make([]byte, len(in))
	n, err := io.ReadFull(r, got)
	if err != nil || !bytes.Equal(got, in) {
		return fmt.Errorf("%d bytes of %d: %w", n, len(in), err)
	}
	if err := <-sent; err != nil {
		return err
	}
	if !first {
		if n, err := r.Read(got); n != 0 || err != io.EOF {
			return fmt.Errorf("at the end: %d, %w", n, err)
		}
		return c.(closeWriter).CloseWrite()
	}
	if n, err := r.Read(got); n != 0 || err != io.EOF {
		return fmt.Errorf("at the other's end: %d, %w", n, err)
	}
	return nil
}

// serveHTTP starts a server on a connection of ours.
func serveHTTP(ctx context.Context, secure bool, h http.Handler) (*httptest.Server, error) {
	l, err := net.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	srv := httptest.NewUnstartedServer(h)
	srv.Listener.Close()
	srv.Listener = l.NetListener()
	if secure {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	return srv, nil
}

// Adder is a service of net/rpc.
type Adder struct{}

// Add adds.
func (Adder) Add(args [2]int, sum *int) error {
	*sum = args[0] + args[1]
	return nil
}

// TestRPC has many calls at a time over one connection, which both ends read and write by goroutines of their own, through bufio and gob.
func TestRPC(t *testing.T) {
	srv := rpc.NewServer()
	if err := srv.Register(Adder{}); err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, ctx context.Context) {
		_, err := executor.Block(ctx, func() (struct{}, error) {
			c, s := ours(t, ctx, "unix")
			if c == nil {
				return struct{}{}, nil
			}
			var served sync.WaitGroup
			served.Go(func() { srv.ServeConn(s) })
			client := rpc.NewClient(c)
			calls := make(chan *rpc.Call, 200)
			for i := range cap(calls) {
				client.Go("Adder.Add", [2]int{i, 1000}, new(int), calls)
			}
			for range cap(calls) {
				call := <-calls
				if args := call.Args.([2]int); call.Error != nil || *call.Reply.(*int) != args[0]+1000 {
					return struct{}{}, fmt.Errorf("%v: %d, %w", args, *call.Reply.(*int), call.Error)
				}
			}
			err := client.Close()
			served.Wait()
			return struct{}{}, err
		})
		if err != nil {
			t.Error(err)
		}
	})
}
