package ops_test

import (
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
	"uringo/internal/testenv"
	"uringo/ops"
)

// triedSeldom makes a call that has to wait, and sees that it is tried no more than so many times and once for each pause. What becomes of it comes over
// the channel.
func triedSeldom(t *testing.T, most int32, e *ring.SQE, try func(*ring.SQE) int32, wants func(*ring.SQE) (int32, int16)) <-chan int32 {
	t.Helper()
	var tries atomic.Int32
	got := make(chan int32)
	begin := time.Now()
	go func() {
		got <- ops.UntilDone(e, func(e *ring.SQE) int32 { tries.Add(1); return try(e) }, wants, nil)
	}()
	time.Sleep(50 * time.Millisecond)
	n := tries.Load()
	if most += int32(time.Since(begin) / ring.ErrorPause); n > most {
		t.Errorf("tried %d times, more than %d", n, most)
	}
	return got
}

// A call that waits is not made over and over while its descriptor is in error, of which it does not tell.
func TestCallsWaitForWhatIsInError(t *testing.T) {
	fd, addr := testenv.ErrorQueued(t)
	buf := make([]byte, 8)
	op := ops.Recv(fd, buf, 0)
	e := new(ring.SQE)
	op.Prepare(e)
	got := triedSeldom(t, 10, e, ops.TryRecvCall, ops.WantsRecv)
	from, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(from)
	if err := unix.Sendto(from, []byte("news"), 0, addr); err != nil {
		t.Fatal(err)
	}
	if n := <-got; n != 4 || string(buf[:4]) != "news" {
		t.Errorf("received %d, %q", n, buf)
	}
	runtime.KeepAlive(&op)
}

// Nor is one made over and over whose descriptor is ready for something else: the socket has room, the peer's queue has not.
func TestCallsWaitForOtherReadiness(t *testing.T) {
	at, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(at)
	to := &unix.SockaddrUnix{Name: filepath.Join(t.TempDir(), "s")}
	if err := unix.Bind(at, to); err != nil {
		t.Fatal(err)
	}
	from, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(from)
	for err == nil {
		err = unix.Sendto(from, []byte("x"), unix.MSG_DONTWAIT, to)
	}
	op := ops.SendMsg(from, [][]byte{[]byte("news")}, nil, to, 0)
	e := new(ring.SQE)
	op.Prepare(e)
	got := triedSeldom(t, 100, e, ops.TrySendmsgCall, ops.WantsSend)
	if _, err := unix.Read(at, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if n := <-got; n != 4 {
		t.Errorf("sent %d", n)
	}
	runtime.KeepAlive(&op)
}
