package peer

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"uringo/bench/peers/internal/job"
	"uringo/bench/peers/internal/testdir"
)

//go:embed floor/*.c
var floorSources embed.FS

// liburing is the floor in C. It is compiled at the start of a run, where a compiler and liburing's headers are.
func liburing() Contender {
	return Contender{Name: "c-liburing", Prepare: compileFloor, Works: map[string]Measure{
		job.Nop:    runFloor,
		job.Cached: runFloor,
		job.Direct: runFloor,
		job.Write:  runFloor,
		job.Stat:   runFloor,
	}}
}

func floorBinary(dir string) string { return program(dir, "floor") }

// program is where a program of directory floor is after compile.
func program(dir, name string) string { return filepath.Join(dir, name) }

func compileFloor(ctx context.Context, dir string) error { return compile(ctx, dir, "floor") }

// compile makes a program in C, where that is possible and has not been done.
func compile(ctx context.Context, dir, name string) error {
	if _, err := os.Stat(program(dir, name)); err == nil {
		return nil
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		return fmt.Errorf("%s in C needs gcc: %w", name, err)
	}
	source, err := floorSources.ReadFile("floor/" + name + ".c")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "gcc", "-O2", "-Wall", "-x", "c", "-", "-o", program(dir, name), "-luring")
	cmd.Stdin = bytes.NewReader(source)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s.c does not compile (Debian: apt-get install liburing-dev): %w: %.200s", name, err, out)
	}
	return nil
}

func runFloor(ctx context.Context, j job.Job) ([]job.Sample, error) {
	out, err := output(exec.CommandContext(ctx, floorBinary(j.Dir), floorArgs(j)...))
	if err != nil {
		return nil, err
	}
	s := job.Sample{Work: j.Work}
	if err := json.Unmarshal(out, &s); err != nil {
		return nil, fmt.Errorf("the C floor printed %q: %w", out, err)
	}
	return []job.Sample{s}, nil
}

func floorArgs(j job.Job) []string {
	times := []string{strconv.Itoa(j.Tasks), millis(j.Warm), millis(j.Measure)}
	switch j.Work {
	case job.Nop:
		return append([]string{"nop"}, times...)
	case job.Stat:
		dir := filepath.Dir(testdir.StatFile(j.Dir, 0))
		return append(append([]string{"stat"}, times...), dir, strconv.Itoa(testdir.StatFiles), "0")
	}
	t := target(j)
	verb, direct := "read", "0"
	if t.write {
		verb = "write"
	}
	if j.Work == job.Direct {
		direct = "1"
	}
	return append(append([]string{verb}, times...), t.name, strconv.FormatInt(t.size, 10), direct)
}

// output is cmd.Output with what the command said on its standard error in the error.
func output(cmd *exec.Cmd) ([]byte, error) {
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %.400s", filepath.Base(cmd.Path), err, bytes.TrimSpace(said.Bytes()))
	}
	return out, nil
}

// missing is the reason for an absent row when a program is not installed.
func missing(program string) error {
	_, err := exec.LookPath(program)
	if err != nil {
		return fmt.Errorf("%s is not installed (Debian: apt-get install %s): %w", program, program, err)
	}
	return nil
}
