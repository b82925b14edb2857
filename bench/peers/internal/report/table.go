package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"uringo/bench/peers/internal/job"
)

// A view is how one work is shown.
type view struct {
	work    string
	title   string
	unit    string
	against []string // the peers that get a ratio column
}

var views = []view{
	{job.Nop, "No-op", "ops", []string{"iouring-go", "giouring", "c-liburing"}},
	{job.Cached, "4 KiB random reads, in the page cache", "ops", []string{"os", "giouring", "c-liburing"}},
	{job.Direct, "4 KiB random reads, O_DIRECT", "ops", []string{"os", "c-liburing", "fio"}},
	{job.Write, "4 KiB random writes, buffered", "ops", []string{"os", "giouring", "c-liburing"}},
	{job.Stat, "Stat of files in the cache", "ops", []string{"os", "c-liburing"}},
	{job.Create, "Small files: create and write 4 KiB", "files", []string{"os"}},
	{job.Read, "Small files: open, read, close", "files", []string{"os"}},
	{job.Unlink, "Small files: unlink", "files", []string{"os"}},
	{job.StreamRead, "One file of 1 GiB in order, from the device through the page cache", "MiB", []string{"os", "dd"}},
	{job.StreamReadDirect, "One file of 1 GiB in order, O_DIRECT", "MiB", []string{"fio"}},
	{job.StreamWrite, "Writing one file of 1 GiB in order, with fsync", "MiB", []string{"os", "dd"}},
	{job.StreamWriteDirect, "Writing one file of 1 GiB in order, O_DIRECT, with fsync", "MiB", []string{"fio"}},
	{job.WalkCold, "Walk of a tree of 100 000 files with the stat of each, nothing in the cache", "files", []string{"os"}},
	{job.WalkWarm, "The same walk, everything in the cache", "files", []string{"os"}},
	{job.FilesCold, "ReadFile of 10 000 files of 4 KiB, nothing in the cache", "files", []string{"os"}},
	{job.FilesWarm, "The same files, in the cache", "files", []string{"os"}},
	{job.Flood, "4 KiB random reads, O_DIRECT, from more tasks than Go has threads for", "ops", []string{"os", "fio"}},
	{job.Beside, "One task with cached reads, beside others that wait for a slow file system, or alone", "ops", []string{"os", "os-alone"}},
	{job.Echo, "Echo of 64 bytes over TCP, one request at a time on every connection", "requests", []string{"net", "gnet", "c-once", "c-multi"}},
	{job.Pipelined, "Echo of 512 bytes over TCP, 16 requests in flight on every connection", "requests", []string{"net", "gnet", "c-once", "c-multi"}},
	{job.Accept, "A TCP connection, one request of 64 bytes, close", "connections", []string{"net", "gnet", "c-once", "c-multi"}},
	{job.SendFile, "16 MiB of a file in the page cache to a TCP connection", "files", []string{"net"}},
	{job.Hello, "HTTP, keep-alive, GET of a hello", "requests", []string{"net"}},
	{job.Copy, "Copy of one big file, in the page cache", "MiB", []string{"os", "os-blocks", "cp"}},
}

// Markdown writes one table per work.
func (all Figures) Markdown(w io.Writer) {
	for _, v := range views {
		lines := all.of(v.work)
		if len(lines) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n## %s\n\n", v.title)
		writeRow(w, v.header())
		writeRow(w, slices.Repeat([]string{"---"}, len(v.header())))
		for _, f := range lines {
			writeRow(w, v.line(all, f))
		}
	}
}

func (v view) header() []string {
	h := []string{"tasks", "contender", "cores", v.unit + "/s", "spread"}
	for _, peer := range v.against {
		h = append(h, "÷ "+peer)
	}
	one := strings.TrimSuffix(v.unit, "s")
	return append(h, "CPU µs/"+one, "allocs/"+one, "threads")
}

func (v view) line(all Figures, f Figure) []string {
	cells := []string{fmt.Sprint(f.Tasks), f.Contender, fmt.Sprint(f.Cores)}
	if f.Absent != "" {
		cells = append(cells, "ABSENT: "+oneLine(f.Absent))
		return append(cells, slices.Repeat([]string{""}, len(v.header())-len(cells))...)
	}
	cells = append(cells, thousands(f.Rate), fmt.Sprintf("%.0f %%", 100*f.Spread))
	for _, contender := range v.against {
		cell := "–"
		if p, ok := all.peerOf(f, contender); ok && p.Rate > 0 {
			cell = fmt.Sprintf("%.2f", f.over(p, job.Sample.Rate).median())
		}
		cells = append(cells, cell)
	}
	return append(cells, counted(f.CPU, "%.2f"), counted(f.Allocs, "%.2f"), counted(float64(f.Threads), "%.0f"))
}

func (all Figures) of(work string) Figures {
	var some Figures
	for _, f := range all {
		if f.Work == work {
			some = append(some, f)
		}
	}
	return some
}

func counted(v float64, format string) string {
	if v == job.NotCounted {
		return "–"
	}
	return fmt.Sprintf(format, v)
}

func thousands(rate float64) string {
	switch {
	case rate >= 1e6:
		return fmt.Sprintf("%.2f M", rate/1e6)
	case rate >= 1e4:
		return fmt.Sprintf("%.0f k", rate/1e3)
	}
	return fmt.Sprintf("%.0f", rate)
}

func oneLine(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", "/")
}

func writeRow(w io.Writer, cells []string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }
