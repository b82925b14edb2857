package net_test

import (
	"context"
	"errors"
	"fmt"
	stdnet "net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/testenv"
	"uringo/net"
)

// apartVar is set in the process that apart starts.
const apartVar = "URINGO_NET_TEST_APART"

// apart runs the test that calls it in a process with a network of its own, and reports whether this is that process. The network has
// a loopback interface alone.
func apart(t *testing.T) bool {
	t.Helper()
	if os.Getenv(apartVar) != "" {
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, for a network of its own")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=1h")
	cmd.Env = testenv.Environ(apartVar + "=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skipf("needs a network of its own: %v", err)
	}
	text := strings.TrimSpace(string(out))
	if testing.Verbose() || err != nil {
		t.Log(text)
	}
	switch {
	case err != nil:
		t.Error(err)
	case strings.Contains(text, "--- SKIP: "+t.Name()+" "):
		t.Skip("in its process")
	}
	return false
}

// ip configures the network of this process. Tests skip without the program.
func ip(t *testing.T, args string) {
	t.Helper()
	if err := ipCommand(t, args); errors.Is(err, exec.ErrNotFound) {
		t.Skip("needs iproute2")
	} else if err != nil {
		t.Fatal(err)
	}
}

// ipCommand configures the network of the calling thread.
func ipCommand(t *testing.T, args string) error {
	out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(args)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", args, err, out)
	}
	return nil
}

// dials is a way to dial, which ends in one of the given errors.
type dials struct {
	name, network, address string
	patience               time.Duration // the most that a dial may take; 0 for no limit
	errs                   []error
}

// TestConnectFails dials where nobody is, where nothing leads to, where nothing comes back from, and where there is no room: again and
// again, on every executor. The errors are the kernel's, and no descriptor is left over, which each sees to.
func TestConnectFails(t *testing.T) { // HAZARDS T24, M4
	if !apart(t) {
		return
	}
	ip(t, "link set lo up")
	ip(t, "link add hole type veth peer name depth")
	ip(t, "link set hole up")
	ip(t, "link set depth up")
	ip(t, "addr add 198.51.100.1/24 dev hole")
	ip(t, "neigh add 198.51.100.7 lladdr 02:00:00:00:00:07 dev hole") // nobody, so what is sent there is lost
	ip(t, "route add prohibit 203.0.113.0/24")
	each(t, func(t *testing.T, ctx context.Context) {
		path := filepath.Join(t.TempDir(), "full")
		l, err := (&net.ListenConfig{Backlog: 1}).Listen(ctx, "unix", path)
		if err != nil {
			t.Error(err)
			return
		}
		defer l.Close(ctx)
		var queued []int
		defer func() {
			for _, fd := range queued {
				unix.Close(fd)
			}
		}()
		for full := false; !full; { // a dial that ends for want of time may have been the machine's fault
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				t.Error(err)
				return
			}
			queued = append(queued, fd)
			switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err {
			case nil:
			case unix.EAGAIN:
				full = true
			default:
				t.Error(err)
				return
			}
		}
		closed := listenOn(t, ctx, "tcp")
		if closed == nil {
			return
		}
		if err := closed.Close(ctx); err != nil {
			t.Error(err)
		}
		timeout := []error{os.ErrDeadlineExceeded}
		const soon = 5 * time.Millisecond
		all := []dials{
			{"a closed port", "tcp", closed.Addr().String(), 0, []error{syscall.ECONNREFUSED}},
			{"no path", "unix", path + "-none", 0, []error{syscall.ENOENT}},
			{"a file", "unix", os.Args[0], 0, []error{syscall.ECONNREFUSED}},
			{"no route", "tcp", "192.0.2.1:80", 0, []error{syscall.ENETUNREACH}},
			{"no route, IPv6", "tcp", "[2001:db8::1]:80", 0, []error{syscall.ENETUNREACH}},
			{"prohibited", "tcp", "203.0.113.1:80", 0, []error{syscall.EACCES}},
			{"a black hole", "tcp", "198.51.100.7:80", soon, timeout},
			{"a full queue", "unix", path, soon, timeout},
		}
		rng := random(t)(0)
		var done [16]int
		var slowest time.Duration
		for range share(t, 40, 5000) {
			i := rng.IntN(len(all))
			a := all[i]
			done[i]++
			short, cancel := ctx, context.CancelFunc(func() {})
			var end time.Time
			if a.patience > 0 {
				end = time.Now().Add(time.Duration(rng.Int64N(int64(a.patience))))
				short, cancel = context.WithDeadline(ctx, end)
			}
			c, err := net.Dial(short, a.network, a.address)
			cancel()
			if a.patience > 0 {
				slowest = max(slowest, time.Since(end))
			}
			var op *net.OpError
			if c != nil || !errors.As(err, &op) || op.Op != "dial" || !isOneOf(err, a.errs) {
				t.Errorf("%s: %v", a.name, err)
				return
			}
		}
		for i, a := range all {
			t.Logf("%s: %d times", a.name, done[i])
		}
		t.Logf("cancelled dials ended at most %v late", slowest)
	})
}

func isOneOf(err error, errs []error) bool {
	for _, e := range errs {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// TestConnectCancelled cancels dials of a listener that accepts at once, at any moment: what was dialed and not returned is closed, so
// that its peer learns it at once, and nothing was sent on it.
func TestConnectCancelled(t *testing.T) { // HAZARDS T24
	for _, grace := range []time.Duration{0, time.Nanosecond} {
		t.Run(fmt.Sprint("grace ", grace), func(t *testing.T) {
			eachWith(t, driver.Config{CancelGrace: grace}, func(t *testing.T, ctx context.Context) {
				l, err := stdnet.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Error(err)
					return
				}
				var serving sync.WaitGroup
				var talked, quiet atomic.Int32
				serving.Go(func() {
					for {
						c, err := l.Accept()
						if err != nil {
							return
						}
						serving.Go(func() {
							defer c.Close()
							c.SetReadDeadline(time.Now().Add(10 * time.Second))
							n, err := c.Read(make([]byte, 10))
							switch {
							case n == 2:
								talked.Add(1)
							case n > 0 || errors.Is(err, os.ErrDeadlineExceeded):
								t.Errorf("a connection that was cancelled: %d, %v", n, err)
							default:
								quiet.Add(1)
							}
						})
					}
				})
				rng := random(t)(0)
				dialed, cancelled := 0, 0
				for range share(t, 30, 2500) {
					short, cancel := context.WithTimeout(ctx, time.Duration(rng.IntN(60))*time.Microsecond)
					c, err := net.Dial(short, "tcp", l.Addr().String())
					cancel()
					switch {
					case err == nil:
						dialed++
						if _, _, err := c.WriteAll(ctx, []byte("hi")); err != nil {
							t.Error(err)
						}
						closeAll(t, ctx, c)
					case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, driver.ErrAbandoned):
						cancelled++
					default:
						t.Error(err)
					}
				}
				_, err = executor.Block(ctx, func() (int, error) {
					l.Close()
					serving.Wait()
					return 0, nil
				})
				if err != nil {
					t.Error(err)
				}
				t.Logf("%d dialed, %d cancelled, %d of them too late", dialed, cancelled, quiet.Load())
				if int(talked.Load()) > dialed {
					t.Errorf("%d talked", talked.Load())
				}
			})
		})
	}
}
