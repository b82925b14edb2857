package suite

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"uringo/bench/peers/internal/job"
	"uringo/bench/peers/internal/peer"
	"uringo/bench/peers/internal/testdir"
)

// A Run is how often and how long to measure, and where.
type Run struct {
	Dir      string
	Rounds   int
	Measure  time.Duration
	Progress io.Writer
}

// Do measures the plan.
func (r Run) Do(ctx context.Context, plan []group) (*job.Results, error) {
	res := &job.Results{Samples: map[job.Row][]job.Sample{}, Absent: map[job.Row]string{}}
	works := map[string]bool{}
	for _, g := range plan {
		for _, row := range g {
			works[row.Work] = true
			res.Rows = append(res.Rows, split(row)...)
		}
	}
	if err := testdir.Make(r.Dir, works); err != nil {
		return nil, fmt.Errorf("test files: %w", err)
	}
	absent := r.prepare(ctx, plan)
	for round := range r.Rounds {
		for _, g := range plan {
			for _, row := range turned(g, round) {
				for _, reason := range []error{absent[row.Contender], testdir.Impossible(row.Work)} {
					if reason != nil {
						miss(res, row, reason)
					}
				}
				if res.Absent[split(row)[0]] != "" {
					continue // also in the rounds after one that failed: its row is lost, and a hang costs half a minute
				}
				if err := r.one(ctx, round, row, res); err != nil {
					return nil, err
				}
			}
		}
	}
	return res, nil
}

// turned reverses every other round: a contender that comes after a heavy writer in one round comes before it in
// the next.
func turned(g group, round int) group {
	if round%2 == 0 {
		return g
	}
	back := slices.Clone(g)
	slices.Reverse(back)
	return back
}

// prepare readies the contenders of the plan and returns the reasons of those that cannot take part, loudly.
func (r Run) prepare(ctx context.Context, plan []group) map[string]error {
	needed := map[string]bool{}
	for _, g := range plan {
		for _, row := range g {
			needed[row.Contender] = true
		}
	}
	absent := map[string]error{}
	for _, c := range peer.All() {
		if !needed[c.Name] || c.Prepare == nil {
			continue
		}
		if err := c.Prepare(ctx, r.Dir); err != nil {
			absent[c.Name] = err
			fmt.Fprintf(r.Progress, "ABSENT %s: %v\n", c.Name, err)
		}
	}
	return absent
}

// one measures one row once. A contender that fails loses its row and not the run; its error is an answer, too.
func (r Run) one(ctx context.Context, round int, row job.Row, res *job.Results) error {
	if err := testdir.Settle(r.Dir, row.Work); err != nil {
		return fmt.Errorf("test files: %w", err)
	}
	samples, err := spawn(ctx, job.Job{Row: row, Dir: r.Dir, Warm: r.Measure / 5, Measure: r.Measure})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if cleanErr := testdir.Clean(r.Dir, row.Work); cleanErr != nil {
		return fmt.Errorf("test files: %w", cleanErr)
	}
	if err != nil {
		miss(res, row, err)
		fmt.Fprintf(r.Progress, "FAILED %s tasks=%d %s %dc: %v\n", row.Work, row.Tasks, row.Contender, row.Cores, err)
		return nil
	}
	for _, s := range samples {
		at := row
		at.Work = s.Work
		res.Samples[at] = append(res.Samples[at], s)
		fmt.Fprintf(r.Progress, "round %d/%d %s tasks=%d %s %dc: %.0f/s\n",
			round+1, r.Rounds, at.Work, at.Tasks, at.Contender, at.Cores, s.Rate())
	}
	return nil
}

func miss(res *job.Results, row job.Row, reason error) {
	for _, at := range split(row) {
		res.Absent[at] = reason.Error()
	}
}

// split is the rows of the report that one measured row gives.
func split(row job.Row) []job.Row {
	var rows []job.Row
	for _, work := range reported(row.Work) {
		at := row
		at.Work = work
		rows = append(rows, at)
	}
	return rows
}
