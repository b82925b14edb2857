package ops

import (
	"testing"
	"time"
)

func TestTimeout(t *testing.T) {
	onEngines(t, func(t *testing.T, e *engine) {
		for _, d := range []time.Duration{20 * time.Millisecond, 0, -time.Hour} {
			begin := time.Now()
			r := do(e, Timeout(d))
			if took := time.Since(begin); r.Err != nil || r.N != 0 || took < d {
				t.Errorf("%v: %v after %v", d, r.Err, took)
			}
		}
		long, short := Timeout(time.Hour), Timeout(time.Millisecond)
		id := e.start(&long.Spec)
		must(e, short)
		must(e, CancelData(id))
		if _, err := long.Finish(e.await(id)); err == nil {
			t.Error("a cancelled timeout looks like one that ran out")
		}
	})
}
