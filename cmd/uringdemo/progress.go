package main

import (
	"io"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"uringo/cmd/uringdemo/internal/copier"
)

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// showProgress shows a bar until the returned function is called. The bar asks for figures; no task waits for it. Its total grows
// as files are found.
func (o *output) showProgress(p *copier.Progress) (stop func()) {
	if !o.bars {
		return func() {}
	}
	start := time.Now()
	bars := mpb.New(mpb.WithOutput(o.stderr), mpb.WithWidth(48), mpb.WithRefreshRate(100*time.Millisecond))
	bar := bars.New(0, mpb.BarStyle(),
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string {
			return humanize.Comma(p.Entries.Load()) + " entries, " + humanize.IBytes(uint64(p.Done.Load())) + " "
		})),
		mpb.AppendDecorators(decor.Any(func(s decor.Statistics) string {
			return humanize.IBytes(uint64(float64(s.Current)/max(time.Since(start).Seconds(), 0.1))) + "/s"
		})),
	)
	o.mu.Lock()
	o.above = bars
	o.mu.Unlock()

	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				bar.SetTotal(p.Found.Load(), false)
				bar.SetCurrent(p.Done.Load())
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-ended
		bar.Abort(true)
		bars.Wait()
		o.mu.Lock()
		o.above = nil
		o.mu.Unlock()
	}
}
