package report

import (
	"slices"

	"uringo/bench/peers/internal/job"
)

// The executors whose tasks share processors, and the single-threaded ones. A contender with one thread by design is
// held against os on one core, the others against os on all of them.
var (
	parallel = []string{"goroutines", "pool", "workers4"}
	single   = []string{"local", "workers1"}
)

// floors is what the project promises. Each holds within one run; none is about absolute numbers.
func floors() []floor {
	return slices.Concat(nopFloors(), directFloors(), fixedFloors(), osFloors(), fileFloors(), netFloors(), allocFloors())
}

func nopFloors() []floor {
	nop := func(tasks int, contender string) job.Row {
		return job.Row{Work: job.Nop, Tasks: tasks, Contender: contender, Cores: 2}
	}
	return []floor{
		rate(nop(512, "goroutines"), 5, nop(512, "iouring-go")),
		rate(nop(512, "workers4"), 1.6, nop(512, "goroutines")),
		rate(nop(1, "local"), 2, nop(1, "goroutines")),
		rate(nop(64, "local"), 2, nop(64, "goroutines")),
		rate(nop(1, "local"), 0.8, nop(1, "giouring")),
		rate(nop(64, "local"), 0.55, nop(64, "giouring")),
	}
}

// directFloors say what io_uring is for: twice the rate of os for a fraction of its processor time. Where the
// device gives no more than that, being level with fio is as good.
func directFloors() []floor {
	var all []floor
	for _, row := range productRows(job.Direct, 32) {
		limit := row
		limit.Contender, limit.Cores = "fio", 1
		all = append(all, either{rate(row, 1.5, osFor(row)), rate(row, 0.95, limit)})
	}
	for _, row := range productRows(job.Direct, 32) {
		switch row.Contender {
		case "goroutines":
			all = append(all, cpu(row, 0.5, osFor(row)))
		case "local", "workers1", "workers4":
			all = append(all, cpu(row, 0.4, osFor(row)))
		}
	}
	return all
}

// fixedFloors say that registered buffers and files in the ring's table are worth the trouble.
func fixedFloors() []floor {
	var all []floor
	for _, row := range productRows(job.Direct, 32) {
		fixed := row
		fixed.Contender += "-fixed"
		all = append(all, cpu(fixed, 1, row))
	}
	return all
}

// fileFloors hold what one does with files as a whole against the standard library, and against what the device gives.
func fileFloors() []floor {
	var all []floor
	for _, l := range []struct {
		work   string
		tasks  int
		factor float64
		than   string
	}{
		{job.StreamRead, 1, 1, "os"},
		{job.StreamRead, 1, 1, "dd"},
		{job.StreamReadDirect, 1, 0.95, "fio"},
		{job.StreamWrite, 1, 1, "os"},
		{job.StreamWriteDirect, 1, 0.95, "fio"},
		{job.FilesCold, 64, 1.5, "os"},
		{job.FilesWarm, 64, 1, "os"},
		{job.Flood, 20000, 1.5, "os"},
	} {
		for _, row := range fewer(l.work, l.tasks) {
			than := row
			than.Contender = l.than
			all = append(all, rate(row, l.factor, than))
		}
	}
	// Walks read ahead, on whatever executor, so all have both processors.
	for _, contender := range []string{"local", "workers4", "goroutines"} {
		cold := job.Row{Work: job.WalkCold, Tasks: 1, Contender: contender, Cores: 2}
		warm := job.Row{Work: job.WalkWarm, Tasks: 1, Contender: contender, Cores: 2}
		all = append(all, rate(cold, 2, osFor(cold)), rate(warm, 1, osFor(warm)))
	}
	for _, row := range fewer(job.Flood, 20000) {
		all = append(all, threads{row, 64})
	}
	// So few of them that serving them takes hardly any processor time from the one that is measured.
	for _, row := range fewer(job.Beside, 16) {
		alone := row
		alone.Contender += "-alone"
		all = append(all, rate(row, 0.9, alone))
	}
	for _, row := range fewer(job.Beside, 1000) {
		all = append(all, threads{row, 64})
	}
	return all
}

