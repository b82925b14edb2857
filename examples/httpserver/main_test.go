package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestServer(t *testing.T) {
	dir := t.TempDir()
	want := strings.Repeat("a file of some size\n", 50_000)
	if err := os.WriteFile(filepath.Join(dir, "file.txt"), []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	where := make(chan string, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, "127.0.0.1:0", dir, func(format string, args ...any) {
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
	defer client.CloseIdleConnections()
	for range 3 {
		r, err := client.Get("http://" + address + "/file.txt")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r.Body)
		r.Body.Close()
		if string(got) != want || r.StatusCode != http.StatusOK || err != nil {
			t.Errorf("%s, %d bytes of %d, %v", r.Status, len(got), len(want), err)
		}
	}
	r, err := client.Get("http://" + address + "/missing")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusNotFound {
		t.Errorf("a missing file: %s", r.Status)
	}
	client.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
