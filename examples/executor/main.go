// Executor runs tasks on an executor of its own making: a crew of goroutines that take tasks from a queue. It needs nothing but the
// interfaces executor.Executor and executor.Runtime.
//
//	go run ./examples/executor FILE...
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"sync"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
)

func main() {
	err := executor.Start(context.Background(), func(ctx context.Context) error {
		return sizes(ctx, os.Args[1:])
	}, executor.WithExecutor(Crew(4)))
	if err != nil {
		log.Fatal(err)
	}
}

// sizes prints the sizes of files, which tasks ask for.
func sizes(ctx context.Context, names []string) error {
	var tasks []*executor.JoinHandle[os.FileInfo]
	for _, name := range names {
		tasks = append(tasks, executor.Go(ctx, func(ctx context.Context) (os.FileInfo, error) { return fs.Stat(ctx, name) }))
	}
	var failed error
	for _, t := range tasks {
		info, err := t.Join(ctx)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		fmt.Println(info.Size(), info.Name())
	}
	return failed
}

// Crew is an executor of so many goroutines. A task keeps its goroutine until it ends; while it waits, another stands in.
type Crew int

// String names the executor.
func (c Crew) String() string { return fmt.Sprintf("crew(%d)", int(c)) }

// Open starts a crew for one call of Start.
func (c Crew) Open(cfg driver.Config) (executor.Runtime, error) {
	d, err := driver.Open(cfg)
	if err != nil {
		return nil, err
	}
	return &crew{d: d, vacant: int(c)}, nil
}

type crew struct {
	d       *driver.Driver
	members sync.WaitGroup

	mu     sync.Mutex
	vacant int      // how many more may work
	queue  []func() // tasks that nobody has taken
}

func (c *crew) Driver() *driver.Driver { return c.d }

// Spawn queues a task.
func (c *crew) Spawn(run func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, run)
	c.hire()
	return nil
}

// Wait lets another member work while the caller's task waits.
func (c *crew) Wait(ready <-chan struct{}) {
	c.mu.Lock()
	c.vacant++
	c.hire()
	c.mu.Unlock()

	<-ready

	c.mu.Lock()
	c.vacant-- // below zero, until somebody has finished
	c.mu.Unlock()
}

// Close is called when all tasks have ended.
func (c *crew) Close(ctx context.Context) error {
	c.members.Wait()
	return c.d.Close(ctx)
}

// hire puts one more to work if there is a vacancy and something to do. The caller holds the lock.
func (c *crew) hire() {
	if c.vacant > 0 && len(c.queue) > 0 {
		c.vacant--
		c.members.Go(c.work)
	}
}

// work runs tasks until there is none left, or too many are working.
func (c *crew) work() {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() {
		c.vacant++
		c.hire() // a task may have ended this goroutine (runtime.Goexit)
	}()
	for c.vacant >= 0 && len(c.queue) > 0 {
		run := c.queue[0]
		c.queue = c.queue[1:]
		c.do(run)
	}
}

// do runs a task without the lock.
func (c *crew) do(run func()) {
	c.mu.Unlock()
	defer c.mu.Lock()
	run()
}
