package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/internal/testenv"
)

// interruptible makes a tree that takes a while, and returns the content of its files by name.
func interruptible(y yard) map[string][]byte {
	want := make(map[string][]byte)
	for i := range 60 {
		name := fmt.Sprintf("%d/%d", i%5, i)
		want[name] = content(name, (i%6)*300_000)
	}
	want["big"] = content("big", 48<<20)
	for name, b := range want {
		path := y.path("src/" + name)
		must(y, os.MkdirAll(filepath.Dir(path), 0755))
		must(y, os.WriteFile(path, b, 0644))
	}
	return want
}

// onlyComplete fails if a file in dst is not what the source is.
func onlyComplete(t *testing.T, dst string, want map[string][]byte) (files int) {
	t.Helper()
	err := filepath.WalkDir(dst, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".uringdemo-") {
			return err
		}
		files++
		name, err := filepath.Rel(dst, path)
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if at := differsAt(t, f, bytes.NewReader(want[name])); at >= 0 {
			t.Errorf("%s, which should have %d bytes, differs after %d, or ends", name, len(want[name]), at)
		}
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	return files
}

// untilItWorks returns when the copy has begun, which is after the program has said what signals do, or when it has ended: until it is waited
// for, it can still be sent one.
func untilItWorks(t *testing.T, cmd *exec.Cmd, dst string) {
	t.Helper()
	for {
		if _, err := os.Lstat(dst); err == nil {
			return
		}
		var ended unix.Siginfo
		err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &ended, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if must(t, err); ended.Signo != 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// TestInterrupt sends signals at random times.
func TestInterrupt(t *testing.T) {
	y := yard{t, t.TempDir()}
	want := interruptible(y)
	rounds := 4
	if raceEnabled {
		rounds = 2
	}
	everyWay(t, func(t *testing.T, w way) {
		early := 0
		for i := range rounds {
			dst := filepath.Join(t.TempDir(), "dst")
			signal := []os.Signal{os.Interrupt, syscall.SIGTERM}[i%2]
			cmd := w.command(t.Context(), t, "-a", "--method=blocks", y.path("src"), dst)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			must(t, cmd.Start())
			untilItWorks(t, cmd, dst)
			time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
			must(t, cmd.Process.Signal(signal))
			begin, delays := time.Now(), testenv.Delays()
			_ = cmd.Wait()
			if took, late := time.Since(begin), delays(); took-late > 5*time.Second {
				t.Errorf("took %v to end, %v of which the machine was busy", took, late)
			}
			switch code := cmd.ProcessState.ExitCode(); code {
			case exitInterrupted:
				early++
			case exitOK: // it was done
			default:
				t.Errorf("exit code %d: %s", code, stderr.String())
			}
			if said := beside(stderr.String()); said != "" {
				t.Errorf("said %s", said)
			}
			onlyComplete(t, dst, want)
			noTemps(t, dst)
		}
		t.Logf("%d of %d were interrupted before the end", early, rounds)
	})
}

// TestNohup starts the program with signals ignored, as nohup and a shell's background jobs do. It must not listen to them.
func TestNohup(t *testing.T) {
	y := yard{t, t.TempDir()}
	want := interruptible(y)
	for _, signal := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		dst := y.path("dst-" + itoa(int(signal)))
		cmd := ways()[2].command(t.Context(), t, "-a", "--method=blocks", y.path("src"), dst)
		cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `trap '' HUP INT; exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		must(t, cmd.Start())
		untilItWorks(t, cmd, dst)
		must(t, cmd.Process.Signal(signal))
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != exitOK || beside(stderr.String()) != "" {
			t.Errorf("%v: exit code %d, said %q", signal, code, stderr.String())
		}
		if n := onlyComplete(t, dst, want); n != len(want) {
			t.Errorf("%v: %d files of %d", signal, n, len(want))
		}
	}
}

// into runs a program whose standard output is a file, and returns what it says on standard error.
func into(t *testing.T, stdout *os.File, cmd *exec.Cmd) (code int, said string) {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), beside(stderr.String())
}

// TestFullOutput has nowhere to write what was asked for. The copy is made; that nobody was told is an error.
func TestFullOutput(t *testing.T) {
	y := yard{t, t.TempDir()}
	smallTree(y)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	must(t, err)
	defer full.Close()
	everyWay(t, func(t *testing.T, w way) {
		for _, flag := range []string{"-v", "--json"} {
			dst := filepath.Join(t.TempDir(), "dst")
			cmd := w.command(t.Context(), t, "-a", "--fsync=false", flag, y.path("d"), dst)
			if code, said := into(t, full, cmd); code != exitFailed || said != "uringdemo: standard output: no space left on device\n" {
				t.Errorf("%s: exit code %d, said %q", flag, code, said)
			}
			sameTree(t, snapshot(t, dst, true), snapshot(t, y.path("d"), true))
		}
	})
	for _, flag := range []string{"--help", "--version"} {
		cmd := ways()[0].command(t.Context(), t, flag)
		if code, said := into(t, full, cmd); code != exitFailed || said != "uringdemo: standard output: no space left on device\n" {
			t.Errorf("%s: exit code %d, said %q", flag, code, said)
		}
	}
}

// TestKill ends the program where it can clean up nothing. What has a final name must be old or new, and nothing between.
func TestKill(t *testing.T) {
	y := yard{t, t.TempDir()}
	want := interruptible(y)
	for i, w := range ways() {
		dst := y.path("dst-" + itoa(i))
		old := yard{t, dst}
		old.file("big", 10)
		cmd := w.command(t.Context(), t, "-a", "--method=blocks", y.path("src")+"/.", dst)
		must(t, cmd.Start())
		time.Sleep(time.Duration(50+rand.IntN(250)) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if b, err := os.ReadFile(old.path("big")); err != nil || len(b) != 10 && !bytes.Equal(b, want["big"]) {
			t.Errorf("%v: the old file is %d bytes, %v", w, len(b), err)
		} else if len(b) == 10 {
			must(t, os.Remove(old.path("big")))
		}
		t.Logf("%v: %d files were complete", w, onlyComplete(t, dst, want))
	}
}

// TestNoReader closes the pipe that the program writes names to.
func TestNoReader(t *testing.T) {
	y := yard{t, t.TempDir()}
	for i := range 2000 {
		y.file("src/"+itoa(i%10)+"/"+itoa(i), 1000)
	}
	want := make(map[string][]byte)
	for i := range 2000 {
		name := itoa(i%10) + "/" + itoa(i)
		want[name] = content("src/"+name, 1000)
	}
	stopped := func(t *testing.T, w way, env ...string) bool {
		dst := filepath.Join(t.TempDir(), "dst")
		cmd := w.command(t.Context(), t, "-a", "-v", "--fsync=false", y.path("src"), dst)
		cmd.Env = append(cmd.Env, env...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		line, err := bufio.NewReader(out).ReadString('\n')
		must(t, err)
		if !strings.Contains(line, " -> ") {
			t.Errorf("first line: %q", line)
		}
		must(t, out.Close())
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != exitNoReader || beside(stderr.String()) != "" {
			t.Errorf("exit code %d, said %q", code, stderr.String())
		}
		noTemps(t, dst)
		return onlyComplete(t, dst, want) < len(want)
	}
	stops := func(t *testing.T, w way, env ...string) {
		for range 20 { // what reads one line and goes may do so late: there is room for the other names, and all has been copied
			if stopped(t, w, env...) {
				return
			}
		}
		t.Error("did not stop")
	}
	everyWay(t, func(t *testing.T, w way) { stops(t, w) })
	// Where there is one processor, who writes the names gets its turn on it, however busy the driver is.
	t.Run("one processor", func(t *testing.T) {
		everyWay(t, func(t *testing.T, w way) { stops(t, w, "GOMAXPROCS=1") })
	})

	out, in, err := os.Pipe()
	must(t, err)
	must(t, out.Close())
	defer in.Close()
	if code, said := into(t, in, ways()[0].command(t.Context(), t, "--help")); code != exitNoReader || said != "" {
		t.Errorf("--help: exit code %d, said %q", code, said)
	}
}
