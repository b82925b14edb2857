// Package peer holds the contenders. A contender measures one row inside the current process and leaves the choice of
// rows, rounds and processors to its caller. Loads are shared where two contenders have like interfaces, so that a
// difference between their rows is a difference between them and not between two loops.
package peer

import (
	"context"
	"slices"

	"uringo/bench/peers/internal/job"
)

// A Measure runs one row and reports it, as several samples where one run covers several works.
type Measure func(ctx context.Context, j job.Job) ([]job.Sample, error)

// A Contender is one name in the tables.
type Contender struct {
	Name string
	// Prepare builds or finds what the contender needs, in the test directory of the run. Its error is the reason
	// why all rows of the contender are absent. Nil means that it needs nothing.
	Prepare func(ctx context.Context, dir string) error
	Works   map[string]Measure
}

// All lists the contenders in the order of the tables: the product, then its peers.
func All() []Contender {
	return append(slices.Concat(uringos(), uringosFixed(), uringosInRing(), uringosMulti(), uringosAlone()),
		goOS(),
		goOSAlone(),
		goOSBlocks(),
		iouringGo(),
		giouringLoop(),
		liburing(),
		fio(),
		cp(),
		dd(),
		goNet(),
		gNet(),
		cEcho("once"),
		cEcho("multi"),
	)
}

// Find returns the contender of that name.
func Find(name string) (Contender, bool) {
	for _, c := range All() {
		if c.Name == name {
			return c, true
		}
	}
	return Contender{}, false
}

// inRow is how many no-ops a task makes between two looks at the meter. A bare loop looks once for a whole batch, and to look for each would be
// a tenth of what a task's no-op costs.
func inRow(j job.Job) int { return min(j.Tasks, 16) }
