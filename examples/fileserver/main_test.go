package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"uringo/fs"
	"uringo/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m, main, "127.0.0.1:0") }

func TestServer(t *testing.T) {
	out := t.TempDir()
	dir := filepath.Join(out, "served")
	err := errors.Join(os.MkdirAll(filepath.Join(dir, "sub"), 0o700), os.WriteFile(filepath.Join(out, "secret"), nil, 0o600),
		os.Symlink("../../secret", filepath.Join(dir, "sub", "link")), os.WriteFile(filepath.Join(dir, "index.html"), []byte("hello"), 0o600),
		syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600), os.WriteFile(filepath.Join(dir, "locked"), nil, 0))
	if err != nil {
		t.Fatal(err)
	}
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
	locked := http.StatusForbidden
	if os.Geteuid() == 0 {
		locked = http.StatusOK
	}
	for path, want := range map[string]int{
		"/":                               http.StatusOK,
		"/locked":                         locked,
		"/file.txt/":                      http.StatusNotFound,
		"/" + strings.Repeat("long", 100): http.StatusNotFound,
		"/missing":                        http.StatusNotFound,
		"/..%2fsecret":                    http.StatusNotFound,
		"/sub":                            http.StatusNotFound,
		"/sub/link":                       http.StatusNotFound, // leads out of the directory
		"/sub/../file.txt":                http.StatusOK,
		"/file.txt%00":                    http.StatusNotFound,
		"/fifo":                           http.StatusNotFound,
	} {
		r, err := client.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("%s: %s", path, r.Status)
		}
	}
	client.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestStatus tells what is not there from what may not be had, and both from what went wrong.
func TestStatus(t *testing.T) {
	for errno, want := range map[syscall.Errno]int{
		syscall.ENOENT:  http.StatusNotFound,
		syscall.ENOTDIR: http.StatusNotFound,
		syscall.ELOOP:   http.StatusNotFound,
		syscall.EXDEV:   http.StatusNotFound,
		syscall.ENXIO:   http.StatusNotFound,
		syscall.EACCES:  http.StatusForbidden,
		syscall.EPERM:   http.StatusForbidden,
		syscall.EIO:     http.StatusInternalServerError,
		syscall.EMFILE:  http.StatusInternalServerError,
	} {
		w := httptest.NewRecorder()
		refuse(w, &fs.PathError{Op: "open", Path: "/srv/its name", Err: errno})
		if w.Code != want || strings.Contains(w.Body.String(), "its name") {
			t.Errorf("%v: %d %q, want %d", errno, w.Code, w.Body, want)
		}
	}
}

// TestInterruptedTwice has somebody who is in a hurry end the server.
func TestInterruptedTwice(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "long")
	if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, 1<<30)); err != nil {
		t.Fatal(err)
	}
	testenv.EndsAtOnce(t, dir, "GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
}
