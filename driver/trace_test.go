package driver_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"uringo/driver"
	"uringo/internal/testenv"
)

const tracedVar = "URINGO_TRACED" // set in the program that runs under strace: the engine it is to find

// TestTraced runs a load in a program whose real system calls fail, on the command of strace.
func TestTraced(t *testing.T) {
	if want := os.Getenv(tracedVar); want != "" {
		traced(t, want)
		return
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace")
	}
	if err := exec.Command(strace, "-f", "--seccomp-bpf", "-qq", "-e", "trace=none", "true").Run(); err != nil {
		t.Skipf("needs strace that may trace, and --seccomp-bpf: %v", err)
	}
	on(t, []way{onUring}, func(e *rig) {
		e.open(driver.Config{}) // or there is no io_uring to fail
		cases := []struct{ inject, engine string }{
			{"io_uring_setup:error=EPERM:when=1+", "portable"},
			{"io_uring_enter:error=EINTR:when=7+3", "uring"},
			{"io_uring_enter:error=EAGAIN:when=3+3", "uring"},
		}
		if size(0, 1) == 1 {
			for _, errno := range []string{"ENOSYS", "EOPNOTSUPP", "EINVAL", "EACCES"} {
				cases = append(cases, struct{ inject, engine string }{"io_uring_setup:error=" + errno + ":when=1+", "portable"})
			}
			for _, errno := range []string{"EMFILE", "ENOMEM"} {
				cases = append(cases, struct{ inject, engine string }{"io_uring_setup:error=" + errno + ":when=1+", errno})
			}
			for _, errno := range []string{"EBUSY", "ENOMEM"} {
				cases = append(cases, struct{ inject, engine string }{"io_uring_enter:error=" + errno + ":when=3+3", "uring"})
			}
			cases = append(cases, struct{ inject, engine string }{"io_uring_setup:error=EINVAL:when=1..2", "uring"},
				struct{ inject, engine string }{"io_uring_enter:delay_exit=20000:when=7+7", "uring"})
		}
		for _, c := range cases {
			call, _, _ := strings.Cut(c.inject, ":")
			cmd := exec.Command(strace, "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace="+call, "-e", "inject="+c.inject,
				os.Args[0], "-test.run", "^TestTraced$", "-test.timeout", "100s")
			cmd.Env = testenv.Environ(tracedVar+"="+c.engine, driver.EngineVar+"=")
			if out, err := cmd.CombinedOutput(); err != nil {
				e.Errorf("%s: %v\n%s", c.inject, err, out)
			}
		}
	})
}

func traced(t *testing.T, want string) {
	on(t, []way{{"traced", driver.Auto, func(_ *rig, cfg driver.Config) (*driver.Driver, error) { return driver.Open(cfg) }}}, func(e *rig) {
		d, err := driver.Open(driver.Config{Entries: 16})
		if errno, resource := map[string]syscall.Errno{"EMFILE": syscall.EMFILE, "ENOMEM": syscall.ENOMEM}[want]; resource {
			if !errors.Is(err, errno) {
				e.Errorf("%v, want %v", err, errno)
			}
			return
		}
		if e.opened(d, err).Engine().String() != want {
			e.Errorf("engine %v, want %s", d.Engine(), want)
		}
		newMix(e, d).play(4, size(60, 300))
	})
}
