package net_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"uringo/driver"
	"uringo/net"
)

// An HTTP server on a listener of this package, and a client that dials by it. The client keeps connections and makes some with contexts
// of its own, so its Dialer names the driver.
func ExampleDialer() {
	run := func() (err error) {
		d, err := driver.Open(driver.Config{})
		if err != nil {
			return err
		}
		ctx := driver.NewContext(context.Background(), d)
		defer func() { err = errors.Join(err, d.Close(ctx)) }() // the last of all: it ends what connections are left

		l, err := net.Listen(ctx, "tcp", "localhost:0")
		if err != nil {
			return err
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "hello "+r.URL.Path)
		})}
		served := make(chan error, 1)
		go func() { served <- server.Serve(l.NetListener()) }()

		dialer := &net.Dialer{Driver: d}
		transport := &http.Transport{DialContext: dialer.DialContext}
		client := &http.Client{Transport: transport}
		answer, err := client.Get("http://" + l.Addr().String() + "/world")
		if err != nil {
			return errors.Join(err, server.Close())
		}
		text, err := io.ReadAll(answer.Body)
		fmt.Printf("%s %v\n", text, err)

		err = errors.Join(answer.Body.Close(), server.Shutdown(ctx))
		transport.CloseIdleConnections()
		fmt.Println(<-served)
		return err
	}
	if err := run(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// hello /world <nil>
	// http: Server closed
}
