// Peers measures uringo beside the standard library, two other Go libraries for io_uring, one for epoll, liburing in C, and fio, and
// holds the result against the project's floors. bench/README.md explains the tables; -h lists the flags.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"uringo/bench/peers/internal/report"
	"uringo/bench/peers/internal/slowfs"
	"uringo/bench/peers/internal/suite"
	"uringo/bench/peers/internal/testdir"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

type options struct {
	rounds          int
	measure         time.Duration
	work, contender string
	dir             string
	json            bool
	check           bool
	install         bool
}

func run(ctx context.Context, args []string) error {
	if len(args) == 2 && args[0] == suite.ChildFlag {
		return suite.Child(ctx, args[1], os.Stdout)
	}
	if len(args) == 2 && args[0] == slowfs.ServeFlag {
		return slowfs.Serve(args[1], os.Stdin, os.Stdout)
	}
	var o options
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 5, "interleaved rounds; the figures are medians over them")
	flags.DurationVar(&o.measure, "duration", time.Second, "length of one measurement")
	flags.StringVar(&o.work, "work", "", "measure only works that match this regular expression")
	flags.StringVar(&o.contender, "contender", "", "measure only contenders that match this regular expression")
	flags.StringVar(&o.dir, "dir", "", "put the test files under this directory (default: here, or else the temporary directory)")
	flags.BoolVar(&o.json, "json", false, "print everything, with all samples, as JSON")
	flags.BoolVar(&o.check, "check", false, "exit with an error when a floor does not hold")
	flags.BoolVar(&o.install, "install", false, "first install what is missing with apt-get: "+fmt.Sprint(packages))
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("no arguments beside flags, got %q", flags.Args())
	}
	return compare(ctx, o)
}

// compare runs what the options ask for and reports it.
func compare(ctx context.Context, o options) error {
	work, err := regexp.Compile(o.work)
	if err != nil {
		return fmt.Errorf("-work: %w", err)
	}
	contender, err := regexp.Compile(o.contender)
	if err != nil {
		return fmt.Errorf("-contender: %w", err)
	}
	plan := suite.Plan(work, contender)
	if len(plan) == 0 || o.rounds < 1 || o.measure < time.Millisecond {
		return errors.New("nothing to measure")
	}
	if o.install {
		if err := install(ctx); err != nil {
			return err
		}
	}
	candidates := []string{".", os.TempDir()}
	if o.dir != "" {
		candidates = []string{o.dir}
	}
	dir, err := testdir.Place(candidates...)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	about := fmt.Sprintf("%s; %s; medians of %d rounds of %v", report.Environment(), suite.Network(), o.rounds, o.measure)
	results, err := suite.Run{Dir: dir, Rounds: o.rounds, Measure: o.measure, Progress: os.Stderr}.Do(ctx, plan)
	if err != nil {
		return err
	}
	return publish(os.Stdout, o, about, report.Reduce(results))
}

func publish(w io.Writer, o options, about string, figures report.Figures) error {
	verdicts := figures.Judge()
	pass := true
	for _, v := range verdicts {
		pass = pass && v.Pass
	}
	if o.json {
		e := json.NewEncoder(w)
		e.SetIndent("", "\t")
		err := e.Encode(map[string]any{"about": about, "figures": figures, "floors": verdicts})
		if err != nil {
			return err
		}
	} else {
		fmt.Fprintln(w, about+".")
		figures.Markdown(w)
		report.WriteVerdicts(w, verdicts)
	}
	if o.check && !pass {
		return errors.New("a floor does not hold")
	}
	return nil
}

// packages are what the peers outside Go need, by their Debian names.
var packages = []string{"gcc", "liburing-dev", "fio"}

// install runs only when it is asked for: a benchmark has no business changing a machine.
func install(ctx context.Context) error {
	for _, args := range [][]string{{"update"}, append([]string{"install", "-y"}, packages...)} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w", args[0], err)
		}
	}
	return nil
}
