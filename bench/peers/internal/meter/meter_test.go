package meter

import (
	"errors"
	"sync"
	"testing"
	"time"

	"uringo/bench/peers/internal/job"
)

var short = job.Job{Row: job.Row{Work: job.Nop}, Warm: 10 * time.Millisecond, Measure: 50 * time.Millisecond}

func TestSteadyCountsTheMeasuredTimeOnly(t *testing.T) {
	var s job.Sample
	for try := 0; s.Ops == 0 && try < 20; try++ { // on a busy machine the tasks may sleep through it all
		var err error
		s, err = Steady(short, 2, func(m *Meter) error {
			var tasks sync.WaitGroup
			for range 2 {
				tasks.Go(func() {
					_ = m.Loop(func() (int, error) { time.Sleep(time.Millisecond); return 1, nil })
				})
			}
			tasks.Wait()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if s.Work != job.Nop || s.Elapsed < short.Measure || s.Threads < 1 {
		t.Errorf("got %+v", s)
	}
	if most := 2 * (int64(s.Elapsed/time.Millisecond) + 1); s.Ops < 1 || s.Ops > most {
		t.Errorf("%d operations of a millisecond by two tasks in %v", s.Ops, s.Elapsed)
	}
}

func TestSteadyEndsWhenATaskFailsAtOnce(t *testing.T) {
	want := errors.New("no ring")
	_, err := Steady(short, 1, func(m *Meter) error {
		return m.Loop(func() (int, error) { return 0, want })
	})
	if err != want {
		t.Errorf("got %v", err)
	}
}

func TestAllocationsAreCounted(t *testing.T) {
	var sink []byte
	s, err := Whole(job.Create, 1000, func() error {
		for range 1000 {
			sink = make([]byte, 64)
		}
		return nil
	})
	_ = sink
	if err != nil || s.AllocsPerOp() < 0.99 || s.AllocsPerOp() > 1.1 {
		t.Errorf("got %v, %v", s.AllocsPerOp(), err)
	}
}
