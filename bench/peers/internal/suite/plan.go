// Package suite runs the contenders side by side: it lays out the rows, starts one subprocess for each measurement,
// and collects the samples. Rounds are interleaved (every contender once, then every contender again), so that whatever
// disturbs the machine for a while disturbs all of them.
package suite

import (
	"regexp"
	"slices"

	"uringo/bench/peers/internal/job"
)

// A who is a contender and the numbers of processors it is measured with.
type who struct {
	contender string
	cores     []int
}

// The executors of the product by the processors they can use. The single-threaded ones are measured on one core,
// where they are compared, and on two, where their driver and Go's collector find room beside them.
var (
	anyCores = []int{2}
	oneCore  = []int{1}
	both     = []int{1, 2}

	product = []who{
		{"local", both}, {"workers1", both}, {"workers4", anyCores}, {"goroutines", anyCores}, {"pool", anyCores},
	}
	// A server is measured on one core, beside the load on the other.
	servers = []who{{"local", oneCore}, {"workers1", oneCore}, {"goroutines", oneCore}}
	inRing  = []who{{"local-ring", oneCore}, {"workers1-ring", oneCore}, {"goroutines-ring", oneCore}}
	std     = []who{{"os", both}}
	multi   = []who{{"local-multi", oneCore}, {"workers1-multi", oneCore}, {"goroutines-multi", oneCore}}
	// Registered buffers and the ring's table of files, beside the same executors without.
	fixed = []who{{"local-fixed", oneCore}, {"workers1-fixed", oneCore}, {"workers4-fixed", anyCores}, {"goroutines-fixed", anyCores}, {"pool-fixed", anyCores}}
	// Works that wait for a device, or that one task does, need no more of the product than this.
	alone = []who{{"local-alone", oneCore}, {"workers4-alone", anyCores}, {"goroutines-alone", anyCores}, {"os-alone", both}}
	walks = []who{{"local", both}, {"workers4", anyCores}, {"goroutines", anyCores}} // on every executor others read ahead
	some  = []who{{"local", oneCore}, {"workers4", anyCores}, {"goroutines", anyCores}}
	nets  = []who{{"net", oneCore}, {"gnet", oneCore}, {"c-once", oneCore}, {"c-multi", oneCore}}
	rings = []who{{"iouring-go", anyCores}, {"giouring", oneCore}, {"c-liburing", oneCore}}
)

// A table is one work with all its rows.
type table struct {
	work  string
	tasks []int
	who   []who
}

// tables is the whole plan, in the order of the report. No-ops use no pinning: their contenders are compared as users
// would run them.
var tables = []table{
	{job.Nop, []int{1, 8, 64, 512}, unpinned(product, rings)},
	{job.Cached, []int{1, 32, 64}, slices.Concat(product, std, rings)},
	{job.Direct, []int{1, 32, 64}, slices.Concat(product, fixed, std, rings, []who{{"fio", oneCore}})},
	{job.Write, []int{1, 64}, slices.Concat(product, std, rings)},
	{job.Stat, []int{1, 64}, slices.Concat(product, std, []who{{"c-liburing", oneCore}})},
	{job.Small, []int{64}, slices.Concat(product, std)},
	{job.Copy, []int{8}, slices.Concat(product, std, []who{{"os-blocks", both}, {"cp", both}})},
	{job.StreamRead, []int{1}, slices.Concat(some, std, []who{{"dd", both}})},
	{job.StreamReadDirect, []int{1}, slices.Concat(some, []who{{"fio", both}})},
	{job.StreamWrite, []int{1}, slices.Concat(some, std, []who{{"dd", both}})},
	{job.StreamWriteDirect, []int{1}, slices.Concat(some, []who{{"fio", both}})},
	{job.WalkCold, []int{1}, slices.Concat(walks, std)},
	{job.WalkWarm, []int{1}, slices.Concat(walks, std)},
	{job.FilesCold, []int{64}, slices.Concat(some, std)},
	{job.FilesWarm, []int{64}, slices.Concat(some, std)},
	{job.Flood, []int{20000}, slices.Concat(some, std, []who{{"fio", both}})},
	{job.Beside, []int{16, 1000}, slices.Concat(some, std, alone)},
	{job.Echo, []int{64}, slices.Concat(servers, inRing, multi, nets)},
	{job.Pipelined, []int{16}, slices.Concat(servers, multi, nets)},
	{job.Accept, []int{16}, slices.Concat(servers, inRing, multi, nets)},
	{job.SendFile, []int{4}, slices.Concat(servers, []who{{"net", oneCore}})},
	{job.Hello, []int{64}, []who{{"workers1", oneCore}, {"goroutines", oneCore}, {"net", oneCore}}},
}

func unpinned(groups ...[]who) []who {
	all := slices.Concat(groups...)
	for i := range all {
		all[i].cores = anyCores
	}
	return all
}

// A group is the rows that stand in one table and differ in the contender alone: they are measured one right after
// the other.
type group []job.Row

// Plan lists the groups of rows whose work and contender match.
func Plan(work, contender *regexp.Regexp) []group {
	var plan []group
	for _, t := range tables {
		for _, tasks := range t.tasks {
			var g group
			for _, w := range t.who {
				for _, cores := range w.cores {
					if work.MatchString(t.work) && contender.MatchString(w.contender) {
						g = append(g, job.Row{Work: t.work, Tasks: tasks, Contender: w.contender, Cores: cores})
					}
				}
			}
			if len(g) > 0 {
				plan = append(plan, g)
			}
		}
	}
	return plan
}

// reported are the works that a planned work is reported as.
func reported(work string) []string {
	if work == job.Small {
		return []string{job.Create, job.Read, job.Unlink}
	}
	return []string{work}
}