// osFloors say that nobody loses by using the library.
func osFloors() []floor {
	var all []floor
	levels := []struct {
		work   string
		tasks  []int
		factor float64
	}{
		{job.Cached, []int{1, 32, 64}, 0.95},
		{job.Direct, []int{1, 64}, 0.9}, // depth 32 has a higher floor
		{job.Write, []int{1, 64}, 0.9},
		{job.Stat, []int{1, 64}, 0.9},
		{job.Create, []int{64}, 0.9},
		{job.Read, []int{64}, 0.9},
		{job.Unlink, []int{64}, 0.9},
	}
	for _, l := range levels {
		for _, tasks := range l.tasks {
			for _, row := range productRows(l.work, tasks) {
				all = append(all, rate(row, l.factor, osFor(row)))
			}
		}
	}
	// Blocks are held against blocks: io.Copy has the kernel copy, which a program can ask for with either library.
	for _, row := range productRows(job.Copy, 8) {
		blocks := row
		blocks.Contender = "os-blocks"
		all = append(all, rate(row, 0.9, blocks))
	}
	return all
}

// netFloors hold servers on one core against the standard library's, and against the least that C does with io_uring. The TCP stack
// costs most of it, whoever calls it, so the processor time per request is the honest figure.
func netFloors() []floor {
	row := func(work string, connections int, contender string) job.Row {
		return job.Row{Work: work, Tasks: connections, Contender: contender, Cores: 1}
	}
	echo := func(contender string) job.Row { return row(job.Echo, 64, contender) }
	pipelined := func(contender string) job.Row { return row(job.Pipelined, 16, contender) }
	all := []floor{
		rate(echo("local"), 0.95, echo("c-once")),
		rate(echo("local"), 1.15, echo("net")),
		cpu(echo("local"), 0.87, echo("net")),
		rate(echo("workers1"), 1.05, echo("net")),
		rate(echo("goroutines"), 1, echo("net")),
		rate(pipelined("local"), 1, pipelined("net")),
	}
	for _, contender := range []string{"local", "workers1", "goroutines"} {
		all = append(all, rate(row(job.Accept, 16, contender), 1, row(job.Accept, 16, "net")))
	}
	for _, contender := range []string{"local", "workers1", "goroutines"} {
		all = append(all, rate(row(job.SendFile, 4, contender), 0.95, row(job.SendFile, 4, "net")))
	}
	for _, contender := range []string{"workers1", "goroutines"} {
		all = append(all, rate(row(job.Hello, 64, contender), 0.95, row(job.Hello, 64, "net")))
	}
	return all
}

func allocFloors() []floor {
	var all []floor
	for _, work := range []string{job.Nop, job.Cached, job.Direct, job.Write, job.Echo, job.Pipelined} {
		for _, contender := range slices.Concat(single, parallel) {
			all = append(all, noAllocs{work, contender})
		}
	}
	return all
}

// productRows are the rows of the product that are held against os.
func productRows(work string, tasks int) []job.Row {
	var rows []job.Row
	for _, contender := range single {
		rows = append(rows, job.Row{Work: work, Tasks: tasks, Contender: contender, Cores: 1})
	}
	for _, contender := range parallel {
		rows = append(rows, job.Row{Work: work, Tasks: tasks, Contender: contender, Cores: 2})
	}
	return rows
}

func osFor(row job.Row) job.Row {
	row.Contender = "os"
	return row
}

// fewer are the rows of works that take long to measure.
func fewer(work string, tasks int) []job.Row {
	return []job.Row{
		{Work: work, Tasks: tasks, Contender: "local", Cores: 1},
		{Work: work, Tasks: tasks, Contender: "workers4", Cores: 2},
		{Work: work, Tasks: tasks, Contender: "goroutines", Cores: 2},
	}
}
