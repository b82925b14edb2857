// Httpserver answers HTTP requests: package net/http as it is, on a listener of io_uring.
//
//	go run ./examples/httpserver [ADDRESS]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"uringo/driver"
	"uringo/net"
)

func main() {
	address := "localhost:8080"
	switch len(os.Args) {
	case 1:
	case 2:
		address = os.Args[1]
	default:
		fmt.Fprintln(os.Stderr, "usage: httpserver [ADDRESS]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second one ends the program
	if err := run(ctx, address, log.Printf); err != nil {
		log.Fatal(err)
	}
}

// handler greets, and echoes JSON.
func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello/{name}", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"hello": r.PathValue("name")})
	})
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		var v any
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&v); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(v)
	})
	return mux
}

// run serves at address until ctx ends, and finishes what is being served then.
func run(ctx context.Context, address string, logf func(format string, args ...any)) error {
	d, err := driver.Open(driver.Config{})
	if err != nil {
		return err
	}
	defer d.Close(context.WithoutCancel(ctx))
	// What net/http does with connections is not to end with ctx, but when it has shut down.
	background := driver.NewContext(context.WithoutCancel(ctx), d)

	l, err := net.Listen(background, "tcp", address)
	if err != nil {
		return err
	}
	logf("listening on %s", l.Addr())
	// Who sends slowly, or nothing, does not keep a connection for ever.
	server := &http.Server{Handler: handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l.NetListener()) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(background, 10*time.Second)
	defer cancel()
	err = server.Shutdown(limit)
	if end := <-served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return err
}
