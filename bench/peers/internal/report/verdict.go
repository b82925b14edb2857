package report

import (
	"fmt"
	"io"
	"slices"

	"uringo/bench/peers/internal/job"
)

// A Verdict is one floor held against one run.
type Verdict struct {
	Floor string `json:"floor"`
	Found string `json:"found"`
	Pass  bool   `json:"pass"`
}

// A floor judges a run. It has no verdict (false) when the run left its rows out.
type floor interface {
	judge(all Figures) (Verdict, bool)
}

// Judge holds all floors against the run.
func (all Figures) Judge() []Verdict {
	var verdicts []Verdict
	for _, f := range floors() {
		if v, ok := f.judge(all); ok {
			verdicts = append(verdicts, v)
		}
	}
	return verdicts
}

// WriteVerdicts writes the list of floors.
func WriteVerdicts(w io.Writer, verdicts []Verdict) {
	fmt.Fprint(w, "\n## Floors\n\n")
	writeRow(w, []string{"", "floor", "found"})
	writeRow(w, []string{"---", "---", "---"})
	for _, v := range verdicts {
		word := "PASS"
		if !v.Pass {
			word = "**FAIL**"
		}
		writeRow(w, []string{word, v.Floor, v.Found})
	}
}

// A ratio compares two rows in one quantity.
type ratio struct {
	of, than job.Row
	what     string
	quantity func(job.Sample) float64
	factor   float64
	atMost   bool
}

func rate(of job.Row, atLeast float64, than job.Row) ratio {
	return ratio{of, than, "rate", job.Sample.Rate, atLeast, false}
}

func cpu(of job.Row, atMost float64, than job.Row) ratio {
	return ratio{of, than, "CPU per op", job.Sample.CPUPerOp, atMost, true}
}

func (r ratio) judge(all Figures) (Verdict, bool) {
	of, ok := all.find(r.of)
	than, okThan := all.find(r.than)
	if !ok || !okThan {
		return Verdict{}, false
	}
	v := Verdict{Floor: r.String()}
	for _, f := range []Figure{of, than} {
		if f.Absent != "" {
			v.Found = fmt.Sprintf("%s is absent: %s", f.Contender, oneLine(f.Absent))
			return v, true
		}
	}
	found := of.over(than, r.quantity)
	v.Found = found.String()
	v.Pass = found.median() >= r.factor
	if r.atMost {
		v.Pass = found.median() <= r.factor
	}
	return v, true
}

func (r ratio) String() string {
	sign := "≥"
	if r.atMost {
		sign = "≤"
	}
	return fmt.Sprintf("%s tasks=%d: %s of %s (%dc) %s %g × %s (%dc)",
		r.of.Work, r.of.Tasks, r.what, r.of.Contender, r.of.Cores, sign, r.factor, r.than.Contender, r.than.Cores)
}

// threads holds when the process has no more of them.
type threads struct {
	row  job.Row
	most int
}

func (t threads) judge(all Figures) (Verdict, bool) {
	f, ok := all.find(t.row)
	v := Verdict{Floor: fmt.Sprintf("%s tasks=%d: threads of %s (%dc) ≤ %d", t.row.Work, t.row.Tasks, t.row.Contender, t.row.Cores, t.most)}
	if f.Absent != "" {
		v.Found = fmt.Sprintf("%s is absent: %s", f.Contender, oneLine(f.Absent))
		return v, ok
	}
	v.Found, v.Pass = fmt.Sprint(f.Threads), f.Threads <= t.most
	return v, ok
}

// either holds when one of the two does. The second has no say where it has no verdict or no figure.
type either [2]ratio

func (e either) judge(all Figures) (Verdict, bool) {
	first, ok := e[0].judge(all)
	second, okSecond := e[1].judge(all)
	if !ok || !okSecond {
		return first, ok
	}
	return Verdict{
		Floor: first.Floor + ", or " + second.Floor,
		Found: first.Found + ", " + second.Found,
		Pass:  first.Pass || second.Pass,
	}, true
}

// noAllocs holds when no row of the contender in that work allocates.
type noAllocs struct{ work, contender string }

// The runtime allocates a little beside the operations: for timers, for the collector. It shows where operations are
// slow and thus few, so a floor has room for a share of the operations and for a handful in all.
const (
	hardlyAny = 0.01
	handful   = 64
)

func (n noAllocs) judge(all Figures) (Verdict, bool) {
	v := Verdict{Floor: fmt.Sprintf("%s: %s allocates nothing", n.work, n.contender)}
	var worst float64
	var rows int
	for _, f := range all.of(n.work) {
		if f.Contender != n.contender {
			continue
		}
		if f.Absent != "" {
			v.Found = fmt.Sprintf("absent: %s", oneLine(f.Absent))
			return v, true
		}
		rows++
		if slices.ContainsFunc(f.Samples, func(s job.Sample) bool { return s.Allocs > handful }) {
			worst = max(worst, f.Allocs)
		}
	}
	v.Found = fmt.Sprintf("at most %.4f per op", worst)
	v.Pass = worst < hardlyAny
	return v, rows > 0
}
