package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// OutOfFiles connects to an echo server while the program may open no more files: it must go on when it may again. serve serves until its ctx ends,
// and says where it listens, and what goes wrong.
func OutOfFiles(t *testing.T, serve func(ctx context.Context, logf func(format string, args ...any)) error) {
	t.Helper()
	LimitFiles(t, 256)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	said := make(chan string, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- serve(ctx, func(format string, args ...any) { said <- fmt.Sprintf(format, args...) })
	}()
	wait := func(part string) string {
		t.Helper()
		for {
			select {
			case line := <-said:
				if strings.Contains(line, part) {
					return line
				}
			case err := <-ended:
				t.Fatal(err)
			}
		}
	}
	address := strings.TrimPrefix(wait("listening on "), "listening on ")

	var giveBack func()
	dialer := net.Dialer{Control: func(_, _ string, _ syscall.RawConn) error { // the client has its file, and connects next
		giveBack = TakeFiles(t)
		return nil
	}}
	c, err := dialer.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	wait("too many open files")
	giveBack()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Errorf("%q came back, %v", got, err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

// LimitFiles lets the process have n open files until the test ends. Operations of the ring go by the limit at the time when they were
// submitted.
func LimitFiles(t testing.TB, n uint64) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	limit := old
	limit.Cur = n
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &old, nil); err != nil {
			t.Error(err)
		}
	})
}

// TakeFiles opens files until there may be no more. The function that it returns, or the end of the test, closes them.
func TakeFiles(t testing.TB) (giveBack func()) {
	t.Helper()
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	taken := []int{null}
	giveBack = sync.OnceFunc(func() {
		for _, fd := range taken {
			_ = unix.Close(fd)
		}
	})
	t.Cleanup(giveBack)
	for {
		fd, err := unix.FcntlInt(uintptr(null), unix.F_DUPFD_CLOEXEC, 0)
		if err == unix.EMFILE {
			return giveBack
		}
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, fd)
	}
}
