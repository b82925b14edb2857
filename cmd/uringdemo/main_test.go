package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/testenv"
)

// mainVar makes the test binary be the program, for what a test cannot do in its own process.
const mainVar = "URINGDEMO_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVar) != "" {
		main()
		return
	}
	syscall.Umask(022)
	testscript.Main(m, map[string]func(){"uringdemo": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", Setup: func(e *testscript.Env) error {
		if littleMemory() {
			e.Setenv(driver.EngineVar, "portable") // of which there is nothing to say
		}
		return nil
	}})
}

// littleMemory reports whether so little memory may be locked that rings are smaller than they should be, which the program says.
func littleMemory() bool {
	var limit unix.Rlimit
	return os.Geteuid() != 0 && unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil && limit.Cur < 1<<20
}

// beside is what the program said beside that.
func beside(stderr string) string {
	if littleMemory() {
		stderr = strings.ReplaceAll(stderr, "uringdemo: little memory to lock (RLIMIT_MEMLOCK): smaller ring\n", "")
	}
	return stderr
}

// A way is one of the ways to run the program.
type way struct{ executor, engine string }

func (w way) String() string { return w.executor + "/" + w.engine }

// ways are all executors on both engines.
func ways() []way {
	var all []way
	for _, engine := range []string{"uring", "portable"} {
		for _, executor := range []string{"goroutines", "pool:3", "workers:2", "local"} {
			all = append(all, way{executor, engine})
		}
	}
	return all
}

// everyWay runs a test for each of them; where that would take long, for each executor and each engine.
func everyWay(t *testing.T, test func(t *testing.T, w way)) {
	all := ways()
	if raceEnabled || testing.Short() {
		all = []way{all[0], all[2], all[3], all[5], all[6]}
	}
	for _, w := range all {
		t.Run(w.String(), func(t *testing.T) { test(t, w) })
	}
}

// outcome is what a run of the program led to.
type outcome struct {
	code           int
	stdout, stderr string
}

// run runs the program in this process. The flags say how; further ones follow.
func (w way) run(t *testing.T, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), w.args(args), &stdout, &stderr)
	return outcome{code, stdout.String(), beside(stderr.String())}
}

func (w way) args(args []string) []string {
	return append([]string{"--executor=" + w.executor, "--engine=" + w.engine}, args...)
}

// command is the program as a process of its own.
func (w way) command(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self, w.args(args)...)
	cmd.Env = testenv.Environ(mainVar+"=1", driver.EngineVar+"=") // the engine is w's choice
	return cmd
}

// await runs a command to its end.
func await(t *testing.T, cmd *exec.Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), beside(stderr.String())}
}

func (o outcome) want(t *testing.T, code int) {
	t.Helper()
	if o.code != code {
		t.Fatalf("exit code %d, want %d\nstdout: %s\nstderr: %s", o.code, code, o.stdout, o.stderr)
	}
}

func (o outcome) says(t *testing.T, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(o.stderr, part) {
			t.Fatalf("standard error lacks %q:\n%s", part, o.stderr)
		}
	}
}

func (o outcome) summary(t *testing.T) summary {
	t.Helper()
	var s summary
	if err := json.Unmarshal([]byte(o.stdout), &s); err != nil {
		t.Fatalf("%v in %q", err, o.stdout)
	}
	return s
}

// noTemps fails if an unfinished file is left anywhere below dir.
func noTemps(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasPrefix(d.Name(), ".uringdemo-") {
			t.Errorf("left behind: %s", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// must is for steps that set a test up.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: running as uid", os.Geteuid())
	}
}
