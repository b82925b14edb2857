package testdir

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Place makes an empty directory for one run inside the first candidate that is a real file system: one with a
// device behind it, that takes O_DIRECT. tmpfs would take the flag, too, and then serve reads from memory.
func Place(candidates ...string) (string, error) {
	var refused []error
	for _, in := range candidates {
		err := usable(in)
		if err == nil {
			return os.MkdirTemp(in, "uringo-bench-")
		}
		refused = append(refused, fmt.Errorf("%s: %w", in, err))
	}
	return "", fmt.Errorf("no place for the test files, name one with -dir: %w", errors.Join(refused...))
}

func usable(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	if st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC {
		return errors.New("lives in memory, O_DIRECT would measure nothing")
	}
	f, err := os.CreateTemp(dir, "uringo-probe-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	fd, err := unix.Open(f.Name(), unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("refuses O_DIRECT: %w", err)
	}
	return unix.Close(fd)
}
