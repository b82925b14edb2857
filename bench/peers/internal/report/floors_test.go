package report

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"uringo/bench/peers/internal/job"
)

// results makes a run in which every named row has the given rates, one sample each.
func results(rates map[job.Row][]int64) *job.Results {
	r := &job.Results{Samples: map[job.Row][]job.Sample{}, Absent: map[job.Row]string{}}
	for row, each := range rates {
		r.Rows = append(r.Rows, row)
		for _, ops := range each {
			r.Samples[row] = append(r.Samples[row], job.Sample{Work: row.Work, Ops: ops, Elapsed: time.Second, CPU: time.Second})
		}
	}
	return r
}

func direct(contender string, cores int) job.Row {
	return job.Row{Work: job.Direct, Tasks: 32, Contender: contender, Cores: cores}
}

func verdict(t *testing.T, r *job.Results, floor string) Verdict {
	t.Helper()
	for _, v := range Reduce(r).Judge() {
		if strings.Contains(v.Floor, floor) {
			return v
		}
	}
	t.Fatalf("no verdict on %q", floor)
	return Verdict{}
}

// A machine that is four times as slow in the second round says as much about the two as in the others.
func TestMedianOfRatios(t *testing.T) {
	r := results(map[job.Row][]int64{
		direct("local", 1): {150, 40, 170},
		direct("os", 1):    {100, 25, 90},
	})
	if v := verdict(t, r, "rate of local"); !v.Pass || v.Found != "1.60 × (1.50 to 1.89)" {
		t.Errorf("got %+v", v)
	}
	// The same processor time for more operations: 1/1.6 of it per operation, which is too much.
	if v := verdict(t, r, "CPU per op of local"); v.Pass {
		t.Errorf("got %+v", v)
	}
}

func TestDeviceLimitExcusesTheRate(t *testing.T) {
	r := results(map[job.Row][]int64{
		direct("local", 1): {100},
		direct("os", 1):    {90},
		direct("fio", 1):   {102},
	})
	if v := verdict(t, r, "rate of local"); !v.Pass {
		t.Errorf("level with fio, got %+v", v)
	}
	r.Absent[direct("fio", 1)] = "not installed"
	if v := verdict(t, r, "rate of local"); v.Pass {
		t.Errorf("without fio nothing excuses it, got %+v", v)
	}
}

func TestFailedProductRowFailsItsFloor(t *testing.T) {
	r := results(map[job.Row][]int64{
		direct("local", 1): {200},
		direct("os", 1):    {90},
	})
	r.Absent[direct("local", 1)] = "hung in round 2"
	v := verdict(t, r, "rate of local")
	if v.Pass || !strings.Contains(v.Found, "hung in round 2") {
		t.Errorf("got %+v", v)
	}
}

func TestRowsLeftOutAreNotJudged(t *testing.T) {
	r := results(map[job.Row][]int64{direct("os", 1): {90}})
	if v := Reduce(r).Judge(); len(v) != 0 {
		t.Errorf("got %+v", v)
	}
}

func TestAnyRowThatAllocatesFails(t *testing.T) {
	r := results(map[job.Row][]int64{direct("local", 1): {1000}, direct("local", 2): {1000}})
	if v := verdict(t, r, "local allocates"); !v.Pass {
		t.Errorf("got %+v", v)
	}
	r.Samples[direct("local", 2)][0].Allocs = 1000
	if v := verdict(t, r, "local allocates"); v.Pass {
		t.Errorf("got %+v", v)
	}
}

func TestPeerOnOtherCores(t *testing.T) {
	all := Reduce(results(map[job.Row][]int64{
		direct("local", 2): {200},
		direct("os", 1):    {50},
		direct("os", 2):    {100},
		direct("fio", 1):   {400},
	}))
	local, _ := all.find(direct("local", 2))
	if p, ok := all.peerOf(local, "os"); !ok || p.Cores != 2 {
		t.Errorf("os: got %+v", p)
	}
	if p, ok := all.peerOf(local, "fio"); !ok || p.Rate != 400 {
		t.Errorf("fio has one row only, got %+v", p)
	}
}

func TestTablesNameAbsentRows(t *testing.T) {
	r := results(map[job.Row][]int64{direct("local", 1): {200}, direct("fio", 1): nil})
	r.Absent[direct("fio", 1)] = "fio is\nnot installed"
	var out strings.Builder
	Reduce(r).Markdown(&out)
	if !strings.Contains(out.String(), "ABSENT: fio is not installed") {
		t.Error(out.String())
	}
}

func TestNothingDone(t *testing.T) {
	all := Reduce(results(map[job.Row][]int64{direct("local", 1): {200}, direct("os", 1): {0}}))
	var out strings.Builder
	all.Markdown(&out)
	if strings.Contains(out.String(), "Inf") || strings.Contains(out.String(), "NaN") {
		t.Error(out.String())
	}
	if _, err := json.Marshal(all); err != nil {
		t.Error(err)
	}
}
