package testenv

import (
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// KernelContent calls run, which returns an exit status, and returns that of a failure if the kernel's log has complaints afterwards that it
// had not before.
func KernelContent(run func() int) int {
	log := openKernelLog()
	code := run()
	if bad := log.complaints(); len(bad) > 0 {
		fmt.Printf("the kernel complains:\n%s\n", strings.Join(bad, "\n"))
		code = 1
	}
	return code
}

// kernelLog reads what the kernel has to say.
type kernelLog struct{ fd int }

// openKernelLog starts at the end of the log. Without the right to read it, there is nothing to read.
func openKernelLog() kernelLog {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return kernelLog{-1}
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		unix.Close(fd)
		return kernelLog{-1}
	}
	return kernelLog{fd}
}

// complaints returns new lines about bugs.
func (l kernelLog) complaints() (bad []string) {
	if l.fd < 0 {
		return nil
	}
	defer unix.Close(l.fd)
	buf := make([]byte, 8192)
	for {
		n, err := unix.Read(l.fd, buf)
		if err == syscall.EPIPE {
			continue // overwritten meanwhile
		}
		if err != nil || n == 0 {
			return bad
		}
		line := string(buf[:n])
		for _, sign := range []string{"BUG", "WARNING:", "blocked for more than", "general protection", "Oops"} {
			if strings.Contains(line, sign) {
				bad = append(bad, strings.TrimSpace(line))
				break
			}
		}
	}
}
