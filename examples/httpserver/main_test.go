package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"uringo/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m, main, "127.0.0.1:0") }

func TestServer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	where := make(chan string, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, "127.0.0.1:0", func(format string, args ...any) {
			where <- strings.TrimPrefix(fmt.Sprintf(format, args...), "listening on ")
		})
	}()
	var address string
	select {
	case address = <-where:
	case err := <-ended:
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	ask := func(method, path, body string, status int, want string) {
		t.Helper()
		req, err := http.NewRequest(method, "http://"+address+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		got, err := io.ReadAll(r.Body)
		if r.StatusCode != status || err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%s %s: %s, %q, %v", method, path, r.Status, got, err)
		}
	}
	ask("GET", "/hello/gopher", "", http.StatusOK, `{"hello":"gopher"}`)
	ask("POST", "/echo", `[1, {"a": null}]`, http.StatusOK, `[1,{"a":null}]`)
	ask("POST", "/echo", `{`, http.StatusBadRequest, "unexpected EOF")
	ask("GET", "/missing", "", http.StatusNotFound, "not found")
	client.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestInterruptedTwice has somebody who is in a hurry end the server.
func TestInterruptedTwice(t *testing.T) {
	testenv.EndsAtOnce(t, t.TempDir(), "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n")
}
