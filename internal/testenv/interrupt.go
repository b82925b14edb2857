package testenv

import (
	"bufio"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mainVar is set in the process that EndsAtOnce starts.
const mainVar = "URINGO_TEST_MAIN"

// Main is for TestMain: it runs the tests, or main with these arguments in the process that [EndsAtOnce] starts.
func Main(m *testing.M, main func(), args ...string) {
	if os.Getenv(mainVar) == "" {
		os.Exit(m.Run())
	}
	os.Args = append(os.Args[:1], args...)
	main()
	os.Exit(0)
}

// EndsAtOnce runs a server, which says where it is listening, in a directory, and interrupts it while it answers a request: it accepts no more. A
// second interrupt ends it. The answer must be one that begins and does not end, with a client who does nothing.
func EndsAtOnce(t *testing.T, dir, request string) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = Environ(mainVar + "=1")
	cmd.Dir = dir
	says, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(says).ReadString('\n')
	_, address, ok := strings.Cut(strings.TrimSpace(line), "listening on ")
	if !ok {
		t.Fatalf("it says %q, %v", line, err)
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	for {
		other, err := net.Dial("tcp", address)
		if err != nil {
			break
		}
		other.Close()
		time.Sleep(time.Millisecond)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // how it ended is what counts
	}()
	// That it accepts no more does not tell that it has stopped catching signals, which happens at the same time.
	for over := false; !over; {
		if err := cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		select {
		case <-ended:
			over = true
		case <-time.After(time.Millisecond):
		}
	}
	if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGINT {
		t.Errorf("interrupted twice: %v", cmd.ProcessState)
	}
}
