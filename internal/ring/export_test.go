package ring

import (
	"errors"
	"os"
	"syscall"
)

// Unavailable reports whether err of Open means that this machine cannot run a test on the kernel: io_uring is not offered, or the
// user may lock so little memory (RLIMIT_MEMLOCK) that rings of the size the test needs do not fit.
func Unavailable(err error) bool {
	if errors.Is(err, ErrUnavailable) {
		return true
	}
	return errors.Is(err, syscall.ENOMEM) && os.Getuid() != 0 && memlock() < 1<<20
}
