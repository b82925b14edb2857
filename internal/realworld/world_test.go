package realworld

import (
	"bytes"
	"context"
	"fmt"
	stdnet "net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"uringo/driver"
	"uringo/internal/testenv"
	"uringo/net"
)

// network is one in which programs meet: the standard library's, or ours.
type network struct {
	dial   func(ctx context.Context, network, address string) (stdnet.Conn, error)
	listen func(ctx context.Context) (stdnet.Listener, error) // on a TCP port of this machine
}

const loopback = "127.0.0.1:0"

// compare runs the same work over the standard library's connections and over ours, on every engine, and wants the same said.
func compare(t *testing.T, work func(ctx context.Context, n network) (transcript string, err error)) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	start := time.Now()
	want, err := work(ctx, network{new(stdnet.Dialer).DialContext, func(context.Context) (stdnet.Listener, error) {
		return stdnet.Listen("tcp", loopback)
	}})
	if err != nil {
		t.Fatalf("over net: %v", err)
	}
	t.Logf("over net: %v", time.Since(start).Round(time.Millisecond))
	for _, engine := range testenv.Engines(t) {
		t.Run(engine.String(), func(t *testing.T) {
			d := openDriver(t, engine)
			start := time.Now()
			got, err := work(ctx, network{(&net.Dialer{Driver: d}).DialContext, func(ctx context.Context) (stdnet.Listener, error) {
				l, err := net.Listen(driver.NewContext(ctx, d), "tcp", loopback)
				if err != nil {
					return nil, err
				}
				return l.NetListener(), nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("over ours: %v", time.Since(start).Round(time.Millisecond))
			if got != want {
				t.Errorf("over ours:\n%s\nover net:\n%s", got, want)
			}
		})
	}
}

func openDriver(t *testing.T, engine driver.Engine) *driver.Driver {
	t.Helper()
	d, err := driver.Open(driver.Config{Engine: engine})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := d.Close(ctx); err != nil {
			t.Errorf("closing the driver: %v", err)
		}
	})
	return d
}

// transcript is what a work found.
type transcript struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *transcript) say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(&r.b, format+"\n", args...)
}

// need skips the test, loudly, if a program is not there. Where they were installed for the test, it fails.
func need(t *testing.T, program string) string {
	t.Helper()
	places := []string{program, "/usr/sbin/" + program}
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + program); len(found) > 0 {
		places = append(found, places...)
	}
	for _, place := range places {
		if path, err := exec.LookPath(place); err == nil {
			return path
		}
	}
	if os.Getenv("URINGO_REALWORLD") == "all" {
		t.Fatalf("%s is not installed", program)
	}
	t.Skipf("SKIPPED: %s is not installed", program)
	return ""
}

// ordinary returns who to run a server as that refuses to be root, and a directory of his.
func ordinary(t *testing.T) (*syscall.Credential, string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "uringo") // short: Unix sockets go there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if os.Getuid() != 0 {
		return nil, dir
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, dir
}

func command(who *syscall.Credential, dir, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who, Setpgid: true}
	return cmd
}

// serve runs a server for as long as the test, and returns when it accepts connections at address.
func serve(t *testing.T, cmd *exec.Cmd, end os.Signal, address string) {
	t.Helper()
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(end)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("%s: %.2000s", cmd.Path, said.Bytes())
		}
	})
	for limit := time.Now().Add(30 * time.Second); ; {
		c, err := stdnet.Dial("tcp", address)
		if err == nil {
			c.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s ended: %.2000s", cmd.Path, said.Bytes())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(limit) {
			t.Fatalf("%s does not answer: %v", cmd.Path, err)
		}
	}
}

func freeAddress(t *testing.T) (address, port string) {
	t.Helper()
	l, err := stdnet.Listen("tcp", loopback)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address = l.Addr().String()
	return address, address[strings.LastIndexByte(address, ':')+1:]
}

// mebibytes is how much large transfers move: 64 MiB, or what URINGO_REALWORLD_MIB says.
func mebibytes(t *testing.T) int {
	t.Helper()
	s := os.Getenv("URINGO_REALWORLD_MIB")
	if s == "" {
		return 64
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("URINGO_REALWORLD_MIB=%s", s)
	}
	return n
}
