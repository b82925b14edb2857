package testdir

import (
	"io"
	"os"

	"uringo/bench/peers/internal/job"
)

// Settle gives every measurement of a work the same start: what is to be read from the page cache is in it, and
// no dirty page of an earlier measurement is left for the device to write during this one.
func Settle(dir, work string) error {
	switch work {
	case job.Cached, job.Copy:
		return warm(Cached(dir))
	case job.Write:
		if err := warm(Write(dir)); err != nil {
			return err
		}
		return flush(Write(dir))
	}
	return nil
}

// Clean removes what a measurement left in the directory, also one that died halfway, and writes out what it wrote.
func Clean(dir, work string) error {
	switch work {
	case job.Write:
		return flush(Write(dir))
	case job.Copy:
		return os.RemoveAll(CopyTarget(dir))
	case job.Small:
		if err := os.RemoveAll(Small(dir)); err != nil {
			return err
		}
		return os.Mkdir(Small(dir), 0o755)
	}
	return nil
}

func warm(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, f)
	return err
}

func flush(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
