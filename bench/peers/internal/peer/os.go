package peer

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"uringo/bench/peers/internal/job"
	"uringo/bench/peers/internal/meter"
	"uringo/bench/peers/internal/testdir"
)

// goOS is the standard library with a goroutine per task: the peer that a Go program has without any library. It
// copies as one does with it, by io.Copy, which hands the whole copy to the kernel.
func goOS() Contender {
	return Contender{Name: "os", Works: map[string]Measure{
		job.Cached: randomIO(osRuntime{}),
		job.Direct: randomIO(osRuntime{}),
		job.Write:  randomIO(osRuntime{}),
		job.Stat:   warmStat(osRuntime{}),
		job.Small:  smallFiles(osRuntime{}),
		job.Copy:   ioCopy,

		job.StreamRead:  stream(osRuntime{}),
		job.StreamWrite: stream(osRuntime{}),
		job.WalkCold:    walkTree(osRuntime{}),
		job.WalkWarm:    walkTree(osRuntime{}),
		job.FilesCold:   readFiles(osRuntime{}),
		job.FilesWarm:   readFiles(osRuntime{}),
		job.Flood:       flood(osFlood()),
		job.Beside:      beside(osRuntime{}, true),
	}}
}

// goOSAlone is what goOS is compared with where it has something beside it.
func goOSAlone() Contender {
	return Contender{Name: "os-alone", Works: map[string]Measure{job.Beside: beside(osRuntime{}, false)}}
}

// goOSBlocks copies with os.File the way the product does, block by block: the difference between the two is the
// library's, the difference between this and io.Copy is copy_file_range's.
func goOSBlocks() Contender {
	return Contender{Name: "os-blocks", Works: map[string]Measure{job.Copy: blockCopy(osRuntime{})}}
}

type osRuntime struct{ goroutines }

// floodThreads is how many threads the standard library may use for reads: Go ends a process that has 10 000.
const floodThreads = 9000

// osFlood is os with as many reads at once as Go has threads for: beyond 10 000 of them it ends the process.
func osFlood() blockRuntime { return &limitedOS{places: make(chan struct{}, floodThreads)} }

type limitedOS struct {
	osRuntime
	places chan struct{}
}

func (rt *limitedOS) open(ctx context.Context, name string, flag int) (blockFile, error) {
	f, err := rt.osRuntime.open(ctx, name, flag)
	return limitedFile{f, rt.places}, err
}

type limitedFile struct {
	blockFile
	places chan struct{}
}

func (f limitedFile) readAt(ctx context.Context, b []byte, off int64) (int, error) {
	f.places <- struct{}{}
	defer func() { <-f.places }()
	return f.blockFile.readAt(ctx, b, off)
}

func (osRuntime) open(_ context.Context, name string, flag int) (blockFile, error) {
	f, err := os.OpenFile(name, flag, 0o644)
	return osFile{f}, err
}

func (osRuntime) stat(_ context.Context, name string) error {
	_, err := os.Stat(name)
	return err
}

func (osRuntime) writeFile(_ context.Context, name string, data []byte) error {
	return os.WriteFile(name, data, 0o644)
}

func (osRuntime) readFile(_ context.Context, name string) error {
	_, err := os.ReadFile(name)
	return err
}

func (osRuntime) remove(_ context.Context, name string) error { return os.Remove(name) }

func (osRuntime) walk(_ context.Context, root string, each fs.WalkDirFunc) error {
	return filepath.WalkDir(root, each)
}

// pulse is nothing: without a library there is nobody between a goroutine and the kernel.
func (osRuntime) pulse(context.Context) error { return nil }

func (osRuntime) readStream(ctx context.Context, name string, flag int, to io.Writer) error {
	f, err := os.OpenFile(name, flag, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, f)
	return firstError(err, f.Close())
}

func (osRuntime) writeStream(ctx context.Context, name string, flag int, from io.Reader) error {
	f, err := os.OpenFile(name, flag, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	if err == nil {
		err = f.Sync()
	}
	return firstError(err, f.Close())
}

type osFile struct{ f *os.File }

func (f osFile) readAt(_ context.Context, b []byte, off int64) (int, error) {
	return f.f.ReadAt(b, off)
}
func (f osFile) writeAt(_ context.Context, b []byte, off int64) (int, error) {
	return f.f.WriteAt(b, off)
}
func (f osFile) close(context.Context) error { return f.f.Close() }

func ioCopy(_ context.Context, j job.Job) ([]job.Sample, error) {
	s, err := meter.Whole(j.Work, testdir.CachedSize>>20, func() error {
		src, err := os.Open(testdir.Cached(j.Dir))
		if err != nil {
			return err
		}
		defer src.Close()
		dst, err := os.Create(testdir.CopyTarget(j.Dir))
		if err != nil {
			return err
		}
		_, err = io.Copy(dst, src)
		return firstError(err, dst.Close())
	})
	return []job.Sample{s}, err
}
