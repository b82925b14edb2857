package executor_test

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"uringo/driver"
	"uringo/executor"
)

// outside is an executor as another program would write it: a fixed set of goroutines that take tasks from a queue. While one of
// them waits, another stands in for it.
type outside struct{ runners int }

func (o outside) String() string { return fmt.Sprintf("outside(%d)", o.runners) }

func (o outside) Open(cfg driver.Config) (executor.Runtime, error) {
	d, err := driver.Open(cfg)
	if err != nil {
		return nil, err
	}
	rt := &outsideRuntime{d: d, vacant: o.runners}
	return rt, nil
}

type outsideRuntime struct {
	d  *driver.Driver
	wg sync.WaitGroup

	mu     sync.Mutex
	vacant int // how many more goroutines may run tasks
	queue  []func()
	closed bool
}

func (rt *outsideRuntime) Driver() *driver.Driver { return rt.d }

func (rt *outsideRuntime) Spawn(run func()) error {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.closed {
		return errors.New("outside: closed")
	}
	rt.queue = append(rt.queue, run)
	rt.hire()
	return nil
}

// hire starts a goroutine if there is work and a vacancy.
func (rt *outsideRuntime) hire() {
	if rt.vacant > 0 && len(rt.queue) > 0 {
		rt.vacant--
		rt.wg.Add(1)
		go rt.work()
	}
}

func (rt *outsideRuntime) work() {
	defer rt.wg.Done()
	rt.mu.Lock()
	defer rt.mu.Unlock()
	defer func() {
		rt.vacant++
		rt.hire() // after Goexit there may be work left
	}()
	for rt.vacant >= 0 && len(rt.queue) > 0 {
		run := rt.queue[0]
		rt.queue = rt.queue[1:]
		func() {
			rt.mu.Unlock()
			defer rt.mu.Lock()
			run()
		}()
	}
}

func (rt *outsideRuntime) Wait(ready <-chan struct{}) {
	rt.mu.Lock()
	rt.vacant++
	rt.hire()
	rt.mu.Unlock()
	<-ready
	rt.mu.Lock()
	rt.vacant--
	rt.mu.Unlock()
}

func (rt *outsideRuntime) Close(ctx context.Context) error {
	rt.mu.Lock()
	rt.closed = true
	rt.mu.Unlock()
	rt.wg.Wait()
	return rt.d.Close(ctx)
}
