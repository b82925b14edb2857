// Idle measures what connections that do nothing cost a server: the memory of its process, by connection, for the same echo server on
// the standard library's net and on uringo. Each server is a process of its own; its clients are this one. bench/README.md says more.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

func main() {
	serve := flag.String("serve", "", "be this server, for the process that measures it")
	n := flag.Int("n", 10_000, "connections")
	rounds := flag.Int("rounds", 3, "interleaved rounds; the figures are medians over them")
	profile := flag.String("memprofile", "", "with -serve: write a heap profile to this file in the end")
	check := flag.Bool("check", false, "exit with an error when the floor does not hold")
	flag.Parse()
	var err error
	if *serve != "" {
		err = runServer(context.Background(), *serve, *profile)
	} else {
		err = compare(*n, *rounds, *check)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "idle:", err)
		os.Exit(1)
	}
}

// floor is what uringo's servers that hold no buffer may cost, by what net does.
const floor = 0.5

func compare(n, rounds int, check bool) error {
	if n < 1 || rounds < 1 {
		return errors.New("nothing to measure")
	}
	if err := allowFiles(uint64(n) + 200); err != nil {
		return fmt.Errorf("%d connections: %w", n, err)
	}
	samples := make(map[string][]float64)
	for round := range rounds {
		order := slices.Clone(names)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, name := range order {
			v, err := measure(name, n)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			samples[name] = append(samples[name], v)
		}
	}
	median := func(name string) float64 {
		s := slices.Sorted(slices.Values(samples[name]))
		return s[len(s)/2]
	}
	pass := true
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "server, %d idle connections\tRSS per connection (B)\tof net's\tfloor\n", n)
	for _, name := range names {
		ratio, verdict := median(name)/median("net"), ""
		if held[name] {
			verdict = fmt.Sprintf("≤ %.2f holds", floor)
			if ratio > floor {
				verdict = fmt.Sprintf("≤ %.2f FAILS", floor)
				pass = false
			}
		}
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%s\n", name, median(name), ratio, verdict)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if check && !pass {
		return errors.New("a floor does not hold")
	}
	return nil
}

// allowFiles lets this process, and those that it starts, open n files.
func allowFiles(n uint64) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if n <= limit.Max {
		return nil // the Go runtime has raised the soft limit to the hard one
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n}); err != nil {
		return fmt.Errorf("no more than %d files may be open (ulimit -Hn): %w", limit.Max, err)
	}
	return nil
}

// measure returns the bytes of resident memory that each of n idle connections adds to a server.
func measure(name string, n int) (float64, error) {
	cmd := exec.Command("/proc/self/exe", "-serve", name)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer cmd.Wait()
	defer in.Close() // by which the server ends
	out := bufio.NewReader(pipe)
	var port int
	if _, err := fmt.Fscanf(out, "%d\n", &port); err != nil {
		return 0, fmt.Errorf("the server's port: %w", err)
	}
	resident := func() (n int64, err error) {
		if _, err = io.WriteString(in, "\n"); err == nil {
			_, err = fmt.Fscanf(out, "%d\n", &n)
		}
		return n, err
	}
	before, err := resident()
	if err != nil {
		return 0, err
	}
	conns := make([]int, 0, n)
	defer func() {
		for _, fd := range conns {
			unix.Close(fd)
		}
	}()
	for i := range n {
		fd, err := client(port, i)
		if err != nil {
			return 0, fmt.Errorf("connection %d: %w", i, err)
		}
		conns = append(conns, fd)
	}
	after, err := resident()
	return float64(after-before) / float64(n), err
}

// client connects and has one message echoed, so that the server has used the connection for what it is there for.
func client(port, i int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	// An address has some 28000 ports to connect from.
	const ports = 20_000
	from := [4]byte{127, 0, 1, byte(1 + i/ports)}
	message := []byte(strings.Repeat("uringo! ", 8))
	reply := make([]byte, len(message))
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}),
		unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: from}),
		unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}),
	)
	if err == nil {
		_, err = unix.Write(fd, message)
	}
	for n := 0; err == nil && n < len(reply); {
		k, e := unix.Read(fd, reply[n:])
		switch {
		case e == unix.EINTR: // a signal of Go's runtime
		case e == nil && k == 0:
			err = io.ErrUnexpectedEOF
		default:
			n, err = n+max(k, 0), e
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
