package suite

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"uringo/bench/peers/internal/job"
)

// Servers and their loads run in a network namespace of their own, which has nothing but a loopback interface: no rules of a firewall, no ports
// that the run before has used up, and the congestion control that Linux comes with. A machine may have bbr instead, which paces what it sends by
// timers, and over a loopback its rates vary by half from one round to the next. network_namespaces(7).
const (
	congestionControl     = "cubic"
	congestionControlFile = "/proc/sys/net/ipv4/tcp_congestion_control"
)

var networked = []string{job.Echo, job.Pipelined, job.Accept, job.Hello, job.SendFile}

// ownNetwork returns nil where measurements can have such a namespace. Whoever is not root measures in the machine's own.
var ownNetwork = sync.OnceValue(func() error {
	tried := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with the goroutine, and the namespace with the thread
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			tried <- fmt.Errorf("unshare: %w", err)
			return
		}
		tried <- furnish()
	}()
	return <-tried
})

// isolates reports whether measurements of the work have a network namespace of their own.
func isolates(work string) bool { return slices.Contains(networked, work) && ownNetwork() == nil }

// furnish makes the calling thread's new network namespace usable.
func furnish() error {
	if err := os.WriteFile(congestionControlFile, []byte(congestionControl), 0); err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(s)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("loopback interface: %w", err)
	}
	return nil
}

// Network says over which network servers are measured.
func Network() string {
	if err := ownNetwork(); err != nil {
		used, readErr := os.ReadFile(congestionControlFile)
		if readErr != nil {
			used = []byte("unknown")
		}
		return fmt.Sprintf("the machine's own network (%v), congestion control %s", err, strings.TrimSpace(string(used)))
	}
	return "networks of their own for servers, congestion control " + congestionControl
}
