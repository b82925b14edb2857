// Uringdemo copies files and trees through io_uring.
//
//	uringdemo [flags] SOURCE TARGET
//	uringdemo [flags] SOURCE... DIRECTORY
//
// It takes its arguments as cp does, and differs where that is safer: every file is written under a temporary name and renamed when
// it is complete and on disk, no symbolic link below the arguments is followed, and a failure in a tree does not stop the rest. So what
// is replaced is another file afterwards: its other hard links keep the old content, it belongs to who copied it if he may not give it
// away, and its directory has to be writable.
//
// The exit code is 0 when all is well, 1 when something was not copied, 2 when all was copied but something changed meanwhile, 130
// after an interrupt, which leaves complete files only, and 141 when nobody reads what it prints any more. See uringdemo --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"uringo/cmd/uringdemo/internal/copier"
	"uringo/driver"
	"uringo/executor"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitChanged     = 2 // copied, but a source changed meanwhile
	exitInterrupted = 130
	exitNoReader    = 141 // as if SIGPIPE had ended us
)

func main() {
	// A write beyond RLIMIT_FSIZE and one to a pipe without a reader are errors that have to be cleaned up after, not the end.
	signal.Ignore(syscall.SIGXFSZ, syscall.SIGPIPE)

	ctx, stop := context.WithCancelCause(context.Background())
	interrupt := make(chan os.Signal, 1)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) { // by nohup, or a shell that put us into the background
			signal.Notify(interrupt, s)
		}
	}
	go func() {
		<-interrupt
		signal.Reset(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP) // the second one does not wait for anything
		stop(errInterrupted)
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

var errInterrupted = errors.New("interrupted")

// run is the program. It is a function of what it is given, for the tests.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args)
	switch {
	case errors.Is(err, errHelp):
		_, err := io.WriteString(stdout, usage())
		return told(err, exitOK, stderr)
	case err != nil:
		fmt.Fprintf(stderr, "uringdemo: %v\nTry 'uringdemo --help'.\n", err)
		return exitFailed
	case o.version:
		_, err := io.WriteString(stdout, version()+"\n")
		return told(err, exitOK, stderr)
	}

	return o.run(ctx, stdout, stderr)
}

// run does what the options say.
func (o *options) run(ctx context.Context, stdout, stderr io.Writer) int {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	out := newOutput(stdout, stderr, o, func() { stop(errNoReader) })
	defer context.AfterFunc(ctx, out.interrupted)()
	begin := time.Now()
	report, engine, err := copyAll(ctx, o, out)
	if err != nil {
		out.complain("", err.Error())
		report.Failures = append(report.Failures, copier.Problem{Why: err.Error()})
	}
	code := exitCode(ctx, report)
	if o.json {
		out.summary(o, report, engine, time.Since(begin), code)
	}
	return told(out.close(ctx), code, stderr)
}

// told returns the exit code of a program that has written what it had to say, with this error, and ends with code otherwise.
func told(err error, code int, stderr io.Writer) int {
	switch {
	case err == nil:
		return code
	case errors.Is(err, syscall.EPIPE):
		return exitNoReader
	}
	fmt.Fprintf(stderr, "uringdemo: standard output: %v\n", unnamed(err))
	if code == exitInterrupted {
		return code
	}
	return exitFailed
}

func exitCode(ctx context.Context, r *copier.Report) int {
	switch {
	case errors.Is(context.Cause(ctx), errInterrupted):
		return exitInterrupted
	case len(r.Failures) > 0, r.Interrupted:
		return exitFailed
	case len(r.Warnings) > 0:
		return exitChanged
	}
	return exitOK
}

// copyAll runs the copy on the chosen executor.
func copyAll(ctx context.Context, o *options, out *output) (report *copier.Report, engine driver.Engine, err error) {
	report = new(copier.Report)
	o.copy.Observer, o.driver.Logger = out, out.logger()
	var progress copier.Progress
	defer out.showProgress(&progress)()

	err = executor.Start(ctx, func(ctx context.Context) error {
		d, err := driver.FromContext(ctx)
		if err != nil {
			return err
		}
		engine = d.Engine()
		report = copier.New(o.copy, &progress).Run(ctx, o.sources, o.target)
		return nil
	}, executor.WithExecutor(o.executor), executor.WithDriver(o.driver))
	if ctx.Err() != nil {
		report.Interrupted, err = true, nil // that is all there is to say
	}
	return report, engine, err
}
