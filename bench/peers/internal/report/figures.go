// Package report turns samples into figures, tables and verdicts.
package report

import (
	"fmt"
	"slices"

	"uringo/bench/peers/internal/job"
)

// A Figure is what stands in one line of a table: medians over the rounds.
type Figure struct {
	job.Row
	Rate    float64 `json:"rate"`
	Spread  float64 `json:"spread"` // slowest to fastest round, as part of the median: how far to trust Rate
	CPU     float64 `json:"cpu_us_per_op"`
	Allocs  float64 `json:"allocs_per_op"` // job.NotCounted for what is not Go
	Threads int     `json:"threads"`       // the most of any round, or job.NotCounted
	// Absent is the reason why there is no figure. A contender that failed in one round has none: half a result
	// would hide that.
	Absent  string       `json:"absent,omitempty"`
	Samples []job.Sample `json:"samples,omitempty"`
}

// Figures are all lines of a run, in order.
type Figures []Figure

// Reduce takes the medians.
func Reduce(r *job.Results) Figures {
	var all Figures
	for _, row := range r.Rows {
		f := Figure{Row: row, Absent: r.Absent[row], Samples: r.Samples[row]}
		if f.Absent == "" {
			f.reduce()
		}
		all = append(all, f)
	}
	return all
}

func (f *Figure) reduce() {
	rates := each(f.Samples, job.Sample.Rate)
	f.Rate = median(rates)
	if f.Rate > 0 {
		f.Spread = (slices.Max(rates) - slices.Min(rates)) / f.Rate
	}
	f.CPU = median(each(f.Samples, job.Sample.CPUPerOp))
	f.Allocs = median(each(f.Samples, job.Sample.AllocsPerOp))
	f.Threads = slices.Max(each(f.Samples, func(s job.Sample) int { return s.Threads }))
}

// find returns the line of that row, if the run had it in its plan.
func (all Figures) find(row job.Row) (Figure, bool) {
	i := slices.IndexFunc(all, func(f Figure) bool { return f.Row == row })
	if i < 0 {
		return Figure{}, false
	}
	return all[i], true
}

// peerOf returns the line of a peer to compare f with: on the same number of cores where it was measured so,
// else on any.
func (all Figures) peerOf(f Figure, contender string) (Figure, bool) {
	row := f.Row
	row.Contender = contender
	if p, ok := all.find(row); ok {
		return p, p.Absent == ""
	}
	i := slices.IndexFunc(all, func(p Figure) bool {
		row.Cores = p.Cores
		return p.Row == row && p.Absent == ""
	})
	if i < 0 {
		return Figure{}, false
	}
	return all[i], true
}

// over is the ratio of f to p in a quantity of their samples, round by round. A machine that is shared with others may be
// three times as slow in one round as in the next, but contenders of one round are measured seconds apart.
func (f Figure) over(p Figure, quantity func(job.Sample) float64) ratios {
	var all ratios
	for i := range min(len(f.Samples), len(p.Samples)) {
		all = append(all, quantity(f.Samples[i])/quantity(p.Samples[i]))
	}
	return all
}

// ratios are those of two contenders, by round.
type ratios []float64

func (r ratios) median() float64 { return median(r) }

// String gives the lowest and the highest beside the median, where there are several: how far to trust it.
func (r ratios) String() string {
	if len(r) == 1 {
		return fmt.Sprintf("%.2f ×", r.median())
	}
	return fmt.Sprintf("%.2f × (%.2f to %.2f)", r.median(), slices.Min(r), slices.Max(r))
}

func each[T any](samples []job.Sample, figure func(job.Sample) T) []T {
	var out []T
	for _, s := range samples {
		out = append(out, figure(s))
	}
	return out
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	mid := len(v) / 2
	if len(v)%2 == 1 {
		return v[mid]
	}
	return (v[mid-1] + v[mid]) / 2
}
