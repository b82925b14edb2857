package suite

import (
	"fmt"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// startOn starts cmd with only n processors for the whole of its process. The set is inherited through fork, so it
// holds before the child's first instruction, and Go in the child takes its GOMAXPROCS from it. The last processors
// are taken, as the first ones serve most interrupts.
func startOn(cmd *exec.Cmd, n int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return fmt.Errorf("read affinity: %w", err)
	}
	some, err := last(all, n)
	if err != nil {
		return err
	}
	if err := unix.SchedSetaffinity(0, &some); err != nil {
		return fmt.Errorf("set affinity: %w", err)
	}
	defer unix.SchedSetaffinity(0, &all)
	return cmd.Start()
}

func last(all unix.CPUSet, n int) (some unix.CPUSet, err error) {
	if all.Count() < n {
		return some, fmt.Errorf("needs %d processors, this process may use %d", n, all.Count())
	}
	for cpu := len(all)*64 - 1; some.Count() < n; cpu-- {
		if all.IsSet(cpu) {
			some.Set(cpu)
		}
	}
	return some, nil
}
