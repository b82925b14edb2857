package executor_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"uringo/internal/testenv"
)

// goTool runs the go command.
func goTool(t testing.TB, dir string, env []string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// repository returns the directory of this module.
func repository(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// linked are the modules that a program with uringo in it is made of, beside its own.
var linked = []string{
	"uringo",
	"github.com/iceber/iouring-go",
	"go.uber.org/multierr", // of zap
	"go.uber.org/zap",
	"golang.org/x/sync",
	"golang.org/x/sys",
}

// A module outside builds with the public names alone, runs, and gets no dependencies but the named ones.
func TestModuleOutside(t *testing.T) {
	if _, err := os.Stat("../go.mod"); err != nil {
		t.Skipf("needs the source of the module, and this binary was taken elsewhere: %v", err)
	}
	repo, dir := repository(t), t.TempDir()
	put := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	get := func(name string) []byte {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	put("main.go", get("testdata/outside/main.go"))
	put("go.sum", get("../go.sum"))
	// With the requirements of ours, as go mod tidy would write them, it needs nothing but what this test was built with, which is in the
	// module cache. To find them it would ask for more: the go.mod files of what those modules once required.
	_, requirements, ok := strings.Cut(string(get("../go.mod")), "\n\n")
	if !ok {
		t.Fatal("go.mod has no second part")
	}
	put("go.mod", []byte("module outside\n\nrequire uringo v0.0.0\n\nreplace uringo => "+repo+"\n\n"+requirements))
	put("hello.txt", []byte("hello"))
	env := []string{"GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off"}
	goTool(t, dir, env, "build", "-o", "outside", ".")

	out, err := exec.Command(filepath.Join(dir, "outside"), filepath.Join(dir, "hello.txt")).CombinedOutput()
	const want = "simple: hello\ngoroutines: hello\npool(2): hello\nworkers(2): hello\nlocal: hello\ndriver: hello\n"
	if err != nil || string(out) != want {
		t.Errorf("the program printed %q, %v", out, err)
	}

	check := func(how string, modules []string) {
		slices.Sort(modules)
		modules = slices.Compact(modules)
		for _, m := range modules {
			if m != "" && m != "outside" && !slices.Contains(linked, m) {
				t.Errorf("%s: a user gets %s", how, m)
			}
		}
		for _, m := range linked {
			if !slices.Contains(modules, m) {
				t.Errorf("%s: a user does not get %s", how, m)
			}
		}
	}
	check("go list -deps", strings.Fields(goTool(t, dir, env, "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", ".")))
	var modules []string
	for line := range strings.Lines(goTool(t, dir, env, "version", "-m", "outside")) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "dep" {
			modules = append(modules, f[1])
		}
	}
	check("go version -m", modules)
}

// On one processor, and on many more than there are. The environment variable keeps the inner runs from doing the same.
func TestProcessors(t *testing.T) {
	testenv.SkipShort(t)
	const inner = "URINGO_EXECUTOR_TEST_INNER"
	if os.Getenv(inner) != "" {
		t.Skip("within itself")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	which, numbers := "^(TestStructuredEnd|TestForeignGoroutines|TestIterator.*|TestCancelRaces|TestYieldIsFair)$", []string{"1"}
	if exhaustive {
		which, numbers = ".", []string{"1", "8"}
	}
	for _, n := range numbers {
		t.Run(n, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, exe, "-test.run", which, "-test.timeout", "9m")
			cmd.Env = append(os.Environ(), inner+"=1", "GOMAXPROCS="+n, nightlyVar+"=")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// What is not amd64 or arm64 has no assembly; the tag purego stands for it.
func TestWithoutAssembly(t *testing.T) {
	if !exhaustive {
		t.Skip("compiles everything: URINGO_NIGHTLY=1, or go test -tags purego ./executor")
	}
	goTool(t, repository(t), []string{nightlyVar + "="}, "test", "-tags", "purego", "-timeout", "8m", "-skip", "ModuleOutside|Processors|WithoutAssembly|OtherArchitectures", "./executor")
}

// The other architectures are compiled, and their assembly is looked at.
func TestOtherArchitectures(t *testing.T) {
	if !exhaustive {
		t.Skip("compiles everything several times: URINGO_NIGHTLY=1")
	}
	repo := repository(t)
	env := func(arch string) []string { return []string{"GOARCH=" + arch, "CGO_ENABLED=0"} }
	for _, arch := range []string{"amd64", "arm64"} {
		if arch != runtime.GOARCH {
			goTool(t, repo, env(arch), "vet", "./...")
		}
	}
	for _, arch := range []string{"riscv64", "ppc64le", "s390x", "loong64"} {
		goTool(t, repo, env(arch), "build", "./...")
	}
}
