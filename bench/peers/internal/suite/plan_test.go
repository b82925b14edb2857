package suite

import (
	"regexp"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/bench/peers/internal/job"
	"uringo/bench/peers/internal/peer"
)

func TestEveryPlannedRowHasAContender(t *testing.T) {
	all := regexp.MustCompile("")
	for _, g := range Plan(all, all) {
		for _, row := range g {
			c, ok := peer.Find(row.Contender)
			if !ok {
				t.Fatalf("no contender %q", row.Contender)
			}
			if c.Works[row.Work] == nil {
				t.Errorf("%s cannot do %s", row.Contender, row.Work)
			}
		}
	}
}

func TestPlanFilters(t *testing.T) {
	plan := Plan(regexp.MustCompile("^nop$"), regexp.MustCompile("^local$"))
	if len(plan) != 4 {
		t.Fatalf("one group for each number of tasks, got %v", plan)
	}
	for _, g := range plan {
		if len(g) != 1 || g[0].Work != job.Nop || g[0].Contender != "local" {
			t.Errorf("got %v", g)
		}
	}
}

func TestLastProcessors(t *testing.T) {
	var all unix.CPUSet
	for _, cpu := range []int{0, 3, 5} {
		all.Set(cpu)
	}
	some, err := last(all, 2)
	if err != nil || some.Count() != 2 || !some.IsSet(3) || !some.IsSet(5) {
		t.Errorf("got %v, %v", some, err)
	}
	if _, err := last(all, 4); err == nil {
		t.Error("more processors than there are")
	}
}
